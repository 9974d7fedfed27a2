//! Defaults are the article's; every bad number is named by its path.
#![cfg(feature = "load")]

#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;

fn read(json: &str) -> Result<Settings, Vec<(String, String)>> {
    Settings::from_raw(&serde_json::from_str(json).unwrap())
}

#[test]
fn an_empty_block_gives_the_articles_numbers() {
    let settings = read("{}").unwrap();
    assert_eq!(settings, Settings::article());
    assert_eq!(settings.sustained, Some(Sustained { need: 5, of: 6 }));
    assert_eq!(settings.guards.cooldown, Millis::from_secs(300));
}

#[test]
fn triggers_can_be_switched_off_one_by_one() {
    let settings = read(r#"{"score":{"enabled":false},"outage":{"enabled":false}}"#).unwrap();
    assert!(settings.score.is_none() && settings.outage.is_none() && settings.sustained.is_some());
}

#[test]
fn problems_name_their_place() {
    let cases = [
        (
            "threshold",
            r#"{"score":{"threshold":1.5}}"#,
            "score.threshold",
            "1.5 is not a fraction between 0 and 1",
        ),
        (
            "weights",
            r#"{"score":{"qps":{"weight":0.5}}}"#,
            "score",
            "the weights sum to 1.2, not to 1",
        ),
        (
            "full",
            r#"{"score":{"p95":{"full":"0s"}}}"#,
            "score.p95.full",
            "0 is not above 0",
        ),
        (
            "for",
            r#"{"sustained":{"for":"1s"}}"#,
            "sustained.for",
            "1s is shorter than one judgement, `evidence.judge` is 5s",
        ),
        (
            "zero span",
            r#"{"drain":{"timeout":"0s"}}"#,
            "drain.timeout",
            "0s is not between 1ms and 24h",
        ),
        (
            "settle",
            r#"{"drain":{"settle":"30s"}}"#,
            "drain.settle",
            "30s is not shorter than `drain.timeout`, 30s",
        ),
        (
            "order",
            r#"{"evidence":{"longest":"20s"}}"#,
            "evidence.longest",
            "20s is shorter than `evidence.window`, 30s",
        ),
        (
            "percent",
            r#"{"guards":{"max_concurrent":140}}"#,
            "guards.max_concurrent",
            "140 exceeds 100",
        ),
        (
            "no percent",
            r#"{"evidence":{"coverage":0}}"#,
            "evidence.coverage",
            "0 is not between 1 and 100",
        ),
        (
            "ticks",
            r#"{"outage":{"ticks":0}}"#,
            "outage.ticks",
            "0 is not at least 1",
        ),
        (
            "cooldown",
            r#"{"guards":{"max_cooldown":"1m"}}"#,
            "guards.max_cooldown",
            "1m is shorter than `guards.cooldown`, 5m",
        ),
        (
            "url",
            r#"{"sync_log":{"apply_url":"ftp://x"}}"#,
            "sync_log.apply_url",
            "`ftp://x` is not an `http://` or `https://` address",
        ),
    ];
    for (name, json, path, message) in cases {
        let problems = read(json).unwrap_err();
        assert_eq!(
            problems,
            vec![(path.to_owned(), message.to_owned())],
            "{name}"
        );
    }
}

#[test]
fn writes_under_way_have_a_sixth_of_the_drains_time() {
    let cases = [
        ("{}", 30_000, 5000),
        (r#"{"drain":{"timeout":"12s"}}"#, 12_000, 2000),
        (r#"{"drain":{"settle":"15s"}}"#, 30_000, 15_000),
        (r#"{"drain":{"timeout":"1m","settle":"0s"}}"#, 60_000, 0),
    ];
    for (json, timeout, settle) in cases {
        let drain = read(json).unwrap().drain;
        assert_eq!((drain.timeout.get(), drain.settle.get()), (timeout, settle));
    }
}

#[test]
fn all_problems_are_found_at_once() {
    let problems = read(r#"{"score":{"ticks":0},"verify":{"requests":0}}"#).unwrap_err();
    assert_eq!(problems.len(), 2);
}

#[test]
fn unknown_fields_are_refused() {
    for json in [
        r#"{"treshold":1}"#,
        r#"{"sustained":{"fro":"30s"}}"#,
        r#"{"sync_log":{"url":""}}"#,
    ] {
        assert!(serde_json::from_str::<RawDegrade>(json).is_err(), "{json}");
    }
}
