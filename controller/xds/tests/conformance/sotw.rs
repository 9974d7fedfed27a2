//! State of the world, after the scenarios of xds-test-harness.

use ombre_xds::message::Flavor::Sotw;
use ombre_xds::snapshot::Type;

use super::client::Client;
use super::world::World;
use super::{WHOLE, services};

fn three(kind: Type) -> [(Type, &'static str, &'static str); 3] {
    [(kind, "a", "a1"), (kind, "b", "b1"), (kind, "c", "c1")]
}

#[tokio::test]
async fn sotw_all_resources_on_a_wildcard_request() {
    for kind in WHOLE {
        for service in services(kind) {
            let world = World::with(&three(kind)).await;
            let mut client = Client::open(&world, Sotw, service).await;
            client.ask_all(kind);
            let got = client.take().await;
            assert_eq!(got.contents, ["a1", "b1", "c1"], "{kind:?} {service:?}");
            assert!(!got.nonce.is_empty() && !got.version.is_empty());
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn sotw_updates_are_sent_to_a_wildcard() {
    for kind in WHOLE {
        for service in services(kind) {
            let world = World::with(&three(kind)).await;
            let mut client = Client::open(&world, Sotw, service).await;
            client.ask_all(kind);
            let first = client.take().await;
            world.set(&[(kind, "a", "a1"), (kind, "b", "b2"), (kind, "c", "c1")]);
            let second = client.take().await;
            assert_eq!(second.contents, ["a1", "b2", "c1"], "the whole state");
            assert_ne!(second.version, first.version);
            assert_ne!(second.nonce, first.nonce);
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn sotw_a_wildcard_gets_new_resources() {
    for kind in WHOLE {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1")]).await;
            let mut client = Client::open(&world, Sotw, service).await;
            client.ask_all(kind);
            client.take().await;
            world.set(&[(kind, "a", "a1"), (kind, "d", "d1")]);
            assert_eq!(client.take().await.contents, ["a1", "d1"]);
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn sotw_specific_names_only() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&three(kind)).await;
            let mut client = Client::open(&world, Sotw, service).await;
            client.subscribe(kind, &["a", "c"]);
            assert_eq!(
                client.take().await.contents,
                ["a1", "c1"],
                "{kind:?} {service:?}"
            );
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn sotw_updates_of_specific_names() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&three(kind)).await;
            let mut client = Client::open(&world, Sotw, service).await;
            client.subscribe(kind, &["a", "c"]);
            client.take().await;
            world.set(&[(kind, "a", "a2"), (kind, "b", "b1"), (kind, "c", "c1")]);
            let expected: &[&str] = match kind {
                Type::Cluster | Type::Listener => &["a2", "c1"],
                _ => &["a2"],
            };
            assert_eq!(client.take().await.contents, expected, "{kind:?}");
            // What is not subscribed to changes: nothing is said.
            world.set(&[(kind, "a", "a2"), (kind, "b", "b2"), (kind, "c", "c1")]);
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn sotw_missing_then_created() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1")]).await;
            let mut client = Client::open(&world, Sotw, service).await;
            client.subscribe(kind, &["a", "d"]);
            assert_eq!(client.take().await.contents, ["a1"]);
            client.silent().await;
            world.set(&[(kind, "a", "a1"), (kind, "d", "d1")]);
            let expected: &[&str] = match kind {
                Type::Cluster | Type::Listener => &["a1", "d1"],
                _ => &["d1"],
            };
            assert_eq!(client.take().await.contents, expected, "{kind:?}");
        }
    }
}

#[tokio::test]
async fn sotw_unsubscribe_from_some() {
    for kind in Type::ALL {
        for service in services(kind) {
            // One form: the list is shorter. The other: it is another list.
            for rest in [&["a"][..], &["a", "c"][..]] {
                let world = World::with(&three(kind)).await;
                let mut client = Client::open(&world, Sotw, service).await;
                client.subscribe(kind, &["a", "b"]);
                client.take().await;
                client.unsubscribe(kind, &["b"]);
                if rest.contains(&"c") {
                    client.subscribe(kind, &["c"]);
                    let got = client.take().await;
                    assert!(got.contents.contains(&"c1".to_owned()), "{got:?}");
                    assert!(!got.contents.contains(&"b1".to_owned()), "{got:?}");
                }
                client.silent().await;
                world.set(&[(kind, "a", "a1"), (kind, "b", "b2"), (kind, "c", "c1")]);
                client.silent().await;
                world.set(&[(kind, "a", "a2"), (kind, "b", "b2"), (kind, "c", "c1")]);
                let got = client.take().await;
                assert!(got.contents.contains(&"a2".to_owned()), "{got:?}");
                assert!(!got.contents.contains(&"b2".to_owned()), "{got:?}");
            }
        }
    }
}

#[tokio::test]
async fn sotw_unsubscribe_from_all_is_silence() {
    for kind in Type::ALL {
        for service in services(kind) {
            let world = World::with(&three(kind)).await;
            let mut client = Client::open(&world, Sotw, service).await;
            client.subscribe(kind, &["a", "b"]);
            client.take().await;
            client.unsubscribe(kind, &["a", "b"]);
            client.silent().await;
            world.set(&[(kind, "a", "a2"), (kind, "b", "b2"), (kind, "c", "c2")]);
            client.silent().await;
        }
    }
}

#[tokio::test]
async fn sotw_several_services_on_ads() {
    let all = |version: &'static str| Type::ALL.map(|kind| (kind, "a", version));
    let world = World::with(&all("1")).await;
    let mut client = Client::ads(&world, Sotw).await;
    for kind in Type::ALL {
        match kind {
            Type::Cluster | Type::Listener => client.ask_all(kind),
            _ => client.subscribe(kind, &["a"]),
        }
        let got = client.take().await;
        assert_eq!((got.kind, got.contents), (kind, vec!["1".to_owned()]));
    }
    world.set(&all("2"));
    let mut told = Vec::new();
    for _ in Type::ALL {
        let got = client.take().await;
        assert_eq!(got.contents, ["2"]);
        told.push(got.kind);
    }
    assert_eq!(told, Type::ALL, "clusters and endpoints first");
    client.silent().await;
}
