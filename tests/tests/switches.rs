//! Switches (§2.5): what the environment that Envoy gives the filter overrides, and that what is in
//! force can be seen. What is compiled in is tested beside the code, in `policy` and `filter`.

use anyhow::{Context, Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Setup, Stack};
use serde_json::{Value, json};

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: pages, path: "/shop/{*rest}" }
      - { name: admin, path: "/admin/{*rest}" }
    versions: [{ name: v1, cluster: demo_v1, stage: prod }, { name: v2, cluster: demo_v2, stage: canary }]
    default: v1
    colors: { stable: v1 }
    verification: open
    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 100 }
    experiment:
      experiment: cart
      groups: [{ name: new, weight: 100, features: { cart: new } }]
  - name: single
    routes: [{ name: single, path: "/single/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }]
    default: v1
"#;

/// What `/v1/status` shows of the one Envoy's switches.
async fn described(stack: &Stack) -> Result<String> {
    eventually(SOON, "the Envoy tells its switches", async || {
        let status = stack.controller.json("/v1/status").await?;
        let switches = status.pointer("/nodes/0/switches").and_then(Value::as_str);
        Ok(switches.with_context(|| status.to_string())?.to_owned())
    })
    .await
}

#[tokio::test]
async fn without_any_everything_runs() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let due = "route_version=none features=experiments,rollout,metadata,baggage,verification disabled=";
        ensure!(described(stack).await? == due);
        let answer = stack
            .ask(&Ask::get("/shop/a").header("x-user-id", "bob"))
            .await?;
        let echo = answer.echo()?;
        ensure!(answer.decision("reason") == Some("rollout"), "{}", answer.seen());
        for name in ["x-ombre-group", "x-ombre-features", "x-env-stage"] {
            ensure!(echo.header(name).is_some(), "{name}: {}", answer.seen());
        }
        let answer = stack.ask(&Ask::get("/admin/a")).await?;
        ensure!(answer.status == 200, "{}", answer.seen());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn route_version_is_the_default_where_there_is_such_a_version() -> Result<()> {
    Setup::new(POLICY)
        .environment("ROUTE_VERSION", "v2")
        .environment("DISABLE_ROUTES", "/admin,/debug")
        .run(async |stack| {
            let switches = described(stack).await?;
            ensure!(
                switches.starts_with("route_version=v2 ")
                    && switches.ends_with(" disabled=/admin,/debug"),
                "{switches}"
            );
            for (name, ask, version, reason) in [
                ("the default", Ask::get("/shop/a"), "v2", "route_version"),
                ("no such version", Ask::get("/single/a"), "v1", "default"),
                (
                    "wanted",
                    Ask::get("/shop/a").header("x-api-version", "1"),
                    "v1",
                    "header",
                ),
                (
                    "a color",
                    Ask::get("/shop/a").header("x-envoy-traffic-color", "stable"),
                    "v1",
                    "color",
                ),
            ] {
                let answer = stack.ask(&ask).await?;
                ensure!(
                    answer.decision("reason") == Some(reason) && answer.echo()?.version == version,
                    "{name}: {}",
                    answer.seen()
                );
            }
            for (path, status) in [
                ("/admin", 404),
                ("/admin/a?b", 404),
                ("/debug/pprof", 404),
                ("/shop/../admin/a", 404),
                ("/%61dmin/a", 404),
                ("/shop%2f..%2fadmin/a", 404),
                ("//admin/a", 404),
                ("/administrator", 200),
                ("/shop/admin", 200),
                ("/Admin/a", 200),
            ] {
                let answer = stack.ask(&Ask::get(path)).await?;
                ensure!(answer.status == status, "{path}: {}", answer.seen());
                if status == 404 {
                    let body = answer.json()?;
                    ensure!(body.get("error") == Some(&json!("disabled_path")), "{body}");
                }
            }
            Ok(())
        })
        .await
}

#[tokio::test]
async fn features_are_switched_off_and_nonsense_is_told_and_ignored() -> Result<()> {
    Setup::new(POLICY)
        .environment("ROUTE_FEATURES", "rollout,magic")
        .environment("ROUTE_VERSION", "newest")
        .environment("DISABLE_ROUTES", "shop")
        .run(async |stack| {
            let switches = described(stack).await?;
            ensure!(
                switches == "route_version=none features=rollout disabled=",
                "{switches}"
            );
            let ask = Ask::get("/shop/a?color=blue")
                .header("x-user-id", "bob")
                .header("x-stage", "v1");
            let answer = stack.ask(&ask).await?;
            let echo = answer.echo()?;
            ensure!(
                answer.decision("reason") == Some("rollout"),
                "verification is not off: {}",
                answer.seen()
            );
            for name in [
                "x-ombre-group",
                "x-ombre-features",
                "x-env-stage",
                "baggage",
            ] {
                ensure!(echo.header(name).is_none(), "{name}: {}", answer.seen());
            }
            let color = echo.header("x-envoy-traffic-color");
            ensure!(color == Some("blue"), "{color:?}");
            let log = stack.envoy.process().log();
            for word in ["`magic`", "`newest`", "`shop`"] {
                ensure!(log.contains(word), "the log does not tell of {word}");
            }
            Ok(())
        })
        .await
}
