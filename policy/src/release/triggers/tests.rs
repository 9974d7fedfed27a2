//! The article's rows, the thresholds' edges, and who may be compared with whom.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::relative::{Asked, Comparison, Live, compare};
use super::*;
use crate::release::evidence::Sum;
use crate::release::settings::{Guards, Limits, Outage, Score};

fn sum(errors: u64, slow: u64, requests: u64) -> Sum {
    Sum {
        requests,
        errors,
        timed: requests,
        slow,
        ..Sum::default()
    }
}

#[test]
fn the_article_s_rows_and_what_its_score_cannot_see() {
    let cases = [
        ("row 1", 1200.0, 600.0, 0.02, 0.72, false),
        ("row 2", 800.0, 950.0, 0.04, 0.88, true),
        ("fast total failure", 1000.0, 50.0, 1.0, 0.625, false),
        ("hang without errors", 1000.0, 10_000.0, 0.0, 0.70, false),
        ("nothing", 0.0, 0.0, 0.0, 0.0, false),
    ];
    for (name, qps, p95, errors, expected, above) in cases {
        let account = score::score(&Score::default(), qps, p95, errors);
        assert!(
            (account.score - expected).abs() < 1e-9,
            "{name}: {}",
            account.score
        );
        assert_eq!(account.above, above, "{name}");
    }
}

#[test]
fn a_breach_needs_both_windows() {
    let cases = [
        ("eleven errors", sum(11, 0, 1000), sum(4, 0, 300), true),
        (
            "ten errors may be chance",
            sum(10, 0, 1000),
            sum(4, 0, 300),
            false,
        ),
        ("over already", sum(11, 0, 1000), sum(0, 0, 300), false),
        ("eighteen slow", sum(0, 18, 1000), sum(0, 6, 300), true),
        ("silent lately", sum(11, 0, 1000), sum(0, 0, 0), false),
        ("too few to speak", sum(49, 0, 49), sum(9, 0, 9), false),
    ];
    for (name, long, short, expected) in cases {
        let breach = sustained::breach(&Limits::default(), 50, &long, (&short, &short));
        assert_eq!(breach.any(), expected, "{name}: {breach:?}");
    }
}

#[test]
fn outages_by_tick_and_by_window() {
    let out = Outage::default();
    let cases = [
        ("half of fifty", sum(25, 0, 50), true, true),
        ("half of forty-nine", sum(25, 0, 49), false, true),
        ("less than half", sum(24, 0, 50), false, false),
        ("seven of seven", sum(7, 0, 7), false, true),
        ("six of six", sum(6, 0, 6), false, false),
        ("seven of eight", sum(7, 0, 8), false, false),
        ("nothing", sum(0, 0, 0), false, false),
    ];
    for (name, counts, tick, window) in cases {
        assert_eq!(outage::in_tick(&out, &counts).out, tick, "{name} in a tick");
        assert_eq!(
            outage::in_window(&out, &counts).out,
            window,
            "{name} in a window"
        );
    }
}

#[test]
fn only_a_worse_candidate_is_left() {
    use Comparison::{NotWorse, Shared, Thin, Worse};
    let errors = Asked {
        errors: true,
        slow: false,
    };
    let both = Asked {
        errors: true,
        slow: true,
    };
    let cases = [
        (
            "clearly worse",
            errors,
            sum(50, 0, 1000),
            sum(1, 0, 1000),
            Worse,
        ),
        (
            "both bad",
            errors,
            sum(50, 0, 1000),
            sum(50, 0, 1000),
            Shared,
        ),
        (
            "both fail wholly",
            errors,
            sum(7, 0, 7),
            sum(7, 0, 7),
            Shared,
        ),
        (
            "worse of two bad",
            errors,
            sum(900, 0, 1000),
            sum(50, 0, 1000),
            Worse,
        ),
        (
            "a little worse",
            errors,
            sum(9, 0, 1000),
            sum(4, 0, 1000),
            NotWorse,
        ),
        (
            "stable silent",
            errors,
            sum(50, 0, 1000),
            sum(0, 0, 0),
            Thin,
        ),
        ("stable thin", errors, sum(50, 0, 1000), sum(0, 0, 10), Thin),
        (
            "stable thin and failing",
            errors,
            sum(50, 0, 1000),
            sum(1, 0, 10),
            Shared,
        ),
        (
            "slow but stable is not",
            both,
            sum(50, 90, 1000),
            sum(50, 1, 1000),
            Worse,
        ),
        (
            "nothing to compare",
            errors,
            sum(0, 0, 0),
            sum(0, 0, 100),
            NotWorse,
        ),
    ];
    let (guards, limits) = (Guards::default(), Limits::default());
    for (name, asked, candidate, stable, expected) in cases {
        let stable = Live {
            same: stable,
            long: stable,
        };
        let answer = compare(asked, (&guards, &limits), &candidate, &stable);
        assert_eq!(answer, expected, "{name}");
    }
}

#[test]
fn a_long_healthy_past_helps_only_while_it_lasts() {
    let errors = Asked {
        errors: true,
        slow: false,
    };
    let by = (&Guards::default(), &Limits::default());
    let answer = |same, long| compare(errors, by, &sum(5, 0, 300), &Live { same, long });
    let past = sum(1, 0, 1500);
    assert_eq!(answer(sum(0, 0, 60), sum(0, 0, 60)), Comparison::NotWorse);
    assert_eq!(answer(sum(0, 0, 60), past), Comparison::Worse);
    assert_eq!(answer(sum(2, 0, 60), past), Comparison::Shared);
}
