//! Restarts with a clock that was set back between two runs.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

/// When the earlier run was, by a clock that was two hours ahead.
const THEN: u64 = 7200;

fn until(walk: &Walk) -> Option<Moment> {
    match &walk.release.phase {
        Phase::FailedBack { until, .. } => Some(*until),
        Phase::Freezing { fail_back } | Phase::Draining { fail_back, .. } => {
            Some(fail_back.deadline)
        }
        _ => None,
    }
}

#[test]
fn a_freeze_and_a_drain_end_in_time_also_after_a_second_restart() {
    for drains in [false, true] {
        let mut walk = Walk::new(true, 50);
        walk.judged(THEN, FIRED);
        if drains {
            walk.frozen(THEN + 2, 7);
        }
        walk.event(100, Event::Restarted);
        assert_eq!(until(&walk), Some(at(130)), "{drains}");
        walk.event(20, Event::Restarted);
        assert_eq!(until(&walk), Some(at(50)), "{drains}");
        walk.event(45, Event::Restarted);
        assert_eq!(until(&walk), Some(at(50)), "{drains}");
        assert_eq!(walk.event(50, Event::Clock).name(), PhaseName::Aborted);
    }
}

#[test]
fn a_cool_down_is_neither_shortened_nor_endless() {
    for (restart, expected) in [
        // Far back: all of it again.
        (100, 400),
        // Within it: what it was.
        (THEN + 100, THEN + 300),
        (THEN + 900, THEN + 300),
    ] {
        let mut walk = Walk::new(false, 50);
        walk.judged(THEN, FIRED);
        walk.event(restart, Event::Restarted);
        assert_eq!(until(&walk), Some(at(expected)), "{restart}");
    }
}

#[test]
fn what_is_told_to_be_yet_to_come_has_just_been() {
    let mut walk = Walk::new(false, 50);
    walk.judged(THEN, FIRED);
    walk.order(THEN + 1, Command::Pause);
    walk.order(THEN + 2, Command::Promote);
    walk.event(100, Event::Restarted);
    assert_eq!(walk.release.trips, [at(100)]);
    assert_eq!(walk.release.paused.as_ref().unwrap().since, at(100));
    assert!(matches!(
        walk.release.phase,
        Phase::Verifying { since, .. } if since == at(100)
    ));
    for verdict in [Verdict::Breached, CLEAR] {
        let mut walk = Walk::new(false, 50);
        walk.judged(THEN, verdict).judged(THEN, Verdict::Breached);
        walk.judged(THEN + 1, CLEAR);
        walk.event(100, Event::Restarted);
        assert!(matches!(
            walk.release.phase,
            Phase::Suspect { since, quiet: Some(quiet), .. } if since == at(100) && quiet == since
        ));
        walk.judged(131, CLEAR);
        assert_eq!(walk.name(), PhaseName::Ramping);
    }
}

#[test]
fn a_restart_by_a_clock_that_goes_on_changes_no_time() {
    let mut walk = Walk::new(false, 50);
    walk.judged(10, FIRED);
    let before = walk.release.clone();
    walk.event(11, Event::Restarted);
    walk.release.observe_until = None;
    assert_eq!(walk.release, before);
}
