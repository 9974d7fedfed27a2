//! What a person's orders do. An order that cannot be followed is refused with its reason.

use super::Step;
use super::action::{Action, Alert, Refusal};
use super::event::{Command, Order};
use super::phase::{Cause, Phase};
use super::state::Pause;
use crate::release::share::Percent;

impl Step<'_> {
    pub(super) fn order(&mut self, order: &Order) {
        let followed = match order.command {
            Command::Promote => self.promote(),
            Command::Pause => self.pause(order),
            Command::Resume => self.resume(),
            Command::Rollback { force } => self.rollback(order, force),
            Command::SetWeight(share) => self.set_weight(share),
            Command::Unlock => self.unlock(),
        };
        if let Err(refusal) = followed {
            self.actions.push(Action::Refuse(refusal));
        }
    }

    fn promote(&mut self) -> Result<(), Refusal> {
        self.unless_locked()?;
        match self.release.phase {
            Phase::Stable { share } if share == Percent::FULL => return Err(Refusal::AtTarget),
            Phase::Stable { share } | Phase::Ramping { share, .. } if !self.may_climb(share) => {
                return Err(Refusal::Breaker);
            }
            Phase::Verifying { .. } if !self.may_climb(Percent::ZERO) => {
                return Err(Refusal::Breaker);
            }
            Phase::Stable { share } => {
                self.release.target = Percent::FULL;
                self.climb(share);
            }
            Phase::Ramping { share, .. } => self.climb(share),
            Phase::FailedBack { .. } => self.verify(),
            Phase::Verifying { .. } => self.climb(Percent::ZERO),
            Phase::Suspect { .. } => return Err(Refusal::Suspect),
            Phase::Aborted { .. } => return Err(Refusal::Aborted),
            Phase::Freezing { .. } | Phase::Draining { .. } => return Err(Refusal::FailingBack),
        }
        Ok(())
    }

    fn pause(&mut self, order: &Order) -> Result<(), Refusal> {
        self.release.paused = Some(Pause {
            actor: order.actor.clone(),
            reason: order.reason.clone(),
            since: self.context.now,
        });
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Refusal> {
        match self.release.phase {
            Phase::Aborted { share, course, .. } => {
                self.unless_locked()?;
                self.release.phase = Phase::on(course, share, self.context.now);
                self.release.paused = None;
                Ok(())
            }
            _ => self.release.paused.take().map(drop).ok_or(Refusal::Nothing),
        }
    }

    /// A person's rollback stays until a person resumes: automation does not argue with it.
    fn rollback(&mut self, order: &Order, force: bool) -> Result<(), Refusal> {
        match self.release.phase {
            Phase::FailedBack { .. } => return Err(Refusal::FailedBack),
            Phase::Freezing { .. } | Phase::Draining { .. } if !force => {
                return Err(Refusal::FailingBack);
            }
            Phase::Verifying { .. } => self.switch(Cause::Operator),
            _ if force => {
                self.stop_drain();
                self.switch(Cause::Operator);
                if self.context.terms.sync_log {
                    self.alert(Alert::ForcedSwitch);
                }
            }
            _ => self.fail_back(Cause::Operator),
        }
        self.pause(order)
    }

    fn set_weight(&mut self, share: Percent) -> Result<(), Refusal> {
        self.unless_locked()?;
        match &self.release.phase {
            Phase::Freezing { .. } | Phase::Draining { .. } => return Err(Refusal::FailingBack),
            Phase::FailedBack { .. } | Phase::Verifying { .. } => {
                self.actions.push(Action::ForgetEvidence);
            }
            phase if self.context.terms.sync_log && share < phase.share() => {
                return Err(Refusal::NeedsDrain);
            }
            _ => {}
        }
        self.release.target = share;
        self.release.phase = Phase::Stable { share };
        Ok(())
    }

    fn unlock(&mut self) -> Result<(), Refusal> {
        self.release.locked.take().ok_or(Refusal::Nothing)?;
        self.release.trips.clear();
        Ok(())
    }

    const fn unless_locked(&self) -> Result<(), Refusal> {
        match self.release.locked {
            Some(_) => Err(Refusal::Locked),
            None => Ok(()),
        }
    }
}
