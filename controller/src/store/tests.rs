mod sync_log;

use super::*;
use std::fs;

use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::machine::Release;
use ombre_policy::release::share::Percent;
use serde_json::{Value, json};

const NOW: Moment = Moment::from_unix_millis(5);

fn record(weight: f64) -> Record {
    Record {
        service: "shop".to_owned(),
        candidate: "v2".to_owned(),
        stable: "v1".to_owned(),
        weight,
        awaited: vec!["envoy-1".to_owned()],
        release: Release::begin(Percent::new(10).unwrap(), Percent::FULL, NOW),
    }
}

fn entry(kind: Kind) -> NewEntry {
    NewEntry {
        at: NOW,
        kind,
        order: Some(("ann".to_owned(), "because".to_owned())),
        detail: json!({ "a": 1 }),
    }
}

#[test]
fn what_is_kept_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record(1.0), &[entry(Kind::Begun)]).unwrap();
    let later = [entry(Kind::Transition), entry(Kind::Alert)];
    let kept = store.save(&record(2.5), &later).unwrap();
    assert_eq!(
        kept.iter().map(|entry| entry.id).collect::<Vec<_>>(),
        [2, 3]
    );
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.releases().unwrap(), [record(2.5)]);
    let query = |service: &str, before| Query {
        service: Some(service.to_owned()),
        before,
        limit: 2,
    };
    let kinds = |query| {
        let entries = store.history(&query).unwrap();
        entries
            .into_iter()
            .map(|entry| entry.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(query("shop", None)), ["alert", "transition"]);
    assert_eq!(kinds(query("shop", Some(2))), ["begun"]);
    assert_eq!(store.last_move("shop").unwrap(), Some(NOW));
    assert_eq!(store.last_move("other").unwrap(), None);
    let order = NewEntry {
        at: NOW.after(Millis::new(9)),
        ..entry(Kind::Order)
    };
    store.save(&record(2.5), &[order]).unwrap();
    assert_eq!(store.last_move("shop").unwrap(), Some(NOW));
    assert!(kinds(query("other", None)).is_empty());
    let newest = store.history(&query("shop", None)).unwrap().remove(0);
    assert_eq!(newest.actor.as_deref(), Some("ann"));
    assert_eq!(newest.detail, json!({ "a": 1 }));
}

#[test]
fn of_each_kind_the_newest_thousand_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let other = Record {
        service: "other".to_owned(),
        ..record(1.0)
    };
    store.save(&other, &[entry(Kind::Refused)]).unwrap();
    store
        .save(&record(1.0), &[entry(Kind::Transition)])
        .unwrap();
    let many = vec![entry(Kind::Refused); 998];
    store.save(&record(1.0), &many).unwrap();
    let ids = |service: &str| {
        let query = Query {
            service: Some(service.to_owned()),
            before: None,
            limit: 9999,
        };
        let entries = store.history(&query).unwrap().into_iter();
        let mut ids: Vec<u64> = entries.map(|entry| entry.id).collect();
        ids.reverse();
        ids
    };
    assert_eq!(ids("shop"), (2..=1000).collect::<Vec<_>>());
    let mixed = [
        Kind::Refused,
        Kind::Alert,
        Kind::Refused,
        Kind::Refused,
        Kind::Refused,
    ];
    store.save(&record(1.0), &mixed.map(entry)).unwrap();
    let kept: Vec<u64> = [2].into_iter().chain(5..=1005).collect();
    assert_eq!(ids("shop"), kept, "two refused ones are too many");
    assert_eq!(ids("other"), [1]);
}

#[test]
fn what_cannot_be_understood_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let text = "not a database".repeat(99);
    fs::write(&path, &text).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.db().pragma_update(None, "user_version", 99).unwrap();
    drop(store);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        matches!(error, StoreError::Later { found: 99, .. }),
        "{error}"
    );
}

#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&record(1.0), &[]).unwrap();
    let pages: i64 = store
        .db()
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .unwrap();
    store
        .db()
        .pragma_update(None, "max_page_count", pages)
        .unwrap();
    let mut large = entry(Kind::Alert);
    large.detail = json!("x".repeat(100_000));
    let error = store.save(&record(2.0), &[large]).unwrap_err();
    assert!(matches!(error, StoreError::Database { .. }), "{error}");
    assert_eq!(store.releases().unwrap(), [record(1.0)]);
}
