//! How the last judgements voted, errors and slow requests apart.

use std::collections::VecDeque;

use serde::Serialize;

use crate::duration::Millis;
use crate::release::settings::Sustained;
use crate::release::triggers::sustained::{Breach, RatioAccount};

/// A ratio surely this many times its limit need not outlast its window. Errors are rarer than slow
/// requests, so that one more of them by chance weighs more.
const PLAIN_SLOW: f64 = 1.5;
const PLAIN_ERRORS: f64 = 1.75;

/// The last judgements' votes, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Of the last `of` judgements those in which the error ratio was breached.
    pub errors: usize,
    /// Likewise the slow ratio.
    pub slow: usize,
    /// How many must be.
    pub need: usize,
    /// Of how many.
    pub of: usize,
    /// Whether the error breach is sustained.
    pub errors_sustained: bool,
    /// Whether the slow breach is sustained.
    pub slow_sustained: bool,
}

/// The votes, newest last: errors, slow. Unknown ticks cast none.
#[derive(Debug, Clone)]
pub(super) struct Votes {
    keep: usize,
    cast: VecDeque<(bool, bool)>,
}

impl Votes {
    pub(super) fn new(longest: Millis, judge: Millis) -> Self {
        let keep = longest.get().checked_div(judge.get()).unwrap_or(1);
        Self {
            keep: usize::try_from(keep).unwrap_or(usize::MAX).max(720),
            cast: VecDeque::new(),
        }
    }

    pub(super) fn cast(&mut self, breach: &Breach) {
        self.cast
            .push_back((breach.errors.breached, breach.slow.breached));
        while self.cast.len() > self.keep {
            self.cast.pop_front();
        }
    }

    /// Counts the votes. `spanned` is how many judgements the long window spans.
    ///
    /// At little traffic a window is grown, and now and then it holds too much by chance: votes within that
    /// window are no second opinion. A breach must therefore outlast its window unless it is plain. The
    /// newest judgement must agree: a fault that has just ended must move nothing.
    pub(super) fn tally(&self, settings: &Sustained, spanned: u64, breach: &Breach) -> Tally {
        let of = settings.of as usize;
        let need = settings.need as usize;
        let errors = self.count(of, |vote| vote.0);
        let slow = self.count(of, |vote| vote.1);
        let lasting = usize::try_from(spanned).unwrap_or(usize::MAX).max(of);
        let least = lasting.saturating_mul(5).div_ceil(6);
        let lasts = |plain: f64, account: &RatioAccount, agreed: fn(&(bool, bool)) -> bool| {
            account.lower > plain * account.limit || self.count(lasting, agreed) >= least
        };
        let errors_last = lasts(PLAIN_ERRORS, &breach.errors, |vote| vote.0);
        let slow_lasts = lasts(PLAIN_SLOW, &breach.slow, |vote| vote.1);
        Tally {
            errors,
            slow,
            need,
            of,
            errors_sustained: breach.errors.breached && errors >= need && errors_last,
            slow_sustained: breach.slow.breached && slow >= need && slow_lasts,
        }
    }

    fn count(&self, last: usize, agreed: impl Fn(&(bool, bool)) -> bool) -> usize {
        self.cast
            .iter()
            .rev()
            .take(last)
            .filter(|vote| agreed(vote))
            .count()
    }
}
