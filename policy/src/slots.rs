//! Who owns which of the 100,000 slots: the groups of an experiment, or the experiments of a layer.
//! A table is planned from the one before it so that as few units as possible change hands.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::hash::{SLOTS, Slot};

/// The slots of each arm, in the order in which it got them, so that it gives them back last in, first out.
///
/// Written to the state file and read back through the same checks that planning guarantees.
// INVARIANT: names are unique, ranges are not empty, end at most at SLOTS and never overlap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Arm>", into = "Vec<Arm>")]
pub struct SlotTable {
    arms: Vec<Arm>,
}

/// Slots `start..end` that belong to one arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRange {
    /// The first slot.
    pub start: u32,
    /// The first slot behind, above `start` and at most [`SLOTS`].
    pub end: u32,
    /// The position of the arm in the list that was planned.
    pub arm: u32,
}

/// Why a table cannot be planned or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// More slots are wanted than there are.
    #[error("the arms want {wanted} slots together, there are {SLOTS}: lower some of them")]
    TooMany {
        /// The sum of what is wanted.
        wanted: u64,
    },
    /// Two arms have the same name.
    #[error("the arm `{arm}` is named twice, give each its own name")]
    Twice {
        /// The name.
        arm: String,
    },
    /// A stored range is empty or ends behind the last slot.
    #[error("the arm `{arm}` holds the slots {start}..{end}, which is no range within 0..{SLOTS}")]
    NoRange {
        /// The name of its arm.
        arm: String,
        /// The first slot.
        start: u32,
        /// The first slot behind.
        end: u32,
    },
    /// A stored slot belongs to two ranges.
    #[error("the slot {slot} belongs to two ranges, the last of them of the arm `{arm}`")]
    Overlap {
        /// The slot.
        slot: u32,
        /// The arm of the range that starts there.
        arm: String,
    },
}

/// One arm and its slots, the last added at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Arm {
    name: String,
    stack: Vec<Span>,
}

/// Slots `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Span {
    start: u32,
    end: u32,
}

impl SlotTable {
    /// Plans the table in which each arm has the wanted number of slots, from the table before it.
    ///
    /// Slots are taken only from arms that shrink or vanish, the last added first, and given only to arms that grow or
    /// are new, so the slots that change hands are exactly `max(sum of losses, sum of gains)`, the lower bound.
    /// To that end slots that were just taken are given away before those that were free, which go in ascending order.
    /// The same arguments always give the same table.
    ///
    /// # Errors
    /// [`SlotError::TooMany`] if the wanted slots exceed [`SLOTS`], [`SlotError::Twice`] if a name comes twice.
    pub fn plan(
        previous: Option<&SlotTable>,
        wanted: &[(String, u32)],
    ) -> Result<SlotTable, SlotError> {
        let sum = wanted.iter().map(|(_, slots)| u64::from(*slots)).sum();
        if sum > u64::from(SLOTS) {
            return Err(SlotError::TooMany { wanted: sum });
        }
        let mut targets = BTreeMap::new();
        for (name, slots) in wanted {
            if targets.insert(name.as_str(), *slots).is_some() {
                return Err(SlotError::Twice { arm: name.clone() });
            }
        }

        let before = previous
            .map(|table| table.arms.as_slice())
            .unwrap_or_default();
        let mut pool = Vec::new();
        let mut kept = BTreeMap::new();
        for arm in before {
            let mut arm = arm.clone();
            let target = targets.get(arm.name.as_str()).copied().unwrap_or(0);
            let loss = arm.slots().saturating_sub(target);
            pool.extend(take_last(&mut arm.stack, loss));
            kept.insert(arm.name, arm.stack);
        }
        pool.extend(free(before));

        // Giving takes from the end of the pool, in which the first to be given therefore stands last.
        pool.reverse();
        let arms = wanted.iter().map(|(name, slots)| {
            let mut arm = Arm {
                name: name.clone(),
                stack: kept.remove(name).unwrap_or_default(),
            };
            let gain = slots.saturating_sub(arm.slots());
            give_first(&mut pool, gain, &mut arm.stack);
            arm
        });
        Ok(SlotTable {
            arms: arms.collect(),
        })
    }

    /// The owned slots in ascending order, neighbours of one arm merged.
    #[must_use]
    pub fn ranges(&self) -> Vec<SlotRange> {
        let mut owned: Vec<SlotRange> = (0_u32..)
            .zip(&self.arms)
            .flat_map(|(arm, owner)| {
                owner.stack.iter().map(move |span| SlotRange {
                    start: span.start,
                    end: span.end,
                    arm,
                })
            })
            .collect();
        owned.sort_unstable_by_key(|range| range.start);
        owned.dedup_by(|next, last| {
            let neighbours = last.end == next.start && last.arm == next.arm;
            if neighbours {
                last.end = next.end;
            }
            neighbours
        });
        owned
    }
}

/// The arm that owns a slot, by binary search in what [`SlotTable::ranges`] gave; nothing if the slot is free.
#[must_use]
pub fn lookup(ranges: &[SlotRange], slot: Slot) -> Option<u32> {
    let range = ranges.get(ranges.partition_point(|range| range.end <= slot.get()))?;
    (range.start <= slot.get()).then_some(range.arm)
}

impl TryFrom<Vec<Arm>> for SlotTable {
    type Error = SlotError;

    fn try_from(arms: Vec<Arm>) -> Result<SlotTable, SlotError> {
        let mut names = BTreeSet::new();
        let mut spans = Vec::new();
        for arm in &arms {
            if !names.insert(arm.name.as_str()) {
                return Err(SlotError::Twice {
                    arm: arm.name.clone(),
                });
            }
            for &Span { start, end } in &arm.stack {
                if start >= end || end > SLOTS {
                    return Err(SlotError::NoRange {
                        arm: arm.name.clone(),
                        start,
                        end,
                    });
                }
                spans.push((start, end, arm.name.as_str()));
            }
        }
        spans.sort_unstable();
        let mut behind = 0;
        for (start, end, arm) in spans {
            if start < behind {
                return Err(SlotError::Overlap {
                    slot: start,
                    arm: arm.to_owned(),
                });
            }
            behind = end;
        }
        Ok(SlotTable { arms })
    }
}

impl From<SlotTable> for Vec<Arm> {
    fn from(table: SlotTable) -> Vec<Arm> {
        table.arms
    }
}

impl Arm {
    /// How many slots it has.
    fn slots(&self) -> u32 {
        self.stack.iter().map(|span| span.len()).sum()
    }
}

impl Span {
    /// How many slots it has.
    fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }
}

/// Removes the last `count` slots of a stack; gives them in the order in which they were removed.
fn take_last(stack: &mut Vec<Span>, mut count: u32) -> Vec<Span> {
    let mut taken = Vec::new();
    while count > 0
        && let Some(span) = stack.pop()
    {
        let cut = span.start.max(span.end.saturating_sub(count));
        if span.start < cut {
            stack.push(Span {
                start: span.start,
                end: cut,
            });
        }
        taken.push(Span {
            start: cut,
            end: span.end,
        });
        count = count.saturating_sub(span.end.saturating_sub(cut));
    }
    taken
}

/// Moves `count` slots from the end of a pool onto a stack, the lowest of each span first.
fn give_first(pool: &mut Vec<Span>, mut count: u32, stack: &mut Vec<Span>) {
    while count > 0
        && let Some(span) = pool.pop()
    {
        let cut = span.end.min(span.start.saturating_add(count));
        if cut < span.end {
            pool.push(Span {
                start: cut,
                end: span.end,
            });
        }
        count = count.saturating_sub(cut.saturating_sub(span.start));
        match stack.last_mut() {
            Some(last) if last.end == span.start => last.end = cut,
            _ => stack.push(Span {
                start: span.start,
                end: cut,
            }),
        }
    }
}

/// The slots that nobody owns, ascending.
fn free(arms: &[Arm]) -> Vec<Span> {
    let mut owned: Vec<Span> = arms.iter().flat_map(|arm| &arm.stack).copied().collect();
    owned.sort_unstable();
    owned.push(Span {
        start: SLOTS,
        end: SLOTS,
    });
    let mut behind = 0;
    let gaps = owned.into_iter().map(|span| {
        let gap = Span {
            start: behind,
            end: span.start,
        };
        behind = span.end;
        gap
    });
    gaps.filter(|gap| gap.start < gap.end).collect()
}

#[cfg(test)]
mod tests;
