//! Judgements over scripted ticks: when they come, and what each verdict needs.

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::release::evidence::{Counts, Gap, Histogram};
use crate::release::settings::IdleStable;
use crate::release::triggers::Trigger;

const SPAN: Span = Span {
    since: Moment::from_unix_millis(0),
    base: Millis::from_secs(300),
};

fn ticks(requests: u64, errors: u64, slow: u64) -> Sample {
    Sample::fresh(Counts::new(requests, errors, (slow, requests), Histogram::new()).unwrap())
}

/// Feeds one sample pair a second from `from` and returns the last judgement and the first firing.
fn run(
    judge: &mut Judge,
    seconds: std::ops::Range<u64>,
    candidate: &Sample,
    stable: &Sample,
) -> (Option<Verdict>, Option<u64>) {
    let (mut last, mut fired) = (None, None);
    for second in seconds {
        let at = Moment::from_unix_millis(second * 1000);
        if let Some(judgement) = judge.observe(at, candidate.clone(), stable.clone(), SPAN) {
            last = Some(judgement.verdict);
            if matches!(judgement.verdict, Verdict::Fired(_)) {
                fired = fired.or(Some(second));
            }
        }
    }
    (last, fired)
}

#[test]
fn verdicts_after_a_minute_of_the_same() {
    let unknown = Sample::Unknown(Gap::Stale);
    let well = ticks(100, 0, 0);
    let cases = [
        (
            "well",
            well.clone(),
            well.clone(),
            Verdict::Quiet(Standing::Clear),
        ),
        ("no traffic", Sample::Idle, well.clone(), Verdict::Idle),
        (
            "candidate unknown",
            unknown.clone(),
            well.clone(),
            Verdict::Unknown(Gap::Stale),
        ),
        (
            "stable unknown",
            ticks(100, 100, 0),
            unknown,
            Verdict::Unknown(Gap::Stale),
        ),
        (
            "errors",
            ticks(100, 5, 0),
            well.clone(),
            Verdict::Fired(Trigger::Sustained),
        ),
        (
            "slow",
            ticks(100, 0, 20),
            well.clone(),
            Verdict::Fired(Trigger::Sustained),
        ),
        (
            "all failed",
            ticks(100, 100, 0),
            well.clone(),
            Verdict::Fired(Trigger::Outage),
        ),
        (
            "both failed",
            ticks(100, 100, 0),
            ticks(100, 100, 0),
            Verdict::SharedFault(Trigger::Outage),
        ),
        (
            "both slow",
            ticks(100, 0, 20),
            ticks(100, 0, 20),
            Verdict::SharedFault(Trigger::Sustained),
        ),
        (
            "stable without traffic",
            ticks(100, 100, 0),
            Sample::Idle,
            Verdict::Fired(Trigger::Outage),
        ),
        (
            "a few requests",
            ticks(1, 0, 0),
            well,
            Verdict::Quiet(Standing::Passing),
        ),
    ];
    for (name, candidate, stable, expected) in cases {
        let mut judge = Judge::new(Settings::article());
        let (last, _) = run(&mut judge, 1..62, &candidate, &stable);
        assert_eq!(last, Some(expected), "{name}");
    }
}

#[test]
fn an_outage_fires_at_the_second_tick() {
    let mut judge = Judge::new(Settings::article());
    let well = ticks(1000, 1, 5);
    assert_eq!(run(&mut judge, 1..100, &well, &well).1, None);
    let (_, fired) = run(&mut judge, 100..110, &ticks(1000, 1000, 0), &well);
    assert_eq!(fired, Some(101));
}

#[test]
fn a_look_sees_an_outage_before_its_second_tick_ends() {
    let well = ticks(1000, 0, 0);
    let unknown = Sample::Unknown(Gap::Missing);
    let cases = [
        (
            "it failed all the time",
            (1000, 1000),
            (250, 250),
            &well,
            250,
            true,
        ),
        (
            "from the middle of the tick, and half of the next",
            (1000, 500),
            (500, 500),
            &well,
            500,
            true,
        ),
        (
            "not for as long as two ticks",
            (1000, 500),
            (250, 250),
            &well,
            250,
            false,
        ),
        ("most of both", (1000, 800), (250, 200), &well, 250, true),
        (
            "too few requests",
            (1000, 1000),
            (49, 49),
            &well,
            250,
            false,
        ),
        (
            "no tick before it",
            (1000, 400),
            (900, 900),
            &well,
            900,
            false,
        ),
        ("over", (1000, 1000), (250, 100), &well, 250, false),
        (
            "the stable version fails too",
            (1000, 1000),
            (250, 250),
            &ticks(1000, 1000, 0),
            250,
            false,
        ),
        (
            "the stable version is unknown",
            (1000, 1000),
            (250, 250),
            &unknown,
            250,
            false,
        ),
    ];
    for (name, tick, since, stable, elapsed, seen) in cases {
        let mut judge = Judge::new(Settings::article());
        run(&mut judge, 1..100, &well, &well);
        let during = if matches!(stable, Sample::Unknown(_)) {
            &well
        } else {
            stable
        };
        run(&mut judge, 100..101, &ticks(tick.0, tick.1, 0), during);
        let at = Moment::from_unix_millis(100_000 + elapsed);
        let look = ticks(since.0, since.1, 0);
        let judgement = judge.look(at, &look, stable, Millis::new(elapsed));
        let verdict = judgement.map(|judgement| judgement.verdict);
        let fired = Some(Verdict::Fired(Trigger::Outage));
        assert_eq!(verdict == fired, seen, "{name}: {verdict:?}");
    }
}

#[test]
fn unknown_ticks_neither_add_nor_reset() {
    let well = ticks(100, 0, 0);
    let bad = ticks(100, 5, 0);
    let mut judge = Judge::new(Settings::article());
    // Four breaches, a gap, one more breach: sustained at the fifth.
    assert_eq!(run(&mut judge, 1..21, &bad, &well).1, None);
    let gap = Sample::Unknown(Gap::Missing);
    assert_eq!(
        run(&mut judge, 21..30, &gap, &well),
        (Some(Verdict::Unknown(Gap::Missing)), None)
    );
    assert_eq!(run(&mut judge, 30..32, &bad, &well).1, Some(30));
}

#[test]
fn holding_at_an_idle_stable_is_a_setting() {
    let mut settings = Settings::article();
    settings.guards.idle_stable = IdleStable::Hold;
    let mut judge = Judge::new(settings);
    let (last, fired) = run(&mut judge, 1..62, &ticks(100, 100, 0), &Sample::Idle);
    assert_eq!((last, fired), (Some(Verdict::Held(Trigger::Outage)), None));
}

#[test]
fn absent_proxies_keep_a_candidate_from_being_clear() {
    let mut call = crate::release::evidence::RollCall::of(
        &ticks(100, 0, 0),
        crate::release::evidence::Weight::new(90),
    );
    call.merge(&crate::release::evidence::RollCall::of(
        &Sample::Unknown(Gap::Missing),
        crate::release::evidence::Weight::new(10),
    ));
    let candidate = call.close(crate::release::share::Percent::new(80).unwrap());
    let mut judge = Judge::new(Settings::article());
    let (last, fired) = run(&mut judge, 1..62, &candidate, &ticks(100, 0, 0));
    assert_eq!(
        (last, fired),
        (Some(Verdict::Quiet(Standing::Passing)), None)
    );
}

#[test]
fn forgotten_evidence_is_gone() {
    let mut judge = Judge::new(Settings::article());
    let well = ticks(100, 0, 0);
    run(&mut judge, 1..62, &ticks(100, 100, 0), &well);
    judge.forget();
    assert_eq!(
        run(&mut judge, 62..63, &well, &well).0,
        Some(Verdict::Quiet(Standing::Passing))
    );
}

#[test]
fn judgements_are_readable() {
    let mut judge = Judge::new(Settings::article());
    let at = Moment::from_unix_millis(1000);
    let judgement = judge
        .observe(at, ticks(100, 5, 0), ticks(100, 0, 0), SPAN)
        .unwrap();
    let json = serde_json::to_value(&judgement).unwrap();
    assert_eq!(json["candidate"]["errors"], 5);
    assert_eq!(json["verdict"], "breached");
}

#[test]
fn a_slow_breach_that_is_not_plain_must_outlast_its_window() {
    let well = ticks(5, 0, 0);
    // Five a second span 60 s. In every 25 requests the first is slow: 4 %, surely more than 1 % but
    // at first not surely more than 1.5 %; or the first of ten, which is plain.
    for (name, every, earliest) in [("not plain", 5, 50), ("plain", 2, 25)] {
        let mut judge = Judge::new(Settings::article());
        run(&mut judge, 1..401, &well, &well);
        let fired = (401..700).find(|second| {
            let slow = u64::from(second % every == 0);
            let span = *second..*second + 1;
            run(&mut judge, span, &ticks(5, 0, slow), &well).1.is_some()
        });
        let fired = fired.unwrap() - 400;
        assert!(
            (earliest..earliest + 45).contains(&fired),
            "{name}: {fired} s"
        );
    }
}
