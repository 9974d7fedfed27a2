//! The parts of the API that need a release loop: events and the sync log.

use super::*;

use futures_util::StreamExt;

use crate::clients::Clients;
use crate::clock::Clock;
use crate::engine::{News, Parts, Start};
use crate::evidence::Collector;
use crate::sample;

impl Fixture {
    /// With the loop running and `shop` released. It has nobody to ask for evidence.
    pub(in crate::app) async fn releasing() -> Self {
        let mut fixture = Self::new(SOON);
        let degrade = "    degrade: { evidence: { interval: 20ms } }\n";
        let text = sample::text("a") + degrade;
        let publisher = &fixture.app.publisher;
        publisher.put_policy(sample::compiled_of(text));
        let clients = Clients::new(None).unwrap();
        let parts = Parts {
            publisher: Arc::clone(publisher),
            nodes: Arc::clone(&fixture.app.nodes),
            metrics: Arc::clone(&fixture.app.metrics),
            collector: Collector::of_envoys(&clients, Vec::new()).unwrap(),
            clients,
            clock: Clock::start(),
        };
        let (start, handle) = Start::new(fixture.dir.path(), parts).unwrap();
        fixture.app.engine = handle;
        tokio::spawn(start.run(fixture.app.stop.clone()));
        let begun = async {
            while fixture.app.engine.board().services.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, begun).await.expect("the release begins");
        fixture
    }

    async fn order(&self, command: &str) {
        let body = json!({ "command": command, "actor": "ann", "reason": "because" });
        let path = "/v1/services/shop/orders";
        let (status, answer) = self.send("POST", path, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    async fn events(&self) -> Events {
        let response = self.get("/v1/events").await;
        assert_eq!(response.status(), StatusCode::OK);
        let kind = &response.headers()[header::CONTENT_TYPE];
        assert_eq!(kind, "text/event-stream");
        Events {
            body: Box::pin(response.into_body().into_data_stream()),
            text: String::new(),
        }
    }
}

/// A reader of the stream.
struct Events {
    body: std::pin::Pin<Box<axum::body::BodyDataStream>>,
    text: String,
}

impl Events {
    /// The next event: its kind and its data; none at the end.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let mut lines = event.lines().filter_map(|line| line.strip_prefix(name));
                    lines.next().unwrap_or_default().trim().to_owned()
                };
                let found = (field("event:"), field("data:"));
                self.text = rest.to_owned();
                return Some(found);
            }
            let part = timeout(SOON, self.body.next()).await.expect("in time")?;
            self.text
                .push_str(std::str::from_utf8(&part.unwrap()).unwrap());
        }
    }

    /// The data of the next event of this kind.
    async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let (found, data) = self.next().await.expect("no end");
            if found == kind {
                return serde_json::from_str(&data).unwrap();
            }
        }
    }
}

fn news(number: u64) -> News {
    News::event("order", json!(number))
}

#[tokio::test]
async fn evidence_orders_and_transitions_arrive_as_they_happen() {
    let fixture = Fixture::releasing().await;
    let mut events = fixture.events().await;
    let mut another = fixture.events().await;
    let evidence = events.next_of("evidence").await;
    assert_eq!(evidence["service"], "shop");
    let line = serde_json::from_value::<crate::simulate::Line>(evidence.clone());
    assert!(line.is_ok(), "it can be simulated from: {evidence}");
    assert_eq!(evidence["candidate"], json!({ "unknown": "missing" }));
    fixture.order("promote").await;
    let body = json!({ "command": "promote", "actor": "ann", "reason": "because" });
    for _ in 0..2 {
        let path = "/v1/services/other/orders";
        let (status, _) = fixture.send("POST", path, body.to_string()).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
    let text = read(fixture.get("/metrics").await).await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    for (result, count) in [("followed", 1), ("refused", 2), ("failed", 0)] {
        let labels = format!("{{command=\"promote\",result=\"{result}\"}}");
        let line = format!("ombre_orders_total{labels} {count}\n");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    for events in [&mut events, &mut another] {
        let order = events.next_of("order").await;
        assert_eq!(order["detail"]["command"], "promote");
        assert_eq!(
            (&order["actor"], &order["reason"]),
            (&json!("ann"), &json!("because"))
        );
        let transition = events.next_of("transition").await;
        assert_eq!(transition["service"], "shop");
        assert_eq!(transition["detail"]["transition"]["from_share"], 10);
    }
    let (_, history) = fixture.send("GET", "/v1/history?service=shop", "").await;
    let newest = &history["entries"][0];
    assert_eq!(newest["kind"], "transition", "the same is kept: {history}");
}

#[tokio::test]
async fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
    let fixture = Fixture::new(SOON);
    let mut events = fixture.events().await;
    // This handle's channel holds one.
    for number in 1..=3 {
        fixture.app.engine.tell(news(number));
    }
    assert_eq!(
        events.next().await,
        Some(("missed".to_owned(), "2".to_owned()))
    );
    assert_eq!(
        events.next().await,
        Some(("order".to_owned(), "3".to_owned()))
    );
    fixture.app.engine.tell(news(4));
    assert_eq!(
        events.next().await,
        Some(("order".to_owned(), "4".to_owned()))
    );
}

#[tokio::test]
async fn a_reader_that_is_gone_is_forgotten_and_the_rest_end_with_the_controller() {
    let fixture = Fixture::new(SOON);
    let (gone, mut stays) = (fixture.events().await, fixture.events().await);
    assert_eq!(fixture.app.engine.listeners(), 2);
    drop(gone);
    assert_eq!(fixture.app.engine.listeners(), 1);
    fixture.app.engine.tell(news(1));
    assert!(stays.next().await.is_some());
    fixture.stop.send_replace(true);
    assert_eq!(stays.next().await, None);
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused_whole() {
    let fixture = Fixture::releasing().await;
    let change = |field: &str, value: Value| {
        let mut change =
            json!({ "src_ver": "v2", "dst_ver": "v1", "pk": "a", "payload": 1, "ts": 1 });
        change[field] = value;
        change
    };
    let good = change("ts", json!(1));
    let of = |second: Value| json!([good, second]).to_string();
    let log = "/v1/services/shop/sync-log";
    let huge = format!("[{}]", " ".repeat(LARGEST_BODY));
    let bad = StatusCode::BAD_REQUEST;
    for (name, path, body, status, expected) in [
        ("not JSON", log, "[{".to_owned(), bad, "not a batch"),
        ("no array", log, good.to_string(), bad, "not a batch"),
        ("empty", log, "[]".to_owned(), bad, "empty"),
        (
            "unknown field",
            log,
            of(change("color", json!("red"))),
            bad,
            "`color`",
        ),
        (
            "missing field",
            log,
            of(json!({ "pk": "a" })),
            bad,
            "src_ver",
        ),
        (
            "negative time",
            log,
            of(change("ts", json!(-1))),
            bad,
            "not a batch",
        ),
        (
            "another source",
            log,
            of(change("src_ver", json!("v3"))),
            bad,
            "[1]: the log goes from `v2` to `v1`",
        ),
        (
            "the way back",
            log,
            of(change("dst_ver", json!("v2"))),
            bad,
            "[1]: the log",
        ),
        ("no key", log, of(change("pk", json!(""))), bad, "[1].pk"),
        (
            "long key",
            log,
            of(change("pk", json!("k".repeat(1025)))),
            bad,
            "[1].pk",
        ),
        (
            "too large",
            log,
            huge,
            StatusCode::PAYLOAD_TOO_LARGE,
            "larger than",
        ),
        (
            "no such service",
            "/v1/services/none/sync-log",
            of(good.clone()),
            StatusCode::NOT_FOUND,
            "`none`",
        ),
    ] {
        let (found, answer) = fixture.send("POST", path, body).await;
        assert_eq!(found, status, "{name}: {answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{name}: {detail}");
    }
    let (_, backlog) = fixture.send("GET", log, "").await;
    assert_eq!(backlog["top"], 0, "nothing of them is kept: {backlog}");
    let (status, taken) = fixture
        .send("POST", log, json!([good, good]).to_string())
        .await;
    assert_eq!(
        (status, &taken),
        (StatusCode::OK, &json!({ "news": 1, "received": 2 }))
    );
    let (_, backlog) = fixture.send("GET", log, "").await;
    assert_eq!(backlog["waiting"], 1, "{backlog}");
    let (status, _) = fixture.send("GET", "/v1/services/none/sync-log", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
