use ombre_policy::policy::SlotTables;

use super::*;
use crate::source::Reader;
use ombre_policy::load::SourceFile;
use serde_json::json;

fn simulation(degrade: &str) -> Simulation {
    let text = format!("{}    degrade: {degrade}\n", crate::sample::text("canary"));
    let source = SourceFile {
        name: "policy.yaml".to_owned(),
        text,
    };
    let compiled = Compiled::new(vec![source], &Reader::default(), &SlotTables::default()).unwrap();
    Simulation::new(&compiled.policy)
}

/// `requests` a second, of which so many failed, all of them in a bin of latencies around `millis`.
fn line(second: u64, (requests, errors): (u64, u64), millis: u64) -> Line {
    let sample = |errors: u64| {
        let slow = if millis >= 800 { requests } else { 0 };
        let latency = json!([[[millis * 1000, 0], requests]]);
        json!({ "counted": { "requests": requests, "errors": errors, "timed": requests, "slow": slow, "latency": latency } })
    };
    serde_json::from_value(json!({ "at": second * 1000, "service": "shop",
        "candidate": sample(errors), "stable": sample(0) }))
    .unwrap()
}

fn told(simulation: &mut Simulation, second: u64, counts: (u64, u64), millis: u64) -> Vec<String> {
    let told = simulation.take(line(second, counts, millis)).unwrap();
    told.iter().map(ToString::to_string).collect()
}

#[test]
fn the_articles_two_rows_are_told_apart_by_their_score() {
    for (name, counts, millis, score, degrades) in [
        ("row 1", (1200, 24), 600, "score 0.72 of 0.75", false),
        ("row 2", (800, 32), 950, "score 0.88 of 0.75", true),
    ] {
        let mut simulation = simulation("{ sustained: { enabled: false } }");
        let mut all = Vec::new();
        for second in 1..60 {
            all.extend(told(&mut simulation, second, counts, millis));
        }
        assert!(all[0].contains(score), "{name}: {all:?}");
        let fired = all.iter().any(|line| line.contains("FIRED by score"));
        assert_eq!(fired, degrades, "{name}: {all:?}");
    }
}

#[test]
fn an_outage_is_told_with_its_trigger_and_moves() {
    let mut simulation = simulation("{}");
    assert!(told(&mut simulation, 1, (100, 0), 10)[0].contains("quiet"));
    assert!(
        told(&mut simulation, 2, (100, 100), 10).is_empty(),
        "one tick"
    );
    let second = told(&mut simulation, 3, (100, 100), 10);
    assert!(second[0].contains("FIRED by outage"), "{second:?}");
    assert!(
        second[1].ends_with("MOVES ramping 10% -> failed back 0%"),
        "{second:?}"
    );
}

#[test]
fn a_sync_log_is_taken_as_empty() {
    let mut simulation = simulation("{ sync_log: { apply_url: \"http://v1\" } }");
    told(&mut simulation, 1, (100, 100), 10);
    let second = told(&mut simulation, 2, (100, 100), 10);
    let moves: Vec<&String> = second
        .iter()
        .filter(|line| line.contains("MOVES"))
        .collect();
    assert_eq!(
        moves.len(),
        3,
        "freezing, draining, failed back: {second:?}"
    );
}

#[test]
fn evidence_of_a_stranger_is_an_error() {
    let mut stranger = line(1, (1, 0), 1);
    "other".clone_into(&mut stranger.service);
    assert!(simulation("{}").take(stranger).is_none());
}

#[test]
fn only_evidence_is_recorded_however_it_is_cut() {
    let text = "event: transition\ndata: {\"a\":1}\n\nevent: evidence\ndata: {\"b\":2}\n\n: keep-alive\n\n";
    for cut in 0..text.len() {
        let mut stream = Stream::default();
        let (first, second) = text.as_bytes().split_at(cut);
        let mut found = stream.take(first);
        found.extend(stream.take(second));
        assert_eq!(found, ["{\"b\":2}"], "{cut}");
    }
}
