//! Where a service stands between its candidate and its stable version, and what moves it on.
//! `step` is pure: the controller stores the new state, then performs the actions in their order.
//!
//! ```text
//! Stable -> Suspect -> Freezing -> Draining -> FailedBack -> Verifying -> Ramping -> Stable
//!               \          \___________\-> Aborted: writes unfrozen, held, somebody is asked
//!                \-> FailedBack at once without a sync log
//! ```

mod action;
mod event;
mod evidence;
mod fail_back;
mod operator;
mod phase;
mod reach;
mod restart;
mod state;

pub use action::{Action, Alert, Decision, Refusal, Transition};
pub use event::{Circuits, Command, Context, Event, Jitter, Order, Permit, Terms};
pub use phase::{AbortReason, Cause, Course, FailBack, Phase, PhaseName, WriteOwner};
pub use reach::{Reach, Unconfirmed};
pub use state::{Pause, Release, Turn};

/// A step under way.
struct Step<'a> {
    release: Release,
    actions: Vec<Action>,
    context: &'a Context<'a>,
}

/// The state after `event`, and what the controller has to do about it, in order.
///
/// Store the state first if it differs from `before`, then perform the actions. Repeating the
/// actions after a crash does no harm: each names the turn it belongs to.
#[must_use]
pub fn step(before: &Release, event: &Event, context: &Context<'_>) -> (Release, Vec<Action>) {
    let mut step = Step {
        release: before.clone(),
        actions: Vec::new(),
        context,
    };
    step.end_observation(event);
    step.count_proxies();
    match event {
        Event::Restarted => step.restart(),
        Event::Clock => {}
        Event::Judged { verdict, permit } => step.judged(*verdict, permit),
        Event::Frozen { turn, freeze_seq } => step.frozen(*turn, *freeze_seq),
        Event::Drained { turn, applied_seq } => step.drained(*turn, *applied_seq),
        Event::DrainFailed { turn } => step.drain_failed(*turn),
        Event::Operator(order) => step.order(order),
    }
    step.expire();
    step.finish(before, matches!(event, Event::Restarted))
}

impl Step<'_> {
    fn end_observation(&mut self, event: &Event) {
        let over = |until| self.context.now >= until;
        if !matches!(event, Event::Restarted) && self.release.observe_until.is_some_and(over) {
            self.release.observe_until = None;
        }
    }

    fn alert(&mut self, alert: Alert) {
        self.actions.push(Action::Alert(alert));
    }

    /// Publishes what changed for the filters and tells of the transition.
    fn finish(mut self, before: &Release, republish: bool) -> (Release, Vec<Action>) {
        let decision = self.release.decision();
        if before.decision().says_otherwise(&decision) {
            // INVARIANT: the turn was raised by whoever entered a freeze, else it is raised here.
            if self.release.turn == before.turn {
                self.release.turn = before.turn.next();
            }
            self.actions.push(Action::Publish(self.release.decision()));
        } else if republish {
            self.actions.push(Action::Publish(decision));
        }
        let (from, to) = (before.phase.name(), self.release.phase.name());
        if from != to || before.phase.share() != self.release.phase.share() {
            self.actions.push(Action::Notify(Transition {
                at: self.context.now,
                from,
                to,
                from_share: before.phase.share(),
                to_share: self.release.phase.share(),
                turn: self.release.turn,
            }));
        }
        self.actions.sort_by_key(Action::order);
        (self.release, self.actions)
    }
}

#[cfg(test)]
mod tests;
