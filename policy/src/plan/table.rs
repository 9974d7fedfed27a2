//! A hash table from (scope, label) to a number, flat enough to travel as it is: nothing is
//! built, hashed or allocated when a worker takes it. Open addressing, linear probing.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::xxh64;

/// The table. Labels are spans of a text that its owner keeps.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// Number of an entry plus one, or 0 for an empty bucket. A power of two of them.
    buckets: Vec<u32>,
    entries: Vec<Entry>,
}

/// A part of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Span {
    start: u32,
    length: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    scope: u32,
    label: Span,
    value: u32,
}

impl Span {
    pub(super) fn of(self, text: &str) -> Option<&str> {
        let start = usize::try_from(self.start).ok()?;
        let length = usize::try_from(self.length).ok()?;
        text.get(start..start.checked_add(length)?)
    }
}

impl Table {
    /// The value under a label, which is at most half the buckets away from where it is looked
    /// for first, and on average less than two.
    pub(super) fn find(&self, text: &str, scope: u32, label: &[u8]) -> Option<u32> {
        let mask = self.buckets.len().checked_sub(1)?;
        let mut at = bucket(scope, label) & mask;
        for _ in 0..self.buckets.len() {
            let number = self.buckets.get(at)?.checked_sub(1)?;
            let entry = self.entries.get(usize::try_from(number).ok()?)?;
            if entry.scope == scope && entry.label.of(text)?.as_bytes() == label {
                return Some(entry.value);
            }
            at = at.wrapping_add(1) & mask;
        }
        None
    }
}

fn bucket(scope: u32, label: &[u8]) -> usize {
    let hash = xxh64(label, u64::from(scope));
    // The mask takes what it needs; 32 bits are enough for every table that fits in memory.
    usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(feature = "load")]
pub(super) mod build {
    //! Building tables, and the text that their labels are spans of.

    use std::collections::HashMap;

    use super::{Entry, Span, Table, bucket};

    /// Collects text, each piece once.
    #[derive(Debug, Default)]
    pub(in crate::plan) struct TextBuilder {
        text: String,
        spans: HashMap<String, Span>,
    }

    /// Collects entries.
    #[derive(Debug, Default)]
    pub(in crate::plan) struct TableBuilder {
        values: HashMap<(u32, String), u32>,
        entries: Vec<Entry>,
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
        /// The value under a label; `make` gives it when there is none.
        pub(in crate::plan) fn get_or_insert(
            &mut self,
            text: &mut TextBuilder,
            scope: u32,
            label: &str,
            make: impl FnOnce() -> u32,
        ) -> u32 {
            let entries = &mut self.entries;
            *self
                .values
                .entry((scope, label.to_owned()))
                .or_insert_with(|| {
                    let value = make();
                    entries.push(Entry {
                        scope,
                        label: text.add(label),
                        value,
                    });
                    value
                })
        }

        pub(in crate::plan) fn finish(self, text: &TextBuilder) -> Table {
            let size = match self.entries.len() {
                0 => 0,
                entries => entries.saturating_mul(2).next_power_of_two(),
            };
            let mut buckets = vec![0_u32; size];
            for (number, entry) in self.entries.iter().enumerate() {
                let label = entry.label.of(&text.text).unwrap_or_default();
                let mask = size.saturating_sub(1);
                let mut at = bucket(entry.scope, label.as_bytes()) & mask;
                while let Some(bucket) = buckets.get_mut(at) {
                    if *bucket == 0 {
                        *bucket = count(number).saturating_add(1);
                        break;
                    }
                    at = at.wrapping_add(1) & mask;
                }
            }
            Table {
                buckets,
                entries: self.entries,
            }
        }
    }

    /// Policies are far smaller than 4 GiB: the loader refuses files long before.
    pub(in crate::plan) fn count(length: usize) -> u32 {
        u32::try_from(length).unwrap_or(u32::MAX)
    }
}
