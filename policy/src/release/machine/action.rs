//! What the controller has to do after a step.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::phase::{AbortReason, PhaseName};
use super::state::Turn;
use crate::duration::Moment;
use crate::release::share::Percent;
use crate::release::triggers::Trigger;

/// What the controller has to do, in the order given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stop applying the sync log for this turn, and wait until no entry is in flight.
    StopDrain {
        /// The turn it was started for.
        turn: Turn,
    },
    /// Tell every filter. If it freezes, answer with [`super::Event::Frozen`] when all confirmed.
    Publish(Decision),
    /// Apply the sync log up to `freeze_seq`; already running for this turn, let it run.
    StartDrain {
        /// The turn.
        turn: Turn,
        /// The last entry to apply.
        freeze_seq: u64,
    },
    /// Begin with empty windows, see [`crate::release::judge::Judge::forget`].
    ForgetEvidence,
    /// Call somebody.
    Alert(Alert),
    /// Tell of a transition: history, webhooks, event stream.
    Notify(Transition),
    /// Tell the person that the order was not followed, and why.
    Refuse(Refusal),
}

/// What the filters are told about one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its number.
    pub turn: Turn,
    /// The candidate's share of unpinned traffic.
    pub share: Percent,
    /// Whether the fallback takes the candidate's requests, verification aside.
    pub degraded: bool,
    /// Whether unsafe methods to the candidate are refused. Never together with `degraded`.
    pub frozen: bool,
}

/// What somebody should know now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alert {
    /// The evidence has been unknown for a minute: nothing will move.
    EvidenceUnknown,
    /// Both versions fail: moving would not help.
    SharedFault(Trigger),
    /// A trigger fired, but the stable version has no traffic to compare with.
    StableIdle(Trigger),
    /// A trigger fired, but the fleet or a hold on automation lets nothing move.
    Withheld(Trigger),
    /// Undecided for too long: promote, roll back, or give it traffic.
    Undecided,
    /// A step of the ramp is not run by enough proxies: it goes on when it is.
    Unconfirmed,
    /// Tripped too often: automation is locked.
    Locked,
    /// A fail-back was aborted.
    Aborted(AbortReason),
    /// A forced switch: writes of the candidate that were not drained are lost to the fallback.
    ForcedSwitch,
}

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub at: Moment,
    /// The phase before.
    pub from: PhaseName,
    /// The phase after.
    pub to: PhaseName,
    /// The candidate's share before.
    pub from_share: Percent,
    /// The candidate's share after.
    pub to_share: Percent,
    /// The decision in force after.
    pub turn: Turn,
}

/// Why an order was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Automation is locked.
    Locked,
    /// There is no further step.
    AtTarget,
    /// A fail-back is under way.
    FailingBack,
    /// It has failed back already.
    FailedBack,
    /// The evidence is against it.
    Suspect,
    /// A fail-back was aborted.
    Aborted,
    /// Less weight would move writes without a drain.
    NeedsDrain,
    /// Nothing to undo.
    Nothing,
}

impl Decision {
    /// Whether the filters would act otherwise by `other`; the number alone does not count.
    pub(super) fn says_otherwise(&self, other: &Self) -> bool {
        (self.share, self.degraded, self.frozen) != (other.share, other.degraded, other.frozen)
    }
}

impl Action {
    /// A drain stops before writes are let in again, and starts only after they are refused.
    pub(super) const fn order(&self) -> u8 {
        match self {
            Self::StopDrain { .. } => 0,
            Self::Publish(_) => 1,
            Self::StartDrain { .. } => 2,
            Self::ForgetEvidence => 3,
            Self::Alert(_) => 4,
            Self::Notify(_) => 5,
            Self::Refuse(_) => 6,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Locked => "locked after too many trips; unlock first",
            Self::AtTarget => "the candidate has all of the traffic already",
            Self::FailingBack => {
                "a fail-back is under way; only a forced rollback can end it early"
            }
            Self::FailedBack => "the service has failed back already",
            Self::Suspect => "the evidence is against the candidate; set a weight to overrule it",
            Self::Aborted => "a fail-back was aborted; resume, roll back or set a weight",
            Self::NeedsDrain => {
                "less weight would move writes that are not drained; roll back instead"
            }
            Self::Nothing => "there is nothing to undo",
        })
    }
}
