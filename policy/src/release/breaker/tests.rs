//! Updates meet one breaker; half open always ends.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::document::Revision;

const CALM: fn() -> Jitter = || Jitter::new(0.0);

fn at(secs: u64) -> Moment {
    Moment::from_unix_millis(secs * 1000)
}

fn window(requests: u64, errors: u64) -> Sum {
    Sum {
        requests,
        errors,
        ..Sum::default()
    }
}

fn is_closed(breaker: &Breaker) -> bool {
    breaker.circuit() == Circuit::Closed
}

fn half_open() -> Breaker {
    let mut breaker = Breaker::new(BreakerTerms::default());
    breaker.observe(&window(100, 60), at(0), CALM());
    breaker.tick(at(5), CALM());
    assert!(breaker.state("c").in_half_open);
    breaker
}

#[test]
fn rates_are_parts_per_million() {
    let cases = [
        (0, 0, 0),
        (1, 3, 333_333),
        (1, 1, 1_000_000),
        (9, 3, 1_000_000),
        (u64::MAX, u64::MAX, 1_000_000),
    ];
    for (failed, all, ppm) in cases {
        assert_eq!(Ppm::of(failed, all).get(), ppm, "{failed} of {all}");
    }
}

#[test]
fn the_article_s_json() {
    let mut breaker = Breaker::new(BreakerTerms::default());
    breaker.observe(&window(1000, 25), at(0), CALM());
    let json = serde_json::to_string(&breaker.state("checkout_v2")).unwrap();
    assert_eq!(
        json,
        r#"{"cluster_name":"checkout_v2","failure_rate":25000,"in_half_open":false}"#
    );
}

#[test]
fn it_opens_at_its_rate_with_enough_requests() {
    for (requests, errors, closed) in [
        (19, 19, true),
        (20, 10, false),
        (100, 49, true),
        (100, 50, false),
    ] {
        let mut breaker = Breaker::new(BreakerTerms::default());
        breaker.observe(&window(requests, errors), at(0), CALM());
        assert_eq!(is_closed(&breaker), closed, "{errors} of {requests}");
    }
}

#[test]
fn probes_are_counted_and_close_it() {
    let mut breaker = half_open();
    let probes: Vec<_> = std::iter::from_fn(|| breaker.probe(at(6)))
        .take(50)
        .collect();
    assert_eq!(probes.len(), 10);
    for probe in &probes {
        assert!(!is_closed(&breaker));
        breaker.answer(*probe, true, at(7), CALM());
        breaker.answer(*probe, true, at(7), CALM());
    }
    assert!(is_closed(&breaker));
}

#[test]
fn requests_that_pass_are_probes() {
    let cases = [
        ("nine went well", window(9, 4), Circuit::HalfOpen),
        ("ten went well", window(10, 4), Circuit::Closed),
        ("a thousand went well", window(1000, 499), Circuit::Closed),
        ("half of them failed", window(1000, 500), Circuit::Open),
        ("one failed alone", window(1, 1), Circuit::Open),
        ("none came", window(0, 0), Circuit::HalfOpen),
    ];
    for (name, tick, expected) in cases {
        let mut breaker = half_open();
        breaker.passed(&tick, at(6), CALM());
        assert_eq!(breaker.circuit(), expected, "{name}");
    }
    let mut breaker = half_open();
    breaker.passed(&window(6, 0), at(6), CALM());
    breaker.passed(&window(6, 0), at(7), CALM());
    assert!(is_closed(&breaker), "over two ticks");
    breaker.passed(&window(6, 6), at(8), CALM());
    assert!(is_closed(&breaker), "closed it has no probes");
}

#[test]
fn a_failed_probe_opens_it_for_twice_as_long() {
    let mut breaker = half_open();
    let probe = breaker.probe(at(6)).unwrap();
    breaker.answer(probe, false, at(7), CALM());
    assert_eq!(breaker.phase, Phase::Open { until: at(17) });
}

#[test]
fn half_open_ends_whatever_the_probes_do() {
    let never = |_: &mut Breaker| {};
    let hung = |breaker: &mut Breaker| {
        breaker.probe(at(6)).unwrap();
    };
    let late = |breaker: &mut Breaker| {
        breaker.probe(at(34)).unwrap();
    };
    let some = |breaker: &mut Breaker| {
        let probe = breaker.probe(at(6)).unwrap();
        breaker.answer(probe, true, at(7), CALM());
    };
    type Probing = fn(&mut Breaker);
    let cases = [
        ("no request came", never as Probing, false),
        ("one never ended", hung, false),
        ("one began at the end", late, false),
        ("some succeeded", some, true),
    ];
    for (name, probes, closed) in cases {
        let mut breaker = half_open();
        probes(&mut breaker);
        breaker.tick(at(34), CALM());
        assert!(breaker.state("c").in_half_open, "{name}");
        breaker.tick(at(35), CALM());
        assert!(!breaker.state("c").in_half_open, "{name}");
        assert_eq!(is_closed(&breaker), closed, "{name}");
    }
}

#[test]
fn an_answer_from_an_earlier_time_is_ignored() {
    let mut breaker = half_open();
    let old = breaker.probe(at(6)).unwrap();
    breaker.tick(at(36), CALM());
    breaker.tick(at(46), CALM());
    let new = breaker.probe(at(47)).unwrap();
    breaker.answer(old, false, at(48), CALM());
    assert!(breaker.state("c").in_half_open);
    breaker.answer(new, false, at(48), CALM());
    assert!(!breaker.state("c").in_half_open);
}

#[test]
fn updates_refresh_their_own_cluster_and_never_go_back() {
    let first = Revision::new(10);
    let second = Revision::new(20);
    let update = |name: &str, revision, change| ConfigUpdate {
        cluster_name: name.to_owned(),
        revision,
        change,
    };
    let set = Change::Set(BreakerTerms::default());
    let mut board = Board::default();
    for name in ["a", "b"] {
        assert_eq!(board.update(&update(name, first, set)), Refreshed::Begun);
        let breaker = board.get_mut(name).unwrap();
        breaker.observe(&window(100, 100), at(0), CALM());
    }
    assert_eq!(board.update(&update("a", first, set)), Refreshed::Dropped);
    assert!(!is_closed(board.get_mut("a").unwrap()));
    assert_eq!(board.update(&update("a", second, set)), Refreshed::Begun);
    assert!(is_closed(board.get_mut("a").unwrap()));
    assert!(!is_closed(board.get_mut("b").unwrap()), "b is not a");
    assert_eq!(
        board.update(&update("b", second, Change::Removed)),
        Refreshed::Removed
    );
    assert_eq!(board.update(&update("b", first, set)), Refreshed::Dropped);
    let names: Vec<_> = board.all().map(|(name, ..)| name.to_owned()).collect();
    assert_eq!(names, ["a"]);
}

#[cfg(not(target_arch = "wasm32"))]
mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn half_open_never_lasts(moves in prop::collection::vec((0u8..5, 0u64..8, 0.0..1.0f64), 1..200)) {
            let mut breaker = Breaker::new(BreakerTerms::default());
            let (mut now, mut since, mut probes) = (0, None, Vec::new());
            for (kind, wait, chance) in moves {
                now += wait;
                let jitter = Jitter::new(chance);
                breaker.tick(at(now), jitter);
                match kind {
                    0 => breaker.observe(&window(100, 100), at(now), jitter),
                    1 | 2 => probes.extend(breaker.probe(at(now))),
                    3 => drop(probes.pop().map(|probe| breaker.answer(probe, true, at(now), jitter))),
                    _ => drop(probes.pop().map(|probe| breaker.answer(probe, false, at(now), jitter))),
                }
                if breaker.state("c").in_half_open {
                    let began = *since.get_or_insert(now);
                    // Ticks are up to 8 s apart here; the breaker itself allows 30 s.
                    prop_assert!(now - began < 30, "half open since {began}, now {now}");
                } else {
                    since = None;
                }
            }
        }
    }
}
