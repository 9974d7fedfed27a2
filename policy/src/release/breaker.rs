//! The breaker of §4.2: one per cluster, bound to its name, refreshed by configuration updates.
//! Open it admits no move to its cluster; half open it waits for a counted number of probes.

mod board;
mod probes;

use serde::{Deserialize, Serialize};

use super::evidence::Sum;
use super::machine::Jitter;
use crate::duration::{Millis, Moment};

pub use board::{Board, Change, ConfigUpdate, Refreshed};
pub use probes::Probe;
use probes::Probes;

/// A failure rate in parts per million, 0 to 1,000,000.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ppm(u64);

/// What the article calls `CircuitState`: a breaker as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CircuitState {
    /// The Envoy cluster.
    pub cluster_name: String,
    /// Its failure rate by the last sum.
    pub failure_rate: Ppm,
    /// Whether it gives out probes.
    pub in_half_open: bool,
}

/// Whether traffic may be moved to a breaker's cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// It may.
    #[default]
    Closed,
    /// So much that the cluster can be judged.
    HalfOpen,
    /// It may not.
    Open,
}

/// When a breaker opens and how it closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerTerms {
    /// The failure rate that opens it.
    pub failure_rate: Ppm,
    /// The requests that rate needs.
    pub min_requests: u64,
    /// How many probes a half-open breaker gives out.
    pub probes: u32,
    /// When an unanswered probe counts as failed, and when half open ends at the latest.
    pub expiry: Millis,
    /// The first time open; it doubles while probes fail.
    pub first_open: Millis,
    /// The longest time open.
    pub longest_open: Millis,
}

/// The breaker of one cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    terms: BreakerTerms,
    failure_rate: Ppm,
    phase: Phase,
    /// Times opened in a row without closing.
    opened: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Closed,
    Open { until: Moment },
    HalfOpen { until: Moment, probes: Probes },
}

impl Ppm {
    /// All failed.
    pub const ALL: Self = Self(1_000_000);

    /// `failed` of `all`, rounded down; 0 of nothing is 0.
    #[must_use]
    pub fn of(failed: u64, all: u64) -> Self {
        let parts = u128::from(failed.min(all)) * 1_000_000;
        let ppm = parts.checked_div(u128::from(all)).unwrap_or(0);
        Self(u64::try_from(ppm).unwrap_or(Self::ALL.0))
    }

    /// Parts per million.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Default for BreakerTerms {
    fn default() -> Self {
        Self {
            failure_rate: Ppm(500_000),
            min_requests: 20,
            probes: 10,
            expiry: Millis::from_secs(30),
            first_open: Millis::from_secs(5),
            longest_open: Millis::from_secs(300),
        }
    }
}

impl Breaker {
    /// A closed breaker that has seen nothing.
    #[must_use]
    pub const fn new(terms: BreakerTerms) -> Self {
        Self {
            terms,
            failure_rate: Ppm(0),
            phase: Phase::Closed,
            opened: 0,
        }
    }

    /// Takes the counts of the window that ends `now`; opens a closed breaker if they are bad.
    pub fn observe(&mut self, window: &Sum, now: Moment, jitter: Jitter) {
        self.failure_rate = Ppm::of(window.errors, window.requests);
        let bad = window.requests >= self.terms.min_requests
            && self.failure_rate >= self.terms.failure_rate;
        if bad && self.phase == Phase::Closed {
            self.open(now, jitter);
        }
    }

    /// Lets time pass: open becomes half open; expired probes count as failed; half open that was
    /// not decided in time is decided by what it has, and without any answer opens again.
    pub fn tick(&mut self, now: Moment, jitter: Jitter) {
        match &mut self.phase {
            Phase::Open { until } if now >= *until => {
                self.phase = Phase::HalfOpen {
                    until: now.after(self.terms.expiry),
                    probes: Probes::new(self.terms.probes),
                };
            }
            Phase::HalfOpen { until, probes } => {
                let failed = probes.expire(now) > 0;
                let over = now >= *until;
                let proven = probes.succeeded() > 0;
                if failed || (over && probes.waiting() > 0) {
                    self.open(now, jitter);
                } else if over && proven {
                    self.close();
                } else if over {
                    self.reopen(now, jitter);
                }
            }
            Phase::Open { .. } | Phase::Closed => {}
        }
    }

    /// A probe to send now, if the breaker is half open and has one left.
    #[must_use]
    pub fn probe(&mut self, now: Moment) -> Option<Probe> {
        let expires = now.after(self.terms.expiry);
        match &mut self.phase {
            Phase::HalfOpen { until, probes } if now < *until => probes.give(expires.min(*until)),
            _ => None,
        }
    }

    /// How a probe ended. One that is not waiting any more is ignored. The first failure opens the
    /// breaker; the last success closes it.
    pub fn answer(&mut self, probe: Probe, succeeded: bool, now: Moment, jitter: Jitter) {
        let Phase::HalfOpen { probes, .. } = &mut self.phase else {
            return;
        };
        if !probes.take(probe) {
            return;
        }
        if !succeeded {
            self.open(now, jitter);
        } else if probes.succeed() {
            self.close();
        }
    }

    /// Requests that went to the cluster while it was half open are its probes: as many of them as it
    /// waits for, failed together if so many of the tick failed that they would open it.
    pub fn passed(&mut self, tick: &Sum, now: Moment, jitter: Jitter) {
        let well = Ppm::of(tick.errors, tick.requests) < self.terms.failure_rate;
        for _ in 0..tick.requests {
            let Some(probe) = self.probe(now) else {
                break;
            };
            self.answer(probe, well, now, jitter);
        }
    }

    /// Whether traffic may be moved to the cluster.
    #[must_use]
    pub const fn circuit(&self) -> Circuit {
        match self.phase {
            Phase::Closed => Circuit::Closed,
            Phase::HalfOpen { .. } => Circuit::HalfOpen,
            Phase::Open { .. } => Circuit::Open,
        }
    }

    /// The breaker as others see it, under its cluster's name.
    #[must_use]
    pub fn state(&self, cluster_name: &str) -> CircuitState {
        CircuitState {
            cluster_name: cluster_name.to_owned(),
            failure_rate: self.failure_rate,
            in_half_open: matches!(self.phase, Phase::HalfOpen { .. }),
        }
    }

    fn open(&mut self, now: Moment, jitter: Jitter) {
        self.opened = self.opened.saturating_add(1);
        self.reopen(now, jitter);
    }

    /// Opens for half to all of the time the backoff allows, without raising the backoff.
    fn reopen(&mut self, now: Moment, jitter: Jitter) {
        let doublings = self.opened.saturating_sub(1);
        let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let longest = self.terms.longest_open.max(self.terms.first_open);
        let backoff = self.terms.first_open.saturating_mul(factor).min(longest);
        let backoff = backoff.get() as f64 * (1.0 - jitter.get() / 2.0);
        self.phase = Phase::Open {
            until: now.after(Millis::new(backoff as u64).max(self.terms.first_open)),
        };
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.opened = 0;
        self.failure_rate = Ppm(0);
    }
}

#[cfg(test)]
mod tests;
