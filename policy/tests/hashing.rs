//! Statistical gates of the hashing: uniform slots, independent experiments, avalanche.
//! Every input is fixed, so a gate fails only when the hashing changes. Native only, for the time it takes.
#![cfg(not(target_arch = "wasm32"))]

use ombre_policy::hash::{Purpose, SLOTS, Seed};

/// Identifiers per shape in the tests of independence.
const IDS: u32 = 100_000;
/// Identifiers per shape in the test of uniformity, and the parts of all slots into which they should fall evenly.
const UNIFORM_IDS: u32 = 1_000_000;
const UNIFORM_PARTS: usize = 10_000;
const SALTS: usize = 16;
/// Groups per experiment in the tests of independence.
const GROUPS: usize = 10;

/// Upper critical values of chi-square with 81 degrees of freedom, (10 - 1)²: p = 0.001 and p = 1e-7.
const CHI2_81_RARE: f64 = 126.08;
const CHI2_81_NEVER: f64 = 165.31;

/// Gives the n-th identifier.
type Shape = fn(u32) -> String;

/// The shapes of identifiers that services use.
const SHAPES: [(&str, Shape); 5] = [
    ("sequential", |n| n.to_string()),
    ("padded", |n| format!("user-{n:010}")),
    ("uuid", |n| {
        let (high, low) = (mix(u64::from(n)), mix(u64::from(n) | 1 << 40));
        let (a, b, c) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
        format!(
            "{a:08x}-{b:04x}-4{c:03x}-{:04x}-{:012x}",
            low >> 48 & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }),
    // Seconds, a machine and process that stay the same, a counter.
    ("object_id", |n| {
        format!(
            "{:08x}9f3c1a7be2{:06x}",
            0x6650_0000 + n / 50,
            0x0012_3456 + n
        )
    }),
    ("e_mail", |n| {
        format!("user{}.{}@example{}.com", n / 7, n % 7, n % 3)
    }),
];

/// A 64-bit mixer (splitmix64), for identifiers and samples that must not come from the hash under test.
fn mix(n: u64) -> u64 {
    let n = n
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

/// The seeds of experiments with names that differ as little as names do.
fn seeds(purpose: Purpose) -> Vec<Seed> {
    (0..SALTS)
        .map(|n| Seed::new(purpose, &format!("exp-{n}")))
        .collect()
}

/// For each identifier the one of `parts` equal parts of all slots into which it falls.
fn parts(seed: Seed, ids: &[String], parts: usize) -> Vec<usize> {
    ids.iter()
        .map(|id| seed.slot(id.as_bytes()).get() as usize * parts / SLOTS as usize)
        .collect()
}

fn ids(shape: Shape) -> Vec<String> {
    (0..IDS).map(shape).collect()
}

/// Pearson's statistic of counts that should be equal.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum()
}

/// Pearson's statistic of independence of two assignments, against the products of their margins.
fn dependence(one: &[usize], other: &[usize]) -> f64 {
    let mut cells = [[0_u32; GROUPS]; GROUPS];
    for (row, column) in one.iter().zip(other) {
        if let Some(cell) = cells.get_mut(*row).and_then(|row| row.get_mut(*column)) {
            *cell += 1;
        }
    }
    let rows = cells.map(|row| f64::from(row.iter().sum::<u32>()));
    let columns = cells.iter().fold([0.0; GROUPS], |mut sums, row| {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, cell)| *sum += f64::from(*cell));
        sums
    });
    let total: f64 = rows.iter().sum();
    let row_statistic = |(row, sum): (&[u32; GROUPS], f64)| -> f64 {
        let expected = columns.map(|column| sum * column / total);
        row.iter()
            .zip(expected)
            .map(|(cell, expected)| (f64::from(*cell) - expected).powi(2) / expected)
            .sum()
    };
    cells.iter().zip(rows).map(row_statistic).sum()
}

/// Counts the pairs whose dependence is rarer than p = 0.001, and refuses what should never be seen.
fn rare_pairs<'a>(
    name: &str,
    pairs: impl Iterator<Item = (&'a Vec<usize>, &'a Vec<usize>)>,
) -> (u32, u32) {
    pairs.fold((0, 0), |(rare, all), (one, other)| {
        let statistic = dependence(one, other);
        assert!(statistic < CHI2_81_NEVER, "{name}: chi-square {statistic}");
        (rare + u32::from(statistic > CHI2_81_RARE), all + 1)
    })
}

#[test]
fn experiments_are_independent_of_each_other() {
    let (mut rare, mut all) = (0, 0);
    for (name, shape) in SHAPES {
        let ids = ids(shape);
        let groups: Vec<_> = seeds(Purpose::Arm)
            .into_iter()
            .map(|seed| parts(seed, &ids, GROUPS))
            .collect();
        let pairs = groups
            .iter()
            .enumerate()
            .flat_map(|(n, one)| groups.iter().skip(n + 1).map(move |other| (one, other)));
        let of_shape = rare_pairs(name, pairs);
        (rare, all) = (rare + of_shape.0, all + of_shape.1);
    }
    assert_eq!(all, 600);
    assert!(rare * 100 <= all, "{rare} of {all} pairs below p = 0.001");
}

#[test]
fn layer_arm_and_rollout_of_one_experiment_are_independent() {
    let (mut rare, mut all) = (0, 0);
    for (name, shape) in SHAPES {
        let ids = ids(shape);
        let groups = |purpose| -> Vec<_> {
            seeds(purpose)
                .into_iter()
                .map(|seed| parts(seed, &ids, GROUPS))
                .collect()
        };
        let (layer, arm, rollout) = (
            groups(Purpose::Layer),
            groups(Purpose::Arm),
            groups(Purpose::Rollout),
        );
        let pairs = layer
            .iter()
            .zip(&arm)
            .chain(arm.iter().zip(&rollout))
            .chain(rollout.iter().zip(&layer));
        let of_shape = rare_pairs(name, pairs);
        (rare, all) = (rare + of_shape.0, all + of_shape.1);
    }
    assert_eq!(all, 240);
    assert!(rare * 100 <= all, "{rare} of {all} pairs below p = 0.001");
}

#[test]
fn the_gate_of_independence_sees_a_shared_salt() {
    let ids = ids(|n| n.to_string());
    let seed = Seed::new(Purpose::Arm, "exp-0");
    let groups = parts(seed, &ids, GROUPS);
    assert!(dependence(&groups, &groups) > 100.0 * CHI2_81_NEVER);
    // Two groups of one experiment, one of which leaks a percent of itself into the other.
    let leaking: Vec<usize> = parts(Seed::new(Purpose::Arm, "exp-1"), &ids, GROUPS)
        .iter()
        .zip(&groups)
        .enumerate()
        .map(|(n, (own, leaked))| if n % 20 == 0 { *leaked } else { *own })
        .collect();
    assert!(dependence(&leaking, &groups) > CHI2_81_NEVER);
}

#[test]
fn slots_are_uniform() {
    let mut p_values = Vec::new();
    for (name, shape) in SHAPES {
        let ids: Vec<_> = (0..UNIFORM_IDS).map(shape).collect();
        for seed in seeds(Purpose::Arm) {
            let mut counts = vec![0_u32; UNIFORM_PARTS];
            for part in parts(seed, &ids, UNIFORM_PARTS) {
                counts[part] += 1;
            }
            let z = normal_of_chi_square(chi_square(&counts), (UNIFORM_PARTS - 1) as f64);
            // p > 1e-6 at both ends: counts that are too even are as wrong as counts that are too uneven.
            assert!(z.abs() < 4.753, "{name}: z = {z}");
            p_values.push(normal_below(z));
        }
    }
    // All of them together must look like chance (Kolmogorov-Smirnov, p > 1e-4 for 80 values).
    p_values.sort_by(f64::total_cmp);
    let n = p_values.len() as f64;
    let distance = p_values
        .iter()
        .enumerate()
        .map(|(rank, p)| (p - rank as f64 / n).max((rank + 1) as f64 / n - p))
        .fold(0.0, f64::max);
    assert!(distance < KS_80, "Kolmogorov-Smirnov distance {distance}");
}

/// Critical distance of Kolmogorov and Smirnov for 80 values at p = 1e-4.
const KS_80: f64 = 0.2453;

#[test]
fn flipping_any_bit_of_a_unit_moves_it_anywhere() {
    const SAMPLES: u32 = 20_000;
    const UNIT_BITS: usize = 128;
    // The leading five binary digits of where a unit falls.
    const DIGITS: u32 = 5;
    let seed = Seed::new(Purpose::Arm, "exp-0");
    let place = |unit: u128| seed.slot(&unit.to_le_bytes()).get() * (1 << DIGITS) / SLOTS;
    let mut flips = [[0_u32; DIGITS as usize]; UNIT_BITS];
    for sample in 0..SAMPLES {
        // Counters in half of the samples: where a weak hash is weakest.
        let unit = if sample % 2 == 0 {
            u128::from(sample)
        } else {
            u128::from(mix(u64::from(sample))) << 64 | u128::from(mix(!u64::from(sample)))
        };
        let before = place(unit);
        for (bit, flips) in flips.iter_mut().enumerate() {
            let changed = before ^ place(unit ^ 1 << bit);
            for (digit, count) in flips.iter_mut().enumerate() {
                *count += changed >> digit & 1;
            }
        }
    }
    let worst = flips
        .iter()
        .flatten()
        .map(|count| (f64::from(*count) / f64::from(SAMPLES) - 0.5).abs())
        .fold(0.0, f64::max);
    assert!(
        worst <= 0.03,
        "a digit flips with a probability off by {worst}"
    );
}

/// The normal deviate of a chi-square statistic (Wilson and Hilferty), good to three digits from 100 degrees on.
fn normal_of_chi_square(statistic: f64, degrees: f64) -> f64 {
    let spread = 2.0 / (9.0 * degrees);
    ((statistic / degrees).cbrt() - (1.0 - spread)) / spread.sqrt()
}

/// The share of a normal distribution below a deviate (Abramowitz and Stegun 26.2.17, error below 1e-7).
fn normal_below(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let sum = series
        .iter()
        .rev()
        .fold(0.0, |sum, factor| (sum + factor) * t);
    let above = sum * (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z > 0.0 { 1.0 - above } else { above }
}
