use std::sync::LazyLock;
use std::time::Duration;

use ombre_xds::message::Flavor;
use ombre_xds::registry::{StageName, StreamStatus};
use ombre_xds::session::Standing;
use ombre_xds::snapshot::{self, Type};

use super::*;

/// So long after the first test began.
fn at(seconds: u64) -> SystemTime {
    static BEGUN: LazyLock<SystemTime> = LazyLock::new(steady);
    *BEGUN + Duration::from_secs(seconds)
}

/// An Envoy over xDS that carried the filter last then, with streams for these types.
fn entry(filter_seen: Option<u64>, types: &[Type], last_seen: u64) -> Entry {
    let applied = filter_seen.map(|_| snapshot::Revisions {
        policy: Revision::new(1),
        decisions: Revision::new(100),
    });
    let stream = |kind: &Type| StreamStatus {
        flavor: Flavor::Sotw,
        opened: at(0),
        stage: StageName::Settled,
        stage_since: at(0),
        types: [(*kind, (Standing::default(), None))].into(),
        applied,
    };
    Entry {
        node: ombre_xds::node::Node::new("e1", "edge", []).unwrap(),
        streams: types.iter().map(stream).collect(),
        applied,
        applied_since: at(0),
        first_seen: at(0),
        last_seen: at(last_seen),
        filter_seen: filter_seen.map(at),
        left: false,
    }
}

/// The same Envoy as its poller tells of it.
fn polling(last_seen: u64) -> Node {
    let nodes = Nodes::default();
    let headers = headers("e1", "1/200");
    nodes.polled(&headers, Kind::Policy, Revision::new(1), at(last_seen));
    nodes.list().remove(0)
}

fn headers(name: &str, applied: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-ombre-node", name.parse().unwrap());
    headers.insert("x-ombre-applied", applied.parse().unwrap());
    headers.insert("x-ombre-workers", "2".parse().unwrap());
    headers
}

#[test]
fn a_node_is_known_by_what_it_told_last() {
    let nodes = Nodes::default();
    let poll = |applied, second| {
        nodes.polled(
            &headers("e1", applied),
            Kind::Policy,
            Revision::new(5),
            at(second),
        );
    };
    poll("4/6", 1);
    poll("5/6", 2);
    poll("5/7", 3);
    let list = nodes.list();
    let [node] = list.as_slice() else {
        panic!("one node")
    };
    assert_eq!(node.applied.policy, Some(Revision::new(5)));
    assert_eq!(node.applied.decisions, Some(Revision::new(7)));
    assert_eq!(node.received.policy, Some(Revision::new(5)));
    assert_eq!(node.workers, Some(2));
    let times = (node.first_seen, node.applied_since, node.last_seen);
    assert_eq!(times, (at(1), at(2), at(3)));
}

#[test]
fn the_table_is_bounded_and_bad_headers_are_left_out() {
    let nodes = Arc::new(Nodes::default());
    let poll = |headers: &HeaderMap, second: usize| {
        let now = at(second as u64);
        nodes.polled(headers, Kind::Policy, Revision::new(0), now);
    };
    poll(&headers(&"x".repeat(LONGEST_NAME + 1), "1/1"), 0);
    poll(&HeaderMap::new(), 0);
    assert!(nodes.list().is_empty());
    let name = |number: usize| format!("e{number}");
    poll(&headers(&name(0), "soon"), 0);
    let waiting = Waiting::begin(&nodes, &headers(&name(0), "soon"));
    for number in 1..MOST_NODES {
        poll(&headers(&name(number), "soon"), number);
    }
    assert_eq!(nodes.list().len(), MOST_NODES);
    poll(&headers("one more", "soon"), MOST_NODES);
    let list = nodes.list();
    assert_eq!(list.len(), MOST_NODES - FORGOTTEN + 1);
    let known = |name: &str| list.iter().any(|node| node.identity.name == name);
    assert!(known("e0"), "it waits");
    assert!(!known("e1") && !known(&name(FORGOTTEN)), "silent longest");
    assert!(known(&name(FORGOTTEN + 1)) && known("one more"));
    assert!(list.iter().all(|node| node.applied == Revisions::default()));
    drop(waiting);
}

/// A process of the Envoys that are called `edge`.
fn process(number: &str, applied: &str) -> HeaderMap {
    let mut headers = headers("edge", applied);
    headers.insert("x-ombre-instance", number.parse().unwrap());
    headers
}

#[test]
fn envoys_of_one_name_are_told_apart() {
    let nodes = Arc::new(Nodes::default());
    let poll = |headers: &HeaderMap| {
        nodes.polled(headers, Kind::Decisions, Revision::new(0), steady());
        Waiting::begin(&nodes, headers).unwrap()
    };
    let shown = || {
        let now = steady();
        let list = nodes.list().into_iter();
        list.map(|node| {
            let serves = node.may_serve(now);
            (node.identity.to_string(), serves, node.has_ended(now))
        })
        .collect::<Vec<_>>()
    };
    let is = |number: &str, serves, ended| (format!("edge ({number})"), serves, ended);
    let a = poll(&process("a", "1/200"));
    let b = poll(&process("b", "1/100"));
    let applied = |at: usize| nodes.list()[at].applied.decisions;
    assert_eq!(applied(0), Some(Revision::new(200)));
    assert_eq!(
        applied(1),
        Some(Revision::new(100)),
        "not confirmed by the other"
    );
    drop(a);
    let expected = [is("a", true, false), is("b", true, false)];
    assert_eq!(shown(), expected, "it may be cut off");
    let c = poll(&process("c", "0/0"));
    let expected = [
        is("a", false, true),
        is("b", true, false),
        is("c", true, false),
    ];
    assert_eq!(shown(), expected, "started again");
    drop(b);
    let expected = [
        is("a", false, true),
        is("b", true, false),
        is("c", true, false),
    ];
    assert_eq!(shown(), expected, "whoever left later may be cut off");
    let back = poll(&process("a", "1/200"));
    assert_eq!(
        shown()[0],
        is("a", true, false),
        "it was not ended after all"
    );
    drop((back, c));
}

#[test]
fn one_that_is_gone_for_an_hour_is_forgotten() {
    let nodes = Nodes::default();
    let ago = |seconds| steady() - Duration::from_secs(seconds);
    for (name, seconds) in [("e1", 3700), ("e2", 3500)] {
        let told = headers(name, "1/1");
        nodes.polled(&told, Kind::Policy, Revision::new(1), ago(seconds));
    }
    let list = nodes.list();
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].identity.name, "e2");
}

#[test]
fn an_envoy_runs_what_the_way_says_that_told_of_its_filter_last() {
    let (clusters, filter) = (&[Type::Cluster][..], &[Type::Cluster, Type::Extension][..]);
    for (case, polled, entry, applied, seen, streams) in [
        (
            "never polled",
            None,
            entry(Some(5), &[], 5),
            100,
            5,
            Some(0),
        ),
        (
            "to xds",
            Some(5),
            entry(Some(50), filter, 50),
            100,
            50,
            Some(2),
        ),
        (
            "to xds, and gone",
            Some(5),
            entry(Some(50), &[], 50),
            100,
            50,
            Some(0),
        ),
        (
            "to the poller",
            Some(40),
            entry(Some(5), &[], 5),
            200,
            40,
            None,
        ),
        (
            "clusters over xds",
            Some(40),
            entry(None, clusters, 30),
            200,
            50,
            Some(1),
        ),
        (
            "its poller stands still",
            Some(1),
            entry(None, clusters, 30),
            200,
            50,
            Some(1),
        ),
        (
            "before it asks for the filter",
            Some(5),
            entry(Some(45), clusters, 49),
            100,
            50,
            Some(1),
        ),
        (
            "filter to the poller",
            Some(48),
            entry(Some(45), clusters, 49),
            200,
            50,
            Some(1),
        ),
    ] {
        let polled = polled.map(polling).into_iter().collect();
        let list = merged(polled, [entry], at(50));
        let [node] = list.as_slice() else {
            panic!("{case}: one node")
        };
        let found = node.applied.decisions;
        assert_eq!(found, Some(Revision::new(applied)), "{case}");
        assert_eq!(node.last_seen, at(seen), "{case}");
        let shown = node.xds.as_ref().map(|xds| xds.streams.len());
        assert_eq!(shown, streams, "{case}");
    }
}

#[test]
fn those_that_are_gone_are_counted_no_more_and_those_behind_by_how_long() {
    let now = at(100_000);
    let before = |seconds| now - Duration::from_secs(seconds);
    let nodes = Nodes::default();
    let poll = |name: &str, applied: &str, seconds| {
        let headers = headers(name, applied);
        nodes.polled(&headers, Kind::Policy, Revision::new(9), before(seconds));
    };
    // Policy 5 was followed by 9 an hour ago, decisions 6 by 10 a minute ago and 11 now.
    let newer = |kind, run: Option<Revision>| match (kind, run.map(Revision::get)) {
        (Kind::Policy, Some(9)) | (Kind::Decisions, Some(11)) => None,
        (Kind::Policy, _) => Some(before(3600)),
        (Kind::Decisions, Some(10)) => Some(now),
        (Kind::Decisions, _) => Some(before(60)),
    };
    let census = || Census::of(&nodes.list(), now, newer);
    assert_eq!(census(), Census::default());
    poll("newest", "9/11", 0);
    poll("older decisions", "9/6", 4000);
    poll("older decisions", "9/6", 1);
    poll("older policy", "5/10", 7200);
    poll("older policy", "5/10", 59);
    poll("just come", "0/0", 2);
    poll("silent", "5/6", 61);
    poll("silent for an hour", "5/6", 3600);
    poll("left", "5/6", 16);
    let left = Identity::of(&headers("left", "")).unwrap();
    nodes.waited(&left, false, before(16));
    let behind = |nodes, seconds| Behind {
        nodes,
        longest: Duration::from_secs(seconds),
    };
    let expected = Census {
        live: 4,
        silent: 1,
        refusing: 0,
        policy: behind(2, 3600),
        decisions: behind(3, 60),
    };
    assert_eq!(census(), expected);
}

#[test]
fn one_that_refuses_what_it_was_sent_is_counted_until_it_can_be_sent_something_else() {
    let now = at(50);
    let refusing = |refused: bool| {
        let mut entry = entry(Some(50), &[Type::Cluster], 50);
        let standing = Standing {
            rejected: refused.then(|| (snapshot::Version::of(b""), "no".to_owned())),
            ..Standing::default()
        };
        entry.streams[0].types = [(Type::Cluster, (standing, None))].into();
        let list = merged(Vec::new(), [entry], now);
        Census::of(&list, now, |_, _| None)
    };
    for refused in [true, false] {
        let census = refusing(refused);
        assert_eq!((census.live, census.refusing), (1, usize::from(refused)));
    }
}
