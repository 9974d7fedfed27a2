use std::time::Duration;

use ombre_policy::document::seal;

use super::*;
use crate::host::SharedMemory;
use crate::host::fake::{Fake, Sent};

fn poller(fake: &Fake) -> Poller<Fake> {
    let config = PollerConfig {
        cluster: "controller".to_owned(),
    };
    let identity = Identity {
        node: "node\n1".to_owned(),
        switches: "none".to_owned(),
    };
    fake.now.set(1_000_000);
    let mut poller = Poller::new(fake.clone(), config, identity);
    poller.on_tick();
    poller
}

fn policy(revision: u64) -> Vec<u8> {
    seal(
        Kind::Policy,
        Revision::new(revision),
        Revision::new(revision),
        b"plan",
    )
}

fn decisions(revision: u64) -> Vec<u8> {
    seal(
        Kind::Decisions,
        Revision::new(revision),
        Revision::new(1),
        b"",
    )
}

fn sent(fake: &Fake) -> Vec<Sent> {
    std::mem::take(&mut *fake.sent.borrow_mut())
}

fn paths(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.path.as_str()).collect()
}

fn header<'a>(sent: &'a Sent, name: &str) -> &'a str {
    sent.headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
        .unwrap_or("missing")
}

#[test]
fn it_begins_at_its_first_tick_with_what_lies_in_shared_memory() {
    let fake = Fake::default();
    shelf::put(&fake, Kind::Policy, Revision::new(5), b"");
    shelf::put(&fake, Kind::Decisions, Revision::new(7), b"");
    let config = PollerConfig {
        cluster: "controller".to_owned(),
    };
    let identity = Identity {
        node: "n".to_owned(),
        switches: String::new(),
    };
    let mut poller = Poller::new(fake.clone(), config, identity);
    assert!(
        fake.sent.borrow().is_empty(),
        "the throw-away VM must not send"
    );
    poller.on_tick();
    let sent = sent(&fake);
    assert_eq!(
        paths(&sent),
        [
            "/v1/delivery/policy?after=5",
            "/v1/delivery/decisions?after=7"
        ]
    );
}

#[test]
fn a_document_is_laid_out_announced_and_the_next_one_asked_for() {
    let fake = Fake::default();
    let mut poller = poller(&fake);
    let entry = registry::sign_on(&fake).expect("on");
    poller.on_response(1, b"200", || policy(8));
    assert_eq!(Latest::read(&fake).policy, Revision::new(8));
    assert_eq!(shelf::document(&fake, Kind::Policy), Some(policy(8)));
    assert_eq!(*fake.woken.borrow(), [entry.queue]);
    assert_eq!(
        sent(&fake).last().map(|sent| sent.path.clone()).as_deref(),
        Some("/v1/delivery/policy?after=8")
    );
}

#[test]
fn what_is_no_newer_document_is_not_taken_and_asked_for_later() {
    let mut damaged = policy(8);
    damaged.pop();
    for (name, status, body) in [
        ("garbage", "200", b"garbage".to_vec()),
        ("empty", "200", vec![]),
        ("damaged", "200", damaged),
        ("other kind", "200", decisions(8)),
        ("not newer", "200", policy(0)),
        ("error", "500", policy(8)),
        ("reset", "503", vec![]),
        ("no status", "", vec![]),
    ] {
        let fake = Fake::default();
        let mut poller = poller(&fake);
        sent(&fake);
        poller.on_response(1, status.as_bytes(), || body);
        assert_eq!(Latest::read(&fake), Latest::default(), "{name}");
        assert_eq!(fake.counter("ombre_polls_failed_total"), 1, "{name}");
        assert!(sent(&fake).is_empty(), "{name}: not at once");
        let period = poller.host.period.get().expect("a timer");
        assert!(period < Duration::from_secs(1), "{name}");
        fake.pass(60);
        poller.on_tick();
        assert_eq!(
            paths(&sent(&fake)),
            ["/v1/delivery/policy?after=0"],
            "{name}"
        );
    }
}

#[test]
fn nothing_new_is_asked_for_again_at_once() {
    let fake = Fake::default();
    let mut poller = poller(&fake);
    sent(&fake);
    fake.pass(30_000);
    poller.on_response(2, b"304", Vec::new);
    assert_eq!(paths(&sent(&fake)), ["/v1/delivery/decisions?after=0"]);
    assert_eq!(fake.counter("ombre_polls_failed_total"), 0);
}

#[test]
fn an_unknown_cluster_or_a_lost_call_is_tried_again() {
    let fake = Fake::default();
    fake.unreachable.set(true);
    let mut unreachable = poller(&fake);
    fake.unreachable.set(false);
    fake.pass(60);
    unreachable.on_tick();
    assert_eq!(sent(&fake).len(), 2);
    fake.pass(poll::LOST_MS);
    unreachable.on_tick();
    assert_eq!(sent(&fake).len(), 2, "no answer ever came");
    unreachable.on_response(77, b"200", || policy(9));
    assert_eq!(
        Latest::read(&fake),
        Latest::default(),
        "an answer nobody waits for"
    );
}

#[test]
fn the_controller_is_told_what_the_workers_have_reached() {
    let fake = Fake::default();
    let mut poller = poller(&fake);
    let first = sent(&fake);
    assert_eq!(header(&first[0], "x-ombre-node"), "node_1");
    assert_eq!(header(&first[0], "x-ombre-applied"), "0/0");
    fake.sent.borrow_mut().extend(first);
    poller.on_response(1, b"200", || policy(8));
    poller.on_response(2, b"200", || decisions(9));
    let entry = registry::sign_on(&fake).expect("on");
    let reached = registry::Report {
        beat: 1,
        policy: Revision::new(8),
        decisions: Revision::new(9),
        rejected: 2,
    };
    registry::publish(&fake, entry.id, reached);
    fake.pass(1000);
    poller.on_tick();
    let told = fake.sent.borrow().last().cloned().expect("told");
    assert_eq!(told.path, "/v1/delivery/decisions?after=0");
    assert_eq!(header(&told, "x-ombre-workers"), "1");
    assert_eq!(header(&told, "x-ombre-applied"), "8/9");
    assert_eq!(header(&told, "x-ombre-rejected"), "2");
    poller.on_response(told.token, b"200", || decisions(9));
    let calls = fake.sent.borrow().len();
    fake.pass(1000);
    poller.on_tick();
    assert_eq!(fake.sent.borrow().len(), calls, "told once");
}

#[test]
fn a_process_has_one_number_whatever_becomes_of_its_pollers() {
    let fake = Fake::default();
    let number = || {
        poller(&fake);
        header(&sent(&fake)[0], "x-ombre-instance").to_owned()
    };
    assert_eq!(number(), "07".repeat(8), "drawn");
    fake.write(INSTANCE, &[1; 8], None);
    assert_eq!(number(), "01".repeat(8), "known");
    fake.write(INSTANCE, b"noise", None);
    assert_eq!(number(), "07".repeat(8));
}
