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
const SHORT: Duration = Duration::from_millis(50);
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
async fn frozen(entries: u64, drain: &str) -> (Fixture, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Shared::default();
    let app = Router::new().route("/apply", post(apply));
    let app = app.with_state(Arc::clone(&shared));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let degrade =
        format!("{{ sync_log: {{ apply_url: \"http://{address}/apply\" }}, drain: {drain} }}");
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
    let (mut fixture, shared) = frozen(MANY, "{ timeout: 100s, settle: 0s }").await;
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
    let (mut fixture, shared) = frozen(50, "{ timeout: 1s }").await;
    let refused = ("key-000030".to_owned(), StatusCode::SERVICE_UNAVAILABLE);
    shared.lock().unwrap().poison = Some(refused);
    assert_eq!(fail_back(&mut fixture).await, PhaseName::Aborted);
    assert_eq!(fixture.published(), json!({}), "writes are let in again");
    let waiting = fixture.engine.store.backlog("shop").unwrap().waiting;
    assert_eq!(waiting, 20, "the first thirty are noted as applied");
}

fn logged(fixture: &Fixture, pk: &str, ts: u64) {
    let change = Change {
        src_ver: "v2".to_owned(),
        dst_ver: "v1".to_owned(),
        pk: pk.to_owned(),
        payload: serde_json::json!({ "total": ts }),
        ts,
    };
    let store = &fixture.engine.store;
    let news = store.log("shop", &[change], Moment::default());
    assert_eq!(news.unwrap(), Some(1), "{pk}");
}

/// Ticks until something is so.
async fn until(fixture: &mut Fixture, holds: impl Fn(&Fixture) -> bool) {
    let ticking = async {
        while !holds(fixture) {
            if let Ok(Some(message)) = timeout(SHORT, fixture.engine.inbox.recv()).await {
                fixture.engine.take(message).await;
            }
            fixture.engine.tick().await;
        }
    };
    timeout(LONG, ticking).await.unwrap();
}

fn waiting(fixture: &Fixture) -> u64 {
    fixture.engine.store.backlog("shop").unwrap().waiting
}

#[tokio::test]
async fn writes_under_way_at_the_freeze_are_drained_with_the_others() {
    let (mut fixture, shared) = frozen(9, "{}").await;
    fixture.order(ROLLBACK).await.unwrap();
    let freeze = fixture.engine.services["shop"].published.unwrap().get();
    polled(&fixture.engine, "one", freeze);
    fixture.engine.tick().await;
    fixture.pass(Millis::new(4900));
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Freezing, "of 5 s");
    // Another proxy is heard of: what it forwarded until now has its time too.
    polled(&fixture.engine, "two", freeze - 1);
    fixture.pass(Millis::new(200));
    fixture.engine.tick().await;
    polled(&fixture.engine, "two", freeze);
    fixture.engine.tick().await;
    fixture.pass(Millis::new(4900));
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Freezing);
    let next = fixture.handle.board().services[0].next.clone();
    assert!(next.starts_with("drains in 1s, when writes"), "{next}");
    logged(&fixture, "key-000003", 999);
    fixture.pass(Millis::new(100));
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Draining);
    until(&mut fixture, |it| it.shown().0 == PhaseName::FailedBack).await;
    assert_eq!(shared.lock().unwrap().newest["key-000003"], 999);
    assert_eq!(waiting(&fixture), 0);
}

#[tokio::test]
async fn what_is_logged_after_the_switch_is_brought_over_until_the_candidate_writes_again() {
    let (mut fixture, shared) = frozen(9, "{ settle: 0s }").await;
    assert_eq!(fail_back(&mut fixture).await, PhaseName::FailedBack);
    for (pk, ts) in [("key-000003", 998), ("new", 1)] {
        logged(&fixture, pk, ts);
        until(&mut fixture, |it| waiting(it) == 0).await;
        assert_eq!(shared.lock().unwrap().newest[pk], ts);
    }
    // What cannot be applied is tried again when something new has come.
    let refused = ("poison".to_owned(), StatusCode::CONFLICT);
    shared.lock().unwrap().poison = Some(refused);
    logged(&fixture, "poison", 1);
    let ended = |it: &Fixture| {
        let drain = it.engine.services["shop"].drain.as_ref();
        drain.is_some_and(|drain| matches!(drain.ended, Some(Event::DrainFailed { .. })))
    };
    until(&mut fixture, ended).await;
    shared.lock().unwrap().poison = None;
    fixture.engine.tick().await;
    assert!(ended(&fixture));
    assert_eq!(waiting(&fixture), 1);
    logged(&fixture, "newer", 2);
    until(&mut fixture, |it| waiting(it) == 0).await;

    fixture.order(Command::Resume).await.unwrap();
    fixture.order(Command::Promote).await.unwrap();
    assert_eq!(fixture.shown().0, PhaseName::Verifying);
    fixture.order(Command::Promote).await.unwrap();
    assert_eq!(fixture.shown().0, PhaseName::Ramping);
    logged(&fixture, "its own", 3);
    for _ in 0..3 {
        fixture.engine.tick().await;
    }
    assert!(fixture.engine.services["shop"].drain.is_none());
    assert_eq!(waiting(&fixture), 1);
    assert_eq!(fail_back(&mut fixture).await, PhaseName::FailedBack);
    assert_eq!(shared.lock().unwrap().newest["its own"], 3);
    assert_eq!(shared.lock().unwrap().backwards, 0);
}

#[tokio::test]
async fn what_a_forced_rollback_gives_up_is_never_applied() {
    let (mut fixture, shared) = frozen(9, "{ settle: 0s }").await;
    let force = Command::Rollback { force: true };
    fixture.order(force).await.unwrap();
    assert_eq!(fixture.shown().0, PhaseName::FailedBack);
    assert_eq!(waiting(&fixture), 0);
    logged(&fixture, "late", 1);
    until(&mut fixture, |it| waiting(it) == 0).await;
    assert_eq!(
        shared.lock().unwrap().newest,
        [("late".to_owned(), 1)].into()
    );
    // Where the stable version owns writes already there is nothing to give up.
    fixture.order(Command::Resume).await.unwrap();
    fixture.order(Command::Promote).await.unwrap();
    assert_eq!(fixture.shown().0, PhaseName::Verifying);
    logged(&fixture, "later", 1);
    fixture.order(force).await.unwrap();
    assert_eq!(fixture.shown().0, PhaseName::FailedBack);
    assert_eq!(waiting(&fixture), 1);
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_ends_no_drain() {
    let (mut fixture, shared) = frozen(9, "{}").await;
    fixture.order(ROLLBACK).await.unwrap();
    let freeze = fixture.engine.services["shop"].published.unwrap().get();
    polled(&fixture.engine, "one", freeze);
    fixture.engine.tick().await;
    fixture.pass(Millis::new(5000));
    let db = Connection::open(fixture.dir.path().join("ombre.db")).unwrap();
    db.execute_batch("ALTER TABLE sync_log RENAME TO away")
        .unwrap();
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Draining);
    assert!(timeout(SHORT, fixture.engine.inbox.recv()).await.is_err());
    // And now only its end cannot be kept.
    db.execute_batch("ALTER TABLE releases RENAME TO gone; ALTER TABLE away RENAME TO sync_log")
        .unwrap();
    let ended = timeout(LONG, fixture.engine.inbox.recv()).await.unwrap();
    fixture.engine.take(ended.unwrap()).await;
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Draining);
    db.execute_batch("ALTER TABLE gone RENAME TO releases")
        .unwrap();
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::FailedBack);
    assert_eq!(shared.lock().unwrap().newest.len(), 9);
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
    let (mut fixture, shared) = frozen(50, "{}").await;
    let log = fixture.engine.services["shop"].settings.sync_log.clone();
    let apply_url = log.unwrap().apply_url;
    let degrade =
        format!("{{ sync_log: {{ apply_url: \"{apply_url}\" }}, drain: {{ settle: 0s }} }}");
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
