//! Merges one tick's samples of several proxies into one, weighing who is missing.

use super::{Counts, Gap, Sample};
use crate::release::share::Percent;

/// How much traffic a proxy carries by its last known tick, at least one so that no proxy is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u64);

/// The samples of one version and tick over several proxies. Merging is associative and commutative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RollCall {
    counts: Counts,
    answered: u64,
    missing: u64,
}

impl Weight {
    /// The weight of a proxy whose last known tick had `requests` requests.
    #[must_use]
    pub fn new(requests: u64) -> Self {
        Self(requests.max(1))
    }
}

impl RollCall {
    /// One proxy's sample.
    #[must_use]
    pub fn of(sample: &Sample, weight: Weight) -> Self {
        match sample {
            Sample::Unknown(_) => Self {
                counts: Counts::default(),
                answered: 0,
                missing: weight.0,
            },
            Sample::Idle => Self {
                counts: Counts::default(),
                answered: weight.0,
                missing: 0,
            },
            Sample::Counted(counts) => Self {
                counts: counts.clone(),
                answered: weight.0,
                missing: 0,
            },
        }
    }

    /// Adds other proxies.
    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
        self.answered = self.answered.saturating_add(other.answered);
        self.missing = self.missing.saturating_add(other.missing);
    }

    /// The merged sample: unknown when nobody answered or those who did carry less than `coverage`
    /// of the traffic. The traffic of those missing is kept as [`Counts::absent`], so that a ramp
    /// can count it as failed while a trip does not count it at all.
    #[must_use]
    pub fn close(mut self, coverage: Percent) -> Sample {
        if self.answered == 0 {
            return Sample::Unknown(Gap::Missing);
        }
        let all = u128::from(self.answered) + u128::from(self.missing);
        if u128::from(self.answered) * 100 < all * u128::from(coverage.get()) {
            return Sample::Unknown(Gap::Partial);
        }
        self.counts.absent = self.counts.absent.saturating_add(self.missing);
        Sample::fresh(self.counts)
    }
}
