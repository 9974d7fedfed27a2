//! What is missing never becomes zero, and sums do not depend on their order.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::duration::{Millis, Moment};
use crate::release::share::Percent;

fn counts(requests: u64, errors: u64) -> Counts {
    Counts::new(requests, errors, (0, requests), Histogram::new()).unwrap()
}

fn at(secs: u64) -> Moment {
    Moment::from_unix_millis(secs * 1000)
}

#[test]
fn readings_give_one_of_three_answers() {
    let read = |requests, errors, timed, slow| Totals {
        requests,
        errors,
        timed,
        slow,
        latency: Histogram::new(),
    };
    let cases = [
        (
            "no_traffic_is_idle",
            read(9, 1, 9, 0),
            read(9, 1, 9, 0),
            Sample::Idle,
        ),
        (
            "traffic_is_counted",
            read(9, 1, 9, 0),
            read(19, 2, 19, 0),
            Sample::Counted(counts(10, 1)),
        ),
        (
            "restart_is_unknown",
            read(9, 1, 9, 0),
            read(3, 1, 9, 0),
            Sample::Unknown(Gap::Reset),
        ),
        (
            "one_counter_back_is_unknown",
            read(9, 3, 9, 0),
            read(19, 1, 19, 0),
            Sample::Unknown(Gap::Reset),
        ),
        (
            "more_errors_than_requests",
            read(9, 1, 9, 0),
            read(10, 5, 9, 0),
            Sample::Unknown(Gap::Malformed),
        ),
        (
            "more_slow_than_timed",
            read(9, 1, 9, 0),
            read(10, 1, 10, 4),
            Sample::Unknown(Gap::Malformed),
        ),
    ];
    for (name, earlier, later, expected) in cases {
        assert_eq!(later.since(&earlier), expected, "{name}");
    }
}

#[test]
fn a_bin_that_vanished_is_a_restart() {
    let bin = |lower| Bin { lower, width: 100 };
    let before: Histogram = [(bin(100), 3)].into_iter().collect();
    let after: Histogram = [(bin(200), 9)].into_iter().collect();
    assert_eq!(after.since(&before), None);
    let fewer: Histogram = [(bin(100), 2)].into_iter().collect();
    assert_eq!(fewer.since(&before), None);
}

#[test]
fn quantiles_are_read_within_their_bin() {
    let ms = |lower: u64, width: u64| Bin {
        lower: lower * 1000,
        width: width * 1000,
    };
    let histogram: Histogram = [(ms(10, 10), 50), (ms(800, 10), 50)].into_iter().collect();
    assert_eq!(histogram.quantile(0.25), Some(15.0));
    assert_eq!(histogram.quantile(0.5), Some(20.0));
    assert_eq!(histogram.quantile(1.0), Some(810.0));
    assert_eq!(histogram.at_or_above(800_000), 50);
    assert_eq!(Histogram::new().quantile(0.5), None);
    assert_eq!(histogram.quantile(f64::NAN), None);
}

#[test]
fn coverage_decides_whether_a_tick_is_known() {
    let coverage = Percent::new(80).unwrap();
    let gone = Sample::Unknown(Gap::Missing);
    let busy = Sample::Counted(counts(80, 1));
    let cases = [
        ("nobody", Vec::new(), false),
        ("nobody_answered", vec![(&gone, 5)], false),
        (
            "eighty_percent_answered",
            vec![(&busy, 80), (&gone, 20)],
            true,
        ),
        ("less_answered", vec![(&busy, 79), (&gone, 21)], false),
        (
            "idle_ones_answer_too",
            vec![(&Sample::Idle, 0), (&Sample::Idle, 0)],
            true,
        ),
    ];
    for (name, proxies, known) in cases {
        let mut call = RollCall::default();
        for (sample, weight) in proxies {
            call.merge(&RollCall::of(sample, Weight::new(weight)));
        }
        assert_eq!(!call.close(coverage).is_unknown(), known, "{name}");
    }
}

#[test]
fn missing_proxies_are_remembered_as_absent_traffic() {
    let mut call = RollCall::of(&Sample::Counted(counts(80, 0)), Weight::new(80));
    call.merge(&RollCall::of(
        &Sample::Unknown(Gap::Missing),
        Weight::new(20),
    ));
    let Sample::Counted(merged) = call.close(Percent::new(80).unwrap()) else {
        panic!("eighty percent are enough");
    };
    assert_eq!((merged.requests(), merged.absent()), (80, 20));
}

#[test]
fn windows_grow_until_they_hold_enough() {
    let mut window = Window::new(Millis::from_secs(1), Millis::from_secs(300));
    for second in 1..=300 {
        window.push(at(second), Sample::Counted(counts(2, 0)));
    }
    let secs = Millis::from_secs;
    let grown = |enough| window.grown(at(300), secs(30), secs(300), enough);
    assert_eq!(grown(10).1.requests, 60);
    assert_eq!(grown(300).0, secs(150));
    assert_eq!(grown(300).1.requests, 300);
    assert_eq!(grown(10_000), (secs(300), window.sum(at(300), secs(300))));
}

#[test]
fn unknown_ticks_add_neither_counts_nor_time() {
    let mut window = Window::new(Millis::from_secs(1), Millis::from_secs(300));
    window.push(at(1), Sample::Idle);
    window.push(at(2), Sample::Unknown(Gap::Stale));
    assert_eq!(
        window.sum(at(2), Millis::from_secs(30)).observed,
        Millis::from_secs(1)
    );
    assert!(!window.push(at(2), Sample::Idle), "a duplicate");
}

#[test]
fn contradictions_are_refused_when_read_back() {
    let json = r#"{"requests":1,"errors":2,"timed":0,"slow":0}"#;
    assert!(serde_json::from_str::<Counts>(json).is_err());
    let sample = Sample::Counted(counts(5, 1));
    let json = serde_json::to_string(&sample).unwrap();
    assert_eq!(serde_json::from_str::<Sample>(&json).unwrap(), sample);
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_counts()(
            (requests, errors) in (0u64..1 << 40).prop_flat_map(|n| (Just(n), 0..=n)),
            (timed, slow) in (0u64..1 << 40).prop_flat_map(|n| (Just(n), 0..=n)),
            bins in prop::collection::vec(((0u64..50, 0u64..3), 0u64..1000), 0..6),
        ) -> Counts {
            let latency = bins.into_iter().map(|(bin, n)| (Bin::from(bin), n)).collect();
            Counts::new(requests, errors, (slow, timed), latency).unwrap()
        }
    }

    fn any_call() -> impl Strategy<Value = RollCall> {
        (any_counts(), 0u8..3, 0u64..1000).prop_map(|(counts, kind, weight)| {
            let sample = match kind {
                0 => Sample::Unknown(Gap::Missing),
                1 => Sample::Idle,
                _ => Sample::fresh(counts),
            };
            RollCall::of(&sample, Weight::new(weight))
        })
    }

    fn joined(first: &RollCall, second: &RollCall) -> RollCall {
        let mut both = first.clone();
        both.merge(second);
        both
    }

    proptest! {
        #[test]
        fn merging_is_associative_and_commutative(a in any_call(), b in any_call(), c in any_call()) {
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        }

        #[test]
        fn what_was_added_comes_back_as_the_delta(a in any_counts(), b in any_counts()) {
            let mut both = a.latency().clone();
            both.merge(b.latency());
            prop_assert_eq!(both.since(a.latency()), Some(b.latency().clone()));
        }

        #[test]
        fn quantiles_never_fall(counts in any_counts(), p in 0.0..1.0f64, q in 0.0..1.0f64) {
            let (low, high) = (p.min(q), p.max(q));
            let latency = counts.latency();
            // Bins of different widths may overlap; then the order is that of their edges only.
            let disjoint: Histogram = latency.bins().map(|(b, n)| (Bin { lower: b.lower * 10, width: 1 }, n)).collect();
            prop_assert!(disjoint.quantile(low) <= disjoint.quantile(high));
        }
    }
}
