//! The phases of a release, and what each means for traffic and writes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::duration::Moment;
use crate::release::share::Percent;
use crate::release::triggers::Trigger;

/// Where a release stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// The candidate has its share and keeps it.
    Stable {
        /// The candidate's share.
        share: Percent,
    },
    /// Something speaks against the candidate; traffic is not touched yet.
    Suspect {
        /// The candidate's share.
        share: Percent,
        /// What it returns to.
        course: Course,
        /// Since when.
        since: Moment,
        /// Since when nothing has spoken against it any more.
        quiet: Option<Moment>,
        /// Whether somebody was asked.
        asked: bool,
    },
    /// Unsafe methods to the candidate are refused, until every proxy does so.
    Freezing {
        /// The fail-back.
        fail_back: FailBack,
    },
    /// The candidate's writes up to `freeze_seq` are applied to the stable version.
    Draining {
        /// The fail-back.
        fail_back: FailBack,
        /// The last entry of the sync log to apply.
        freeze_seq: u64,
    },
    /// The fallback serves all; the candidate cools down.
    FailedBack {
        /// Since when.
        since: Moment,
        /// The end of the cool-down.
        until: Moment,
        /// What led here.
        cause: Cause,
    },
    /// Only the verification channel reaches the candidate.
    Verifying {
        /// Since when.
        since: Moment,
        /// Whether somebody was asked.
        asked: bool,
    },
    /// The candidate holds one step of its ramp.
    Ramping {
        /// The step.
        share: Percent,
        /// Since when.
        since: Moment,
        /// Whether somebody was asked.
        asked: bool,
    },
    /// A fail-back did not end in time: writes are unfrozen, a person decides.
    Aborted {
        /// The candidate's share.
        share: Percent,
        /// What it returns to.
        course: Course,
        /// Since when.
        since: Moment,
        /// Why.
        reason: AbortReason,
    },
}

/// A fail-back under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailBack {
    /// The candidate's share, kept until the switch.
    pub share: Percent,
    /// What an abort returns to.
    pub course: Course,
    /// Since when.
    pub since: Moment,
    /// When it is aborted.
    pub deadline: Moment,
    /// Whether a restart has extended the deadline; it does so once, or a controller that keeps
    /// crashing would refuse writes for ever.
    pub extended: bool,
    /// What led here.
    pub cause: Cause,
}

/// What a release was doing when something came between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// Keeping its share.
    Settled,
    /// Ramping.
    Climbing,
}

/// What caused a fail-back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A trigger.
    Trigger(Trigger),
    /// A person.
    Operator,
}

/// Why a fail-back was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortReason {
    /// Not every proxy confirmed the freeze in time.
    FreezeTimeout,
    /// The sync log was not applied in time.
    DrainTimeout,
    /// An entry of the sync log cannot be applied.
    DrainFailed,
}

/// A phase without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the phase of the same name")]
pub enum PhaseName {
    Stable,
    Suspect,
    Freezing,
    Draining,
    FailedBack,
    Verifying,
    Ramping,
    Aborted,
}

/// Which version takes the writes of the traffic that is the candidate's by its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteOwner {
    /// The candidate.
    Candidate,
    /// Neither: they are refused with 503.
    Nobody,
    /// The fallback.
    Fallback,
}

impl Phase {
    /// The phase without its data.
    #[must_use]
    pub const fn name(&self) -> PhaseName {
        match self {
            Self::Stable { .. } => PhaseName::Stable,
            Self::Suspect { .. } => PhaseName::Suspect,
            Self::Freezing { .. } => PhaseName::Freezing,
            Self::Draining { .. } => PhaseName::Draining,
            Self::FailedBack { .. } => PhaseName::FailedBack,
            Self::Verifying { .. } => PhaseName::Verifying,
            Self::Ramping { .. } => PhaseName::Ramping,
            Self::Aborted { .. } => PhaseName::Aborted,
        }
    }

    /// The candidate's share of unpinned traffic.
    #[must_use]
    pub const fn share(&self) -> Percent {
        match self {
            Self::Stable { share }
            | Self::Suspect { share, .. }
            | Self::Ramping { share, .. }
            | Self::Aborted { share, .. } => *share,
            Self::Freezing { fail_back } | Self::Draining { fail_back, .. } => fail_back.share,
            Self::FailedBack { .. } | Self::Verifying { .. } => Percent::ZERO,
        }
    }

    /// Who takes the writes of the candidate's traffic. One owner or none, never two.
    #[must_use]
    pub const fn owner(&self) -> WriteOwner {
        match self {
            Self::Stable { .. }
            | Self::Suspect { .. }
            | Self::Ramping { .. }
            | Self::Aborted { .. } => WriteOwner::Candidate,
            Self::Freezing { .. } | Self::Draining { .. } => WriteOwner::Nobody,
            Self::FailedBack { .. } | Self::Verifying { .. } => WriteOwner::Fallback,
        }
    }

    /// The phase that keeps `share` on `course`, with its hold beginning `now`.
    pub(super) const fn on(course: Course, share: Percent, now: Moment) -> Self {
        match course {
            Course::Settled => Self::Stable { share },
            Course::Climbing => Self::Ramping {
                share,
                since: now,
                asked: false,
            },
        }
    }

    /// What this phase would return to.
    pub(super) const fn course(&self) -> Course {
        match self {
            Self::Ramping { .. } | Self::Verifying { .. } => Course::Climbing,
            Self::Suspect { course, .. } | Self::Aborted { course, .. } => *course,
            Self::Freezing { fail_back } | Self::Draining { fail_back, .. } => fail_back.course,
            Self::Stable { .. } | Self::FailedBack { .. } => Course::Settled,
        }
    }
}

impl fmt::Display for PhaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stable => "stable",
            Self::Suspect => "suspect",
            Self::Freezing => "freezing",
            Self::Draining => "draining",
            Self::FailedBack => "failed back",
            Self::Verifying => "verifying",
            Self::Ramping => "ramping",
            Self::Aborted => "aborted",
        })
    }
}
