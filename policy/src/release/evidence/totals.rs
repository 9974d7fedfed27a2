//! Cumulative counters as a proxy reports them, and what happened between two readings.

use super::{Counts, Gap, Histogram, Sample};

/// One reading of a proxy's counters for one version, all cumulative since the proxy's start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that ended.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests whose latency is known.
    pub timed: u64,
    /// Timed requests above the limit.
    pub slow: u64,
    /// The latencies.
    pub latency: Histogram,
}

impl Totals {
    /// What happened since `earlier`, a reading of the same proxy.
    ///
    /// A counter that went back drops the whole sample: what the proxy counted before its restart
    /// is lost, and what it counted since belongs to an unknown share of the tick.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Sample {
        let Some((requests, errors, timed, slow, latency)) = self.deltas(earlier) else {
            return Sample::Unknown(Gap::Reset);
        };
        Counts::new(requests, errors, (slow, timed), latency)
            .map_or(Sample::Unknown(Gap::Malformed), Sample::fresh)
    }

    fn deltas(&self, earlier: &Self) -> Option<(u64, u64, u64, u64, Histogram)> {
        Some((
            self.requests.checked_sub(earlier.requests)?,
            self.errors.checked_sub(earlier.errors)?,
            self.timed.checked_sub(earlier.timed)?,
            self.slow.checked_sub(earlier.slow)?,
            self.latency.since(&earlier.latency)?,
        ))
    }
}
