//! Decisions over `PUT /v1/decisions`: what each of them does to requests, which are refused, that
//! every worker takes them, and that they outlive the controller.

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Ask, Connection};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::Stack;
use serde_json::{Value, json};

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: pages, path: "/shop/{*rest}" }
      - { name: admin, path: "/shop/admin/{*rest}" }
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 10 }
  - name: other
    routes: [{ name: other, path: "/other/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v2
"#;

fn shop(decisions: &Value) -> Value {
    json!({ "services": { "shop": decisions } })
}

fn wants_v2(method: &str) -> Ask {
    Ask::new(method, "/shop/a").header("x-api-version", "2")
}

/// Which of 1000 users get v2.
async fn candidates(stack: &Stack) -> Result<Vec<usize>> {
    let mut connection = Connection::open(stack.envoy.address()).await?;
    let mut found = Vec::new();
    for number in 0..1000 {
        let ask = Ask::get("/shop/a").header("x-user-id", format!("user-{number}"));
        if connection.ask(&ask).await?.echo()?.version == "v2" {
            found.push(number);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_weight_moves_the_share_and_nobody_back_and_forth() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let at_10 = candidates(stack).await?;
        ensure!((70..=130).contains(&at_10.len()), "{}", at_10.len());
        let mut before = at_10.clone();
        for (weight, least, most) in [(0.5, 0, 13), (25.0, 205, 295), (100.0, 1000, 1000)] {
            stack.decide(&shop(&json!({ "weight": weight }))).await?;
            // Whoever is counted is counted when all workers have it.
            let nodes = async || -> Result<()> {
                let wanted = stack.controller.json("/v1/decisions").await?;
                let nodes = stack.controller.json("/v1/nodes").await?;
                let applied = nodes.pointer("/nodes/0/applied/decisions");
                ensure!(applied == wanted.get("revision"), "{nodes}");
                Ok(())
            };
            eventually(SOON, "every worker has the decisions", nodes).await?;
            let now = candidates(stack).await?;
            ensure!(
                (least..=most).contains(&now.len()),
                "{weight}: {} users",
                now.len()
            );
            let (fewer, more) = if before.len() < now.len() {
                (&before, &now)
            } else {
                (&now, &before)
            };
            ensure!(
                fewer.iter().all(|user| more.contains(user)),
                "{weight}: somebody moved the other way"
            );
            before = now;
        }
        // Empty decisions: the policy's weight holds again, for the same users.
        stack.decide(&json!({})).await?;
        eventually(SOON, "the policy's weight holds", async || {
            ensure!(candidates(stack).await? == at_10, "not the users as before");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn degraded_frozen_and_disabled() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        stack
            .decide(&shop(&json!({ "degraded": { "v2": "v1" } })))
            .await?;
        for method in ["GET", "POST"] {
            stack
                .on_every_worker(&wants_v2(method), |answer| {
                    let due = Some("route=pages;version=v1;reason=header;degraded=v2");
                    ensure!(answer.echo()?.version == "v1", "v2 serves");
                    ensure!(answer.header("x-ombre-decision") == due, "no decision");
                    Ok(())
                })
                .await?;
        }
        ensure!(stack.envoy.sum("ombre_degraded_total").await? > 0);
        let other = stack.ask(&Ask::get("/other/a")).await?;
        ensure!(other.echo()?.version == "v2", "{}", other.seen());

        stack
            .decide(&shop(&json!({ "frozen": { "v2": { "retry_after": 7 } } })))
            .await?;
        stack
            .on_every_worker(&wants_v2("POST"), |answer| {
                ensure!(answer.status == 503, "not refused");
                Ok(())
            })
            .await?;
        let before = stack.v2.counts().total;
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let answer = stack.ask(&wants_v2(method)).await?;
            let body = answer.json()?;
            ensure!(
                answer.status == 503
                    && answer.header("retry-after") == Some("7")
                    && answer.header("content-type") == Some("application/json")
                    && body.get("error") == Some(&json!("frozen_writes"))
                    && body.get("service") == Some(&json!("shop"))
                    && body.get("message").is_some_and(Value::is_string),
                "{method}: {}",
                answer.seen()
            );
        }
        ensure!(stack.v2.counts().total == before, "a write went through");
        for (name, ask, version) in [
            ("reads", wants_v2("GET"), "v2"),
            ("OPTIONS", wants_v2("OPTIONS"), "v2"),
            (
                "writes to the other version",
                Ask::new("POST", "/shop/a"),
                "v1",
            ),
            (
                "writes to another service",
                Ask::new("POST", "/other/a"),
                "v2",
            ),
        ] {
            let answer = stack.ask(&ask).await?;
            ensure!(
                answer.status == 200 && answer.echo()?.version == version,
                "{name}: {}",
                answer.seen()
            );
        }
        let head = stack.ask(&wants_v2("HEAD")).await?;
        ensure!(head.status == 200, "{}", head.seen());

        stack
            .decide(&shop(&json!({ "disabled_routes": ["admin"] })))
            .await?;
        stack
            .on_every_worker(&Ask::get("/shop/admin/users"), |answer| {
                ensure!(answer.status == 404, "the route is not disabled");
                let body = answer.json()?;
                ensure!(
                    body.get("error") == Some(&json!("disabled_route")),
                    "{body}"
                );
                Ok(())
            })
            .await?;
        let page = stack.ask(&wants_v2("POST")).await?;
        ensure!(
            page.status == 200,
            "what was frozen stays so: {}",
            page.seen()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_changes_nothing() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        stack
            .decide(&shop(&json!({ "degraded": { "v2": "v1" } })))
            .await?;
        let degraded = async || {
            stack
                .on_every_worker(&wants_v2("GET"), |answer| {
                    ensure!(answer.echo()?.version == "v1", "v2 serves");
                    Ok(())
                })
                .await
        };
        degraded().await?;
        let before = stack.controller.json("/v1/decisions").await?;
        for (name, decisions, word) in [
            (
                "no such service",
                json!({ "services": { "nobody": {} } }),
                "nobody",
            ),
            (
                "no such version",
                shop(&json!({ "degraded": { "v7": "v1" } })),
                "v7",
            ),
            (
                "no such fallback",
                shop(&json!({ "degraded": { "v2": "v7" } })),
                "v7",
            ),
            (
                "a degraded fallback",
                shop(&json!({ "degraded": { "v2": "v1", "v1": "v2" } })),
                "degraded itself",
            ),
            ("more than all", shop(&json!({ "weight": 100.5 })), "weight"),
            ("less than none", shop(&json!({ "weight": -1 })), "weight"),
            (
                "a weight without a rollout",
                json!({ "services": { "other": { "weight": 5 } } }),
                "rollout",
            ),
            (
                "no time to come back",
                shop(&json!({ "frozen": { "v2": { "retry_after": 0 } } })),
                "retry_after",
            ),
            (
                "another's route",
                shop(&json!({ "disabled_routes": ["other"] })),
                "other",
            ),
            ("an unknown field", shop(&json!({ "wieght": 5 })), "wieght"),
            ("a list", json!([1]), "decisions"),
        ] {
            let (status, text) = stack.controller.put("/v1/decisions", &decisions).await?;
            ensure!(
                (400..500).contains(&status) && text.contains(word),
                "{name}: {status} {text}"
            );
        }
        let after = stack.controller.json("/v1/decisions").await?;
        ensure!(before == after, "{before} became {after}");
        degraded().await
    })
    .await
}

#[tokio::test]
async fn decisions_outlive_the_controller_and_follow_the_policy() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let degraded = |due: &'static str| {
            move |answer: &ombre_tests::client::Answer| {
                let version = answer.echo()?.version;
                ensure!(version == due, "{version} serves, not {due}");
                Ok(())
            }
        };
        stack
            .decide(&shop(&json!({ "weight": 40, "degraded": { "v2": "v1" } })))
            .await?;
        stack
            .on_every_worker(&wants_v2("GET"), degraded("v1"))
            .await?;
        let before = stack.controller.json("/v1/decisions").await?;

        // Without the controller they hold on.
        stack.controller.kill()?;
        stack
            .on_every_worker(&wants_v2("GET"), degraded("v1"))
            .await?;
        stack.controller.restart()?;
        stack.controller.healthy().await?;
        let after = eventually(SOON, "the controller has its policy", async || {
            stack.controller.json("/v1/decisions").await
        })
        .await?;
        ensure!(
            before.get("decisions").context("none")? == after.get("decisions").context("none")?,
            "{before} became {after}"
        );
        // An Envoy that comes up now starts with them: its first decided request is degraded.
        stack.envoy.kill()?;
        stack.envoy.restart()?;
        stack.envoy.ready().await?;
        stack.in_force().await?;
        let answer = stack.ask(&wants_v2("GET")).await?;
        degraded("v1")(&answer)?;
        // A new policy keeps them, for as long as it has what they are about.
        stack
            .change_policy(&POLICY.replace("weight: 10", "weight: 11"))
            .await?;
        let answer = stack.ask(&wants_v2("GET")).await?;
        degraded("v1")(&answer)?;
        stack.decide(&json!({})).await?;
        stack
            .on_every_worker(&wants_v2("GET"), degraded("v2"))
            .await
    })
    .await
}
