//! Policies that are edited while a release is under way: what filters are handed out at once, before
//! the loop has heard of the edit, and what the loop makes of it.

use std::collections::BTreeMap;

use super::*;
use crate::clock::wall;
use crate::engine::drain::Applied;
use crate::sample::{USERS, compiled_of, served};

/// Nobody listens there, and no write takes any time.
const LOG: &str =
    "degrade: { sync_log: { apply_url: \"http://127.0.0.1:9/apply\" }, drain: { settle: 0s } }";

/// A policy of these services, each with versions v1 to v3 served by clusters `<service>-v1` on.
fn policy(services: &[(&str, &str)]) -> Compiled {
    let mut text = "apiVersion: ombre/v1\nservices:\n".to_owned();
    for (name, rest) in services {
        text += &format!(
            "  - name: {name}
    routes: [{{ name: {name}, path: /{name} }}]
    versions: [{{ name: v1, cluster: {name}-v1 }}, {{ name: v2, cluster: {name}-v2 }}, {{ name: v3, cluster: {name}-v3 }}]
    unit: [{{ header: x-user-id }}]
    {}
",
            rest.replace("; ", "\n    ")
        );
    }
    compiled_of(text)
}

fn shop(rest: &str) -> Compiled {
    policy(&[("shop", rest)])
}

/// A loop in `dir` that goes on from what was kept there, with this policy in force.
async fn begin(dir: tempfile::TempDir, compiled: Compiled) -> Fixture {
    let (mut engine, handle) = start_with(dir.path(), compiled, Clock::start());
    engine.tick().await;
    Fixture {
        machine: Hand::at(wall()),
        dir,
        engine,
        handle,
    }
}

async fn fixture(compiled: Compiled) -> Fixture {
    begin(tempfile::tempdir().unwrap(), compiled).await
}

impl Fixture {
    fn edit(&self, compiled: Compiled) {
        self.engine.publisher.put_policy(compiled);
    }

    async fn restarted(self, compiled: Compiled) -> Self {
        let Self {
            dir,
            engine,
            handle,
            ..
        } = self;
        drop((engine, handle));
        begin(dir, compiled).await
    }

    async fn order_of(&mut self, service: &str, command: Command) {
        let order = Order {
            command,
            actor: "ann".to_owned(),
            reason: "because".to_owned(),
        };
        self.engine.ordered(service, order).await.unwrap();
    }

    /// How many percent of the users a version of `shop` serves.
    fn percent(&self, version: &str) -> usize {
        self.percent_of("shop", version)
    }

    fn percent_of(&self, service: &str, version: &str) -> usize {
        let served: BTreeMap<String, usize> =
            served(&self.engine.publisher, &format!("/{service}"));
        let served = served.get(&format!("{service}-{version}"));
        (100 * served.copied().unwrap_or_default()).div_ceil(USERS)
    }

    /// Every proxy refuses writes by now.
    fn all_confirm(&self) {
        let freeze = self.engine.services["shop"].published.unwrap().get();
        polled(&self.engine, "one", freeze);
    }

    /// Waits for the end of a drain and takes it.
    async fn drained(&mut self) {
        let drained = self.engine.inbox.recv().await.unwrap();
        self.engine.take(drained).await;
    }

    fn refused(&self) -> usize {
        let refused = ("refused".to_owned(), Some("policy".to_owned()));
        self.history()
            .into_iter()
            .filter(|entry| *entry == refused)
            .count()
    }
}

fn set(weight: u8) -> Command {
    Command::SetWeight(Percent::new(weight).unwrap())
}

#[tokio::test]
async fn a_new_candidate_does_not_get_the_share_of_the_one_before() {
    for writable in [true, false] {
        let v2 = "default: v1; rollout: { candidate: v2, weight: 1 }; degrade: {}";
        let mut fixture = fixture(shop(v2)).await;
        fixture.order(set(100)).await.unwrap();
        assert_eq!(fixture.percent("v2"), 100);
        if !writable {
            let db = Connection::open(fixture.dir.path().join("ombre.db")).unwrap();
            db.execute_batch("ALTER TABLE releases RENAME TO away")
                .unwrap();
        }
        let v3 = "default: v2; rollout: { candidate: v3, weight: 1 }; degrade: {}";
        fixture.edit(shop(v3));
        assert!(fixture.percent("v3") < 5, "{}", fixture.percent("v3"));
        fixture.engine.tick().await;
        assert!(fixture.percent("v3") < 5, "{}", fixture.percent("v3"));
        assert!(fixture.percent("v2") > 95, "{}", fixture.percent("v2"));
    }
}

#[tokio::test]
async fn a_new_candidate_gets_its_own_share_while_the_one_before_fails_back() {
    let of = |candidate: &str, weight| {
        shop(&format!(
            "default: v1; rollout: {{ candidate: {candidate}, weight: {weight} }}; {LOG}"
        ))
    };
    let mut fixture = fixture(of("v2", 100)).await;
    fixture.order(ROLLBACK).await.unwrap();
    fixture.edit(of("v3", 1));
    for phase in [PhaseName::Freezing, PhaseName::Draining] {
        assert!(fixture.percent("v3") < 5 && fixture.percent("v1") > 95);
        fixture.engine.tick().await;
        assert_eq!(fixture.shown().0, phase, "is brought to its end");
        fixture.all_confirm();
    }
    fixture.drained().await;
    fixture.engine.tick().await;
    assert_eq!(fixture.shown(), (PhaseName::Ramping, 1));
    assert!(fixture.percent("v3") < 5 && fixture.percent("v1") > 95);
}

#[tokio::test]
async fn an_edit_taken_back_before_the_next_tick_changes_nothing() {
    let v2 = "default: v1; rollout: { candidate: v2, weight: 50 }; degrade: {}";
    for between in [
        "default: v1; rollout: { candidate: v3, weight: 1 }; degrade: {}",
        "default: v1; rollout: { candidate: v2, weight: 50 }; degrade: { fallback: v3 }",
        "default: v1",
    ] {
        let mut fixture = fixture(shop(v2)).await;
        fixture.order(ROLLBACK).await.unwrap();
        fixture.edit(shop(between));
        fixture.edit(shop(v2));
        assert_eq!(fixture.percent("v2"), 0, "{between}");
        fixture.engine.tick().await;
        assert_eq!(fixture.shown(), (PhaseName::FailedBack, 0), "{between}");
    }
}

#[tokio::test]
async fn another_fallback_is_not_told_what_was_decided_for_the_one_before() {
    let of = |fallback| {
        shop(&format!(
            "default: v1; rollout: {{ candidate: v2, weight: 100 }}; degrade: {{ fallback: {fallback} }}"
        ))
    };
    let mut fixture = fixture(of("v1")).await;
    fixture.order(ROLLBACK).await.unwrap();
    assert_eq!(fixture.percent("v1"), 100);
    // Filters cannot tell these policies apart, so only decisions can tell them.
    let before = fixture.engine.publisher.view().in_force.unwrap();
    fixture.edit(of("v3"));
    let after = fixture.engine.publisher.view().in_force.unwrap();
    assert_eq!(after.revision, before.revision);
    assert!(after.decisions_revision > before.decisions_revision);
    assert_eq!(fixture.percent("v2"), 100);
}

#[tokio::test]
async fn less_weight_that_is_refused_is_never_run() {
    let of = |weight| {
        shop(&format!(
            "default: v1; rollout: {{ candidate: v2, weight: {weight} }}; {LOG}"
        ))
    };
    let mut fixture = fixture(of(50)).await;
    let before = fixture.percent("v2");
    assert!(before > 40, "{before}");
    fixture.edit(of(10));
    assert_eq!(fixture.percent("v2"), before, "nobody has decided yet");
    fixture.engine.tick().await;
    assert_eq!(fixture.refused(), 1);
    assert_eq!(fixture.percent("v2"), before);
    let fixture = fixture.restarted(of(10)).await;
    assert_eq!(fixture.percent("v2"), before);
    assert_eq!(fixture.refused(), 1, "not asked twice");
}

#[tokio::test]
async fn a_restart_hands_out_the_decisions_of_all_releases_or_none() {
    let rest = "default: v1; rollout: { candidate: v2, weight: 10 }; degrade: {}";
    let both = || policy(&[("cart", rest), ("shop", rest)]);
    let mut fixture = fixture(both()).await;
    fixture.order_of("shop", ROLLBACK).await;
    let revision = |fixture: &Fixture| {
        let in_force = fixture.engine.publisher.view().in_force;
        in_force.unwrap().decisions_revision
    };
    let before = revision(&fixture);
    let fixture = fixture.restarted(both()).await;
    assert_eq!(revision(&fixture), before, "nothing else was handed out");
    assert_eq!(fixture.percent("v2"), 0);
    assert!(fixture.percent_of("cart", "v2") > 0);
}

#[tokio::test]
async fn a_weight_edited_during_a_fail_back_does_not_undo_it() {
    let of = |weight| {
        shop(&format!(
            "default: v1; rollout: {{ candidate: v2, weight: {weight} }}; {LOG}"
        ))
    };
    for seen_too_late in [false, true] {
        let mut fixture = fixture(of(50)).await;
        fixture.order(ROLLBACK).await.unwrap();
        if !seen_too_late {
            fixture.edit(of(30));
            fixture.engine.tick().await;
            assert_eq!(fixture.refused(), 1);
        }
        fixture.all_confirm();
        fixture.engine.tick().await;
        assert_eq!(fixture.shown().0, PhaseName::Draining);
        if seen_too_late {
            fixture.edit(of(30));
        }
        fixture.drained().await;
        fixture.engine.tick().await;
        assert_eq!(fixture.shown(), (PhaseName::FailedBack, 0));
        assert_eq!(fixture.refused(), 1);
        assert_eq!(fixture.percent("v2"), 0);
        let mut fixture = fixture.restarted(of(30)).await;
        assert_eq!(fixture.shown(), (PhaseName::FailedBack, 0));
        fixture.edit(of(20));
        fixture.engine.tick().await;
        assert_eq!(fixture.shown(), (PhaseName::Stable, 20), "a later order");
    }
}

#[tokio::test]
async fn without_the_degrade_block_nothing_moves_by_itself() {
    let of = |weight, degrade: &str| {
        shop(&format!(
            "default: v1; rollout: {{ candidate: v2, weight: {weight} }}{degrade}"
        ))
    };
    let judged = format!("; {LOG}");
    for (command, share) in [(Command::Rollback { force: true }, 0), (set(100), 100)] {
        let mut fixture = fixture(of(50, &judged)).await;
        fixture.order(command).await.unwrap();
        fixture.edit(of(50, ""));
        assert_eq!(fixture.percent("v2"), share);
        fixture.engine.tick().await;
        assert!(fixture.engine.services.is_empty());
        assert_eq!(fixture.percent("v2"), share);
        let mut fixture = fixture.restarted(of(50, "")).await;
        assert_eq!(fixture.percent("v2"), share);
        // Whoever edits the weight decides; a later edit back is no return to the release.
        fixture.edit(of(20, ""));
        assert!((10..30).contains(&fixture.percent("v2")));
        fixture.edit(of(50, ""));
        fixture.engine.tick().await;
        assert!((40..60).contains(&fixture.percent("v2")));
    }
}

#[tokio::test]
async fn a_block_that_comes_back_does_not_bring_back_what_people_have_edited() {
    let of = |weight, degrade: &str| {
        shop(&format!(
            "default: v1; rollout: {{ candidate: v2, weight: {weight} }}{degrade}"
        ))
    };
    let judged = format!("; {LOG}");
    for (weight, phase, share) in [
        (20, PhaseName::Ramping, 10..30),
        (50, PhaseName::Stable, 100..101),
    ] {
        let mut fixture = fixture(of(50, &judged)).await;
        fixture.order(set(100)).await.unwrap();
        fixture.edit(of(weight, ""));
        fixture.engine.tick().await;
        let mut fixture = fixture.restarted(of(weight, "")).await;
        fixture.edit(of(weight, &judged));
        assert!(share.contains(&fixture.percent("v2")), "{weight}");
        fixture.engine.tick().await;
        assert_eq!(fixture.shown().0, phase, "{weight}");
        assert!(share.contains(&fixture.percent("v2")), "{weight}");
    }
}

#[tokio::test]
async fn a_fail_back_is_ended_although_its_degrade_block_is_gone() {
    let of = |degrade: &str| {
        shop(&format!(
            "default: v1; rollout: {{ candidate: v2, weight: 100 }}{degrade}"
        ))
    };
    let judged = format!("; {LOG}");
    let mut fixture = fixture(of(&judged)).await;
    fixture.order(ROLLBACK).await.unwrap();
    fixture.edit(of(""));
    fixture.engine.tick().await;
    let refused = |fixture: &Fixture| {
        let served = served(&fixture.engine.publisher, "/shop");
        served.get("nobody").copied().unwrap_or_default()
    };
    assert_eq!(refused(&fixture), USERS, "writes stay refused until then");
    fixture.all_confirm();
    fixture.engine.tick().await;
    fixture.drained().await;
    fixture.engine.tick().await;
    assert!(fixture.engine.services.is_empty());
    assert_eq!(fixture.percent("v1"), 100);

    let mut given_up = self::fixture(of(&judged)).await;
    given_up.order(ROLLBACK).await.unwrap();
    let given_up = given_up.restarted(of("")).await;
    assert_eq!(refused(&given_up), 0, "nobody would let them in again");
    assert_eq!(given_up.percent("v2"), 100);
}

#[tokio::test]
async fn an_abort_that_cannot_be_kept_is_told_at_once_and_written_later() {
    let policy = format!("default: v1; rollout: {{ candidate: v2, weight: 100 }}; {LOG}");
    let mut fixture = fixture(shop(&policy)).await;
    fixture.order(ROLLBACK).await.unwrap();
    fixture.all_confirm();
    fixture.engine.tick().await;
    assert_eq!(fixture.shown().0, PhaseName::Draining);
    let db = Connection::open(fixture.dir.path().join("ombre.db")).unwrap();
    db.execute_batch("ALTER TABLE releases RENAME TO away")
        .unwrap();
    let mut news = fixture.handle.news();
    let mut told = || {
        let mut told = Vec::new();
        while let Ok(news) = news.try_recv() {
            if ["alert", "transition"].contains(&news.kind.as_str()) {
                told.push(news.kind.clone());
            }
        }
        told
    };
    let turn = fixture.engine.services["shop"].record.release.turn;
    let failed = Applied {
        service: "shop".to_owned(),
        turn,
        result: Err("refused".to_owned()),
    };
    fixture.engine.take(Message::Drain(failed)).await;
    assert_eq!(fixture.shown(), (PhaseName::Aborted, 100));
    assert_eq!(told(), ["alert", "transition"]);
    fixture.engine.tick().await;
    let pause = fixture.order(Command::Pause).await.unwrap_err();
    assert!(matches!(pause, OrderError::Store(_)), "{pause}");
    assert!(told().is_empty());
    let before = fixture.history().len();
    db.execute_batch("ALTER TABLE away RENAME TO releases")
        .unwrap();
    fixture.engine.tick().await;
    let history = fixture.history();
    let kinds: Vec<&str> = history[before..].iter().map(|it| it.0.as_str()).collect();
    assert_eq!(kinds, ["alert", "transition"]);
    assert!(told().is_empty(), "not told twice");
    fixture.engine.tick().await;
    assert_eq!(fixture.history().len(), before + 2);
}
