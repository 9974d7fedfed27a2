use super::*;
use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::clients::secure::Secure;
use crate::metrics::Now;

type Taken = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// Refuses the first that comes, and takes the rest.
async fn take(State(taken): State<Taken>, headers: HeaderMap, body: String) -> StatusCode {
    let mut taken = taken.lock().unwrap();
    taken.push((headers, body));
    match taken.len() {
        1 => StatusCode::BAD_GATEWAY,
        _ => StatusCode::NO_CONTENT,
    }
}

/// How many news came to this end, of the only webhook.
fn counted(metrics: &Metrics, result: &str) -> u64 {
    let text = metrics.text(Now::nothing());
    let label = format!("result=\"{result}\"}} ");
    let mut lines = text.lines();
    let line = lines.find(|it| it.starts_with("ombre_webhook") && it.contains(&label));
    let (_, count) = line.unwrap().rsplit_once(' ').unwrap();
    count.parse().unwrap()
}

#[test]
fn signatures_are_those_of_the_standard() {
    // Computed with `printf '1.{}' | openssl dgst -sha256 -hmac 0123456789abcdef`.
    assert_eq!(
        signature(b"0123456789abcdef", "1", "{}"),
        "sha256=2af693cb56b22c16912222aeefdc75a01de562bf70ee2015f41ecea48382997f"
    );
}

#[tokio::test]
async fn news_are_sent_again_until_taken_and_signed_each_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let taken = Taken::default();
    let app = Router::new()
        .route("/hook", post(take))
        .with_state(taken.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "short\n").unwrap();
    let urls = [url.parse().unwrap()];
    let metrics = Arc::new(Metrics::default());
    let clients = Clients::new(None).unwrap();
    assert!(
        webhooks(&clients, &urls, Some(&secret), &metrics).is_err(),
        "too short"
    );
    fs::write(&secret, "0123456789abcdef\n").unwrap();
    let webhook = webhooks(&clients, &urls, Some(&secret), &metrics)
        .unwrap()
        .remove(0);
    let (news, heard) = broadcast::channel(8);
    let (stop, stopped) = watch::channel(false);
    let work = tokio::spawn(webhook.run(heard, stopped));
    let transition = News::event("transition", json!({}));
    news.send(Arc::new(transition)).unwrap();
    let both = async {
        while counted(&metrics, "taken") < 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!(taken.lock().unwrap().len(), 2);
    stop.send_replace(true);
    work.await.unwrap();
    server.abort();
    for (headers, body) in taken.lock().unwrap().iter() {
        assert_eq!(body, "{\"kind\":\"transition\"}");
        let timestamp = headers[TIMESTAMP].to_str().unwrap();
        let due = signature(b"0123456789abcdef", timestamp, body);
        assert_eq!(headers[SIGNATURE], due.as_str());
    }
}

#[tokio::test]
async fn a_webhook_is_told_by_https_and_by_nothing_else() {
    let taken = Taken::default();
    // The first is refused: told twice is told.
    let app = Router::new().route("/hook", post(take));
    let server = Secure::start(app.with_state(taken.clone()), "localhost").await;
    let metrics = Arc::default();
    let clients = Clients::new(Some(&server.ca_file)).unwrap();
    let url = format!("{}/hook", server.url).parse().unwrap();
    let webhook = webhooks(&clients, &[url], None, &metrics)
        .unwrap()
        .remove(0);
    timeout(Duration::from_secs(20), webhook.tell("{}"))
        .await
        .unwrap();
    assert_eq!(taken.lock().unwrap().len(), 2);

    let url = "ftp://localhost/hook".parse().unwrap();
    let error = webhooks(&clients, &[url], None, &metrics).err().unwrap();
    assert!(error.to_string().contains("`http://` or `https://`"));
}

#[tokio::test]
async fn what_no_webhook_takes_is_counted_as_given_up_and_as_missed() {
    let metrics = Arc::new(Metrics::default());
    // Nobody answers at port 1.
    let url = "http://127.0.0.1:1/hook".parse().unwrap();
    let clients = Clients::new(None).unwrap();
    let webhook = webhooks(&clients, &[url], None, &metrics)
        .unwrap()
        .remove(0);
    assert_eq!(counted(&metrics, "missed"), 0);
    let (news, heard) = broadcast::channel(2);
    for number in 0..5 {
        let transition = News::event("transition", json!({ "id": number }));
        news.send(Arc::new(transition)).unwrap();
    }
    drop(news);
    let (_stop, stopped) = watch::channel(false);
    webhook.run(heard, stopped).await;
    let ends = ["taken", "given_up", "missed"].map(|result| counted(&metrics, result));
    assert_eq!(ends, [0, 2, 3]);
}
