//! What is known about one version in one tick, and sums of it.
//! Missing is not zero: a `Sample` is idle, unknown or counted, and only counted has numbers.

mod histogram;
mod roll_call;
mod totals;
mod window;

use serde::{Deserialize, Serialize};

pub use histogram::{Bin, Histogram};
pub use roll_call::{RollCall, Weight};
pub use totals::Totals;
pub use window::{Sum, Window};

/// What one version did in one tick, as far as anybody knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// Nobody can say: a gap in the evidence. Neither trips nor clears nor ramps anything.
    Unknown(Gap),
    /// Fresh evidence that there was no traffic.
    Idle,
    /// Fresh evidence of traffic.
    Counted(Counts),
}

/// Why a sample says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// No answer, or no such series, or the first reading of a counter.
    Missing,
    /// An answer older than the settings allow.
    Stale,
    /// A counter went back: the proxy restarted within the tick.
    Reset,
    /// Too little of the traffic is covered by the proxies that answered.
    Partial,
    /// An answer that is not a count: NaN, infinite, negative, contradictory.
    Malformed,
}

/// Counts of one version in one tick or window. Add them up; never average what follows from them.
///
/// INVARIANT: errors <= requests and slow <= timed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCounts")]
pub struct Counts {
    requests: u64,
    errors: u64,
    timed: u64,
    slow: u64,
    absent: u64,
    latency: Histogram,
}

/// Counts that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CountsError {
    /// More failed than there were.
    #[error("{errors} errors among {requests} requests")]
    Errors {
        /// Failed requests.
        errors: u64,
        /// All requests.
        requests: u64,
    },
    /// More were slow than were timed.
    #[error("{slow} slow among {timed} timed requests")]
    Slow {
        /// Slow requests.
        slow: u64,
        /// Requests with a known latency.
        timed: u64,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCounts {
    requests: u64,
    errors: u64,
    timed: u64,
    slow: u64,
    #[serde(default)]
    absent: u64,
    #[serde(default)]
    latency: Histogram,
}

impl Sample {
    /// Fresh counts: idle when there was neither a request nor a timing.
    #[must_use]
    pub fn fresh(counts: Counts) -> Self {
        if counts.requests == 0 && counts.timed == 0 {
            Self::Idle
        } else {
            Self::Counted(counts)
        }
    }

    /// Whether this says nothing.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

impl Counts {
    /// Counts of requests and, apart from them, of latencies.
    ///
    /// `errors` are 5xx and local-origin resets and timeouts among `requests`, not 4xx. `slow` are
    /// those above the limit among the `timed`: proxies publish latencies in batches, so in one
    /// tick `timed` and `requests` may differ although in the long run they agree.
    ///
    /// # Errors
    /// When a part exceeds its whole; the tick is then [`Gap::Malformed`].
    pub fn new(
        requests: u64,
        errors: u64,
        (slow, timed): (u64, u64),
        latency: Histogram,
    ) -> Result<Self, CountsError> {
        if errors > requests {
            return Err(CountsError::Errors { errors, requests });
        }
        if slow > timed {
            return Err(CountsError::Slow { slow, timed });
        }
        Ok(Self {
            requests,
            errors,
            timed,
            slow,
            absent: 0,
            latency,
        })
    }

    /// Adds another proxy's or tick's counts. Associative and commutative.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.timed = self.timed.saturating_add(other.timed);
        self.slow = self.slow.saturating_add(other.slow);
        self.absent = self.absent.saturating_add(other.absent);
        self.latency.merge(&other.latency);
    }

    /// Requests that ended.
    #[must_use]
    pub const fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests that failed.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.errors
    }

    /// Requests whose latency is known.
    #[must_use]
    pub const fn timed(&self) -> u64 {
        self.timed
    }

    /// Timed requests above the limit.
    #[must_use]
    pub const fn slow(&self) -> u64 {
        self.slow
    }

    /// An estimate of the requests at proxies that did not answer.
    #[must_use]
    pub const fn absent(&self) -> u64 {
        self.absent
    }

    /// The latencies, in milliseconds.
    #[must_use]
    pub const fn latency(&self) -> &Histogram {
        &self.latency
    }
}

impl TryFrom<RawCounts> for Counts {
    type Error = CountsError;

    fn try_from(raw: RawCounts) -> Result<Self, CountsError> {
        let mut counts = Self::new(raw.requests, raw.errors, (raw.slow, raw.timed), raw.latency)?;
        counts.absent = raw.absent;
        Ok(counts)
    }
}

#[cfg(test)]
mod tests;
