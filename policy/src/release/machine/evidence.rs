//! What evidence does to a release. Unknown evidence does nothing.

use super::Step;
use super::action::{Action, Alert};
use super::event::Permit;
use super::phase::{Cause, Course, Phase};
use crate::duration::Millis;
use crate::release::judge::{Standing, Verdict};
use crate::release::share::Percent;
use crate::release::triggers::Trigger;

/// Unknown for that long, somebody is told.
const UNKNOWN_ALERT: Millis = Millis::from_secs(60);
/// Quiet for that long, a suspect is one no more.
const QUIET: Millis = Millis::from_secs(30);

impl Step<'_> {
    pub(super) fn judged(&mut self, verdict: Verdict, permit: &Permit) {
        if let Verdict::Unknown(_) = verdict {
            return self.unknown();
        }
        self.release.unknown = None;
        self.release.unknown_told = false;
        match verdict {
            Verdict::Unknown(_) => {}
            Verdict::Idle => self.quiet(None),
            Verdict::Quiet(standing) => self.quiet(Some(standing)),
            Verdict::Breached => self.breached(),
            Verdict::Fired(trigger) => self.fired(trigger, *permit),
            Verdict::Held(trigger) => self.held(trigger),
            Verdict::SharedFault(trigger) => self.shared_fault(trigger),
        }
    }

    fn unknown(&mut self) {
        let now = self.context.now;
        self.release.unknown.get_or_insert(now);
        if !self.release.unknown_told && self.release.unknown_for(now) >= UNKNOWN_ALERT {
            self.release.unknown_told = true;
            self.alert(Alert::EvidenceUnknown);
        }
    }

    /// Nothing speaks against the candidate; without a standing there was no traffic at all.
    fn quiet(&mut self, standing: Option<Standing>) {
        self.release.shared_fault = None;
        let now = self.context.now;
        let automatic = self.release.automatic(now);
        match self.release.phase.clone() {
            Phase::Suspect {
                share,
                course,
                quiet: Some(since),
                ..
            } if now.since(since) >= QUIET => {
                self.release.phase = Phase::on(course, share, now);
            }
            Phase::Suspect { .. } => self.note_quiet(),
            Phase::FailedBack { until, .. } if automatic && now >= until => self.verify(),
            Phase::Verifying { since, .. } => {
                let held = now.since(since) >= self.context.terms.verify.hold;
                if automatic && held && standing >= Some(Standing::Passing) {
                    self.climb(Percent::ZERO);
                }
                self.ask();
            }
            Phase::Ramping { share, since, .. } => {
                let held = now.since(since) >= self.context.terms.hold;
                let reached = self.release.unconfirmed.is_none();
                if automatic && held && reached && standing == Some(Standing::Clear) {
                    self.climb(share);
                }
                self.ask();
            }
            Phase::Stable { .. }
            | Phase::FailedBack { .. }
            | Phase::Freezing { .. }
            | Phase::Draining { .. }
            | Phase::Aborted { .. } => {}
        }
    }

    fn note_quiet(&mut self) {
        let now = self.context.now;
        if let Phase::Suspect { quiet, .. } = &mut self.release.phase {
            quiet.get_or_insert(now);
        }
    }

    /// Something speaks against the candidate: no step up, and a closer look.
    fn breached(&mut self) {
        let now = self.context.now;
        match &mut self.release.phase {
            Phase::Stable { share } => {
                self.release.phase = suspect(*share, Course::Settled, now);
            }
            Phase::Ramping { share, .. } => {
                self.release.phase = suspect(*share, Course::Climbing, now);
            }
            Phase::Suspect { quiet, .. } => {
                *quiet = None;
                self.ask();
            }
            Phase::Verifying { .. } => self.ask(),
            // The cool-down ends by time alone: its evidence is that of the fault.
            Phase::FailedBack { until, .. } => {
                let over = now >= *until;
                if over && self.release.automatic(now) {
                    self.verify();
                }
            }
            Phase::Freezing { .. } | Phase::Draining { .. } | Phase::Aborted { .. } => {}
        }
    }

    fn fired(&mut self, trigger: Trigger, permit: Permit) {
        self.release.shared_fault = None;
        let allowed = self.release.automatic(self.context.now) && permit == Permit::Granted;
        match self.release.phase {
            Phase::Stable { .. } | Phase::Suspect { .. } | Phase::Ramping { .. } if allowed => {
                self.trip(Cause::Trigger(trigger));
            }
            Phase::Stable { .. } | Phase::Suspect { .. } | Phase::Ramping { .. } => {
                self.withhold(Alert::Withheld(trigger));
            }
            // Nothing of the fleet's traffic moves, so no permit is needed.
            Phase::Verifying { .. } if self.release.automatic(self.context.now) => {
                self.trip(Cause::Trigger(trigger));
            }
            Phase::Verifying { .. }
            | Phase::FailedBack { .. }
            | Phase::Freezing { .. }
            | Phase::Draining { .. }
            | Phase::Aborted { .. } => self.breached(),
        }
    }

    fn held(&mut self, trigger: Trigger) {
        self.withhold(Alert::StableIdle(trigger));
    }

    /// Suspects the candidate and tells somebody once.
    fn withhold(&mut self, alert: Alert) {
        self.breached();
        if let Phase::Suspect { asked, .. } = &mut self.release.phase
            && !std::mem::replace(asked, true)
        {
            self.alert(alert);
        }
    }

    fn shared_fault(&mut self, trigger: Trigger) {
        if self.release.shared_fault.is_none() {
            self.release.shared_fault = Some(self.context.now);
            self.alert(Alert::SharedFault(trigger));
        }
        self.breached();
    }

    /// The cool-down is over: the verification channel first.
    pub(super) fn verify(&mut self) {
        self.release.phase = Phase::Verifying {
            since: self.context.now,
            asked: false,
        };
        self.actions.push(Action::ForgetEvidence);
    }

    /// The step after `share`, or the end of the ramp.
    pub(super) fn climb(&mut self, share: Percent) {
        let target = self.release.target;
        self.release.phase = match self.context.terms.step_after(share, target) {
            Some(share) => Phase::on(Course::Climbing, share, self.context.now),
            None => Phase::Stable { share },
        };
    }

    /// Asks a person once when a phase has been undecided for too long.
    fn ask(&mut self) {
        let patience = self.context.terms.guards.ask_after;
        if let Phase::Suspect { since, asked, .. }
        | Phase::Verifying { since, asked }
        | Phase::Ramping { since, asked, .. } = &mut self.release.phase
            && self.context.now.since(*since) >= patience
            && !std::mem::replace(asked, true)
        {
            self.alert(Alert::Undecided);
        }
    }
}

const fn suspect(share: Percent, course: Course, now: crate::duration::Moment) -> Phase {
    Phase::Suspect {
        share,
        course,
        since: now,
        quiet: None,
        asked: false,
    }
}
