//! What the public suites lack: refusals, reconnects, and the order that loses no request.

use ombre_xds::message::Flavor::{self, Delta, Sotw};
use ombre_xds::snapshot::Type::{self, Cluster, Endpoint, Extension, Listener, Route};

use super::client::{Client, Got};
use super::world::{World, version};

const FLAVORS: [Flavor; 2] = [Sotw, Delta];

fn demo(cluster: &'static str) -> [(Type, &'static str, &'static str); 5] {
    [
        (Cluster, cluster, cluster),
        (Endpoint, cluster, cluster),
        (Extension, "ombre", cluster),
        (Listener, "l", "l1"),
        (Route, "r", cluster),
    ]
}

/// All types are subscribed to and accepted.
async fn settled(world: &World, flavor: Flavor, cluster: &str) -> Client {
    let mut client = Client::ads(world, flavor).await;
    client.ask_all(Cluster);
    client.take().await;
    client.subscribe(Endpoint, &[cluster]);
    client.take().await;
    client.ask_all(Listener);
    client.take().await;
    client.subscribe(Extension, &["ombre"]);
    client.take().await;
    client.subscribe(Route, &["r"]);
    client.take().await;
    client
}

fn says(got: &Got) -> (Type, Vec<String>, Vec<String>) {
    (got.kind, got.contents.clone(), got.removed.clone())
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn ombre_nack_is_not_sent_again_until_it_changes() {
    for flavor in FLAVORS {
        for kind in Type::ALL {
            let world = World::with(&[(kind, "a", "a1")]).await;
            let mut client = Client::ads(&world, flavor).await;
            client.subscribe(kind, &["a"]);
            client.take().await;
            world.set(&[(kind, "a", "bad")]);
            let bad = client.next().await;
            client.nack(&bad, "no such thing");
            client.silent().await;
            world.set(&[(kind, "a", "bad")]);
            client.silent().await;
            world.set(&[(kind, "a", "a2")]);
            assert_eq!(client.take().await.contents, ["a2"], "{flavor:?} {kind:?}");
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn ombre_nack_back_to_the_old_version_is_said_again() {
    // Of a refused response a part may have been taken, so the old one is sent once more.
    for flavor in FLAVORS {
        let world = World::with(&[(Cluster, "a", "a1"), (Cluster, "b", "b1")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.ask_all(Cluster);
        client.take().await;
        world.set(&[(Cluster, "a", "a2"), (Cluster, "b", "bad")]);
        let bad = client.next().await;
        client.nack(&bad, "b is bad");
        world.set(&[(Cluster, "a", "a1"), (Cluster, "b", "b1")]);
        assert_eq!(client.take().await.contents, ["a1", "b1"], "{flavor:?}");
    }
}

#[tokio::test]
async fn ombre_nack_is_told_by_its_detail_alone() {
    // The version of a NACK is the old one, and so is that of an ACK that was overtaken.
    for flavor in FLAVORS {
        let world = World::with(&[(Route, "a", "a1")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.subscribe(Route, &["a"]);
        let got = client.next().await;
        client.answer(Route, &got.nonce, &[]);
        world.set(&[(Route, "a", "a2")]);
        assert_eq!(
            client.take().await.contents,
            ["a2"],
            "an ACK, whatever its version says"
        );
    }
}

#[tokio::test]
async fn ombre_several_requests_with_one_nonce_count_once() {
    for flavor in FLAVORS {
        let world = World::with(&[(Endpoint, "a", "a1")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.subscribe(Endpoint, &["a"]);
        let got = client.next().await;
        client.ack(&got);
        client.ack(&got);
        client.nack(&got, "too late to refuse");
        client.silent().await;
        world.set(&[(Endpoint, "a", "a2")]);
        assert_eq!(client.take().await.contents, ["a2"]);
    }
}

#[tokio::test]
async fn ombre_delta_stale_nonce_keeps_what_it_subscribes_to() {
    for kind in Type::ALL {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.subscribe(kind, &["a"]);
        client.take().await;
        client.answer(kind, "stale", &["b"]);
        assert_eq!(client.take().await.contents, ["b1"], "{kind:?}");
    }
}

#[tokio::test]
async fn ombre_order_add_switch_remove() {
    for flavor in FLAVORS {
        let world = World::with(&demo("v1")).await;
        let mut client = settled(&world, flavor, "v1").await;
        world.set(&demo("v2"));
        let added = client.next().await;
        client.silent().await;
        let both: &[&str] = if flavor == Sotw {
            &["v1", "v2"]
        } else {
            &["v2"]
        };
        assert_eq!(says(&added), (Cluster, owned(both), owned(&[])));
        // The new cluster is warmed, then accepted; until then no route speaks of it.
        client.subscribe(Endpoint, &["v2"]);
        assert_eq!(
            says(&client.take().await),
            (Endpoint, owned(&["v2"]), owned(&[]))
        );
        client.silent().await;
        client.ack(&added);
        let filter = client.next().await;
        let route = client.next().await;
        assert_eq!((filter.kind, route.kind), (Extension, Route));
        client.ack(&filter);
        client.silent().await;
        client.ack(&route);
        let removed = client.take().await;
        match flavor {
            Sotw => assert_eq!(says(&removed), (Cluster, owned(&["v2"]), owned(&[]))),
            Delta => assert_eq!(says(&removed), (Cluster, owned(&[]), owned(&["v1"]))),
        }
    }
}

#[tokio::test]
async fn ombre_order_a_refused_switch_removes_nothing() {
    for flavor in FLAVORS {
        let world = World::with(&demo("v1")).await;
        let mut client = settled(&world, flavor, "v1").await;
        world.set(&demo("v2"));
        let added = client.next().await;
        client.subscribe(Endpoint, &["v2"]);
        client.take().await;
        client.ack(&added);
        let filter = client.next().await;
        client.nack(&filter, "the module does not like it");
        client.take().await;
        // The old filter goes on sending to v1, which therefore stays.
        client.silent().await;
    }
}

#[tokio::test]
async fn ombre_reconnect_delta_says_what_changed_and_what_vanished() {
    let world = World::with(&[
        (Cluster, "a", "a1"),
        (Cluster, "b", "b2"),
        (Route, "r", "r1"),
    ])
    .await;
    let mut client = Client::ads(&world, Delta).await;
    let known = [
        ("a", version("a1")),
        ("b", version("b1")),
        ("gone", version("g")),
    ];
    client.resume(Cluster, &["*"], &known);
    client.resume(Route, &["r"], &[("r", version("r1"))]);
    assert_eq!(
        says(&client.take().await),
        (Cluster, owned(&["b2"]), owned(&[]))
    );
    assert_eq!(
        says(&client.take().await),
        (Cluster, owned(&[]), owned(&["gone"]))
    );
    client.silent().await;
}

#[tokio::test]
async fn ombre_reconnect_delta_sends_endpoints_of_a_changed_cluster() {
    let world = World::with(&[(Cluster, "a", "a2"), (Endpoint, "a", "e1")]).await;
    let mut client = Client::ads(&world, Delta).await;
    client.resume(Cluster, &["*"], &[("a", version("a1"))]);
    client.resume(Endpoint, &["a"], &[("a", version("e1"))]);
    assert_eq!(client.next().await.contents, ["a2"]);
    let endpoints = client.next().await;
    assert_eq!(
        says(&endpoints),
        (Endpoint, owned(&["e1"]), owned(&[])),
        "it is warming"
    );
}

#[tokio::test]
async fn ombre_reconnect_sotw_keeps_what_routes_refer_to() {
    let world = World::with(&demo("v1")).await;
    let versions = settled(&world, Sotw, "v1").await.versions;
    world.set(&demo("v2"));
    let mut client = Client::ads(&world, Sotw).await;
    client.versions = versions;
    client.resume(Cluster, &[], &[]);
    client.resume(Endpoint, &["v1"], &[]);
    client.resume(Listener, &[], &[]);
    client.resume(Extension, &["ombre"], &[]);
    client.resume(Route, &["r"], &[]);
    let added = client.next().await;
    assert_eq!(says(&added), (Cluster, owned(&["v1", "v2"]), owned(&[])));
}

#[tokio::test]
async fn ombre_reconnect_version_says_the_same_to_another_server() {
    let world = World::with(&demo("v1")).await;
    let mut client = Client::ads(&world, Sotw).await;
    client.ask_all(Cluster);
    let before = client.take().await.version;
    world.end().await;
    let world = World::with(&demo("v1")).await;
    let mut client = Client::ads(&world, Sotw).await;
    client.ask_all(Cluster);
    assert_eq!(client.take().await.version, before, "versions are content");
}

#[tokio::test]
async fn ombre_server_end_is_said() {
    let world = World::with(&demo("v1")).await;
    let mut client = settled(&world, Delta, "v1").await;
    let ended = tokio::spawn(world.end());
    let status = client.end().await;
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
    drop(client);
    ended.await.unwrap();
}
