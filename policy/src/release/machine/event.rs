//! What can happen to a release, and the circumstances in which it happens.

use serde::{Deserialize, Serialize};

use super::reach::Reach;
use super::state::Turn;
use crate::duration::{Millis, Moment};
use crate::release::breaker::Circuit;
use crate::release::judge::Verdict;
use crate::release::settings::{Guards, Settings, Verify};
use crate::release::share::Percent;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The controller has read this state back from its store.
    Restarted,
    /// Time has passed. Send one at least every second.
    Clock,
    /// The evidence was judged.
    Judged {
        /// The verdict.
        verdict: Verdict,
        /// Whether the fleet lets this service move now, see [`crate::release::fleet::admit`].
        permit: Permit,
    },
    /// Every proxy has confirmed the freezing decision of `turn`, writes under way have had time to
    /// end, and only then the sync log's last entry was read.
    Frozen {
        /// The turn confirmed.
        turn: Turn,
        /// The sync log's last entry, 0 if it is empty.
        freeze_seq: u64,
    },
    /// The sync log was applied.
    Drained {
        /// The turn it was started for.
        turn: Turn,
        /// The last entry applied.
        applied_seq: u64,
    },
    /// An entry of the sync log cannot be applied.
    DrainFailed {
        /// The turn it was started for.
        turn: Turn,
    },
    /// A person's order.
    Operator(Order),
}

/// A person's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What to do.
    pub command: Command,
    /// Who says so.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// What a person can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// One step forward.
    Promote,
    /// Hold automation.
    Pause,
    /// Let automation go on; after an abort, return to what went before.
    Resume,
    /// Fail back now, and stay so until resumed.
    Rollback {
        /// Without waiting for freeze and drain: what was not drained is lost.
        force: bool,
    },
    /// Give the candidate this share and keep it.
    SetWeight(Percent),
    /// Lift the lock and forget the trips that led to it.
    Unlock,
}

/// Whether the fleet lets a service move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permit {
    /// Move.
    Granted,
    /// Too many others are moving: ask again at the next judgement.
    Deferred,
    /// Too many services began to breach at once: something all share is broken, and nothing moves.
    PanicHold,
}

/// Chance from outside, 0 to 1, so that services which tripped together do not return together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

/// What a policy says about moving one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What must hold before a move, and what follows it.
    pub guards: Guards,
    /// What the verification channel must show.
    pub verify: Verify,
    /// From the freeze to the switch.
    pub drain_timeout: Millis,
    /// Whether the candidate's writes must be drained.
    pub sync_log: bool,
    /// The ramp's shares, rising.
    pub steps: Vec<Percent>,
    /// The shortest hold of a step.
    pub hold: Millis,
    /// How many proxies must run a step before the next one; none: it is not asked.
    pub reach: Option<Reach>,
}

/// The circumstances of a step.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The policy's terms.
    pub terms: &'a Terms,
    /// The time.
    pub now: Moment,
    /// Chance.
    pub jitter: Jitter,
    /// The share of the live proxies that run the newest decision, rounded down; none without any.
    pub confirmed: Option<Percent>,
    /// The breakers of both versions' clusters.
    pub circuits: Circuits,
}

/// The breakers of both versions' clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circuits {
    /// Half open, the candidate may take the first step of its ramp, which is its probe; open, none.
    pub candidate: Circuit,
    /// Open, nothing fails back to the stable version. Half open it does: there may be no other probe.
    pub stable: Circuit,
}

impl Jitter {
    /// A share of the most jitter there is; held to 0 to 1, not a number is 0.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self(if share.is_nan() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        })
    }

    /// 0 to 1.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Terms {
    /// The terms of a service; `steps` and `hold` are the policy's `rollout:`, the steps may come in
    /// any order.
    #[must_use]
    pub fn new(settings: &Settings, mut steps: Vec<Percent>, hold: Millis) -> Self {
        steps.retain(|step| *step > Percent::ZERO);
        steps.sort_unstable();
        steps.dedup();
        Self {
            guards: settings.guards.clone(),
            verify: settings.verify,
            drain_timeout: settings.drain.timeout,
            sync_log: settings.sync_log.is_some(),
            steps,
            hold,
            reach: None,
        }
    }

    /// The step after `share` on the way to `target`; none when it is reached.
    #[must_use]
    pub fn step_after(&self, share: Percent, target: Percent) -> Option<Percent> {
        (share < target).then(|| {
            let next = self.steps.iter().find(|step| **step > share);
            next.copied().unwrap_or(target).min(target)
        })
    }
}
