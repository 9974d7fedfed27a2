//! After Envoy's ads_integration_test, from the server's side.

use ombre_xds::message::Flavor::{self, Delta, Sotw};
use ombre_xds::snapshot::Type::{Cluster, Endpoint, Extension, Listener, Route};

use super::client::Client;
use super::world::World;

const FLAVORS: [Flavor; 2] = [Sotw, Delta];

async fn started(flavor: Flavor) -> (World, Client) {
    let world = World::with(&[
        (Cluster, "a", "a1"),
        (Endpoint, "a", "ea1"),
        (Extension, "ombre", "x1"),
        (Listener, "l", "l1"),
        (Route, "r", "r1"),
    ])
    .await;
    let mut client = Client::ads(&world, flavor).await;
    client.ask_all(Cluster);
    assert_eq!(client.next().await.contents, ["a1"]);
    (world, client)
}

/// Like Envoy, which accepts clusters only once it has their endpoints.
async fn warm(client: &mut Client) {
    client.subscribe(Endpoint, &["a"]);
    assert_eq!(client.take().await.contents, ["ea1"]);
}

#[tokio::test]
async fn envoy_basic() {
    for flavor in FLAVORS {
        let (_world, mut client) = started(flavor).await;
        warm(&mut client).await;
        client.ask_all(Listener);
        client.silent().await;
    }
}

#[tokio::test]
async fn envoy_cds_eds_replacement_warming() {
    for flavor in FLAVORS {
        let world = World::with(&[(Cluster, "a", "a1"), (Endpoint, "a", "ea1")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.ask_all(Cluster);
        client.take().await;
        warm(&mut client).await;
        world.set(&[(Cluster, "a", "a2"), (Endpoint, "a", "ea1")]);
        let replaced = client.next().await;
        assert_eq!(
            (replaced.kind, replaced.contents.as_slice()),
            (Cluster, &["a2".to_owned()][..])
        );
        // Before the cluster is accepted, and although nothing about the endpoints changed.
        let endpoints = client.take().await;
        assert_eq!(
            (endpoints.kind, endpoints.contents),
            (Endpoint, vec!["ea1".to_owned()])
        );
        client.ack(&replaced);
        client.silent().await;
    }
}

#[tokio::test]
async fn envoy_duplicate_initial_clusters() {
    for flavor in FLAVORS {
        let world = World::with(&[(Cluster, "a", "a1"), (Cluster, "a", "a2")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.subscribe(Cluster, &["*", "a"]);
        assert_eq!(client.take().await.contents, ["a2"], "a name comes once");
        client.silent().await;
    }
}

#[tokio::test]
async fn envoy_duplicate_warming_clusters() {
    for flavor in FLAVORS {
        let (world, mut client) = started(flavor).await;
        // It changes again while the first is warming: nothing new until that is over.
        world.set(&[(Cluster, "a", "a2"), (Endpoint, "a", "ea1")]);
        world.set(&[(Cluster, "a", "a3"), (Endpoint, "a", "ea1")]);
        client.silent().await;
    }
}

#[tokio::test]
async fn envoy_cds_paused_during_warming() {
    for flavor in FLAVORS {
        let (world, mut client) = started(flavor).await;
        let mut held = Client::ads(&world, flavor).await;
        held.ask_all(Cluster);
        let clusters = held.next().await;
        world.set(&[
            (Cluster, "a", "a1"),
            (Cluster, "b", "b1"),
            (Endpoint, "a", "ea1"),
            (Endpoint, "b", "eb1"),
        ]);
        held.silent().await;
        // Endpoints are answered all the while, or neither would ever go on.
        held.subscribe(Endpoint, &["a"]);
        assert_eq!(held.take().await.contents, ["ea1"]);
        held.ack(&clusters);
        let more = held.next().await;
        assert_eq!(more.kind, Cluster);
        assert!(more.contents.contains(&"b1".to_owned()));
        client.silent().await;
    }
}

#[tokio::test]
async fn envoy_remove_warming_cluster() {
    for flavor in FLAVORS {
        let world = World::with(&[(Cluster, "a", "a1"), (Endpoint, "a", "ea1")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.ask_all(Cluster);
        client.take().await;
        warm(&mut client).await;
        world.set(&[
            (Cluster, "a", "a1"),
            (Cluster, "b", "b1"),
            (Endpoint, "a", "ea1"),
        ]);
        let warming = client.next().await;
        world.set(&[(Cluster, "a", "a1"), (Endpoint, "a", "ea1")]);
        client.silent().await;
        client.ack(&warming);
        let removed = client.take().await;
        assert_eq!(removed.kind, Cluster);
        match flavor {
            Sotw => assert_eq!(removed.contents, ["a1"]),
            Delta => assert_eq!(removed.removed, ["b"]),
        }
        client.silent().await;
    }
}
