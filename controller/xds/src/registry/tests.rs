use envoy_types::pb::envoy::config::core::v3 as core;
use ombre_policy::document::Revision;

use super::*;
use crate::message::{Asks, Request};
use crate::snapshot::{Resource, Snapshot};

fn node(id: &str) -> Node {
    let node = core::Node {
        id: id.to_owned(),
        ..core::Node::default()
    };
    Node::read(Some(&node)).unwrap()
}

fn snapshot(revision: u64) -> Arc<Snapshot> {
    let revisions = Revisions {
        policy: Revision::new(revision),
        decisions: Revision::new(revision),
    };
    let mut snapshot = Snapshot::new(revisions);
    let body = revision.to_le_bytes().to_vec();
    snapshot.insert(Type::Extension, Resource::new("ombre", body));
    Arc::new(snapshot)
}

fn asked(nonce: &str, error: Option<&str>) -> Request {
    Request {
        kind: Type::Extension,
        nonce: nonce.to_owned(),
        error: error.map(str::to_owned),
        asks: Asks::Names {
            names: vec!["ombre".to_owned()],
            resumes: false,
        },
    }
}

/// Gives the session a snapshot, answered as said.
fn push(session: &mut Session, revision: u64, error: Option<&str>) {
    session.aim(snapshot(revision));
    let responses = session.responses();
    let response = responses.first().expect("something to say");
    session.request(asked(&response.nonce, error)).unwrap();
    session.responses();
}

fn applied(registry: &Registry) -> Option<u64> {
    let list = registry.list();
    let applied = list.first().expect("a node").applied;
    applied.map(|revisions| revisions.policy.get())
}

#[test]
fn a_node_runs_what_it_accepted_last_and_says_why_it_refused() {
    let registry = Arc::new(Registry::new(4, 4));
    let seat = registry
        .seat(&node("e1"), Flavor::Sotw, Line::default())
        .unwrap();
    let mut session = Session::new(Flavor::Sotw, 10);
    session.request(asked("", None)).unwrap();
    push(&mut session, 5, None);
    seat.note(&session, None);
    assert_eq!(applied(&registry), Some(5));
    push(&mut session, 6, Some("broken"));
    seat.note(&session, None);
    assert_eq!(applied(&registry), Some(5));
    let list = registry.list();
    let stream = &list[0].streams[0];
    assert_eq!(stream.stage, StageName::Held);
    let (standing, since) = &stream.types[&Type::Extension];
    assert_eq!(standing.rejected.as_ref().unwrap().1, "broken");
    assert!(since.is_some());
    let before = SystemTime::now();
    drop(seat);
    assert_eq!(applied(&registry), Some(5), "it still runs that");
    assert!(registry.list()[0].filter_seen >= Some(before));
    assert!(registry.list()[0].streams.is_empty());
    assert_eq!(registry.streams(), 0);
}

#[test]
fn a_stream_without_the_filter_says_nothing_of_it() {
    let registry = Arc::new(Registry::new(4, 4));
    let others = registry
        .seat(&node("e1"), Flavor::Sotw, Line::default())
        .unwrap();
    let mut clusters = Session::new(Flavor::Sotw, 10);
    let request = Request {
        kind: Type::Cluster,
        ..asked("", None)
    };
    clusters.request(request).unwrap();
    others.note(&clusters, None);
    assert_eq!(registry.list()[0].filter_seen, None);
    let seat = registry
        .seat(&node("e1"), Flavor::Sotw, Line::default())
        .unwrap();
    let mut session = Session::new(Flavor::Sotw, 10);
    session.request(asked("", None)).unwrap();
    seat.note(&session, None);
    let seen = |before| registry.list()[0].filter_seen >= Some(before);
    assert!(seen(SystemTime::now()), "now, while a stream carries it");
    drop(seat);
    let ended = SystemTime::now();
    others.note(&clusters, None);
    assert!(!seen(ended), "not since");
    assert!(registry.list()[0].filter_seen.is_some());
}

#[test]
fn of_two_envoys_with_one_id_the_one_that_is_behind_counts() {
    let registry = Arc::new(Registry::new(4, 4));
    let seats = [(); 2].map(|()| {
        registry
            .seat(&node("e1"), Flavor::Sotw, Line::default())
            .unwrap()
    });
    let mut sessions = [(); 2].map(|()| Session::new(Flavor::Sotw, 10));
    for (session, seat) in sessions.iter_mut().zip(&seats) {
        session.request(asked("", None)).unwrap();
        push(session, 5, None);
        seat.note(session, None);
    }
    push(&mut sessions[0], 6, None);
    seats[0].note(&sessions[0], None);
    assert_eq!(applied(&registry), Some(5));
    push(&mut sessions[1], 6, None);
    seats[1].note(&sessions[1], None);
    assert_eq!(applied(&registry), Some(6));
    // One waits for clusters and has newer decisions, the other the newer policy.
    let waiting = Revisions {
        policy: Revision::new(6),
        decisions: Revision::new(9),
    };
    seats[0].note(&sessions[0], Some(waiting));
    push(&mut sessions[1], 8, None);
    seats[1].note(&sessions[1], None);
    let least = Revisions {
        policy: Revision::new(6),
        decisions: Revision::new(8),
    };
    assert_eq!(registry.list()[0].applied, Some(least));
}

#[test]
fn places_are_bounded_and_go_first_to_those_who_are_connected() {
    let registry = Arc::new(Registry::new(2, 2));
    let first = registry
        .seat(&node("e1"), Flavor::Delta, Line::default())
        .unwrap();
    let _second = registry
        .seat(&node("e1"), Flavor::Delta, Line::default())
        .unwrap();
    let full = registry
        .seat(&node("e1"), Flavor::Delta, Line::default())
        .unwrap_err();
    assert_eq!(full, Full::Streams(2));
    drop(first);
    drop(
        registry
            .seat(&node("gone"), Flavor::Delta, Line::default())
            .unwrap(),
    );
    let _third = registry
        .seat(&node("e2"), Flavor::Delta, Line::default())
        .unwrap();
    let names: Vec<String> = registry
        .list()
        .iter()
        .map(|entry| entry.node.id().to_owned())
        .collect();
    assert_eq!(names, ["e1", "e2"], "the one that was gone is forgotten");
    let full = registry
        .seat(&node("e3"), Flavor::Delta, Line::default())
        .unwrap_err();
    assert_eq!(full, Full::Nodes(2));
}
