//! The stored state of one release: its phase and what lies over it.

use serde::{Deserialize, Serialize};

use super::action::Decision;
use super::event::Terms;
use super::phase::{Phase, WriteOwner};
use super::reach::Unconfirmed;
use crate::duration::{Millis, Moment};
use crate::release::judge::Span;
use crate::release::share::Percent;

/// Numbers the decisions of one release. An answer that names an older turn is ignored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Turn(u64);

/// One release, as it is stored. JSON by serde.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Where it stands.
    pub phase: Phase,
    /// The share it ramps to, and after a fail-back ramps back to.
    pub target: Percent,
    /// The number of the decision in force.
    pub turn: Turn,
    /// When automation tripped within the last day.
    pub trips: Vec<Moment>,
    /// A person holds automation.
    pub paused: Option<Pause>,
    /// Too many trips hold automation since then, until a person unlocks it.
    pub locked: Option<Moment>,
    /// Both versions fail since then.
    pub shared_fault: Option<Moment>,
    /// The evidence is unknown since then.
    pub unknown: Option<Moment>,
    /// Whether somebody was told of `unknown`.
    pub unknown_told: bool,
    /// Too few proxies run the step since then.
    #[serde(default)]
    pub unconfirmed: Option<Unconfirmed>,
    /// After a restart nothing moves before this, except a fail-back under way.
    pub observe_until: Option<Moment>,
}

/// A person's hold on automation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Moment,
}

impl Turn {
    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Release {
    /// A rollout that begins with `share` of the traffic and is to reach `target`. It ramps by
    /// itself if it begins above nothing and below its target; else it waits for `promote`.
    #[must_use]
    pub const fn begin(share: Percent, target: Percent, now: Moment) -> Self {
        let climbing = share.get() > 0 && share.get() < target.get();
        let phase = if climbing {
            Phase::Ramping {
                share,
                since: now,
                asked: false,
            }
        } else {
            Phase::Stable { share }
        };
        Self {
            phase,
            target,
            turn: Turn(1),
            trips: Vec::new(),
            paused: None,
            locked: None,
            shared_fault: None,
            unknown: None,
            unknown_told: false,
            unconfirmed: None,
            observe_until: None,
        }
    }

    /// What the filters are told in this state.
    #[must_use]
    pub const fn decision(&self) -> Decision {
        let owner = self.phase.owner();
        Decision {
            turn: self.turn,
            share: self.phase.share(),
            degraded: matches!(owner, WriteOwner::Fallback),
            frozen: matches!(owner, WriteOwner::Nobody),
        }
    }

    /// Whether this state asks for permission to move when a trigger fires.
    #[must_use]
    pub fn may_move(&self, now: Moment) -> bool {
        let movable = matches!(
            self.phase,
            Phase::Stable { .. } | Phase::Suspect { .. } | Phase::Ramping { .. }
        );
        movable && self.automatic(now)
    }

    /// The evidence that counts for the candidate in this state: give it to
    /// [`crate::release::judge::Judge::observe`].
    #[must_use]
    pub const fn trial(&self, now: Moment, terms: &Terms) -> Span {
        match self.phase {
            Phase::Ramping { since, .. } => Span {
                since,
                base: terms.hold,
            },
            Phase::Verifying { since, .. } => Span {
                since,
                base: terms.verify.hold,
            },
            _ => Span {
                since: now.before(terms.hold),
                base: terms.hold,
            },
        }
    }

    /// Whether automation may act: nobody holds it and no restart is too fresh.
    pub(super) fn automatic(&self, now: Moment) -> bool {
        let observing = self.observe_until.is_some_and(|until| now < until);
        self.paused.is_none() && self.locked.is_none() && !observing
    }
}

impl Release {
    /// How long nobody has known anything, at `now`.
    pub(super) fn unknown_for(&self, now: Moment) -> Millis {
        self.unknown.map_or(Millis::ZERO, |since| now.since(since))
    }
}
