//! Bounds on a ratio that was only sampled, and the comparison of two ratios.
//! Wilson, "Probable inference, the law of succession, and statistical inference" (1927), formula
//! as in Brown, Cai, DasGupta, "Interval estimation for a binomial proportion" (2001), section 3.

/// One-sided 99 % of the normal distribution: the confidence of every bound here.
pub const Z99: f64 = 2.326;

/// The lowest ratio that `hits` of `trials` leave plausible; 0 without trials.
#[must_use]
pub fn lower(hits: u64, trials: u64) -> f64 {
    interval(hits, trials).0
}

/// The highest ratio that `hits` of `trials` leave plausible; 1 without trials.
#[must_use]
pub fn upper(hits: u64, trials: u64) -> f64 {
    interval(hits, trials).1
}

/// How many standard errors the first ratio lies above the second (pooled two-proportion z test).
///
/// Zero when either has no trials or the two cannot be told apart because all or none were hits.
#[must_use]
pub fn two_proportion_z(first: (u64, u64), second: (u64, u64)) -> f64 {
    let (k1, n1) = (first.0 as f64, first.1 as f64);
    let (k2, n2) = (second.0 as f64, second.1 as f64);
    if first.1 == 0 || second.1 == 0 {
        return 0.0;
    }
    let pooled = (k1 + k2) / (n1 + n2);
    let variance = pooled * (1.0 - pooled) * (1.0 / n1 + 1.0 / n2);
    if variance > 0.0 {
        (k1 / n1 - k2 / n2) / variance.sqrt()
    } else {
        0.0
    }
}

/// `hits` as a fraction of `trials`; none without trials.
#[must_use]
pub fn ratio(hits: u64, trials: u64) -> Option<f64> {
    (trials > 0).then(|| hits as f64 / trials as f64)
}

fn interval(hits: u64, trials: u64) -> (f64, f64) {
    if trials == 0 {
        return (0.0, 1.0);
    }
    let n = trials as f64;
    let p = (hits as f64 / n).min(1.0);
    let z2 = Z99 * Z99;
    let centre = p + z2 / (2.0 * n);
    let half = Z99 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    (
        ((centre - half) / scale).max(0.0),
        ((centre + half) / scale).min(1.0),
    )
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn bounds_at_the_places_the_thresholds_sit() {
        // At 1000 requests 11 errors are the first to prove more than 0.5 %, 18 slow ones 1 %.
        assert!(lower(10, 1000) < 0.005 && lower(11, 1000) > 0.005);
        assert!(lower(17, 1000) < 0.010 && lower(18, 1000) > 0.010);
        // 1077 requests without an error are the first to prove less than 0.5 %.
        assert!(upper(0, 1076) > 0.005 && upper(0, 1077) < 0.005);
    }

    #[test]
    fn nothing_seen_proves_nothing() {
        assert_eq!((lower(0, 0), upper(0, 0)), (0.0, 1.0));
        assert_eq!(ratio(0, 0), None);
        assert_eq!(two_proportion_z((0, 0), (5, 10)), 0.0);
        assert_eq!(two_proportion_z((10, 10), (10, 10)), 0.0);
    }

    #[test]
    fn two_ratios_are_told_apart_by_their_counts() {
        assert!(two_proportion_z((5, 100), (1, 100)) < Z99);
        assert!(two_proportion_z((50, 1000), (10, 1000)) > Z99);
        assert!(two_proportion_z((10, 1000), (50, 1000)) < -Z99);
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn the_ratio_lies_between_its_bounds(n in 1u64.., k in any::<u64>()) {
                let k = k % n.saturating_add(1).max(1);
                let p = ratio(k, n).unwrap();
                prop_assert!(lower(k, n) <= p + 1e-9 && p <= upper(k, n) + 1e-9);
                prop_assert!((0.0..=1.0).contains(&lower(k, n)));
                prop_assert!((0.0..=1.0).contains(&upper(k, n)));
            }

            #[test]
            fn more_of_the_same_narrows_the_bounds(n in 1u64..100_000, k in 0u64..100_000) {
                let k = k.min(n);
                prop_assert!(lower(k * 4, n * 4) >= lower(k, n) - 1e-12);
                prop_assert!(upper(k * 4, n * 4) <= upper(k, n) + 1e-12);
            }
        }
    }
}
