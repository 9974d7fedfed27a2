//! `envoy/minimal.yaml`, what an existing Envoy needs for ombre and nothing else, does the whole job.

use anyhow::{Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::envoy::Example;
use ombre_tests::stack::Setup;
use serde_json::json;

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: pages, path: "/shop/{*rest}" }]
    versions: [{ name: v1, cluster: my_service }, { name: v2, cluster: demo_v2 }]
    default: v1
    unit: [mint]
    rollout: { candidate: v2, weight: 100 }
"#;

#[tokio::test]
async fn seven_places_are_enough() -> Result<()> {
    Setup::new(POLICY)
        .example(Example::Minimal)
        .run(async |stack| {
            let page = Ask::get("/shop/a").header("x-ombre-cluster", "nowhere");
            let answer = stack.ask(&page).await?;
            ensure!(answer.echo()?.version == "v2", "{}", answer.seen());
            ensure!(
                answer.decision("reason") == Some("rollout"),
                "{}",
                answer.seen()
            );
            let cookie = answer.header("set-cookie").unwrap_or_default();
            ensure!(cookie.starts_with("ombre_uid="), "{}", answer.seen());

            let twin = Ask::get("//x/../shop/a").header("x_ombre_group", "forged");
            let echo = stack.ask(&twin).await?.echo()?;
            ensure!(echo.version == "v2", "a path written otherwise is another");
            ensure!(echo.header("x_ombre_group").is_none(), "{echo:?}");

            let nodes = stack.controller.json("/v1/nodes").await?;
            ensure!(
                nodes.to_string().contains("\"envoy-1\""),
                "nobody polls: {nodes}"
            );

            let elsewhere = Ask::get("/elsewhere").header("x-ombre-cluster", "demo_v2");
            let answer = stack.ask(&elsewhere).await?;
            ensure!(answer.echo()?.version == "v1", "{}", answer.seen());

            stack
                .decide(&json!({ "services": { "shop": { "degraded": { "v2": "v1" } } } }))
                .await?;
            stack
                .on_every_worker(&page, |answer| {
                    ensure!(answer.echo()?.version == "v1", "v2 is not degraded");
                    Ok(())
                })
                .await
        })
        .await
}
