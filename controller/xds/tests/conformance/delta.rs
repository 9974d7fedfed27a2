//! Delta, after the scenarios of xds-test-harness.

use ombre_xds::message::Flavor::Delta;
use ombre_xds::snapshot::Type;

use super::client::Client;
use super::services;
use super::world::World;

#[tokio::test]
async fn delta_subscribe_one_after_another() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
            let mut client = Client::open(&world, Delta, service).await;
            for (name, content) in [("a", "a1"), ("b", "b1")] {
                client.subscribe(kind, &[name]);
                let got = client.take().await;
                assert_eq!(
                    (got.names, got.contents),
                    (vec![name.to_owned()], vec![content.to_owned()])
                );
                client.silent().await;
            }
        }
    }
}

#[tokio::test]
async fn delta_only_the_updated_one_is_sent() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
            let mut client = Client::open(&world, Delta, service).await;
            client.subscribe(kind, &["a", "b"]);
            client.take().await;
            world.set(&[(kind, "a", "a1"), (kind, "b", "b2")]);
            let got = client.take().await;
            assert_eq!((got.contents, got.removed), (vec!["b2".to_owned()], vec![]));
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn delta_told_if_missing_told_when_created() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1")]).await;
            let mut client = Client::open(&world, Delta, service).await;
            client.subscribe(kind, &["d"]);
            // Envoy that is told that endpoints are missing stops waiting for them
            // (go-control-plane#488), so only what can be asked for as a whole is said to be missing.
            if matches!(kind, Type::Cluster | Type::Listener) {
                let got = client.take().await;
                assert_eq!((got.contents, got.removed), (vec![], vec!["d".to_owned()]));
            } else {
                client.silent().await;
            }
            world.set(&[(kind, "a", "a1"), (kind, "d", "d1")]);
            let got = client.take().await;
            assert_eq!((got.contents, got.removed), (vec!["d1".to_owned()], vec![]));
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn delta_removed_resources() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
            let mut client = Client::open(&world, Delta, service).await;
            client.subscribe(kind, &["a", "b"]);
            client.take().await;
            world.set(&[(kind, "a", "a1")]);
            let got = client.take().await;
            assert_eq!(
                (got.contents, got.removed),
                (vec![], vec!["b".to_owned()]),
                "{kind:?}"
            );
            client.silent().await;
            world.set(&[(kind, "a", "a1"), (kind, "b", "b1")]);
            assert_eq!(
                client.take().await.contents,
                ["b1"],
                "it is back, in the old version"
            );
        }
    }
}

#[tokio::test]
async fn delta_incremental_unsubscribe() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
            let mut client = Client::open(&world, Delta, service).await;
            client.subscribe(kind, &["a", "b"]);
            client.take().await;
            client.unsubscribe(kind, &["b"]);
            client.silent().await;
            world.set(&[(kind, "a", "a2"), (kind, "b", "b2")]);
            assert_eq!(client.take().await.contents, ["a2"]);
            // What was never subscribed to can be unsubscribed from.
            client.unsubscribe(kind, &["phantom"]);
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn delta_several_services_on_ads() {
    let all = |version: &'static str| Type::ALL.map(|kind| (kind, "a", version));
    let world = World::with(&all("1")).await;
    let mut client = Client::ads(&world, Delta).await;
    for kind in Type::ALL {
        client.subscribe(kind, &["a"]);
        let got = client.take().await;
        assert_eq!((got.kind, got.contents), (kind, vec!["1".to_owned()]));
    }
    world.set(&all("2"));
    for kind in Type::ALL {
        let got = client.take().await;
        assert_eq!((got.kind, got.contents), (kind, vec!["2".to_owned()]));
    }
    client.silent().await;
}
