//! Whether moving would help: the candidate must be worse than the live stable version.

use serde::{Deserialize, Serialize};

use crate::release::evidence::Sum;
use crate::release::settings::{Guards, Limits, Relative};
use crate::release::wilson;

/// What the comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// The candidate is worse beyond chance.
    Worse,
    /// The candidate is over its limit, but not beyond chance worse than the stable version.
    NotWorse,
    /// The stable version is over the same limit and no better: moving would not help.
    Shared,
    /// The stable version has too little traffic to compare with, and none of it speaks against it.
    Thin,
}

/// Which ratios to compare: those that asked for the move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Errors among requests.
    pub errors: bool,
    /// Slow among timed requests.
    pub slow: bool,
}

/// The stable version's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Over the same span as the candidate's: a fault that both share began for both.
    pub same: Sum,
    /// As far back as there is evidence: while the stable version is well now, it is well known from
    /// all of it, and at little traffic the same span alone would prove nothing.
    pub long: Sum,
}

/// Compares the candidate's counts with those of the stable version. The answer that most speaks
/// for a move stands when both ratios were asked for.
#[must_use]
pub fn compare(
    asked: Asked,
    (guards, limits): (&Guards, &Limits),
    candidate: &Sum,
    stable: &Live,
) -> Comparison {
    let Relative {
        times,
        errors,
        slow,
    } = guards.relative;
    let one = |counts: fn(&Sum) -> (u64, u64), difference: f64, limit: f64| {
        let side = Side {
            candidate: counts(candidate),
            same: counts(&stable.same),
            long: counts(&stable.long),
        };
        side.compare((times, difference), limit, guards.min_requests)
    };
    let answers = [
        asked
            .errors
            .then(|| one(|sum| (sum.errors, sum.requests), errors, limits.errors)),
        asked
            .slow
            .then(|| one(|sum| (sum.slow, sum.timed), slow, limits.slow)),
    ];
    [Comparison::Worse, Comparison::Thin, Comparison::Shared]
        .into_iter()
        .find(|answer| answers.contains(&Some(*answer)))
        .unwrap_or(Comparison::NotWorse)
}

/// One ratio of both versions, as hits and trials.
struct Side {
    candidate: (u64, u64),
    same: (u64, u64),
    long: (u64, u64),
}

impl Side {
    fn compare(&self, (times, difference): (f64, f64), limit: f64, min: u64) -> Comparison {
        let Some(bad) = wilson::ratio(self.candidate.0, self.candidate.1) else {
            return Comparison::NotWorse;
        };
        let good = wilson::ratio(self.same.0, self.same.1).unwrap_or(0.0);
        let known = if good > limit { self.same } else { self.long };
        let apart = bad > times * good && bad - good > difference;
        if !apart && good > limit {
            Comparison::Shared
        } else if apart && wilson::two_proportion_z(self.candidate, known) > wilson::Z99 {
            Comparison::Worse
        } else if apart && known.1 < min {
            Comparison::Thin
        } else {
            Comparison::NotWorse
        }
    }
}
