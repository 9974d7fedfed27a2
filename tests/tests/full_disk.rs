//! A controller that cannot write says so and moves nothing, the data plane goes on, and with room it
//! goes on by itself. A store that is damaged at the start stops the release loop and nothing else.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::load::Load;
use ombre_tests::poll::eventually;
use ombre_tests::release::{LONG, release, text, users};
use ombre_tests::stack::Stack;
use ombre_tests::upstream::Faults;
use serde_json::json;

const CONNECTIONS: usize = 4;
const PACE: Duration = Duration::from_millis(10);

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: pages, path: "/shop/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 50, steps: [50, 100], hold: 1h }
    degrade:
      outage: { requests: 10 }
      evidence: { interval: 250ms, judge: 500ms }
"#;

/// Waits until the release is one, which is kept on the disk.
async fn begun(stack: &Stack) -> Result<()> {
    eventually(LONG, "the release begins", async || {
        release(stack).await.map(drop)
    })
    .await
}

/// Waits until `/readyz` answers so, and has `part` in its text.
async fn ready(stack: &Stack, wanted: u16, part: &str) -> Result<()> {
    eventually(LONG, &format!("/readyz is {wanted}: {part}"), async || {
        let (status, text) = stack.controller.text("/readyz").await?;
        ensure!(status == wanted && text.contains(part), "{status}: {text}");
        Ok(())
    })
    .await
}

/// Requests of many users, half of them v2's.
fn load(stack: &Stack) -> Result<Load> {
    Load::start(stack.envoy.address(), CONNECTIONS, PACE, users())
}

#[tokio::test]
async fn a_full_disk_moves_nothing_until_there_is_room() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        ready(stack, 200, "ready").await?;
        begun(stack).await?;
        let traffic = load(stack)?;
        stack.controller.process().limit_files(Some(0))?;
        ready(stack, 503, "releases cannot be kept and do not move").await?;

        let body =
            json!({ "command": { "rollback": { "force": false } }, "actor": "a", "reason": "b" });
        let path = "/v1/services/shop/orders";
        let (status, told) = stack.controller.post(path, &body).await?;
        ensure!(
            status == 503 && told.contains("cannot be kept and is not followed"),
            "{told}"
        );
        let disabled = json!({ "services": { "shop": { "disabled_routes": ["pages"] } } });
        let (status, told) = stack.controller.put("/v1/decisions", &disabled).await?;
        ensure!(
            status == 503 && told.contains("cannot be stored and are not in force"),
            "{told}"
        );

        stack.v2.set_faults(Faults {
            fail: 1.0,
            ..Faults::default()
        });
        eventually(LONG, "a trigger fires", async || {
            let now = release(stack).await?;
            ensure!(
                text(&now, "/judgement/verdict/fired") == "outage",
                "{now:#}"
            );
            Ok(())
        })
        .await?;
        let now = release(stack).await?;
        ensure!(text(&now, "/phase") == "ramping", "{now:#}");
        let seen = stack.v2.counts().total;
        eventually(LONG, "v2 keeps its share", async || {
            ensure!(stack.v2.counts().total > seen + 100, "it does not");
            Ok(())
        })
        .await?;

        stack.controller.process().limit_files(None)?;
        ready(stack, 200, "ready").await?;
        eventually(LONG, "it fails back now", async || {
            let now = release(stack).await?;
            ensure!(text(&now, "/phase") == "failed_back", "{now:#}");
            Ok(())
        })
        .await?;
        eventually(LONG, "v2 gets no more requests", async || {
            stack.v2.reset_counts();
            let before = stack.v1.counts().total;
            eventually(LONG, "v1 serves", async || {
                ensure!(stack.v1.counts().total > before + 100, "not enough");
                Ok(())
            })
            .await?;
            ensure!(stack.v2.counts().total == 0, "it does");
            Ok(())
        })
        .await?;
        let report = traffic.stop().await?;
        ensure!(report.lost == 0, "{}", report.line());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_damaged_store_stops_the_loop_and_policies_are_served() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        ready(stack, 200, "ready").await?;
        let body =
            json!({ "command": { "rollback": { "force": false } }, "actor": "a", "reason": "b" });
        let path = "/v1/services/shop/orders";
        let (status, told) = stack.controller.post(path, &body).await?;
        ensure!(status == 200, "{told}");
        let all_stable = async |stack: &Stack| {
            for user in 0..20 {
                let ask = Ask::get("/shop/a").header("x-user-id", user.to_string());
                stack
                    .on_every_worker(&ask, |answer| {
                        ensure!(answer.echo()?.version == "v1", "v2 answered");
                        Ok(())
                    })
                    .await?;
            }
            anyhow::Ok(())
        };
        all_stable(stack).await?;
        stack.controller.kill()?;
        let state = stack.dir().join("state");
        for end in ["-wal", "-shm"] {
            let beside = state.join(format!("ombre.db{end}"));
            if beside.exists() {
                std::fs::remove_file(beside)?;
            }
        }
        std::fs::write(state.join("ombre.db"), "this is no database".repeat(99))
            .context("the store cannot be damaged")?;
        stack.controller.restart()?;
        stack.controller.healthy().await?;
        ready(stack, 503, "is damaged").await?;
        let (status, told) = stack.controller.post(path, &body).await?;
        ensure!(status == 503 || status == 404, "{status} {told}");
        // A policy is served all the same, with what was decided last in force.
        stack
            .change_policy(&POLICY.replace("pages", "sites"))
            .await?;
        let ask = Ask::get("/shop/a").header("x-user-id", "1");
        stack
            .on_every_worker(&ask, |answer| {
                ensure!(answer.decision("route") == Some("sites"), "the old policy");
                Ok(())
            })
            .await?;
        all_stable(stack).await
    })
    .await
}
