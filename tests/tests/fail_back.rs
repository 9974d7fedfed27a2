//! A fail-back with a sync log: no acknowledged change is lost or applied out of order, writes have
//! one owner or none, and a controller that is killed anywhere in it goes on from where it was.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use ombre_tests::client::{Ask, Connection};
use ombre_tests::feed::Feed;
use ombre_tests::poll::eventually;
use ombre_tests::stack::Stack;
use ombre_tests::with_every_feed;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(60);

/// What the stable version knows: the newest change of each key, and what came out of order.
#[derive(Default)]
struct Applied {
    newest: BTreeMap<String, u64>,
    backwards: Vec<String>,
    refused: Option<String>,
    applied: u64,
}

type Shared = Arc<Mutex<Applied>>;

struct Applier {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

impl Applier {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Shared::default();
        let app = Router::new()
            .route("/apply", post(apply))
            .with_state(shared.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                eprintln!("the applier ended: {error}");
            }
        });
        Ok(Self {
            address,
            shared,
            server,
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Applied) -> T) -> T {
        look(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Applier {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn apply(State(shared): State<Shared>, Json(change): Json<Value>) -> StatusCode {
    let key = change.get("pk").and_then(Value::as_str).unwrap_or_default();
    let ts = change.get("ts").and_then(Value::as_u64).unwrap_or_default();
    let mut applied = shared.lock().unwrap_or_else(PoisonError::into_inner);
    if applied.refused.as_deref() == Some(key) {
        return StatusCode::UNPROCESSABLE_ENTITY;
    }
    applied.applied += 1;
    let before = applied.newest.insert(key.to_owned(), ts);
    if before.is_some_and(|before| before > ts) {
        applied
            .backwards
            .push(format!("{key}: {ts} after {before:?}"));
    }
    StatusCode::OK
}

fn policy(applier: SocketAddr) -> String {
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: pages, path: "/shop/{{*rest}}" }}]
    versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}]
    default: v1
    unit: [{{ header: x-user-id }}]
    rollout: {{ candidate: v2, weight: 100 }}
    degrade:
      sync_log: {{ apply_url: "http://{applier}/apply" }}
      # So that the kills are spread over all of a fail-back.
      drain: {{ settle: 500ms }}
      evidence: {{ interval: 250ms, judge: 500ms }}
"#
    )
}

async fn order(stack: &Stack, command: Value) -> Result<()> {
    let body = json!({ "command": command, "actor": "test", "reason": "the test says so" });
    let path = "/v1/services/shop/orders";
    let (status, text) = stack.controller.post(path, &body).await?;
    ensure!(status == 200, "{status}: {text}");
    Ok(())
}

async fn phase(stack: &Stack, wanted: &[&str]) -> Result<Value> {
    eventually(LONG, &format!("the release is {wanted:?}"), async || {
        let now = stack.controller.json("/v1/services/shop").await?;
        let phase = now.get("phase").and_then(Value::as_str).unwrap_or("-");
        ensure!(wanted.contains(&phase), "{now:#}");
        Ok(now)
    })
    .await
}

async fn log(stack: &Stack, changes: &[(String, u64)]) -> Result<()> {
    let batch: Vec<Value> = changes
        .iter()
        .map(|(pk, ts)| json!({ "src_ver": "v2", "dst_ver": "v1", "pk": pk, "payload": { "n": ts }, "ts": ts }))
        .collect();
    let path = "/v1/services/shop/sync-log";
    let (status, text) = stack.controller.post(path, &json!(batch)).await?;
    ensure!(status == 200, "{status}: {text}");
    Ok(())
}

/// Writes one after the other over one connection, and notes who took each: a version or nobody.
async fn write(
    address: SocketAddr,
    begun: watch::Sender<bool>,
    stop: watch::Receiver<bool>,
) -> Result<Vec<String>> {
    let mut connection = Connection::open(address).await?;
    let ask = Ask::new("POST", "/shop/a").header("x-user-id", "ann");
    let mut owners: Vec<String> = Vec::new();
    while !*stop.borrow() {
        let answer = connection.ask(&ask).await?;
        let owner = match answer.status {
            503 => "nobody".to_owned(),
            200 => answer.echo()?.version,
            other => format!("status {other}"),
        };
        if owners.last() != Some(&owner) {
            owners.push(owner);
            begun.send_replace(true);
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(owners)
}

/// How often the controller is killed; `OMBRE_ROUNDS` asks for more.
fn rounds() -> u64 {
    let asked = std::env::var("OMBRE_ROUNDS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(8)
}

async fn a_controller_killed_in_a_fail_back_ends_it_without_loss(feed: Feed) -> Result<()> {
    let applier = Applier::start().await?;
    Stack::fed(feed, &policy(applier.address), async |stack| {
        phase(stack, &["stable"]).await?;
        let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for round in 0..rounds() {
            if round > 0 {
                order(stack, json!({ "set_weight": 100 })).await?;
                let ask = Ask::new("POST", "/shop/a").header("x-user-id", "ann");
                eventually(LONG, "v2 owns writes again", async || {
                    ensure!(
                        stack.ask(&ask).await?.echo()?.version == "v2",
                        "it does not"
                    );
                    Ok(())
                })
                .await?;
            }
            let (stop, stopping) = watch::channel(false);
            let (begin, mut begun) = watch::channel(false);
            let writer = tokio::spawn(write(stack.envoy.address(), begin, stopping));
            begun.wait_for(|begun| *begun).await?;
            let changes: Vec<(String, u64)> = (0..200)
                .map(|number| (format!("key-{}", number % 50), round * 1000 + number))
                .collect();
            for batch in changes.chunks(40) {
                log(stack, batch).await?;
                // A batch that is sent again, as after an answer that was lost.
                log(stack, batch).await?;
            }
            acknowledged.extend(changes);
            order(stack, json!({ "rollback": { "force": false } })).await?;
            // At another moment of the fail-back each time.
            sleep(Duration::from_millis(round * 137 % 1900)).await;
            stack.controller.kill()?;
            stack.controller.restart()?;
            stack.controller.healthy().await?;
            let end = phase(stack, &["failed_back", "aborted"]).await?;
            let ended = end.get("phase").and_then(Value::as_str);
            ensure!(ended == Some("failed_back"), "round {round}: {end:#}");
            let ask = Ask::new("POST", "/shop/a").header("x-user-id", "ann");
            eventually(LONG, "v1 owns writes", async || {
                ensure!(
                    stack.ask(&ask).await?.echo()?.version == "v1",
                    "it does not"
                );
                Ok(())
            })
            .await?;
            sleep(Duration::from_millis(50)).await;
            stop.send_replace(true);
            let owners = writer.await.context("the writer broke off")??;
            ensure!(
                owners == ["v2", "nobody", "v1"],
                "round {round}: {owners:?}"
            );
            *seen
                .entry(ended.unwrap_or_default().to_owned())
                .or_default() += 1;
            let (newest, backwards) = applier.with(|a| (a.newest.clone(), a.backwards.clone()));
            ensure!(backwards.is_empty(), "round {round}: {backwards:?}");
            ensure!(newest == acknowledged, "round {round}: changes are missing");
        }
        println!(
            "{seen:?}, {} applied",
            applier.with(|applied| applied.applied)
        );
        Ok(())
    })
    .await
}

async fn a_change_that_is_always_refused_aborts_and_keeps_everything(feed: Feed) -> Result<()> {
    let applier = Applier::start().await?;
    applier.with(|applied| applied.refused = Some("key-7".to_owned()));
    Stack::fed(feed, &policy(applier.address), async |stack| {
        phase(stack, &["stable"]).await?;
        let changes: Vec<(String, u64)> = (0..20).map(|n| (format!("key-{n}"), n)).collect();
        log(stack, &changes).await?;
        order(stack, json!({ "rollback": { "force": false } })).await?;
        let end = phase(stack, &["aborted"]).await?;
        ensure!(
            end.pointer("/writes") == Some(&json!("candidate")),
            "{end:#}"
        );
        ensure!(
            end.pointer("/sync_log/waiting") == Some(&json!(13)),
            "{end:#}"
        );
        let ask = Ask::new("POST", "/shop/a").header("x-user-id", "ann");
        eventually(LONG, "writes are let in again", async || {
            ensure!(
                stack.ask(&ask).await?.echo()?.version == "v2",
                "they are not"
            );
            Ok(())
        })
        .await?;
        // Once it can be applied, the rest goes where it belongs.
        applier.with(|applied| applied.refused = None);
        order(stack, json!({ "rollback": { "force": false } })).await?;
        let end = phase(stack, &["failed_back"]).await?;
        ensure!(
            end.pointer("/sync_log/waiting") == Some(&json!(0)),
            "{end:#}"
        );
        ensure!(
            applier.with(|applied| applied.newest.len()) == 20,
            "some are missing"
        );
        Ok(())
    })
    .await
}

with_every_feed!(
    a_controller_killed_in_a_fail_back_ends_it_without_loss,
    a_change_that_is_always_refused_aborts_and_keeps_everything,
);
