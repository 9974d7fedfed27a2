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

/// Compares the candidate's counts with those of the stable version over the same span. The answer
/// that most speaks for a move stands when both ratios were asked for.
#[must_use]
pub fn compare(
    asked: Asked,
    (guards, limits): (&Guards, &Limits),
    candidate: &Sum,
    stable: &Sum,
) -> Comparison {
    let Relative {
        times,
        errors,
        slow,
    } = guards.relative;
    let min = guards.min_requests;
    let by_errors = asked.errors.then(|| {
        let counts = |sum: &Sum| (sum.errors, sum.requests);
        one(
            counts(candidate),
            counts(stable),
            (times, errors),
            limits.errors,
            min,
        )
    });
    let by_slow = asked.slow.then(|| {
        let counts = |sum: &Sum| (sum.slow, sum.timed);
        one(
            counts(candidate),
            counts(stable),
            (times, slow),
            limits.slow,
            min,
        )
    });
    let answers = [by_errors, by_slow];
    [Comparison::Worse, Comparison::Thin, Comparison::Shared]
        .into_iter()
        .find(|answer| answers.contains(&Some(*answer)))
        .unwrap_or(Comparison::NotWorse)
}

fn one(
    candidate: (u64, u64),
    stable: (u64, u64),
    (times, difference): (f64, f64),
    limit: f64,
    min_requests: u64,
) -> Comparison {
    let Some(bad) = wilson::ratio(candidate.0, candidate.1) else {
        return Comparison::NotWorse;
    };
    let live = wilson::ratio(stable.0, stable.1);
    let good = live.unwrap_or(0.0);
    let apart = bad > times * good && bad - good > difference;
    if !apart && live.is_some() && good > limit {
        Comparison::Shared
    } else if apart && wilson::two_proportion_z(candidate, stable) > wilson::Z99 {
        Comparison::Worse
    } else if apart && stable.1 < min_requests {
        Comparison::Thin
    } else {
        Comparison::NotWorse
    }
}
