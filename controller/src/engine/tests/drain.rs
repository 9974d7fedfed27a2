//! Drains of many changes: in order for each key, whole or aborted with everything kept.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use ombre_policy::release::machine::WriteOwner;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::store::Change;

const LONG: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(200);
const MANY: u64 = 100_000;

/// What the stable version has, and how it answers one key.
#[derive(Default)]
struct Applier {
    newest: BTreeMap<String, u64>,
    backwards: u64,
    poison: Option<(String, StatusCode)>,
}

type Shared = Arc<Mutex<Applier>>;

async fn apply(State(shared): State<Shared>, Json(change): Json<Change>) -> StatusCode {
    let mut applier = shared.lock().unwrap();
    if let Some((key, answer)) = &applier.poison
        && *key == change.pk
    {
        return *answer;
    }
    let before = applier.newest.insert(change.pk, change.ts);
    applier.backwards += u64::from(before.is_some_and(|before| before > change.ts));
    StatusCode::OK
}

/// A frozen release whose log has `entries` keys, each changed twice and posted twice, and the
/// stable version that is to learn of them.
async fn frozen(entries: u64, timeout: &str) -> (Fixture, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Shared::default();
    let app = Router::new().route("/apply", post(apply));
    let app = app.with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let degrade = format!(
        "{{ sync_log: {{ apply_url: \"http://{address}/apply\" }}, drain: {{ timeout: {timeout} }} }}"
    );
    let fixture = Fixture::with(&degrade).await;
    let change = |number: u64, ts: u64| Change {
        src_ver: "v2".to_owned(),
        dst_ver: "v1".to_owned(),
        pk: format!("key-{number:06}"),
        payload: json!({ "total": ts }),
        ts,
    };
    for from in (0..entries).step_by(5000) {
        let numbers = from..(from + 5000).min(entries);
        let older = numbers.clone().map(|number| change(number, number));
        let newer = numbers.map(|number| change(number, entries + number));
        let batch: Vec<Change> = older.chain(newer).collect();
        for _ in 0..2 {
            fixture
                .engine
                .store
                .log("shop", &batch, Moment::default())
                .unwrap();
        }
    }
    (fixture, shared)
}

/// Fails back and waits for the end of it.
async fn fail_back(fixture: &mut Fixture) -> PhaseName {
    fixture.order(ROLLBACK).await.unwrap();
    let freeze = fixture.engine.services["shop"].published.unwrap().get();
    polled(&fixture.engine, "one", freeze);
    let ended = async {
        loop {
            fixture.engine.tick().await;
            if let Ok(Some(message)) = timeout(PAUSE, fixture.engine.inbox.recv()).await {
                fixture.engine.take(message).await;
            }
            fixture.pass(Millis::new(PAUSE.as_millis() as u64));
            let phase = fixture.shown().0;
            if !matches!(phase, PhaseName::Freezing | PhaseName::Draining) {
                return phase;
            }
        }
    };
    timeout(LONG, ended).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_changes_are_drained_or_kept() {
    let (mut fixture, shared) = frozen(MANY, "100s").await;
    let poison = MANY - MANY / 10;
    let refused = (format!("key-{poison:06}"), StatusCode::CONFLICT);
    shared.lock().unwrap().poison = Some(refused);
    let started = Instant::now();
    assert_eq!(fail_back(&mut fixture).await, PhaseName::Aborted);
    println!(
        "{poison} changes and a refused one took {:?}",
        started.elapsed()
    );
    let backlog = fixture.engine.store.backlog("shop").unwrap();
    assert_eq!(
        backlog.waiting,
        MANY - poison,
        "all from the refused one on"
    );
    assert_eq!(fixture.published(), json!({}), "writes are let in again");
    let owner = fixture.engine.services["shop"].record.release.phase.owner();
    assert_eq!(owner, WriteOwner::Candidate);

    shared.lock().unwrap().poison = None;
    assert_eq!(fail_back(&mut fixture).await, PhaseName::FailedBack);
    let backlog = fixture.engine.store.backlog("shop").unwrap();
    assert_eq!(backlog.waiting, 0);
    let applier = shared.lock().unwrap();
    assert_eq!(applier.backwards, 0, "no key's changes overtook each other");
    assert_eq!(applier.newest.len() as u64, MANY);
    let newest = |(number, ts): (u64, &u64)| *ts == MANY + number;
    assert!(
        (0..).zip(applier.newest.values()).all(newest),
        "the newest of each key"
    );
}

#[tokio::test]
async fn a_change_that_never_succeeds_ends_the_drain_in_time() {
    let (mut fixture, shared) = frozen(50, "1s").await;
    let refused = ("key-000030".to_owned(), StatusCode::SERVICE_UNAVAILABLE);
    shared.lock().unwrap().poison = Some(refused);
    assert_eq!(fail_back(&mut fixture).await, PhaseName::Aborted);
    assert_eq!(fixture.published(), json!({}), "writes are let in again");
    let waiting = fixture.engine.store.backlog("shop").unwrap().waiting;
    assert_eq!(waiting, 20, "the first thirty are noted as applied");
}

/// The next policy: the candidate of the last one is the default now, and `v3` is released.
fn next_policy(degrade: &str) -> Compiled {
    let text = crate::sample::text("canary")
        .replace(
            "default: v1",
            "  - { name: v3, cluster: next }\n    default: v2",
        )
        .replace("candidate: v2", "candidate: v3");
    crate::sample::compiled_of(format!("{text}    degrade: {degrade}\n"))
}

#[tokio::test]
async fn a_release_does_not_inherit_the_log_of_the_one_before() {
    let (mut fixture, shared) = frozen(50, "10s").await;
    let log = fixture.engine.services["shop"].settings.sync_log.clone();
    let apply_url = log.unwrap().apply_url;
    let degrade = format!("{{ sync_log: {{ apply_url: \"{apply_url}\" }} }}");
    fixture.engine.publisher.put_policy(next_policy(&degrade));
    fixture.engine.tick().await;
    assert_eq!(fixture.engine.services["shop"].record.candidate, "v3");
    // It counts its changes in another unit, and one of them is of a key that the last release had.
    let change = |pk: &str, ts: u64| Change {
        src_ver: "v3".to_owned(),
        dst_ver: "v2".to_owned(),
        pk: pk.to_owned(),
        payload: serde_json::json!("new"),
        ts,
    };
    let batch = [change("key-000007", 1), change("new", 2)];
    let news = fixture
        .engine
        .store
        .log("shop", &batch, Moment::default())
        .unwrap();
    assert_eq!(news, Some(2));
    assert_eq!(fixture.engine.store.backlog("shop").unwrap().waiting, 2);
    assert_eq!(fail_back(&mut fixture).await, PhaseName::FailedBack);
    let expected = [("key-000007".to_owned(), 1), ("new".to_owned(), 2)];
    assert_eq!(shared.lock().unwrap().newest, expected.into());
}
