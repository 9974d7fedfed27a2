//! How far a step of the ramp has come: a decision that too few proxies run is no step yet, and the
//! evidence gathered under it says nothing about the share that it is meant to show.

use serde::{Deserialize, Serialize};

use super::Step;
use super::action::Alert;
use super::phase::Phase;
use crate::duration::{Millis, Moment};
use crate::release::share::Percent;

/// How many proxies must run a step before the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The least share of the live proxies.
    pub least: Percent,
    /// How long a step may stay below it before somebody is told.
    pub timeout: Millis,
}

/// Too few proxies run the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unconfirmed {
    /// Since when.
    pub since: Moment,
    /// Whether it took longer than it may, and somebody was told.
    pub told: bool,
}

impl Step<'_> {
    pub(super) fn count_proxies(&mut self) {
        let now = self.context.now;
        let ramping = matches!(self.release.phase, Phase::Ramping { .. });
        let short = |reach: &Reach| {
            self.context
                .confirmed
                .is_none_or(|share| share < reach.least)
        };
        let Some(reach) = self
            .context
            .terms
            .reach
            .filter(|reach| ramping && short(reach))
        else {
            self.release.unconfirmed = None;
            return;
        };
        let waiting = self.release.unconfirmed.get_or_insert(Unconfirmed {
            since: now,
            told: false,
        });
        let late = now.since(waiting.since) >= reach.timeout;
        if late && !std::mem::replace(&mut waiting.told, true) {
            self.alert(Alert::Unconfirmed);
        }
    }
}
