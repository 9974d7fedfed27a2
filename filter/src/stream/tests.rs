use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::Revision;
use ombre_policy::switches::Switches;
use proptest::prelude::*;

use super::*;
use crate::host::fake::Fake;
use crate::worker::tests::plan;

const POLICY: &str = "
apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: api, path: '/api/{version}/{*rest}' }, { name: plain, path: /plain }]
    versions: [{ name: v1, cluster: shop_v1 }, { name: v2, cluster: shop_v2 }]
    default: v1
    on_unknown: reject
    colors: { canary: v2 }
    unit: [{ header: x-user-id }, mint]
    rollout: { candidate: v2, weight: 0 }
";

fn worker(fake: Fake) -> Worker<Fake> {
    let mut worker = Worker::new(fake, Switches::default());
    worker
        .in_force
        .put(plan(POLICY), Revision::new(1), DecisionTable::default());
    worker
}

fn edit<'a>(fake: &'a Fake, name: &str) -> Option<std::cell::Ref<'a, [u8]>> {
    std::cell::Ref::filter_map(fake.edits.borrow(), |edits| {
        let found = edits.iter().find(|(known, _)| known == name)?;
        found.1.as_deref()
    })
    .ok()
}

#[test]
fn a_request_gets_the_cluster_of_its_version() {
    for (name, path, cluster) in [
        ("by path", "/api/v2/users", Some(&b"shop_v2"[..])),
        ("by default", "/plain", Some(b"shop_v1")),
        ("no route", "/other", None),
    ] {
        let fake = Fake::with_request(&[(":method", "GET"), (":path", path), (":authority", "a")]);
        let mut worker = worker(fake);
        assert_eq!(on_request_headers(&mut worker), Flow::Continue, "{name}");
        if let Some(cluster) = cluster {
            let set = edit(&worker.host, "x-ombre-cluster").expect("set");
            assert_eq!(&*set, cluster, "{name}");
        }
        assert!(worker.host.replies.borrow().is_empty(), "{name}");
    }
}

#[test]
fn what_no_route_takes_is_not_touched() {
    let fake = Fake::with_request(&[(":method", "GET"), (":path", "/other"), (":authority", "a")]);
    let mut worker = worker(fake);
    on_request_headers(&mut worker);
    assert!(worker.host.edits.borrow().is_empty());
}

#[test]
fn a_refusal_is_answered_and_counted() {
    let fake = Fake::with_request(&[
        (":method", "GET"),
        (":path", "/api/v9/x"),
        (":authority", "a"),
    ]);
    let mut worker = worker(fake);
    assert_eq!(on_request_headers(&mut worker), Flow::Answered);
    let replies = worker.host.replies.borrow();
    let reply = replies.first().expect("answered");
    assert_eq!(reply.status, 404);
    assert!(
        reply
            .headers
            .contains(&("content-type".into(), "application/json".into()))
    );
    assert!(reply.body.contains("unknown_version"), "{}", reply.body);
    assert_eq!(worker.host.counter("ombre_refused_total"), 1);
    assert!(worker.host.edits.borrow().is_empty());
}

#[test]
fn without_headers_or_policy_requests_pass() {
    let mut unreadable = worker(Fake::default());
    assert_eq!(on_request_headers(&mut unreadable), Flow::Continue);
    assert_eq!(unreadable.host.counter("ombre_headers_unreadable_total"), 1);
    let fake = Fake::with_request(&[(":path", "/api/v2/x")]);
    let mut empty = Worker::new(fake, Switches::default());
    assert_eq!(on_request_headers(&mut empty), Flow::Continue);
    assert!(empty.host.edits.borrow().is_empty());
}

proptest! {
    #[test]
    fn no_request_is_fatal(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let fake = Fake::default();
        fake.request.replace(bytes);
        on_request_headers(&mut worker(fake));
    }

    #[test]
    fn no_header_is_fatal(headers in proptest::collection::vec((
        prop_oneof![
            Just(":path".to_owned()), Just(":method".to_owned()), Just("cookie".to_owned()), Just("accept".to_owned()),
            Just("x-api-version".to_owned()), Just("x-envoy-traffic-color".to_owned()), Just("baggage".to_owned()),
            Just("x-user-id".to_owned()), "[a-z-]{1,8}",
        ],
        proptest::collection::vec(any::<u8>(), 0..60),
    ), 0..12)) {
        let fake = Fake::default();
        fake.request.replace(HeaderMap::encode(&headers));
        on_request_headers(&mut worker(fake));
    }
}

/// Every call of the host costs about 0.8 µs of Envoy's CPU time: more of them is a regression that
/// no timing in a test would show.
#[test]
fn a_request_makes_few_host_calls() {
    let user = ("x-user-id", "u");
    let stable = ("x-ombre-cluster", "shop_v1");
    for (name, path, headers, writes) in [
        ("no route", "/other", &[user, stable][..], 0),
        // Decision, color, tag, version.
        ("where the listener sent it", "/plain", &[user, stable], 4),
        ("another version", "/api/v2/a", &[user, stable], 5),
        ("without the listener's guard", "/plain", &[user], 5),
        ("a minted unit", "/plain", &[stable], 5),
    ] {
        let mut all = vec![(":method", "GET"), (":path", path), (":authority", "a")];
        all.extend_from_slice(headers);
        let mut worker = worker(Fake::with_request(&all));
        on_request_headers(&mut worker);
        let edits = worker.host.edits.borrow();
        assert_eq!(edits.len(), writes, "{name}: {edits:?}");
        let counted: u64 = worker.host.counters.borrow().iter().map(|(_, n)| n).sum();
        assert_eq!(counted, u64::from(name == "a minted unit"), "{name}");
        assert!(worker.host.reads.borrow().is_empty(), "{name}");
    }
}
