//! What a restart makes of a stored state. Its times are of an earlier run, whose clock may have been
//! ahead of this one: a time that is yet to come cannot have been, and a span that was to end then
//! begins anew. Nothing is shortened by that, and nothing waits for the clock to catch up.

use super::Step;
use super::action::Action;
use super::phase::Phase;
use super::state::Release;
use crate::duration::{Millis, Moment};

/// After a restart the windows are empty; for that long nothing is concluded from them.
const OBSERVE: Millis = Millis::from_secs(60);

impl Step<'_> {
    /// Resumes what was stored. Cool-downs stand as they are; a fail-back gets its time once more.
    pub(super) fn restart(&mut self) {
        let now = self.context.now;
        self.release.not_after(now);
        self.release.observe_until = Some(now.after(OBSERVE));
        self.release.unknown = None;
        self.release.unknown_told = false;
        let again = now.after(self.context.terms.drain_timeout);
        if let Phase::Freezing { fail_back } | Phase::Draining { fail_back, .. } =
            &mut self.release.phase
        {
            fail_back.deadline = if std::mem::replace(&mut fail_back.extended, true) {
                fail_back.deadline.min(again)
            } else {
                again
            };
        }
        if let Phase::Draining { freeze_seq, .. } = self.release.phase {
            let turn = self.release.turn;
            self.actions.push(Action::StartDrain { turn, freeze_seq });
        }
    }
}

impl Release {
    /// Takes everything that is told to have been after `now` as having been just now.
    fn not_after(&mut self, now: Moment) {
        let past = |at: &mut Moment| *at = (*at).min(now);
        self.phase.not_after(now);
        self.trips.iter_mut().for_each(past);
        self.locked.iter_mut().for_each(past);
        self.shared_fault.iter_mut().for_each(past);
        if let Some(pause) = &mut self.paused {
            past(&mut pause.since);
        }
        if let Some(unconfirmed) = &mut self.unconfirmed {
            past(&mut unconfirmed.since);
        }
    }
}

impl Phase {
    fn not_after(&mut self, now: Moment) {
        match self {
            Self::Stable { .. } => {}
            Self::Suspect { since, quiet, .. } => {
                *since = (*since).min(now);
                *quiet = quiet.map(|quiet| quiet.min(now));
            }
            Self::FailedBack { since, until, .. } if *since > now => {
                *until = now.after(until.since(*since));
                *since = now;
            }
            Self::FailedBack { .. } => {}
            // Its deadline is set by whoever resumes it.
            Self::Freezing { fail_back } | Self::Draining { fail_back, .. } => {
                fail_back.since = fail_back.since.min(now);
            }
            Self::Verifying { since, .. }
            | Self::Ramping { since, .. }
            | Self::Aborted { since, .. } => *since = (*since).min(now),
        }
    }
}
