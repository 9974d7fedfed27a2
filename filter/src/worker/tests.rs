use std::time::Duration;

use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::{join, seal};
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;

use super::*;
use crate::host::SharedMemory;
use crate::host::fake::Fake;

/// The plan of a policy.
pub(crate) fn plan(policy: &str) -> Plan {
    let loaded = load_text(policy).unwrap_or_else(|problems| panic!("{problems}"));
    Plan::compile(&loaded.policy, &loaded.policy.slots(&Default::default()))
}

const POLICY: &str = "
apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: all, path: '/{*rest}' }]
    versions: [{ name: v1, cluster: shop_v1 }]
    default: v1
";

fn policy(revision: u64) -> Vec<u8> {
    let revision = Revision::new(revision);
    seal(
        Kind::Policy,
        revision,
        revision,
        &plan(POLICY).encode(&DecisionTable::default()),
    )
}

fn decisions(revision: u64, made_for: u64) -> Vec<u8> {
    seal(
        Kind::Decisions,
        Revision::new(revision),
        Revision::new(made_for),
        &DecisionTable::default().encode(),
    )
}

fn put(fake: &Fake, kind: Kind, revision: u64, sealed: &[u8]) {
    shelf::put(fake, kind, Revision::new(revision), sealed);
}

fn started(fake: &Fake) -> Worker<Fake> {
    let mut worker = Worker::new(fake.clone(), Switches::default());
    worker.on_configure();
    worker
}

fn has(worker: &Worker<Fake>) -> (u64, u64) {
    (
        worker.in_force.policy_revision().get(),
        worker.in_force.decisions_revision().get(),
    )
}

#[test]
fn what_is_there_already_is_taken_while_envoy_configures() {
    let fake = Fake::default();
    put(&fake, Kind::Policy, 5, &policy(5));
    put(&fake, Kind::Decisions, 6, &decisions(6, 5));
    let worker = started(&fake);
    assert_eq!(has(&worker), (5, 6));
    assert!(
        fake.queues.borrow().is_empty(),
        "the throw-away VM must not become a queue's consumer"
    );
}

#[test]
fn a_wake_up_brings_what_is_newer() {
    let fake = Fake::default();
    let mut worker = started(&fake);
    worker.on_tick(1, false);
    assert_eq!(worker.host.period.get(), Some(Duration::from_secs(1)));
    put(&fake, Kind::Policy, 5, &policy(5));
    worker.on_wake(1);
    assert_eq!(has(&worker), (5, 5));
    put(&fake, Kind::Decisions, 7, &decisions(7, 5));
    worker.on_wake(1);
    assert_eq!(has(&worker), (5, 7));
    let entry = worker.signed.expect("signed on").entry;
    let report = registry::report(&fake, entry.id);
    assert_eq!(
        (report.policy.get(), report.decisions.get()),
        (5, 7),
        "published at once"
    );
    assert_eq!(fake.counter("ombre_policies_taken_total"), 1);
}

#[test]
fn nothing_new_reads_a_few_bytes_and_no_document() {
    let fake = Fake::default();
    put(&fake, Kind::Policy, 5, &policy(5));
    let mut worker = started(&fake);
    worker.on_tick(1, false);
    fake.reads.borrow_mut().clear();
    worker.on_tick(1, false);
    assert_eq!(*fake.reads.borrow(), ["ombre/workers", "ombre/latest"]);
}

#[test]
fn a_damaged_document_is_tried_once_and_the_one_before_stays() {
    let fake = Fake::default();
    put(&fake, Kind::Policy, 5, &policy(5));
    let mut worker = started(&fake);
    let mut damaged = policy(6);
    damaged.pop();
    put(&fake, Kind::Policy, 6, &damaged);
    for _ in 0..3 {
        worker.on_tick(1, false);
    }
    assert_eq!(has(&worker).0, 5);
    assert_eq!(fake.counter("ombre_documents_rejected_total"), 1);
    put(&fake, Kind::Policy, 7, &policy(7));
    worker.on_tick(1, false);
    assert_eq!(has(&worker).0, 7);
}

#[test]
fn decisions_for_the_policy_to_come_are_taken_with_it() {
    let fake = Fake::default();
    put(&fake, Kind::Policy, 5, &policy(5));
    let mut worker = started(&fake);
    put(&fake, Kind::Decisions, 9, &decisions(9, 8));
    worker.on_tick(1, false);
    assert_eq!(has(&worker), (5, 5));
    put(&fake, Kind::Policy, 8, &policy(8));
    worker.on_tick(1, false);
    assert_eq!(has(&worker), (8, 9));
    assert_eq!(fake.counter("ombre_documents_rejected_total"), 0);
}

#[test]
fn one_that_was_struck_off_signs_on_again() {
    let fake = Fake::default();
    let mut worker = started(&fake);
    worker.on_tick(1, false);
    let first = worker.signed.expect("signed on").entry;
    registry::strike_off(&fake, first.id);
    worker.on_tick(1, false);
    let second = worker.signed.expect("signed on again").entry;
    assert_ne!(first.queue, second.queue);
    assert_eq!(registry::entries(&fake), [second]);
}

#[test]
fn another_root_takes_over_from_one_that_ended() {
    let fake = Fake::default();
    let mut worker = started(&fake);
    let mut queue_after = |root, now| {
        fake.now.set(now);
        worker.on_tick(root, false);
        let entry = worker.signed.expect("signed on").entry;
        assert_eq!(
            registry::entries(&fake),
            [entry],
            "one entry for one worker"
        );
        entry.queue
    };
    let first = queue_after(1, 1000);
    for (name, root, now, same) in [
        ("another root of another listener", 2, 1100, true),
        ("both go on", 1, 4000, true),
        ("the first was silent for a while", 2, 7000, true),
        ("the first has ended", 2, 8000, false),
    ] {
        assert_eq!(queue_after(root, now) == first, same, "{name}");
    }
}

#[test]
fn beside_the_poller_a_worker_serves_nobody() {
    let fake = Fake::default();
    let mut worker = started(&fake);
    worker.on_tick(1, true);
    assert_eq!(worker.host.period.get(), Some(Duration::ZERO));
    assert!(registry::entries(&fake).is_empty());
}

#[test]
fn over_xds_both_documents_are_in_force_at_once_and_nothing_else_is_asked_of_envoy() {
    let fake = Fake::default();
    let joined = join(&policy(5), &decisions(7, 5));
    let mut worker = Worker::new(fake.clone(), Switches::default());
    worker.on_documents(&joined).expect("taken");
    assert_eq!(has(&worker), (5, 7));
    assert_eq!(worker.host.period.get(), None, "no tick");
    assert!(fake.queues.borrow().is_empty(), "no queue");
    assert!(
        fake.reads.borrow().is_empty() && fake.memory.borrow().is_empty(),
        "no shared memory"
    );
    for counter in [
        "ombre_policies_taken_total",
        "ombre_decisions_taken_total",
        "ombre_policy_take_microseconds",
        "ombre_decisions_take_microseconds",
    ] {
        assert_eq!(fake.counter(counter), 1, "{counter}");
    }
}

#[test]
fn over_xds_documents_are_taken_together_or_not_at_all() {
    let other_body = seal(Kind::Policy, Revision::new(5), Revision::new(5), b"no plan");
    for (name, joined) in [
        ("empty", Vec::new()),
        ("one", policy(5)),
        (
            "decisions for another policy",
            join(&policy(5), &decisions(7, 4)),
        ),
        ("no plan", join(&other_body, &decisions(7, 5))),
        (
            "no decisions",
            join(
                &policy(5),
                &seal(Kind::Decisions, Revision::new(7), Revision::new(5), b"\xff"),
            ),
        ),
    ] {
        let fake = Fake::default();
        let mut worker = Worker::new(fake.clone(), Switches::default());
        let before = join(&policy(3), &decisions(4, 3));
        worker.on_documents(&before).expect("taken");
        assert!(worker.on_documents(&joined).is_err(), "{name}");
        assert_eq!(has(&worker), (3, 4), "{name}: what was in force stays");
        assert_eq!(fake.counter("ombre_documents_rejected_total"), 1, "{name}");
    }
}

#[test]
fn a_configuration_with_documents_ends_the_polling_and_may_go_back() {
    let fake = Fake::default();
    put(&fake, Kind::Policy, 8, &policy(8));
    let mut worker = started(&fake);
    worker.on_tick(1, false);
    let older = join(&policy(5), &decisions(7, 5));
    worker.on_documents(&older).expect("taken");
    assert_eq!(has(&worker), (5, 7));
    assert!(registry::entries(&fake).is_empty());
    worker.on_tick(1, false);
    assert_eq!(worker.host.period.get(), Some(Duration::ZERO));
    assert_eq!(has(&worker), (5, 7), "what the poller has is not taken");
    worker.on_configure();
    assert_eq!(has(&worker), (8, 8));
}

#[test]
fn memory_full_of_noise_is_survived() {
    let fake = Fake::default();
    for key in [
        "ombre/latest",
        "ombre/workers",
        "ombre/policy",
        "ombre/decisions",
    ] {
        fake.write(key, &[0xff; 77], None);
    }
    let mut worker = started(&fake);
    worker.on_tick(1, false);
    worker.on_tick(1, false);
    assert_eq!(has(&worker), (0, 0));
}
