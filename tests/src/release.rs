//! The release of the service `shop`, as an operator sees and moves it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::client::Ask;
use crate::load::{Load, Shot};
use crate::poll::eventually;
use crate::stack::Stack;

/// Envoy publishes latencies every five seconds, and the machine may be busy.
pub const LONG: Duration = Duration::from_secs(60);
/// Of a load.
pub const CONNECTIONS: usize = 8;
/// Between two requests of one of its connections.
pub const PACE: Duration = Duration::from_millis(20);

/// Requests of many users, so that both versions get their share.
pub fn users() -> Vec<Shot> {
    let user = |number: u32| Ask::get("/shop/a").header("x-user-id", number.to_string());
    (0..200)
        .map(|number| Shot::new("user", user(number), None))
        .collect()
}

/// How it stands.
///
/// # Errors
/// When the controller does not answer, or has no such release.
pub async fn release(stack: &Stack) -> Result<Value> {
    stack.controller.json("/v1/services/shop").await
}

/// A text in it; `-` where there is none.
pub fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("-")
}

/// Whether this holds it.
pub fn held(release: &Value, by: &str) -> bool {
    let held = release.get("held_by").and_then(Value::as_array);
    held.is_some_and(|held| held.iter().any(|hold| hold == by))
}

/// Waits until it is in this phase.
///
/// # Errors
/// When it is not in time.
pub async fn phase(stack: &Stack, wanted: &str) -> Result<Value> {
    let what = format!("the release is `{wanted}`");
    eventually(LONG, &what, async || {
        let now = release(stack).await?;
        ensure!(text(&now, "/phase") == wanted, "{now:#}");
        Ok(now)
    })
    .await
}

/// What became of it, oldest first.
///
/// # Errors
/// When the controller does not answer.
pub async fn transitions(stack: &Stack) -> Result<Vec<Value>> {
    let mut history = stack
        .controller
        .json("/v1/history?service=shop&limit=1000")
        .await?;
    let entries = history
        .get_mut("entries")
        .map(Value::take)
        .unwrap_or_default();
    let Value::Array(mut entries) = entries else {
        return Ok(Vec::new());
    };
    entries.retain(|entry| text(entry, "/kind") == "transition");
    entries.reverse();
    Ok(entries)
}

/// Half of the load goes to v2, and the loop has seen it.
///
/// # Errors
/// When it has not in time.
pub async fn loaded(stack: &Stack) -> Result<Load> {
    let load = Load::start(stack.envoy.address(), CONNECTIONS, PACE, users())?;
    eventually(LONG, "both versions are judged", async || {
        let now = release(stack).await?;
        let seen = |side: &str| {
            let path = format!("/judgement/{side}/requests");
            now.pointer(&path).and_then(Value::as_u64).unwrap_or(0)
        };
        ensure!(seen("candidate") > 100 && seen("stable") > 100, "{now:#}");
        ensure!(text(&now, "/phase") != "failed_back", "{now:#}");
        Ok(())
    })
    .await?;
    Ok(load)
}

/// Keeps the first rollout at its share until the test begins.
///
/// # Errors
/// When there is none.
pub async fn hold(stack: &Stack) -> Result<()> {
    eventually(LONG, "the release has begun", async || {
        release(stack).await.map(drop)
    })
    .await?;
    order(stack, json!("pause")).await
}

/// Orders something, which must be followed.
///
/// # Errors
/// When it is not.
pub async fn order(stack: &Stack, command: Value) -> Result<()> {
    let body = json!({ "command": command, "actor": "test", "reason": "the test says so" });
    let (status, text) = stack
        .controller
        .post("/v1/services/shop/orders", &body)
        .await?;
    ensure!(status == 200, "{status}: {text}");
    Ok(())
}
