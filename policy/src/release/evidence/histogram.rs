//! A latency histogram of fixed bins. Equal bins merge exactly, so quantiles are read only from sums.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One bin: from its lower edge, inclusive, over its width. Both in microseconds.
///
/// Envoy's bins (two significant decimal digits) have the lower edge and width of its detailed
/// `/stats`; for cumulative `le` buckets it is the previous edge and the distance from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(u64, u64)", into = "(u64, u64)")]
pub struct Bin {
    /// The lower edge in microseconds.
    pub lower: u64,
    /// The width in microseconds; zero for a bin that is one value.
    pub width: u64,
}

/// Latencies counted in bins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Bin, u64)>", into = "Vec<(Bin, u64)>")]
pub struct Histogram {
    bins: BTreeMap<Bin, u64>,
}

impl Histogram {
    /// No latencies.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bins: BTreeMap::new(),
        }
    }

    /// Adds `count` latencies in `bin`.
    pub fn add(&mut self, bin: Bin, count: u64) {
        if count > 0 {
            let held = self.bins.entry(bin).or_default();
            *held = held.saturating_add(count);
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (bin, count) in &other.bins {
            self.add(*bin, *count);
        }
    }

    /// What was added since `earlier`; none if a bin lost counts, as after a restart.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        if earlier.bins.keys().any(|bin| !self.bins.contains_key(bin)) {
            return None;
        }
        let mut delta = Self::new();
        for (bin, count) in &self.bins {
            let before = earlier.bins.get(bin).copied().unwrap_or(0);
            delta.add(*bin, count.checked_sub(before)?);
        }
        Some(delta)
    }

    /// How many latencies there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.bins.values().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// How many lie in bins that begin at or above `micros` microseconds.
    #[must_use]
    pub fn at_or_above(&self, micros: u64) -> u64 {
        let first = Bin {
            lower: micros,
            width: 0,
        };
        self.bins
            .range(first..)
            .fold(0, |sum, (_, n)| sum.saturating_add(*n))
    }

    /// The latency in milliseconds that a share `q` (0 to 1) of all stays below, interpolated
    /// within its bin; none without latencies or for a `q` outside 0 to 1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.total();
        if total == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let rank = q * total as f64;
        let mut below = 0.0;
        let mut reached = None;
        for (bin, count) in &self.bins {
            let count = *count as f64;
            let inside = ((rank - below) / count).clamp(0.0, 1.0);
            reached = Some((bin.lower as f64 + bin.width as f64 * inside) / 1000.0);
            below += count;
            if below >= rank {
                break;
            }
        }
        reached
    }

    /// The bins in order of their lower edges, with their counts.
    pub fn bins(&self) -> impl Iterator<Item = (Bin, u64)> + '_ {
        self.bins.iter().map(|(bin, count)| (*bin, *count))
    }
}

impl FromIterator<(Bin, u64)> for Histogram {
    fn from_iter<I: IntoIterator<Item = (Bin, u64)>>(bins: I) -> Self {
        let mut histogram = Self::new();
        for (bin, count) in bins {
            histogram.add(bin, count);
        }
        histogram
    }
}

impl From<Vec<(Bin, u64)>> for Histogram {
    fn from(bins: Vec<(Bin, u64)>) -> Self {
        bins.into_iter().collect()
    }
}

impl From<Histogram> for Vec<(Bin, u64)> {
    fn from(histogram: Histogram) -> Self {
        histogram.bins.into_iter().collect()
    }
}

impl From<(u64, u64)> for Bin {
    fn from((lower, width): (u64, u64)) -> Self {
        Self { lower, width }
    }
}

impl From<Bin> for (u64, u64) {
    fn from(bin: Bin) -> Self {
        (bin.lower, bin.width)
    }
}
