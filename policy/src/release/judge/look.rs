//! A look between two ticks: the last tick of an outage need not be waited for to its end.

use super::fired::Pair;
use super::{Judge, Judgement, Verdict};
use crate::duration::{Millis, Moment};
use crate::release::evidence::Sample;
use crate::release::triggers::outage;

impl Judge {
    /// Whether one more tick of the same would be an outage: then [`Judge::look`] may see it earlier.
    #[must_use]
    pub fn suspects_outage(&self) -> bool {
        let settings = self.settings.outage.as_ref();
        let out = self.runs.outage_tick;
        out > 0 && settings.is_some_and(|settings| out + 1 == settings.ticks)
    }

    /// Looks at what both versions did since the last tick, which ended `elapsed` ago; nothing of it is
    /// taken, so that the next tick counts it. Answers when an outage fires, else there is nothing to say.
    ///
    /// The rule is that of the ticks, requests and ratio alike, and as much time must have failed in the
    /// last tick and since as two ticks have that only just count: so a fault which no pair of ticks
    /// would have seen is not seen here either.
    #[must_use]
    pub fn look(
        &self,
        at: Moment,
        candidate: &Sample,
        stable: &Sample,
        elapsed: Millis,
    ) -> Option<Judgement> {
        let unknown = |sample: &Sample| matches!(sample, Sample::Unknown(_));
        if !self.suspects_outage() || unknown(candidate) || unknown(stable) {
            return None;
        }
        let settings = self.settings.outage.as_ref()?;
        let mut since = Pair::default();
        since.candidate.add(candidate, elapsed);
        since.stable.add(stable, elapsed);
        let account = outage::in_tick(settings, &since.candidate);
        let interval = self.settings.evidence.interval.as_secs_f64();
        let part = elapsed.as_secs_f64() / interval;
        let failed = self.out?.ratio? + account.ratio? * part;
        if !account.out || failed < 2.0 * settings.errors {
            return None;
        }
        let mut judgement = self.account(at, Verdict::Idle);
        judgement.outage_tick = Some(account);
        judgement.fired = self.outage_since(&since);
        judgement.verdict = self.verdict_of(judgement.fired)?;
        matches!(judgement.verdict, Verdict::Fired(_)).then_some(judgement)
    }
}
