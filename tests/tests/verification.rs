//! The verification channel (§4.3): who may choose the version by `X-Stage`, and that it reaches a
//! version that is degraded.

use anyhow::{Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::stack::Stack;
use serde_json::json;

const TOKEN: &str = "a-secret-of-many-bytes";

fn policy(verification: &str) -> String {
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: pages, path: "/shop/{{*rest}}" }}]
    versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}]
    default: v1
    colors: {{ stable: v1 }}
{verification}"#
    )
}

fn staged(stage: &str) -> Ask {
    Ask::get("/shop/a").header("x-stage", stage)
}

async fn check(stack: &Stack, name: &str, ask: &Ask, version: &str, reason: &str) -> Result<()> {
    let answer = stack.ask(ask).await?;
    ensure!(
        answer.status == 200
            && answer.echo()?.version == version
            && answer.decision("reason") == Some(reason),
        "{name}: not {version} by {reason}: {}",
        answer.seen()
    );
    Ok(())
}

#[tokio::test]
async fn off_and_open() -> Result<()> {
    Stack::with(&policy(""), async |stack| {
        let token = staged("v2").header("x-stage-token", TOKEN);
        for name in ["nothing said", "off"] {
            check(stack, name, &staged("v2"), "v1", "default").await?;
            check(stack, name, &token, "v1", "default").await?;
            stack
                .change_policy(&policy("    verification: off\n"))
                .await?;
        }
        stack
            .change_policy(&policy("    verification: open\n"))
            .await?;
        for (name, ask, version, reason) in [
            ("open", staged("v2"), "v2", "verification"),
            ("open, by number", staged("2"), "v2", "verification"),
            (
                "stronger than everything",
                staged("v2")
                    .header("x-api-version", "1")
                    .header("x-envoy-traffic-color", "stable"),
                "v2",
                "verification",
            ),
            ("no such version", staged("v9"), "v1", "default"),
            ("no version", staged("latest"), "v1", "default"),
            (
                "twice",
                staged("v2").header("x-stage", "v1"),
                "v1",
                "default",
            ),
            ("empty", staged(""), "v1", "default"),
        ] {
            check(stack, name, &ask, version, reason).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn only_with_the_token() -> Result<()> {
    let line = format!(
        "    verification: {{ header: x-verify, token: {TOKEN} }}\n    unit: [{{ header: x-user-id }}]\n    rollout: {{ candidate: v2, weight: 0 }}\n"
    );
    Stack::with(&policy(&line), async |stack| {
        let with = |token: &str| staged("v2").header("x-verify", token);
        let right = with(TOKEN);
        let longer = format!("{TOKEN}x");
        let (shorter, _) = TOKEN.split_at(TOKEN.len() - 1);
        for (name, ask) in [
            ("none", staged("v2")),
            ("empty", with("")),
            ("wrong", with("b-secret-of-many-bytes")),
            ("a byte more", with(&longer)),
            ("a byte less", with(shorter)),
            ("other case", with(&TOKEN.to_uppercase())),
            (
                "twice, once wrong",
                with(TOKEN).header("x-verify", "b-secret"),
            ),
            (
                "in the header by default",
                staged("v2").header("x-stage-token", TOKEN),
            ),
        ] {
            check(stack, name, &ask, "v1", "default").await?;
        }
        check(stack, "right", &right, "v2", "verification").await?;
        let echo = stack.ask(&right).await?.echo()?;
        ensure!(
            echo.header("x-verify").is_none(),
            "the token goes on to the upstream: {echo:?}"
        );

        // The one way to a version that is degraded.
        stack
            .decide(&json!({ "services": { "shop": { "degraded": { "v2": "v1" } } } }))
            .await?;
        let wants = Ask::get("/shop/a").header("x-api-version", "2");
        stack
            .on_every_worker(&wants, |answer| {
                ensure!(answer.echo()?.version == "v1", "v2 is not degraded");
                Ok(())
            })
            .await?;
        check(stack, "degraded", &right, "v2", "verification").await
    })
    .await
}
