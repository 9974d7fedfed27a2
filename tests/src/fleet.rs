//! The Envoys that a controller serves over xDS: what it knows of them, waiting for one of them, and
//! one more than the stack has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::binaries;
use crate::controller::Controller;
use crate::envoy::{self, Config, Envoy, Launcher, Listeners};
use crate::feed::{self, Feed};
use crate::poll::eventually;
use crate::stack::Stack;

/// An Envoy that holds something back waits for 15 s by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Revision of the policy.
    pub policy: u64,
    /// Revision of the decisions.
    pub decisions: u64,
}

impl InForce {
    /// What is in force now.
    ///
    /// # Errors
    /// When the controller does not say.
    pub async fn now(controller: &Controller) -> Result<Self> {
        Self::of(&controller.json("/v1/status").await?)
    }

    fn of(status: &Value) -> Result<Self> {
        let number = |path: &str| {
            let number = status.pointer(path).and_then(Value::as_u64);
            number.with_context(|| format!("no `{path}` in {status}"))
        };
        Ok(Self {
            policy: number("/policy/revision")?,
            decisions: number("/decisions/revision")?,
        })
    }
}

/// One Envoy more that the stack's controller serves over xDS. It is not waited for.
///
/// # Errors
/// When it cannot be started.
pub fn join(
    stack: &Stack,
    feed: Feed,
    name: &str,
    listeners: Listeners,
    more: &[&str],
) -> Result<Envoy> {
    let dir = stack.dir().join(name);
    std::fs::create_dir_all(&dir)?;
    let text = feed::bootstrap(feed, name, stack.xds()?, listeners.admin.address(), more)?;
    let settings = envoy::Settings {
        config: Config::Bootstrap(text),
        concurrency: 1,
        launcher: Launcher::Program(binaries::envoy()?),
        environment: Vec::new(),
    };
    Envoy::start(settings, listeners, &dir)
}

/// How the controller sees an Envoy.
///
/// # Errors
/// When it does not know it.
pub async fn node(controller: &Controller, name: &str) -> Result<Value> {
    found(&controller.json("/v1/nodes").await?, name)
}

/// A text of the Envoy's first stream, such as `stage` or `types/eds/accepted`; `-` where there is none.
pub fn of_stream<'a>(node: &'a Value, path: &str) -> &'a str {
    let path = format!("/xds/streams/0/{path}");
    node.pointer(&path).and_then(Value::as_str).unwrap_or("-")
}

/// Waits until something newer than `before` is in force, and the Envoy has it and nothing else.
///
/// # Errors
/// When that takes too long.
pub async fn takes(controller: &Controller, name: &str, before: InForce) -> Result<InForce> {
    eventually(PATIENCE, "Envoy has taken the change", async || {
        let status = controller.json("/v1/status").await?;
        let now = InForce::of(&status)?;
        ensure!(now != before, "nothing new is in force: {status:#}");
        let node = found(&status, name)?;
        runs(&node, now)?;
        Ok(now)
    })
    .await
}

/// Waits until the Envoy has what is in force and nothing else.
///
/// # Errors
/// When that takes too long.
pub async fn settles(controller: &Controller, name: &str) -> Result<Value> {
    eventually(PATIENCE, "Envoy has what is in force", async || {
        let status = controller.json("/v1/status").await?;
        let node = found(&status, name)?;
        runs(&node, InForce::of(&status)?)?;
        Ok(node)
    })
    .await
}

/// Waits until the Envoy has other resources of a type than `before`, a node as it was.
///
/// # Errors
/// When that takes too long.
pub async fn takes_other(
    controller: &Controller,
    name: &str,
    kind: &str,
    before: &Value,
) -> Result<Value> {
    let accepted = format!("types/{kind}/accepted");
    eventually(PATIENCE, "Envoy has taken other resources", async || {
        let now = node(controller, name).await?;
        let other = of_stream(&now, &accepted) != of_stream(before, &accepted);
        ensure!(other && of_stream(&now, "stage") == "settled", "{now:#}");
        Ok(now)
    })
    .await
}

fn runs(node: &Value, wanted: InForce) -> Result<()> {
    let revision = |path: &str| node.pointer(path).and_then(Value::as_u64);
    let applied = (revision("/applied/policy"), revision("/applied/decisions"));
    let wanted = (Some(wanted.policy), Some(wanted.decisions));
    ensure!(
        applied == wanted && of_stream(node, "stage") == "settled",
        "not {wanted:?}: {node:#}"
    );
    Ok(())
}

fn found(list: &Value, name: &str) -> Result<Value> {
    let nodes = list.get("nodes").and_then(Value::as_array);
    let mut nodes = nodes.into_iter().flatten();
    let node = nodes.find(|node| node.get("name").and_then(Value::as_str) == Some(name));
    Ok(node.context("the Envoy is not known")?.clone())
}
