mod clock;
mod drain;
mod edits;
mod killed;
mod measured;

use super::*;
use std::path::Path;

use axum::http::HeaderMap;
use ombre_policy::document::{Kind, Revision};
use ombre_policy::duration::Millis;
use ombre_policy::release::machine::{Command, PhaseName};
use ombre_policy::release::share::Percent;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::clock::hand::Hand;
use crate::clock::steady;
use crate::compiled::Compiled;
use crate::nodes::Identity;
use crate::state::StateDir;
use crate::store::Query;

struct Fixture {
    machine: Hand,
    dir: tempfile::TempDir,
    engine: Engine,
    handle: Handle,
}

fn compiled(weight: u8, degrade: &str) -> Compiled {
    let text = crate::sample::text("canary").replace("weight: 10", &format!("weight: {weight}"));
    crate::sample::compiled_of(format!("{text}    degrade: {degrade}\n"))
}

fn start(dir: &Path, weight: u8, degrade: &str, clock: Clock) -> (Engine, Handle) {
    start_with(dir, compiled(weight, degrade), clock)
}

fn start_with(dir: &Path, compiled: Compiled, clock: Clock) -> (Engine, Handle) {
    let (start, handle) = Start::new(dir, parts(dir, compiled, clock)).unwrap();
    (start.engine().unwrap(), handle)
}

/// What a loop in `dir` is made of, with this policy in force and nobody to ask for evidence.
pub(super) fn parts(dir: &Path, compiled: Compiled, clock: Clock) -> Parts {
    let (state, saved) = StateDir::open(dir).unwrap();
    let publisher = Arc::new(Publisher::new(state, saved, Arc::default()));
    publisher.put_policy(compiled);
    let clients = Clients::new(None).unwrap();
    Parts {
        publisher,
        nodes: Arc::default(),
        metrics: Arc::default(),
        collector: Collector::of_envoys(&clients, Vec::new()).unwrap(),
        clients,
        clock,
    }
}

impl Fixture {
    async fn new() -> Self {
        Self::with("{}").await
    }

    async fn with(degrade: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Hand::at(Moment::from_unix_millis(1_767_225_600_000));
        let (mut engine, handle) = start(dir.path(), 10, degrade, machine.start());
        engine.tick().await;
        Self {
            machine,
            dir,
            engine,
            handle,
        }
    }

    async fn restart(self, weight: u8) -> Self {
        self.restart_with(weight, "{}").await
    }

    async fn restart_with(self, weight: u8, degrade: &str) -> Self {
        let Self {
            machine,
            dir,
            engine,
            handle,
        } = self;
        drop((engine, handle));
        let (mut engine, handle) = start(dir.path(), weight, degrade, machine.start());
        engine.tick().await;
        Self {
            machine,
            dir,
            engine,
            handle,
        }
    }

    async fn order(&mut self, command: Command) -> Result<(), OrderError> {
        let order = Order {
            command,
            actor: "ann".to_owned(),
            reason: "because".to_owned(),
        };
        self.engine.ordered("shop", order).await
    }

    /// Time passes.
    fn pass(&self, span: Millis) {
        self.engine.clock.pass(span);
    }

    fn shown(&self) -> (PhaseName, u8) {
        self.engine.show();
        let board = self.handle.board();
        let view = board.services.first().unwrap();
        (view.phase, view.share.get())
    }

    /// What the filters are told.
    fn published(&self) -> Value {
        let released = self.engine.publisher.view().in_force.unwrap().released();
        serde_json::to_value(&released).unwrap()["services"]["shop"].clone()
    }

    fn history(&self) -> Vec<(String, Option<String>)> {
        let query = Query {
            service: None,
            before: None,
            limit: 99,
        };
        let entries = self.engine.store.history(&query).unwrap().into_iter();
        entries
            .rev()
            .map(|entry| (entry.kind, entry.actor))
            .collect()
    }
}

/// A proxy says that it has these decisions.
fn polled(engine: &Engine, name: &str, applied: u64) {
    let (headers, revision) = (said(name, applied), Revision::new(applied));
    engine
        .nodes
        .polled(&headers, Kind::Decisions, revision, steady());
}

/// Writes under way at a freeze have so long.
const SETTLE: Millis = Millis::from_secs(5);

fn said(name: &str, applied: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-ombre-node", name.parse().unwrap());
    headers.insert("x-ombre-applied", format!("1/{applied}").parse().unwrap());
    headers
}

fn who(name: &str) -> Identity {
    Identity::of(&said(name, 0)).unwrap()
}

const ROLLBACK: Command = Command::Rollback { force: false };

#[tokio::test]
async fn orders_are_kept_published_and_refused_with_their_reason() {
    let mut fixture = Fixture::new().await;
    assert_eq!(fixture.shown(), (PhaseName::Ramping, 10));
    assert_eq!(fixture.published(), json!({}), "the policy says it all");
    fixture.order(ROLLBACK).await.unwrap();
    assert_eq!(fixture.shown(), (PhaseName::FailedBack, 0));
    let degraded = json!({ "weight": 0.0, "degraded": { "v2": "v1" } });
    assert_eq!(fixture.published(), degraded);
    let next = fixture.handle.board().services[0].next.clone();
    assert!(next.starts_with("verifies when it is resumed"), "{next}");
    let refused = fixture.order(ROLLBACK).await.unwrap_err();
    assert!(matches!(refused, OrderError::Refused(Refusal::FailedBack)));
    let ann = Some("ann".to_owned());
    let kinds = [
        ("begun", None),
        ("order", ann.clone()),
        ("transition", ann.clone()),
        ("refused", ann),
    ];
    assert_eq!(
        fixture.history(),
        kinds.map(|(kind, actor)| (kind.to_owned(), actor))
    );
    let nobody = Order {
        command: Command::Promote,
        actor: "ann".to_owned(),
        reason: "because".to_owned(),
    };
    let unknown = fixture.engine.ordered("other", nobody).await;
    assert!(matches!(unknown, Err(OrderError::NoRelease(_))));
}

#[tokio::test]
async fn a_restart_goes_on_from_what_was_kept() {
    let mut fixture = Fixture::new().await;
    fixture.order(ROLLBACK).await.unwrap();
    let until = fixture.engine.services["shop"].record.release.phase.clone();
    let published = fixture.published();
    let fixture = fixture.restart(10).await;
    assert_eq!(fixture.engine.services["shop"].record.release.phase, until);
    assert_eq!(fixture.published(), published);
}

#[tokio::test]
async fn a_weight_changed_in_the_policy_is_an_order_of_the_policy() {
    let fixture = Fixture::new().await.restart(30).await;
    assert_eq!(fixture.shown(), (PhaseName::Stable, 30));
    let order = fixture
        .history()
        .into_iter()
        .find(|(kind, _)| kind == "order");
    assert_eq!(order.unwrap().1.as_deref(), Some("policy"));
    assert_eq!(fixture.published(), json!({}));
    let mut fixture = fixture;
    fixture
        .order(Command::SetWeight(Percent::new(40).unwrap()))
        .await
        .unwrap();
    let fixture = fixture.restart(30).await;
    assert_eq!(fixture.shown(), (PhaseName::Stable, 40), "not asked twice");
}

#[tokio::test]
async fn what_cannot_be_kept_does_not_happen() {
    let mut fixture = Fixture::new().await;
    let db = Connection::open(fixture.dir.path().join("ombre.db")).unwrap();
    db.execute_batch("ALTER TABLE releases RENAME TO away")
        .unwrap();
    let error = fixture.order(ROLLBACK).await.unwrap_err();
    assert!(matches!(error, OrderError::Store(_)), "{error}");
    assert_eq!(fixture.shown(), (PhaseName::Ramping, 10));
    assert_eq!(fixture.published(), json!({}));
    assert!(fixture.handle.board().store_error.is_some());
    db.execute_batch("ALTER TABLE away RENAME TO releases")
        .unwrap();
    fixture.order(ROLLBACK).await.unwrap();
    assert_eq!(fixture.shown(), (PhaseName::FailedBack, 0));
    assert!(fixture.handle.board().store_error.is_none());
}

#[tokio::test]
async fn a_freeze_counts_once_every_proxy_has_confirmed_it() {
    let log = "{ sync_log: { apply_url: \"http://127.0.0.1:9/apply\" } }";
    let mut fixture = Fixture::with(log).await;
    fixture.order(ROLLBACK).await.unwrap();
    let frozen = fixture.published()["frozen"].clone();
    assert_eq!(frozen, json!({ "v2": { "retry_after": 30 } }));
    fixture.engine.tick().await;
    assert_eq!(
        fixture.shown().0,
        PhaseName::Freezing,
        "nobody has heard of it"
    );
    let freeze = fixture.engine.services["shop"].published.unwrap().get();
    polled(&fixture.engine, "one", freeze);
    polled(&fixture.engine, "two", freeze - 1);
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Freezing);
    assert_eq!(fixture.handle.board().services[0].unconfirmed, ["two"]);
    polled(&fixture.engine, "two", freeze + 1);
    fixture.engine.tick().await;
    fixture.pass(SETTLE);
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Draining);
    let drained = fixture.engine.inbox.recv().await.unwrap();
    fixture.engine.take(drained).await;
    assert_eq!(fixture.shown(), (PhaseName::FailedBack, 0));
    assert_eq!(fixture.published()["frozen"], Value::Null);
}

#[tokio::test]
async fn a_freeze_waits_for_who_fell_silent_and_not_for_who_left() {
    let log = "{ sync_log: { apply_url: \"http://127.0.0.1:9/apply\" } }";
    for (case, left, seconds, phase) in [
        ("left and may come back", true, 5, PhaseName::Freezing),
        ("left and did not", true, 20, PhaseName::Draining),
        ("silent", false, 20, PhaseName::Freezing),
        ("silent for long", false, 300, PhaseName::Freezing),
    ] {
        let mut fixture = Fixture::with(log).await;
        let ago = steady() - Duration::from_secs(seconds);
        let nodes = Arc::clone(&fixture.engine.nodes);
        polled(&fixture.engine, "two", 0);
        fixture.order(ROLLBACK).await.unwrap();
        let freeze = fixture.engine.services["shop"].published.unwrap().get();
        polled(&fixture.engine, "one", freeze);
        nodes.polled(&said("two", 0), Kind::Policy, Revision::new(0), ago);
        if left {
            nodes.waited(&who("two"), false, ago);
        }
        fixture.engine.tick().await;
        // Whoever confirmed has the time that writes under way have.
        fixture.engine.clock.pass(SETTLE);
        fixture.engine.tick().await;
        assert_eq!(fixture.shown().0, phase, "{case}");
        if phase == PhaseName::Freezing {
            assert_eq!(fixture.handle.board().services[0].unconfirmed, ["two"]);
        }
        nodes.waited(&who("one"), false, ago);
        let confirmed = fixture.engine.unconfirmed(&fixture.engine.services["shop"]);
        let nobody = seconds == 20 && left;
        assert_eq!(confirmed == ["no proxy is there"], nobody, "{case}");
    }
}

#[tokio::test]
async fn a_freeze_waits_for_each_envoy_of_one_name() {
    let log = "{ sync_log: { apply_url: \"http://127.0.0.1:9/apply\" } }";
    for (case, restarted, phase) in [
        ("both are there", false, PhaseName::Freezing),
        ("one is the other, started again", true, PhaseName::Draining),
    ] {
        let mut fixture = Fixture::with(log).await;
        let nodes = Arc::clone(&fixture.engine.nodes);
        let polls = |number: &str, applied| {
            let mut headers = said("edge", applied);
            headers.insert("x-ombre-instance", number.parse().unwrap());
            nodes.polled(&headers, Kind::Decisions, Revision::new(applied), steady());
            Identity::of(&headers).unwrap()
        };
        let first = polls("a", 0);
        fixture.order(ROLLBACK).await.unwrap();
        let freeze = fixture.engine.services["shop"].published.unwrap().get();
        if restarted {
            nodes.waited(&first, false, steady());
        }
        polls("b", freeze);
        fixture.engine.tick().await;
        fixture.engine.clock.pass(SETTLE);
        fixture.engine.tick().await;
        assert_eq!(fixture.shown().0, phase, "{case}");
        if phase == PhaseName::Freezing {
            let board = fixture.handle.board();
            assert_eq!(board.services[0].unconfirmed, ["edge (a)"]);
        }
    }
}

#[tokio::test]
async fn a_freeze_that_a_restart_would_forget_is_not_confirmed() {
    let log = "{ sync_log: { apply_url: \"http://127.0.0.1:9/apply\" } }";
    let mut fixture = Fixture::with(log).await;
    // The state's next file cannot be written where a directory is.
    let next = fixture.dir.path().join("state.json.next");
    std::fs::create_dir(&next).unwrap();
    fixture.order(ROLLBACK).await.unwrap();
    let freeze = fixture.engine.services["shop"].published.unwrap().get();
    polled(&fixture.engine, "one", freeze);
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Freezing);
    let board = fixture.handle.board();
    let unconfirmed = board.services[0].unconfirmed.join(", ");
    assert!(unconfirmed.contains("state.json"), "{unconfirmed}");
    std::fs::remove_dir(&next).unwrap();
    fixture.engine.publisher.save_what_is_unsaved();
    fixture.engine.tick().await;
    fixture.pass(SETTLE);
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Draining);
}
