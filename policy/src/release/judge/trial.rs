//! What speaks for a candidate: counts since its step began, held against the limits from above.

use std::collections::VecDeque;

use serde::Serialize;

use super::Standing;
use crate::duration::{Millis, Moment};
use crate::release::evidence::Sum;
use crate::release::settings::Settings;
use crate::release::wilson;

/// Which evidence counts for the candidate: nothing before `since`, and at first `base` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When the candidate's present step began.
    pub since: Moment,
    /// The span looked at first; it grows by itself while it proves nothing.
    pub base: Millis,
}

/// What is known in favour of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TrialAccount {
    /// The counts.
    pub sum: Sum,
    /// The upper Wilson bound of the error ratio, requests at absent proxies counted as failed.
    pub errors_upper: f64,
    /// The upper Wilson bound of the slow ratio, likewise.
    pub slow_upper: f64,
    /// What follows.
    pub standing: Standing,
}

/// The candidate's counts per judgement, newest last.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    keep: Millis,
    open: Sum,
    closed: VecDeque<(Moment, Sum)>,
}

impl Trial {
    pub(super) const fn new(keep: Millis) -> Self {
        Self {
            keep,
            open: Sum {
                requests: 0,
                errors: 0,
                timed: 0,
                slow: 0,
                absent: 0,
                observed: Millis::ZERO,
            },
            closed: VecDeque::new(),
        }
    }

    /// Adds one known tick.
    pub(super) fn add(&mut self, tick: &Sum) {
        self.open.merge(tick);
    }

    /// Ends what was added since the last judgement.
    pub(super) fn close(&mut self, at: Moment) {
        self.closed.push_back((at, std::mem::take(&mut self.open)));
        let oldest = at.before(self.keep);
        while self
            .closed
            .front()
            .is_some_and(|(first, _)| *first <= oldest)
        {
            self.closed.pop_front();
        }
    }

    /// The standing by the shortest multiple of the base span that proves the candidate clear, else
    /// by everything since its step began. Only whole multiples are looked at, so that looking often
    /// does not find by chance what is not there.
    pub(super) fn account(&self, now: Moment, span: Span, settings: &Settings) -> TrialAccount {
        let mut sum = Sum::default();
        let mut reach = span.base;
        for (at, part) in self.closed.iter().rev() {
            if *at <= span.since {
                break;
            }
            if now.since(*at) >= reach {
                let account = held(&sum, settings);
                if account.standing == Standing::Clear {
                    return account;
                }
                reach = reach.saturating_add(span.base);
            }
            sum.merge(part);
        }
        held(&sum, settings)
    }
}

fn held(sum: &Sum, settings: &Settings) -> TrialAccount {
    let limits = &settings.limits;
    let bound = |hits: u64, trials: u64| {
        wilson::upper(
            hits.saturating_add(sum.absent),
            trials.saturating_add(sum.absent),
        )
    };
    let errors_upper = bound(sum.errors, sum.requests);
    let slow_upper = bound(sum.slow, sum.timed);
    let below =
        |hits, trials, limit| wilson::ratio(hits, trials).is_none_or(|ratio| ratio <= limit);
    let standing = if errors_upper < limits.errors && slow_upper < limits.slow {
        Standing::Clear
    } else if sum.requests >= settings.verify.requests
        && below(sum.errors, sum.requests, limits.errors)
        && below(sum.slow, sum.timed, limits.slow)
    {
        Standing::Passing
    } else {
        Standing::Open
    };
    TrialAccount {
        sum: *sum,
        errors_upper,
        slow_upper,
        standing,
    }
}
