//! After the tests of go-control-plane.

use ombre_xds::message::Flavor::{Delta, Sotw};
use ombre_xds::snapshot::Type;

use super::client::Client;
use super::world::{World, version};
use super::{WHOLE, services};

#[tokio::test]
async fn test_stale_nonce() {
    for kind in Type::ALL {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Sotw).await;
        client.subscribe(kind, &["a"]);
        let first = client.take().await;
        world.set(&[(kind, "a", "a2"), (kind, "b", "b1")]);
        let second = client.next().await;
        // Sent before the second response was read: what it asks for is said again with the ACK.
        client.answer(kind, &first.nonce, &["b"]);
        client.silent().await;
        client.ack(&second);
        let got = client.take().await;
        assert!(got.contents.contains(&"b1".to_owned()), "{kind:?} {got:?}");
        client.answer(kind, "never given", &["c"]);
        client.silent().await;
    }
}

#[tokio::test]
async fn test_aggregated_handlers_drop_stale_response_after_unsubscribe() {
    for kind in [Type::Endpoint, Type::Route, Type::Extension] {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.subscribe(kind, &["a", "b"]);
        let first = client.next().await;
        // On its way: an update of what is unsubscribed from before the first is accepted.
        world.set(&[(kind, "a", "a2"), (kind, "b", "b1")]);
        client.unsubscribe(kind, &["a"]);
        client.ack(&first);
        client.silent().await;
        world.set(&[(kind, "a", "a3"), (kind, "b", "b2")]);
        assert_eq!(client.take().await.contents, ["b2"], "{kind:?}");
    }
}

#[tokio::test]
async fn test_delta_wildcard_subscriptions_legacy() {
    for kind in WHOLE {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.ask_all(kind);
        assert_eq!(client.take().await.contents, ["a1", "b1"]);
        // A name on top: it is answered, and the wildcard stays.
        client.subscribe(kind, &["a"]);
        assert_eq!(client.take().await.contents, ["a1"]);
        world.set(&[(kind, "a", "a1"), (kind, "b", "b2")]);
        assert_eq!(client.take().await.contents, ["b2"]);
        // The name is given up while the wildcard covers it: that is answered too.
        client.unsubscribe(kind, &["a"]);
        assert_eq!(client.take().await.contents, ["a1"]);
        // The old wildcard can be given up by its name.
        client.unsubscribe(kind, &["*"]);
        client.silent().await;
        world.set(&[(kind, "a", "a3"), (kind, "b", "b3")]);
        client.silent().await;
    }
}

#[tokio::test]
async fn test_delta_wildcard_subscriptions_explicit() {
    for kind in WHOLE {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.subscribe(kind, &["a"]);
        assert_eq!(client.take().await.contents, ["a1"]);
        client.subscribe(kind, &["*"]);
        assert_eq!(
            client.take().await.contents,
            ["b1"],
            "only what is not there yet"
        );
        client.unsubscribe(kind, &["*"]);
        client.silent().await;
        world.set(&[(kind, "a", "a2"), (kind, "b", "b2")]);
        assert_eq!(
            client.take().await.contents,
            ["a2"],
            "the name is still wanted"
        );
        client.silent().await;
    }
}

#[tokio::test]
async fn test_delta_wildcard_subscriptions_of_nothing() {
    for kind in WHOLE {
        let world = World::with(&[]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.ask_all(kind);
        let got = client.take().await;
        assert!(
            got.contents.is_empty() && got.removed.is_empty(),
            "Envoy waits for an answer"
        );
        client.silent().await;
    }
}

#[tokio::test]
async fn test_sotw_subscriptions() {
    for kind in WHOLE {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1"), (kind, "c", "c1")]).await;
        let mut client = Client::ads(&world, Sotw).await;
        client.ask_all(kind);
        assert_eq!(client.take().await.contents, ["a1", "b1", "c1"]);
        // Once a name was said, it is the name that counts, and the old wildcard is over.
        client.subscribe(kind, &["a"]);
        assert_eq!(client.take().await.contents, ["a1"]);
        world.set(&[(kind, "a", "a1"), (kind, "b", "b2"), (kind, "c", "c1")]);
        client.silent().await;
        client.subscribe(kind, &["*"]);
        let got = client.take().await;
        assert_eq!(got.contents, ["a1", "b2", "c1"]);
        client.unsubscribe(kind, &["*", "a"]);
        client.silent().await;
        world.set(&[(kind, "a", "a2"), (kind, "b", "b3"), (kind, "c", "c1")]);
        client.silent().await;
    }
}

#[tokio::test]
async fn test_delta_subscriptions() {
    for kind in Type::ALL {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.subscribe(kind, &["a"]);
        assert_eq!(client.take().await.contents, ["a1"]);
        // Asked for again: sent again, in the same version.
        client.subscribe(kind, &["a"]);
        assert_eq!(client.take().await.contents, ["a1"]);
        client.unsubscribe(kind, &["a"]);
        client.subscribe(kind, &["a", "b"]);
        assert_eq!(client.take().await.contents, ["a1", "b1"]);
        client.silent().await;
    }
}

#[tokio::test]
async fn test_snapshot_create_watch_with_resource_previously_not_requested() {
    for kind in [Type::Endpoint, Type::Route, Type::Extension] {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Sotw).await;
        client.subscribe(kind, &["a"]);
        assert_eq!(client.take().await.contents, ["a1"]);
        // The snapshot did not change, only what is wanted of it (go-control-plane#399).
        client.subscribe(kind, &["b"]);
        assert_eq!(client.take().await.contents, ["b1"], "{kind:?}");
        client.silent().await;
    }
}

#[tokio::test]
async fn test_delta_remove_resources() {
    for kind in WHOLE {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.ask_all(kind);
        client.take().await;
        world.set(&[]);
        let got = client.take().await;
        assert_eq!(got.removed, ["a", "b"]);
        client.silent().await;
    }
}

#[tokio::test]
async fn test_linear_delta_wildcard() {
    for kind in WHOLE {
        for service in services(kind) {
            let world = World::with(&[(kind, "a", "a1")]).await;
            let mut one = Client::open(&world, Delta, service).await;
            let mut other = Client::open(&world, Delta, service).await;
            one.ask_all(kind);
            other.ask_all(kind);
            one.take().await;
            other.take().await;
            world.set(&[(kind, "a", "a2")]);
            assert_eq!(one.take().await.contents, ["a2"]);
            assert_eq!(other.take().await.contents, ["a2"]);
        }
    }
}

#[tokio::test]
async fn test_linear_delta_resource_update_and_delete() {
    for kind in Type::ALL {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1")]).await;
        let mut client = Client::open(&world, Delta, super::Service::Own(kind)).await;
        client.subscribe(kind, &["a", "b"]);
        client.take().await;
        world.set(&[(kind, "a", "a2"), (kind, "b", "b1")]);
        assert_eq!(client.take().await.contents, ["a2"]);
        world.set(&[(kind, "b", "b1")]);
        assert_eq!(client.take().await.removed, ["a"]);
    }
}

#[tokio::test]
async fn test_linear_delta_multi_resource_updates() {
    for kind in Type::ALL {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b1"), (kind, "c", "c1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.subscribe(kind, &["a", "b", "c"]);
        client.take().await;
        world.set(&[(kind, "a", "a2"), (kind, "b", "b2"), (kind, "c", "c1")]);
        assert_eq!(client.take().await.contents, ["a2", "b2"]);
        client.silent().await;
    }
}

#[tokio::test]
async fn test_linear_delta_initial_resources_version_set() {
    for kind in Type::ALL {
        let world = World::with(&[(kind, "a", "a1"), (kind, "b", "b2"), (kind, "c", "c1")]).await;
        let mut client = Client::ads(&world, Delta).await;
        client.resume(
            kind,
            &["a", "b"],
            &[("a", version("a1")), ("b", version("b1"))],
        );
        assert_eq!(
            client.take().await.contents,
            ["b2"],
            "{kind:?}: only what changed meanwhile"
        );
        client.silent().await;
    }
}

#[tokio::test]
async fn test_concurrent_set_watch() {
    let kind = Type::Route;
    let world = World::with(&[(kind, "a", "0")]).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let flavor = if number % 2 == 0 { Sotw } else { Delta };
        let mut client = Client::ads(&world, flavor).await;
        client.subscribe(kind, &["a"]);
        clients.push(client);
    }
    let contents: Vec<String> = (1..=200).map(|number| number.to_string()).collect();
    for content in &contents {
        world.set(&[(kind, "a", content)]);
        tokio::task::yield_now().await;
    }
    for client in &mut clients {
        // Who is slow may skip any of them, but not the last.
        while client.take().await.contents != ["200"] {}
        client.silent().await;
    }
}
