//! Medians and their intervals. A burst that was disturbed must not move the result, so nothing
//! here is a mean.

use serde::Serialize;

/// Resamplings of an interval.
const RESAMPLINGS: usize = 2000;

/// A median and the 95 % interval of it by bootstrap (percentile method).
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Estimate {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Estimate {
    /// The estimate from independent samples; of none, all zero.
    pub(crate) fn of(samples: &[f64]) -> Self {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut medians: Vec<f64> = (0..RESAMPLINGS)
            .map(|_| {
                let drawn = (0..samples.len()).filter_map(|_| {
                    let at = random.below(samples.len());
                    samples.get(at).copied()
                });
                median(drawn.collect())
            })
            .collect();
        medians.sort_unstable_by(f64::total_cmp);
        Self {
            median: median(samples.to_vec()),
            low: quantile(&medians, 0.025),
            high: quantile(&medians, 0.975),
        }
    }
}

/// The middle of the samples; zero of none.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    quantile(&samples, 0.5)
}

/// The quantile of sorted samples, between neighbours by their distance.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let below = sorted.get(place as usize).copied().unwrap_or_default();
    let above = sorted.get(place.ceil() as usize).copied().unwrap_or(below);
    below + (above - below) * place.fract()
}

/// Numbers that only have to be spread evenly, and equal in every run (xorshift64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_lie_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(quantile(&[1.0, 2.0, 3.0], 1.0), 3.0);
    }

    #[test]
    fn intervals_hold_the_median_and_narrow_with_samples() {
        let samples = |count: u32| -> Vec<f64> { (0..count).map(|n| f64::from(n % 10)).collect() };
        let (few, many) = (Estimate::of(&samples(20)), Estimate::of(&samples(2000)));
        assert!(few.low <= few.median && few.median <= few.high);
        assert!(many.high - many.low < few.high - few.low);
    }
}
