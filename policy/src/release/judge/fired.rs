//! Which triggers have lasted long enough, and whether the stable version would do better.

use super::{Judge, Judgement, Verdict};
use crate::duration::{Millis, Moment};
use crate::release::evidence::Sum;
use crate::release::settings::IdleStable;
use crate::release::triggers::Trigger;
use crate::release::triggers::relative::{self, Asked, Comparison, Live};

const ERRORS: Asked = Asked {
    errors: true,
    slow: false,
};
const BOTH: Asked = Asked {
    errors: true,
    slow: true,
};

/// What both versions did in the same time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pair {
    pub(super) candidate: Sum,
    pub(super) stable: Sum,
}

impl Judge {
    /// The trigger that fired; of several the one whose comparison most speaks for a move.
    pub(super) fn fired(&self, at: Moment, judgement: &Judgement) -> Option<(Trigger, Comparison)> {
        let found = [
            self.outage_by_tick(at),
            self.outage_by_window(at),
            self.sustained(judgement),
            self.scored(at),
        ];
        let rank = |comparison: &Comparison| match comparison {
            Comparison::Worse => 0,
            Comparison::Thin => 1,
            Comparison::Shared => 2,
            Comparison::NotWorse => 3,
        };
        found
            .into_iter()
            .flatten()
            .min_by_key(|(_, comparison)| rank(comparison))
    }

    pub(super) fn outage_by_tick(&self, at: Moment) -> Option<(Trigger, Comparison)> {
        let settings = self.settings.outage.as_ref()?;
        let interval = self.settings.evidence.interval;
        let span = interval.saturating_mul(u64::from(settings.ticks));
        let lasted = self.runs.outage_tick >= settings.ticks;
        lasted.then(|| (Trigger::Outage, self.compare(at, span, ERRORS)))
    }

    fn outage_by_window(&self, at: Moment) -> Option<(Trigger, Comparison)> {
        let settings = self.settings.outage.as_ref()?;
        let span = self.settings.evidence.window;
        let lasted = self.runs.outage_window >= settings.ticks;
        lasted.then(|| (Trigger::Outage, self.compare(at, span, ERRORS)))
    }

    fn sustained(&self, judgement: &Judgement) -> Option<(Trigger, Comparison)> {
        let tally = judgement.votes?;
        let asked = Asked {
            errors: tally.errors_sustained,
            slow: tally.slow_sustained,
        };
        (asked.errors || asked.slow).then(|| {
            let comparison = self.compare(judgement.at, judgement.span, asked);
            (Trigger::Sustained, comparison)
        })
    }

    fn scored(&self, at: Moment) -> Option<(Trigger, Comparison)> {
        let settings = self.settings.score.as_ref()?;
        let span = self.settings.evidence.short;
        let lasted = self.runs.score >= settings.ticks;
        lasted.then(|| (Trigger::Score, self.compare(at, span, BOTH)))
    }

    fn compare(&self, at: Moment, span: Millis, asked: Asked) -> Comparison {
        self.compare_with(at, span, asked, &Pair::default())
    }

    /// The comparison over a span and what was counted since.
    fn compare_with(&self, at: Moment, span: Millis, asked: Asked, since: &Pair) -> Comparison {
        let mut candidate = self.candidate.sum(at, span);
        let mut stable = Live {
            same: self.stable.sum(at, span),
            long: self.stable.sum(at, self.settings.evidence.longest),
        };
        candidate.merge(&since.candidate);
        stable.same.merge(&since.stable);
        stable.long.merge(&since.stable);
        let by = (&self.settings.guards, &self.settings.limits);
        relative::compare(asked, by, &candidate, &stable)
    }

    /// An outage that has lasted for all ticks but the last, compared over these and what came since.
    pub(super) fn outage_since(&self, since: &Pair) -> Option<(Trigger, Comparison)> {
        let settings = self.settings.outage.as_ref()?;
        let (newest, _) = self.candidate.newest()?;
        let ticks = u64::from(settings.ticks.saturating_sub(1));
        let span = self.settings.evidence.interval.saturating_mul(ticks);
        let comparison = self.compare_with(*newest, span, ERRORS, since);
        Some((Trigger::Outage, comparison))
    }

    pub(super) fn verdict_of(&self, fired: Option<(Trigger, Comparison)>) -> Option<Verdict> {
        let (trigger, comparison) = fired?;
        Some(match (comparison, self.settings.guards.idle_stable) {
            (Comparison::Worse, _) | (Comparison::Thin, IdleStable::Move) => {
                Verdict::Fired(trigger)
            }
            (Comparison::Thin, IdleStable::Hold) => Verdict::Held(trigger),
            (Comparison::Shared, _) => Verdict::SharedFault(trigger),
            (Comparison::NotWorse, _) => Verdict::Breached,
        })
    }
}
