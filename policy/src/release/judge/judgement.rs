//! What comes out of judging: the verdict, and the account of how it came about.

use serde::{Deserialize, Serialize};

use super::{Tally, TrialAccount};
use crate::duration::{Millis, Moment};
use crate::release::evidence::{Gap, Sum};
use crate::release::triggers::Trigger;
use crate::release::triggers::outage::OutageAccount;
use crate::release::triggers::relative::Comparison;
use crate::release::triggers::score::ScoreAccount;
use crate::release::triggers::sustained::Breach;

/// What the evidence says about the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nobody can say. Neither trips nor clears nor ramps.
    Unknown(Gap),
    /// No traffic to judge by.
    Idle,
    /// Nothing speaks against the candidate.
    Quiet(Standing),
    /// Something does, not yet long enough, or not beyond chance more than against the stable version.
    Breached,
    /// A trigger fired and the candidate is the worse version.
    Fired(Trigger),
    /// A trigger fired, but the stable version has no traffic and the settings say to hold.
    Held(Trigger),
    /// A trigger fired, but the stable version fails as well.
    SharedFault(Trigger),
}

/// How good a quiet candidate is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Not enough is known.
    Open,
    /// Enough verified requests, and their ratios are below the limits.
    Passing,
    /// Its ratios are below the limits beyond chance.
    Clear,
}

/// A verdict with everything that led to it, for display and for the history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The end of the tick judged.
    pub at: Moment,
    /// The verdict.
    pub verdict: Verdict,
    /// The long window's span.
    pub span: Millis,
    /// The candidate's counts in the long window.
    pub candidate: Sum,
    /// The stable version's counts over the same span.
    pub stable: Sum,
    /// The score; none without traffic, latencies, or this trigger.
    pub score: Option<ScoreAccount>,
    /// Both ratios against their limits.
    pub breach: Option<Breach>,
    /// How the last judgements voted; none if this trigger is off.
    pub votes: Option<Tally>,
    /// The outage in the newest tick.
    pub outage_tick: Option<OutageAccount>,
    /// The outage in the window.
    pub outage_window: Option<OutageAccount>,
    /// The trigger that fired and how the candidate compares.
    pub fired: Option<(Trigger, Comparison)>,
    /// What is known in favour of the candidate.
    pub trial: Option<TrialAccount>,
}

impl Judgement {
    /// How urgent a move is, to rank services that want to move at once: the sure burn rate of the
    /// worse ratio, weighted with nothing; 0 without a breach.
    #[must_use]
    pub fn severity(&self) -> f64 {
        self.breach.map_or_else(
            || {
                self.outage_tick
                    .and_then(|account| account.ratio)
                    .unwrap_or(0.0)
                    * 200.0
            },
            |breach| breach.severity(),
        )
    }
}
