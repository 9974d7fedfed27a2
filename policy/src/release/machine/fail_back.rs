//! The way back: freeze, drain, switch, cool down; its time limit and its abort.

use super::Step;
use super::action::{Action, Alert};
use super::phase::{AbortReason, Cause, FailBack, Phase, WriteOwner};
use super::state::Turn;
use crate::duration::{Millis, Moment};

const DAY: Millis = Millis::from_secs(86_400);
/// The most that chance adds to a cool-down.
const MAX_JITTER: f64 = 0.2;

impl Step<'_> {
    /// Automation fails back: counted, and locked when it happens too often.
    pub(super) fn trip(&mut self, cause: Cause) {
        let now = self.context.now;
        self.release.trips.retain(|at| now.since(*at) < DAY);
        self.release.trips.push(now);
        self.fail_back(cause);
        if self.trips() >= self.context.terms.guards.trips_per_day && self.release.locked.is_none()
        {
            self.release.locked = Some(now);
            self.alert(Alert::Locked);
        }
    }

    /// By freeze and drain if the candidate owns writes that the fallback has not seen, else at once.
    pub(super) fn fail_back(&mut self, cause: Cause) {
        let now = self.context.now;
        let owned = self.release.phase.owner() == WriteOwner::Candidate;
        if !(self.context.terms.sync_log && owned) {
            return self.switch(cause);
        }
        self.release.turn = self.release.turn.next();
        self.release.phase = Phase::Freezing {
            fail_back: FailBack {
                share: self.release.phase.share(),
                course: self.release.phase.course(),
                since: now,
                deadline: now.after(self.context.terms.drain_timeout),
                extended: false,
                cause,
            },
        };
    }

    /// The fallback takes over, and the cool-down begins.
    pub(super) fn switch(&mut self, cause: Cause) {
        let now = self.context.now;
        self.release.phase = Phase::FailedBack {
            since: now,
            until: now.after(self.cooldown()),
            cause,
        };
    }

    pub(super) fn frozen(&mut self, turn: Turn, freeze_seq: u64) {
        if turn != self.release.turn {
            return;
        }
        if let Phase::Freezing { fail_back } = self.release.phase.clone() {
            self.release.phase = Phase::Draining {
                fail_back,
                freeze_seq,
            };
            self.actions.push(Action::StartDrain { turn, freeze_seq });
        }
    }

    pub(super) fn drained(&mut self, turn: Turn, applied_seq: u64) {
        match &self.release.phase {
            Phase::Draining {
                fail_back,
                freeze_seq,
            } if turn == self.release.turn && applied_seq >= *freeze_seq => {
                let cause = fail_back.cause;
                self.switch(cause);
            }
            _ => {}
        }
    }

    pub(super) fn drain_failed(&mut self, turn: Turn) {
        if turn == self.release.turn && matches!(self.release.phase, Phase::Draining { .. }) {
            self.abort(AbortReason::DrainFailed);
        }
    }

    /// Aborts a fail-back whose time is up. Comes after the event, so that a drain which ends at
    /// the last moment still counts.
    pub(super) fn expire(&mut self) {
        let (deadline, reason) = match &self.release.phase {
            Phase::Freezing { fail_back } => (fail_back.deadline, AbortReason::FreezeTimeout),
            Phase::Draining { fail_back, .. } => (fail_back.deadline, AbortReason::DrainTimeout),
            _ => return,
        };
        if self.context.now >= deadline {
            self.abort(reason);
        }
    }

    fn abort(&mut self, reason: AbortReason) {
        self.stop_drain();
        let (share, course) = (self.release.phase.share(), self.release.phase.course());
        self.release.phase = Phase::Aborted {
            share,
            course,
            since: self.context.now,
            reason,
        };
        self.alert(Alert::Aborted(reason));
    }

    pub(super) fn stop_drain(&mut self) {
        if matches!(self.release.phase, Phase::Draining { .. }) {
            let turn = self.release.turn;
            self.actions.push(Action::StopDrain { turn });
        }
    }

    fn trips(&self) -> u32 {
        u32::try_from(self.release.trips.len()).unwrap_or(u32::MAX)
    }

    /// Doubles with each trip of the last day; chance only ever adds.
    fn cooldown(&self) -> Millis {
        let guards = &self.context.terms.guards;
        let recent = |at: &&Moment| self.context.now.since(**at) < DAY;
        let trips = self.release.trips.iter().filter(recent).count().max(1);
        let doubled = 1u64.checked_shl(u32::try_from(trips - 1).unwrap_or(u32::MAX));
        let cooldown = guards
            .cooldown
            .saturating_mul(doubled.unwrap_or(u64::MAX))
            .min(guards.max_cooldown);
        let jitter = cooldown.get() as f64 * MAX_JITTER * self.context.jitter.get();
        cooldown.saturating_add(Millis::new(jitter as u64))
    }
}
