//! What a client may not do, and how it is told.

use std::time::Duration;

use ombre_xds::message::Flavor::{self, Delta, Sotw};
use ombre_xds::server::Limits;
use ombre_xds::snapshot::Type::{self, Cluster, Route};
use tonic::Code;

use super::client::{Client, Service};
use super::world::World;

const FLAVORS: [Flavor; 2] = [Sotw, Delta];

#[tokio::test]
async fn ombre_the_first_request_has_to_say_who_asks() {
    for flavor in FLAVORS {
        let world = World::with(&[]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.forget_node();
        client.ask_all(Cluster);
        let status = client.end().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("node.id"), "{status}");
    }
}

#[tokio::test]
async fn ombre_an_unknown_type_is_left_unanswered_on_ads() {
    for flavor in FLAVORS {
        let world = World::with(&[(Cluster, "a", "a1")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.raw(
            "type.googleapis.com/envoy.service.runtime.v3.Runtime",
            vec!["x".to_owned()],
        );
        client.silent().await;
        client.ask_all(Cluster);
        assert_eq!(client.take().await.contents, ["a1"], "the stream goes on");
    }
}

#[tokio::test]
async fn ombre_another_type_is_refused_on_a_service_of_its_own() {
    for flavor in FLAVORS {
        let world = World::with(&[]).await;
        let mut client = Client::open(&world, flavor, Service::Own(Route)).await;
        client.ask_all(Cluster);
        assert_eq!(client.end().await.code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn ombre_too_many_names_end_the_stream() {
    for flavor in FLAVORS {
        let limits = Limits {
            names: 10,
            ..Limits::default()
        };
        let world = World::limited(&[], limits).await;
        let mut client = Client::ads(&world, flavor).await;
        client.raw(
            Route.url(),
            (0..11).map(|number| number.to_string()).collect(),
        );
        assert_eq!(client.end().await.code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn ombre_a_five_megabyte_request_is_refused() {
    for flavor in FLAVORS {
        let world = World::with(&[(Cluster, "a", "a1")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.raw(Type::Endpoint.url(), vec!["x".repeat(5 << 20)]);
        let status = client.end().await;
        assert!(
            matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
            "{status}"
        );
        let mut other = Client::ads(&world, flavor).await;
        other.ask_all(Cluster);
        assert_eq!(other.take().await.contents, ["a1"], "nobody else notices");
    }
}

#[tokio::test]
async fn ombre_a_flood_of_requests_ends_the_stream() {
    for flavor in FLAVORS {
        let limits = Limits {
            request_burst: 20,
            requests_per_second: 1,
            ..Limits::default()
        };
        let world = World::limited(&[], limits).await;
        let mut client = Client::ads(&world, flavor).await;
        for number in 0..30 {
            client.subscribe(Route, &[&number.to_string()]);
        }
        assert_eq!(client.end().await.code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn ombre_a_stream_that_says_nothing_is_ended() {
    for flavor in FLAVORS {
        let limits = Limits {
            patience: Duration::from_millis(50),
            ..Limits::default()
        };
        let world = World::limited(&[], limits).await;
        let mut client = Client::ads(&world, flavor).await;
        assert_eq!(client.end().await.code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn ombre_a_client_that_never_accepts_is_told_the_latest_and_no_queue() {
    for flavor in FLAVORS {
        let world = World::with(&[(Route, "a", "0")]).await;
        let mut client = Client::ads(&world, flavor).await;
        client.subscribe(Route, &["a"]);
        let first = client.next().await;
        for number in 1..=100 {
            world.set(&[(Route, "a", &number.to_string())]);
        }
        client.silent().await;
        client.ack(&first);
        assert_eq!(client.take().await.contents, ["100"]);
        client.silent().await;
    }
}
