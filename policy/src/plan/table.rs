//! A hash table from (scope, label) to a number, flat enough to travel as it is: nothing is
//! built, hashed or allocated when a worker takes it. Open addressing, linear probing.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

use super::records::Records;

/// The table. Labels are spans of a text that its owner keeps.
///
/// The entries stand in the buckets themselves: a lookup in a large plan costs what it has to
/// fetch from memory, and this is one fetch less than with numbers of entries.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// Scope, start and length of the label, value. A bucket with the value 0 is empty.
    buckets: Records<4>,
}

/// A part of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    pub(super) fn of(self, text: &str) -> Option<&str> {
        let start = usize::try_from(self.start).ok()?;
        let length = usize::try_from(self.length).ok()?;
        text.get(start..start.checked_add(length)?)
    }

    fn is(self, label: &[u8], text: &str) -> bool {
        usize::try_from(self.length) == Ok(label.len())
            && self.of(text).is_some_and(|own| own.as_bytes() == label)
    }
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.len() == 0
    }

    /// The value under a label; on average less than two buckets are looked at.
    pub(super) fn find(&self, text: &str, scope: u32, label: &[u8]) -> Option<u32> {
        let mut at = bucket(scope, label, self.buckets.len());
        for _ in 0..self.buckets.len() {
            let [in_scope, start, length, value] = *self.buckets.get(at)?;
            if value == 0 {
                return None;
            }
            if in_scope == scope && (Span { start, length }).is(label, text) {
                return Some(value);
            }
            at = next(at, self.buckets.len());
        }
        None
    }
}

/// Where a label is looked for first: its hash scaled to the number of buckets.
fn bucket(scope: u32, label: &[u8], buckets: usize) -> usize {
    let hash = xxh64(label, u64::from(scope)) >> 32;
    let buckets = u64::try_from(buckets).unwrap_or(0);
    // Below the number of buckets, which fits by being one.
    usize::try_from(hash.wrapping_mul(buckets) >> 32).unwrap_or(0)
}

fn next(at: usize, buckets: usize) -> usize {
    let next = at.saturating_add(1);
    if next < buckets { next } else { 0 }
}

#[cfg(feature = "load")]
pub(super) mod build {
    //! Building tables, and the text that their labels are spans of.

    use std::collections::HashMap;

    use super::{Span, Table, bucket, next};
    use crate::plan::records::Records;

    /// Collects text, each piece once.
    #[derive(Debug, Default)]
    pub(in crate::plan) struct TextBuilder {
        text: String,
        spans: HashMap<String, Span>,
    }

    /// Collects entries. Equal labels are one span of the text, so that spans stand for labels.
    #[derive(Debug, Default)]
    pub(in crate::plan) struct TableBuilder {
        values: HashMap<(u32, Span), u32>,
        /// In the order in which they came, so that a policy is always compiled to the same bytes.
        entries: Vec<(u32, Span, u32)>,
    }

    impl TextBuilder {
        pub(in crate::plan) fn add(&mut self, piece: &str) -> Span {
            if let Some(span) = self.spans.get(piece) {
                return *span;
            }
            let span = Span {
                start: count(self.text.len()),
                length: count(piece.len()),
            };
            self.text.push_str(piece);
            self.spans.insert(piece.to_owned(), span);
            span
        }

        pub(in crate::plan) fn finish(self) -> String {
            self.text
        }
    }

    impl TableBuilder {
        /// The value under a label; `make` gives it when there is none. It is never 0.
        pub(in crate::plan) fn get_or_insert(
            &mut self,
            text: &mut TextBuilder,
            scope: u32,
            label: &str,
            make: impl FnOnce() -> u32,
        ) -> u32 {
            let span = text.add(label);
            let entries = &mut self.entries;
            *self.values.entry((scope, span)).or_insert_with(|| {
                let value = make();
                entries.push((scope, span, value));
                value
            })
        }

        pub(in crate::plan) fn finish(self, text: &TextBuilder) -> Table {
            // Five buckets for three entries: few collisions, and not much memory to fetch.
            let size = self.entries.len().saturating_mul(5).div_ceil(3);
            let mut buckets = Records::<4>::zeros(size);
            for (scope, span, value) in self.entries {
                let label = span.of(&text.text).unwrap_or_default();
                let mut at = bucket(scope, label.as_bytes(), size);
                while buckets.get(at).is_some_and(|[.., value]| *value != 0) {
                    at = next(at, size);
                }
                buckets.set(at, [scope, span.start, span.length, value]);
            }
            Table { buckets }
        }
    }

    /// Policies are far smaller than 4 GiB: the loader refuses files long before.
    pub(in crate::plan) fn count(length: usize) -> u32 {
        u32::try_from(length).unwrap_or(u32::MAX)
    }
}
