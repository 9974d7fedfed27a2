//! Scripted walks through the states; `properties` holds what must be true of every walk.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

#[cfg(not(target_arch = "wasm32"))]
mod properties;
mod restart;

use super::*;
use crate::duration::{Millis, Moment};
use crate::release::breaker::Circuit;
use crate::release::evidence::Gap;
use crate::release::judge::{Standing, Verdict};
use crate::release::settings::{Settings, SyncLog};
use crate::release::share::Percent;
use crate::release::triggers::Trigger;

const CLEAR: Verdict = Verdict::Quiet(Standing::Clear);
const PASSING: Verdict = Verdict::Quiet(Standing::Passing);
const FIRED: Verdict = Verdict::Fired(Trigger::Outage);
const UNKNOWN: Verdict = Verdict::Unknown(Gap::Stale);

fn percent(share: u8) -> Percent {
    Percent::new(share).unwrap()
}

fn at(secs: u64) -> Moment {
    Moment::from_unix_millis(1_000_000_000 + secs * 1000)
}

fn terms(sync_log: bool) -> Terms {
    let settings = Settings {
        sync_log: sync_log.then(|| SyncLog {
            apply_url: "http://v1/apply".to_owned(),
        }),
        ..Settings::article()
    };
    let steps = [1, 5, 10, 25, 50, 100].map(percent).to_vec();
    Terms::new(&settings, steps, Millis::from_secs(300))
}

/// A release that is walked through events, with what the last one asked for.
struct Walk {
    release: Release,
    terms: Terms,
    actions: Vec<Action>,
    circuits: Circuits,
}

impl Walk {
    fn new(sync_log: bool, share: u8) -> Self {
        Self {
            release: Release::begin(percent(share), Percent::FULL, at(0)),
            terms: terms(sync_log),
            actions: Vec::new(),
            circuits: Circuits::default(),
        }
    }

    fn event(&mut self, secs: u64, event: Event) -> &mut Self {
        let context = Context {
            terms: &self.terms,
            now: at(secs),
            jitter: Jitter::new(0.0),
            confirmed: None,
            circuits: self.circuits,
        };
        (self.release, self.actions) = step(&self.release, &event, &context);
        self
    }

    fn judged(&mut self, secs: u64, verdict: Verdict) -> &mut Self {
        let permit = Permit::Granted;
        self.event(secs, Event::Judged { verdict, permit })
    }

    fn order(&mut self, secs: u64, command: Command) -> &mut Self {
        self.event(
            secs,
            Event::Operator(Order {
                command,
                actor: "ann".to_owned(),
                reason: "because".to_owned(),
            }),
        )
    }

    fn frozen(&mut self, secs: u64, freeze_seq: u64) -> &mut Self {
        let turn = self.release.turn;
        self.event(secs, Event::Frozen { turn, freeze_seq })
    }

    fn drained(&mut self, secs: u64, applied_seq: u64) -> &mut Self {
        let turn = self.release.turn;
        self.event(secs, Event::Drained { turn, applied_seq })
    }

    fn name(&self) -> PhaseName {
        self.release.phase.name()
    }

    fn share(&self) -> u8 {
        self.release.phase.share().get()
    }

    fn alerts(&self) -> Vec<Alert> {
        let alert = |action: &Action| match action {
            Action::Alert(alert) => Some(*alert),
            _ => None,
        };
        self.actions.iter().filter_map(alert).collect()
    }

    fn refusal(&self) -> Option<Refusal> {
        self.actions.iter().find_map(|action| match action {
            Action::Refuse(refusal) => Some(*refusal),
            _ => None,
        })
    }

    fn published(&self) -> Option<Decision> {
        self.actions.iter().find_map(|action| match action {
            Action::Publish(decision) => Some(*decision),
            _ => None,
        })
    }
}

#[test]
fn a_rollout_climbs_every_step_and_settles() {
    let mut walk = Walk::new(false, 1);
    let mut shares = vec![walk.share()];
    let mut now = 0;
    while walk.name() == PhaseName::Ramping && now < 10_000 {
        now += 5;
        walk.judged(now, CLEAR);
        if shares.last() != Some(&walk.share()) {
            shares.push(walk.share());
            assert_eq!(walk.published().map(|d| d.share.get()), Some(walk.share()));
        }
    }
    assert_eq!(shares, [1, 5, 10, 25, 50, 100]);
    assert_eq!((walk.name(), now), (PhaseName::Stable, 6 * 300));
}

#[test]
fn a_step_needs_its_hold_and_its_proof() {
    let mut walk = Walk::new(false, 5);
    for (secs, verdict) in [
        (299, CLEAR),
        (300, PASSING),
        (301, Verdict::Idle),
        (302, UNKNOWN),
    ] {
        assert_eq!(walk.judged(secs, verdict).share(), 5, "{verdict:?}");
    }
    assert_eq!(walk.judged(303, CLEAR).share(), 10);
}

#[test]
fn an_undecided_step_asks_once_and_goes_on_when_decided() {
    let mut walk = Walk::new(false, 5);
    assert_eq!(walk.judged(1799, PASSING).alerts(), []);
    assert_eq!(walk.judged(1800, PASSING).alerts(), [Alert::Undecided]);
    assert_eq!(walk.judged(1805, PASSING).alerts(), []);
    assert_eq!(walk.judged(1810, CLEAR).share(), 10);
}

#[test]
fn without_a_sync_log_a_trip_switches_at_once() {
    let mut walk = Walk::new(false, 100);
    walk.judged(10, FIRED);
    assert_eq!(walk.name(), PhaseName::FailedBack);
    let decision = walk.published().unwrap();
    assert!(decision.degraded && !decision.frozen && decision.share == Percent::ZERO);
}

#[test]
fn a_fail_back_freezes_drains_switches_and_ramps_back() {
    let mut walk = Walk::new(true, 100);
    walk.judged(10, Verdict::Breached);
    assert_eq!((walk.name(), walk.published()), (PhaseName::Suspect, None));
    walk.judged(15, FIRED);
    assert_eq!(walk.name(), PhaseName::Freezing);
    assert!(walk.published().unwrap().frozen);
    walk.frozen(17, 42);
    let start = Action::StartDrain {
        turn: walk.release.turn,
        freeze_seq: 42,
    };
    assert!(walk.actions.contains(&start));
    assert_eq!(
        walk.drained(18, 41).name(),
        PhaseName::Draining,
        "one entry is missing"
    );
    assert_eq!(walk.drained(19, 42).name(), PhaseName::FailedBack);
    assert_eq!(
        walk.judged(318, Verdict::Idle).name(),
        PhaseName::FailedBack
    );
    assert_eq!(walk.judged(319, UNKNOWN).name(), PhaseName::FailedBack);
    assert_eq!(walk.judged(320, Verdict::Idle).name(), PhaseName::Verifying);
    assert!(walk.actions.contains(&Action::ForgetEvidence));
    assert_eq!(
        walk.judged(379, PASSING).name(),
        PhaseName::Verifying,
        "held for a minute"
    );
    assert_eq!(
        walk.judged(380, Verdict::Idle).name(),
        PhaseName::Verifying,
        "nobody verified"
    );
    assert_eq!(walk.judged(381, PASSING).name(), PhaseName::Ramping);
    assert_eq!(walk.share(), 1);
}

#[test]
fn a_late_fail_back_is_aborted_and_unfrozen() {
    let mut freezing = Walk::new(true, 50);
    freezing.judged(10, FIRED).event(39, Event::Clock);
    assert_eq!(freezing.name(), PhaseName::Freezing);
    freezing.event(40, Event::Clock);
    assert_eq!(
        freezing.alerts(),
        [Alert::Aborted(AbortReason::FreezeTimeout)]
    );
    let decision = freezing.published().unwrap();
    assert!(!decision.frozen && !decision.degraded && decision.share.get() == 50);

    let mut draining = Walk::new(true, 50);
    draining
        .judged(10, FIRED)
        .frozen(12, 7)
        .event(40, Event::Clock);
    assert_eq!(
        draining.alerts(),
        [Alert::Aborted(AbortReason::DrainTimeout)]
    );
    assert!(
        matches!(draining.actions[0], Action::StopDrain { .. }),
        "stopped before unfrozen"
    );

    let mut failing = Walk::new(true, 50);
    failing.judged(10, FIRED).frozen(12, 7);
    let turn = failing.release.turn;
    failing.event(13, Event::DrainFailed { turn });
    assert_eq!(failing.alerts(), [Alert::Aborted(AbortReason::DrainFailed)]);
    assert_eq!(
        failing.judged(900, FIRED).name(),
        PhaseName::Aborted,
        "held for a person"
    );
    assert_eq!(
        failing.order(901, Command::Resume).name(),
        PhaseName::Ramping
    );
}

#[test]
fn answers_to_an_older_turn_are_ignored() {
    let mut walk = Walk::new(true, 100);
    walk.judged(10, FIRED);
    let old = walk.release.turn;
    walk.event(40, Event::Clock)
        .order(50, Command::Rollback { force: false });
    assert_eq!(walk.name(), PhaseName::Freezing);
    walk.event(
        51,
        Event::Frozen {
            turn: old,
            freeze_seq: 3,
        },
    );
    assert_eq!(walk.name(), PhaseName::Freezing);
    walk.frozen(52, 5).event(
        53,
        Event::Drained {
            turn: old,
            applied_seq: 9,
        },
    );
    assert_eq!(walk.name(), PhaseName::Draining);
}

#[test]
fn cool_downs_double_to_their_cap_and_lock_at_the_third_trip() {
    let mut walk = Walk::new(false, 100);
    let mut now = 10;
    let mut cooldowns = Vec::new();
    for _ in 0..3 {
        walk.judged(now, FIRED);
        let Phase::FailedBack { since, until, .. } = walk.release.phase else {
            panic!("{:?}", walk.release.phase);
        };
        cooldowns.push(until.since(since).get() / 1000);
        now += cooldowns.last().unwrap();
        if walk.release.locked.is_none() {
            walk.judged(now, Verdict::Idle);
            assert_eq!(walk.name(), PhaseName::Verifying);
        }
    }
    assert_eq!(cooldowns, [300, 600, 1200]);
    assert_eq!(
        walk.judged(now + 9000, Verdict::Idle).name(),
        PhaseName::FailedBack
    );
    assert_eq!(
        walk.order(now + 9001, Command::Promote).refusal(),
        Some(Refusal::Locked)
    );
    walk.order(now + 9002, Command::Unlock);
    assert_eq!(
        walk.judged(now + 9003, Verdict::Idle).name(),
        PhaseName::Verifying
    );
}

#[test]
fn cool_downs_end_at_their_cap_and_chance_only_adds() {
    let mut walk = Walk::new(false, 100);
    walk.terms.guards.trips_per_day = 99;
    let order = Event::Judged {
        verdict: FIRED,
        permit: Permit::Granted,
    };
    for (trips, chance, expected) in [
        (1, 0.0, 600),
        (3, 0.0, 2400),
        (4, 0.0, 3600),
        (70, 0.0, 3600),
        (70, 1.0, 4320),
        (0, 0.5, 330),
    ] {
        walk.release.trips = vec![at(0); trips];
        let context = Context {
            terms: &walk.terms,
            now: at(10),
            jitter: Jitter::new(chance),
            confirmed: None,
            circuits: Circuits::default(),
        };
        let (after, _) = step(&walk.release, &order, &context);
        let Phase::FailedBack { since, until, .. } = after.phase else {
            panic!("{:?}", after.phase);
        };
        assert_eq!(
            until.since(since),
            Millis::from_secs(expected),
            "{trips}, {chance}"
        );
    }
}

#[test]
fn trips_of_yesterday_do_not_count() {
    let mut walk = Walk::new(false, 100);
    walk.release.trips = vec![at(0), at(1)];
    walk.judged(86_402, FIRED);
    assert_eq!((walk.release.locked, walk.release.trips.len()), (None, 1));
}

#[test]
fn what_holds_automation() {
    let paused = |walk: &mut Walk| {
        walk.order(1, Command::Pause);
    };
    let restarted = |walk: &mut Walk| {
        walk.event(1, Event::Restarted);
    };
    for (name, hold) in [
        ("paused", paused as fn(&mut Walk)),
        ("restarted", restarted),
    ] {
        let mut walk = Walk::new(false, 5);
        hold(&mut walk);
        walk.judged(10, FIRED);
        assert_eq!(
            (walk.name(), walk.share()),
            (PhaseName::Suspect, 5),
            "{name}"
        );
        assert_eq!(walk.alerts(), [Alert::Withheld(Trigger::Outage)], "{name}");
    }
    let mut walk = Walk::new(false, 5);
    let permit = Permit::PanicHold;
    walk.event(
        10,
        Event::Judged {
            verdict: FIRED,
            permit,
        },
    );
    assert_eq!(walk.name(), PhaseName::Suspect);
    assert_eq!(walk.judged(11, FIRED).name(), PhaseName::FailedBack);
}

#[test]
fn a_shared_fault_is_told_once_and_moves_nothing() {
    let mut walk = Walk::new(true, 50);
    let shared = Verdict::SharedFault(Trigger::Sustained);
    assert_eq!(
        walk.judged(10, shared).alerts(),
        [Alert::SharedFault(Trigger::Sustained)]
    );
    assert_eq!(walk.judged(15, shared).alerts(), []);
    assert_eq!((walk.name(), walk.share()), (PhaseName::Suspect, 50));
    walk.judged(20, CLEAR).judged(50, CLEAR);
    assert_eq!(
        (walk.name(), walk.release.shared_fault),
        (PhaseName::Ramping, None)
    );
}

#[test]
fn nothing_fails_back_to_a_cluster_whose_breaker_is_open() {
    for (circuit, phase, alert) in [
        (Circuit::Closed, PhaseName::FailedBack, None),
        (Circuit::HalfOpen, PhaseName::FailedBack, None),
        (
            Circuit::Open,
            PhaseName::Suspect,
            Some(Alert::SharedFault(Trigger::Outage)),
        ),
    ] {
        let mut walk = Walk::new(false, 10);
        walk.circuits.stable = circuit;
        walk.judged(1, FIRED);
        assert_eq!(walk.name(), phase, "{circuit:?}");
        assert_eq!(walk.alerts().first().copied(), alert, "{circuit:?}");
        walk.order(2, Command::Rollback { force: true });
        walk.circuits.stable = Circuit::Closed;
        walk.judged(3, FIRED);
        assert_eq!(
            walk.name(),
            PhaseName::FailedBack,
            "a person may, and later it does"
        );
    }
}

#[test]
fn a_ramp_waits_for_the_breaker_of_its_cluster() {
    for (circuit, first, next) in [
        (Circuit::Closed, 1, 5),
        (Circuit::HalfOpen, 1, 1),
        (Circuit::Open, 0, 0),
    ] {
        let mut walk = Walk::new(false, 10);
        walk.judged(1, FIRED).judged(1000, CLEAR);
        assert_eq!(walk.name(), PhaseName::Verifying);
        walk.circuits.candidate = circuit;
        let mut by_hand = Walk {
            release: walk.release.clone(),
            terms: walk.terms.clone(),
            actions: Vec::new(),
            circuits: walk.circuits,
        };
        walk.judged(2000, CLEAR);
        assert_eq!(walk.share(), first, "{circuit:?}");
        walk.judged(3000, CLEAR);
        assert_eq!(walk.share(), next, "{circuit:?}");
        by_hand.order(2000, Command::Promote);
        assert_eq!(by_hand.share(), first, "{circuit:?}");
        by_hand.order(2001, Command::Promote);
        assert_eq!(by_hand.share(), next, "{circuit:?}");
        let refused = (first == next).then_some(Refusal::Breaker);
        assert_eq!(by_hand.refusal(), refused, "{circuit:?}");
        by_hand.order(2002, Command::SetWeight(percent(50)));
        assert_eq!(by_hand.share(), 50, "a person overrules it");
    }
}

#[test]
fn unknown_evidence_is_told_after_a_minute() {
    let mut walk = Walk::new(false, 5);
    assert_eq!(walk.judged(10, UNKNOWN).alerts(), []);
    assert_eq!(walk.judged(70, UNKNOWN).alerts(), [Alert::EvidenceUnknown]);
    assert_eq!(walk.judged(75, UNKNOWN).alerts(), []);
    assert_eq!(walk.judged(80, Verdict::Idle).release.unknown, None);
}

#[test]
fn a_person_s_rollback_stays_until_resumed() {
    let mut walk = Walk::new(false, 50);
    walk.order(10, Command::Rollback { force: false });
    assert_eq!(
        walk.judged(9000, Verdict::Idle).name(),
        PhaseName::FailedBack
    );
    assert!(walk.release.trips.is_empty(), "not automation's trip");
    walk.order(9001, Command::Resume);
    assert_eq!(
        walk.judged(9002, Verdict::Idle).name(),
        PhaseName::Verifying
    );
}

#[test]
fn a_forced_switch_says_what_it_gives_up() {
    let mut walk = Walk::new(true, 50);
    walk.judged(10, FIRED).frozen(11, 9);
    assert_eq!(
        walk.order(12, Command::Rollback { force: false }).refusal(),
        Some(Refusal::FailingBack)
    );
    walk.order(13, Command::Rollback { force: true });
    assert_eq!(
        (walk.name(), walk.alerts()),
        (PhaseName::FailedBack, vec![Alert::ForcedSwitch])
    );
    assert!(matches!(walk.actions[0], Action::StopDrain { .. }));
}

#[test]
fn weights_by_hand() {
    let set = |share| Command::SetWeight(percent(share));
    let mut walk = Walk::new(false, 50);
    assert_eq!(walk.order(1, set(20)).share(), 20);
    walk.judged(5000, CLEAR);
    assert_eq!(
        (walk.name(), walk.share()),
        (PhaseName::Stable, 20),
        "it stays"
    );
    walk.order(5001, Command::Promote);
    assert_eq!((walk.name(), walk.share()), (PhaseName::Ramping, 25));

    let mut synced = Walk::new(true, 50);
    assert_eq!(
        synced.order(1, set(20)).refusal(),
        Some(Refusal::NeedsDrain)
    );
    assert_eq!(synced.order(2, set(60)).share(), 60);
}

#[test]
fn a_ramp_back_ends_at_the_share_of_before() {
    let mut walk = Walk::new(false, 20);
    walk.order(0, Command::SetWeight(percent(20)))
        .judged(10, FIRED);
    walk.judged(310, Verdict::Idle).judged(370, PASSING);
    let mut shares = vec![walk.share()];
    for now in (375..5000).step_by(5) {
        walk.judged(now, CLEAR);
        if shares.last() != Some(&walk.share()) {
            shares.push(walk.share());
        }
    }
    assert_eq!(
        (shares, walk.name()),
        (vec![1, 5, 10, 20], PhaseName::Stable)
    );
}

#[test]
fn a_restart_resumes_the_drain_and_extends_its_time_once() {
    let mut walk = Walk::new(true, 50);
    walk.judged(10, FIRED)
        .frozen(12, 7)
        .event(100, Event::Restarted);
    let turn = walk.release.turn;
    let expected = [
        Action::Publish(walk.release.decision()),
        Action::StartDrain {
            turn,
            freeze_seq: 7,
        },
    ];
    assert_eq!(walk.actions, expected);
    walk.event(120, Event::Restarted).event(129, Event::Clock);
    assert_eq!(walk.name(), PhaseName::Draining);
    assert_eq!(walk.event(130, Event::Clock).name(), PhaseName::Aborted);
}

#[test]
fn states_survive_the_store() {
    let mut walk = Walk::new(true, 50);
    walk.order(1, Command::Pause)
        .order(2, Command::Resume)
        .judged(10, FIRED)
        .frozen(12, 7);
    let json = serde_json::to_string(&walk.release).unwrap();
    assert!(json.contains(r#""phase":"draining""#), "{json}");
    assert_eq!(
        serde_json::from_str::<Release>(&json).unwrap(),
        walk.release
    );
}

#[test]
fn a_step_goes_on_when_enough_proxies_run_it() {
    let clear = Event::Judged {
        verdict: Verdict::Quiet(Standing::Clear),
        permit: Permit::Granted,
    };
    let mut terms = terms(false);
    terms.reach = Some(Reach {
        least: percent(90),
        timeout: Millis::from_secs(30),
    });
    let begun = Release::begin(percent(5), Percent::FULL, at(0));
    let at_time = |release: &Release, secs, confirmed| {
        let context = Context {
            terms: &terms,
            now: at(secs),
            jitter: Jitter::new(0.0),
            confirmed,
            circuits: Circuits::default(),
        };
        step(release, &clear, &context)
    };
    for (case, confirmed, share) in [
        ("all", Some(Percent::FULL), 10),
        ("just enough", Some(percent(90)), 10),
        ("too few", Some(percent(89)), 5),
        ("no proxy at all", None, 5),
    ] {
        let (after, _) = at_time(&begun, 301, confirmed);
        assert_eq!(after.phase.share(), percent(share), "{case}");
    }
    let (waits, told) = at_time(&begun, 301, Some(percent(50)));
    assert!(!told.contains(&Action::Alert(Alert::Unconfirmed)));
    let (waits, told) = at_time(&waits, 331, Some(percent(50)));
    assert_eq!(told, [Action::Alert(Alert::Unconfirmed)]);
    let (waits, told) = at_time(&waits, 332, Some(percent(50)));
    assert_eq!(told, []);
    let (goes_on, _) = at_time(&waits, 333, Some(percent(95)));
    assert_eq!(goes_on.unconfirmed, None);
    assert_eq!(goes_on.phase.share(), percent(10));
}
