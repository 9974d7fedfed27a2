use super::*;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, Response, header};
use futures_util::future::join_all;
use ombre_policy::document::{Kind, Revision, open};
use ombre_policy::problem::{Problem, Problems};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::ServiceExt;

use crate::clock::steady;
use crate::nodes::Identity;
use crate::sample::compiled;
use crate::state::StateDir;

mod delivered;
mod releases;
mod waiting;

pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) struct Fixture {
    dir: tempfile::TempDir,
    app: App,
    stop: watch::Sender<bool>,
}

impl Fixture {
    pub(super) fn new(patience: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (state, saved) = StateDir::open(dir.path()).unwrap();
        let metrics = Arc::new(Metrics::default());
        let (stop, stopped) = watch::channel(false);
        let app = App {
            publisher: Arc::new(Publisher::new(state, saved, Arc::clone(&metrics))),
            nodes: Arc::default(),
            engine: Handle::none(),
            metrics,
            patience,
            loopback: true,
            started: SystemTime::now(),
            stop: stopped,
        };
        Self { dir, app, stop }
    }

    pub(super) fn with_policy() -> Self {
        let fixture = Self::new(SOON * 2);
        fixture.publish("a");
        fixture
    }

    fn publish(&self, cluster: &str) {
        self.app.publisher.put_policy(compiled(cluster));
    }

    fn revision(&self, kind: Kind) -> Revision {
        self.app.publisher.documents().revision(kind).unwrap()
    }

    pub(super) async fn call(&self, request: Request<Body>) -> Response<Body> {
        let answer = router(self.app.clone()).oneshot(request);
        timeout(SOON, answer).await.expect("an answer").unwrap()
    }

    pub(super) async fn get(&self, path: &str) -> Response<Body> {
        self.call(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Body>,
    ) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path);
        let response = self.call(request.body(body.into()).unwrap()).await;
        (response.status(), read_json(response).await)
    }
}

async fn read(response: Response<Body>) -> Bytes {
    to_bytes(response.into_body(), usize::MAX).await.unwrap()
}

pub(super) async fn read_json(response: Response<Body>) -> Value {
    serde_json::from_slice(&read(response).await).unwrap()
}

pub(super) fn refuse(fixture: &Fixture) {
    let problem = Problem {
        line: Some(3),
        column: Some(9),
        path: "services[0].name".to_owned(),
        ..Problem::of_file("policy.yaml", "`X` is no name; write it in lower case")
    };
    fixture.app.publisher.refuse(Problems::from(problem));
}

#[tokio::test]
async fn a_poll_that_is_behind_is_answered_at_once() {
    let fixture = Fixture::with_policy();
    for (kind, path) in [
        (Kind::Policy, "/v1/delivery/policy?after=0"),
        (Kind::Decisions, "/v1/delivery/decisions?after=0"),
        (Kind::Policy, "/v1/delivery/policy"),
    ] {
        let response = fixture.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        assert_eq!(headers[header::CONTENT_TYPE], "application/octet-stream");
        let revision = fixture.revision(kind).to_string();
        assert_eq!(headers["x-ombre-revision"], revision.as_str());
        let body = read(response).await;
        let document = open(&body).unwrap();
        assert_eq!(document.kind, kind);
        assert_eq!(document.revision.to_string(), revision);
    }
}

#[tokio::test]
async fn a_poll_without_news_ends_with_304() {
    let fixture = Fixture::new(Duration::from_millis(30));
    let response = fixture.get("/v1/delivery/policy?after=0").await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "no policy yet");
    fixture.publish("a");
    let path = format!(
        "/v1/delivery/policy?after={}",
        fixture.revision(Kind::Policy)
    );
    let response = fixture.get(&path).await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_poll_that_is_ahead_gets_something_above() {
    let fixture = Fixture::with_policy();
    let ahead = 1_u64 << 50;
    for kind in ["policy", "decisions"] {
        let path = format!("/v1/delivery/{kind}?after={ahead}");
        let response = fixture.get(&path).await;
        assert_eq!(response.status(), StatusCode::OK, "{kind}");
        let revision = response.headers()["x-ombre-revision"].to_str().unwrap();
        assert!(revision.parse::<u64>().unwrap() > ahead);
    }
}

#[tokio::test]
async fn a_poll_cannot_use_up_the_revisions() {
    let fixture = Fixture::with_policy();
    let largest = 1_u64 << 53;
    let poll = async |after: u64| {
        let path = format!("/v1/delivery/policy?after={after}");
        fixture.get(&path).await.status()
    };
    assert_eq!(poll(largest + 1).await, StatusCode::BAD_REQUEST);
    assert_eq!(poll(u64::MAX).await, StatusCode::BAD_REQUEST);
    assert_eq!(poll(largest).await, StatusCode::OK);
    let above = fixture.revision(Kind::Policy).get();
    assert!(above > largest);
    fixture.publish("b");
    assert_eq!(
        poll(above).await,
        StatusCode::OK,
        "what we published is fine"
    );
}

#[tokio::test]
async fn what_is_no_poll_is_refused() {
    let fixture = Fixture::with_policy();
    for (path, status) in [
        ("/v1/delivery/plans?after=0", StatusCode::NOT_FOUND),
        ("/v1/delivery/policy?after=x", StatusCode::BAD_REQUEST),
        ("/v1/delivery/policy?after=-1", StatusCode::BAD_REQUEST),
        ("/v1/nothing", StatusCode::NOT_FOUND),
    ] {
        let response = fixture.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        let kind = &response.headers()[header::CONTENT_TYPE];
        assert_eq!(kind, "application/problem+json");
        assert_eq!(read_json(response).await["status"], status.as_u16());
    }
    let (status, _) = fixture.send("POST", "/v1/status", "").await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_name_that_a_stranger_could_own_is_refused() {
    let fixture = Fixture::with_policy();
    for (host, status) in [
        ("evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("127.0.0.1:8600", StatusCode::OK),
    ] {
        let request = Request::get("/v1/status").header(header::HOST, host);
        let response = fixture.call(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_waiting_polls_are_all_answered_by_one_change() {
    let fixture = Fixture::with_policy();
    let path = format!(
        "/v1/delivery/policy?after={}",
        fixture.revision(Kind::Policy)
    );
    let router = router(fixture.app.clone());
    let polls: Vec<_> = (0..5000)
        .map(|_| {
            let request = Request::get(&path).body(Body::empty()).unwrap();
            tokio::spawn(router.clone().oneshot(request))
        })
        .collect();
    let documents = fixture.app.publisher.documents();
    let all_wait = async {
        while documents.waiting() < 5000 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, all_wait).await.expect("all wait");
    let start = std::time::Instant::now();
    fixture.publish("b");
    let answers = timeout(SOON, join_all(polls)).await.expect("all answered");
    println!("5000 polls answered in {:?}", start.elapsed());
    let revision = fixture.revision(Kind::Policy).to_string();
    for answer in answers {
        let response = answer.unwrap().unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-ombre-revision"], revision.as_str());
    }
    assert_eq!(documents.waiting(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_polls_end_at_once_when_the_controller_does() {
    let fixture = Fixture::new(SOON * 2);
    let request = Request::get("/v1/delivery/policy").body(Body::empty());
    let poll = tokio::spawn(router(fixture.app.clone()).oneshot(request.unwrap()));
    fixture.stop.send_replace(true);
    let response = timeout(SOON, poll).await.expect("at once").unwrap();
    assert_eq!(response.unwrap().status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn the_status_tells_what_is_in_force_and_what_went_wrong() {
    let fixture = Fixture::new(Duration::from_millis(1));
    let (_, status) = fixture.send("GET", "/v1/status", "").await;
    assert_eq!(status["policy"], Value::Null);
    assert_eq!(status["ready"], false);
    fixture.publish("a");
    refuse(&fixture);
    let poll = Request::get("/v1/delivery/policy?after=0")
        .header("x-ombre-node", "envoy-1")
        .header("x-ombre-workers", "2")
        .header("x-ombre-applied", "7/8")
        .header("x-ombre-switches", "route_version=v2")
        .header("x-ombre-rejected", "0");
    fixture.call(poll.body(Body::empty()).unwrap()).await;
    let (_, status) = fixture.send("GET", "/v1/status", "").await;
    assert_eq!(status["ready"], true);
    assert_eq!(status["policy"]["files"], json!(["policy.yaml"]));
    assert_eq!(
        status["policy"]["revision"],
        json!(fixture.revision(Kind::Policy))
    );
    let services = json!([{ "name": "shop", "versions": ["v1", "v2"] }]);
    assert_eq!(status["policy"]["services"], services);
    assert_eq!(
        status["decisions"]["revision"],
        json!(fixture.revision(Kind::Decisions))
    );
    let error = &status["last_error"];
    assert_eq!(error["file"], "policy.yaml");
    assert_eq!(error["place"], "3:9: services[0].name");
    assert_eq!(error["message"], "`X` is no name; write it in lower case");
    let node = &status["nodes"][0];
    assert_eq!(node["name"], "envoy-1");
    assert_eq!(node["applied"], json!({ "policy": 7, "decisions": 8 }));
    assert_eq!(node["switches"], "route_version=v2");
    let (_, nodes) = fixture.send("GET", "/v1/nodes", "").await;
    assert_eq!(nodes["nodes"], status["nodes"]);
    fixture.publish("b");
    let (_, status) = fixture.send("GET", "/v1/status", "").await;
    assert_eq!(status["last_error"], Value::Null, "a good policy ends it");
}

#[tokio::test]
async fn readiness_needs_a_good_policy() {
    let fixture = Fixture::new(SOON);
    assert_eq!(fixture.get("/healthz").await.status(), StatusCode::OK);
    let (status, _) = fixture.send("GET", "/readyz", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    refuse(&fixture);
    let (_, body) = fixture.send("GET", "/readyz", "").await;
    let detail = body["detail"].as_str().unwrap();
    assert!(
        detail.contains("policy.yaml:3:9: services[0].name"),
        "{detail}"
    );
    fixture.publish("a");
    assert_eq!(fixture.get("/readyz").await.status(), StatusCode::OK);
    refuse(&fixture);
    let ready = fixture.get("/readyz").await.status();
    assert_eq!(ready, StatusCode::OK, "the last good one is good");
}

#[tokio::test]
async fn decisions_are_put_and_got_by_names() {
    let fixture = Fixture::new(SOON);
    let body = json!({ "services": { "shop": { "weight": 25.0 } } });
    let put = async |body: String| fixture.send("PUT", "/v1/decisions", body).await;
    assert_eq!(put(body.to_string()).await.0, StatusCode::CONFLICT);
    fixture.publish("a");
    let before = fixture.revision(Kind::Decisions);
    let (status, answer) = put(body.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert!(fixture.revision(Kind::Decisions) > before);
    assert_eq!(answer["revision"], json!(fixture.revision(Kind::Decisions)));
    assert_eq!(answer["decisions"]["services"]["shop"]["weight"], 25.0);
    let (_, got) = fixture.send("GET", "/v1/decisions", "").await;
    assert_eq!(got, answer);
    let stranger = json!({ "services": { "stranger": { "weight": 1.0 } } }).to_string();
    let huge = "x".repeat(LARGEST_BODY + 1);
    for (name, body, status, expected) in [
        ("not JSON", "{", StatusCode::BAD_REQUEST, "not decisions"),
        (
            "unknown field",
            "{\"weights\":{}}",
            StatusCode::BAD_REQUEST,
            "weights",
        ),
        (
            "unknown service",
            &stranger,
            StatusCode::BAD_REQUEST,
            "stranger",
        ),
        (
            "too large",
            &huge,
            StatusCode::PAYLOAD_TOO_LARGE,
            "larger than",
        ),
    ] {
        let (found, answer) = put(body.to_owned()).await;
        assert_eq!(found, status, "{name}: {answer}");
        assert!(answer.to_string().contains(expected), "{name}: {answer}");
    }
    let (_, got) = fixture.send("GET", "/v1/decisions", "").await;
    assert_eq!(got, answer, "the bad ones changed nothing");
}

#[tokio::test]
async fn the_policy_is_shown_as_it_was_written() {
    let fixture = Fixture::new(SOON);
    let (status, _) = fixture.send("GET", "/v1/policy", "").await;
    assert_eq!(status, StatusCode::CONFLICT);
    fixture.publish("a");
    let (_, policy) = fixture.send("GET", "/v1/policy", "").await;
    let text = policy["files"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("apiVersion: ombre/v1\n"));
}

#[tokio::test]
async fn a_request_is_explained_under_what_is_in_force() {
    let fixture = Fixture::with_policy();
    let body = json!({ "url": "http://shop.example/shop", "headers": [["x-api-version", "2"]] });
    let ask = async || fixture.send("POST", "/v1/explain", body.to_string()).await;
    let (status, answer) = ask().await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["explanation"]["cluster"], "a", "{answer}");
    assert!(answer["text"].as_str().unwrap().contains("goes to v2"));
    let degraded = json!({ "services": { "shop": { "degraded": { "v2": "v1" } } } });
    let put = fixture.send("PUT", "/v1/decisions", degraded.to_string());
    assert_eq!(put.await.0, StatusCode::OK);
    let (_, answer) = ask().await;
    assert_eq!(answer["explanation"]["cluster"], "stable", "{answer}");
    for body in ["{}", "{\"url\":\"shop\"}", "x"] {
        let (status, _) = fixture.send("POST", "/v1/explain", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let fixture = Fixture::with_policy();
    fixture.get("/v1/delivery/policy").await;
    let text = read(fixture.get("/metrics").await).await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "ombre_policy_loads_total{result=\"accepted\"} 1",
        "ombre_polls_total{kind=\"policy\",result=\"delivered\"} 1",
        "ombre_state_saved 1",
        "ombre_polls_waiting 0",
        "# TYPE ombre_policy_load_seconds histogram",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn envoys_that_are_gone_are_counted_no_more() {
    let fixture = Fixture::with_policy();
    let now = steady();
    let poll = |name: &str, applied: String, ago| {
        let mut headers = HeaderMap::new();
        headers.insert("x-ombre-node", name.parse().unwrap());
        headers.insert("x-ombre-applied", applied.parse().unwrap());
        let then = now - Duration::from_secs(ago);
        let nodes = &fixture.app.nodes;
        nodes.polled(&headers, Kind::Policy, Revision::new(1), then);
    };
    let [policy, decisions] = [Kind::Policy, Kind::Decisions].map(|kind| fixture.revision(kind));
    poll("newest", format!("{policy}/{decisions}"), 0);
    poll("behind", "1/2".to_owned(), 0);
    poll("cut off", "1/2".to_owned(), 61);
    poll("gone", "1/2".to_owned(), 16);
    let gone = now - Duration::from_secs(16);
    let identity = Identity {
        name: "gone".to_owned(),
        instance: None,
    };
    fixture.app.nodes.waited(&identity, false, gone);
    let text = read(fixture.get("/metrics").await).await;
    let text = String::from_utf8(text.to_vec()).unwrap();
    for line in [
        "ombre_nodes 2",
        "ombre_nodes_silent 1",
        "ombre_nodes_behind{kind=\"policy\"} 1",
        "ombre_nodes_behind{kind=\"decisions\"} 1",
        "ombre_ready 1",
        "ombre_policy_refused 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
    }
}
