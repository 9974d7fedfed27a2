//! What the upstream is told of the version that serves (§2.3), what the client sees of it, its
//! limit of 512 bytes, and what never leaves Envoy.

use anyhow::{Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::stack::Stack;

fn policy(stage: &str, build: &str, more: &str) -> String {
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: pages, path: "/shop/{{*rest}}" }}]
    versions:
      - {{ name: v1, cluster: demo_v1 }}
      - {{ name: v2.3, cluster: demo_v2, stage: "{stage}", build_id: "{build}" }}
    default: v1
{more}"#
    )
}

fn asking(version: &str) -> Ask {
    Ask::get("/shop/a").header("x-api-version", version)
}

const FACTS: [&str; 3] = ["x-api-version", "x-env-stage", "x-build-id"];

/// What the upstream gets of the three, and that the response names the version and nothing else.
async fn facts(stack: &Stack, ask: &Ask, version: &str) -> Result<[Option<String>; 3]> {
    let answer = stack.ask(ask).await?;
    ensure!(answer.status == 200, "{}", answer.seen());
    let decision = format!("route=pages;version={version};reason=header");
    let decisions: Vec<&str> = answer.all("x-ombre-decision").collect();
    ensure!(decisions == [decision.as_str()], "{}", answer.seen());
    for fact in FACTS.into_iter().chain(["x-ombre-cluster"]) {
        ensure!(answer.header(fact).is_none(), "{}", answer.seen());
    }
    let echo = answer.echo()?;
    Ok(FACTS.map(|fact| echo.header(fact).map(str::to_owned)))
}

fn due(facts: [Option<&str>; 3]) -> [Option<String>; 3] {
    facts.map(|fact| fact.map(str::to_owned))
}

#[tokio::test]
async fn the_upstream_is_told_what_serves_and_the_client_which() -> Result<()> {
    Stack::with(&policy("canary", "bld-1", ""), async |stack| {
        let told = facts(stack, &asking("2"), "v2.3").await?;
        ensure!(
            told == due([Some("v2.3"), Some("canary"), Some("bld-1")]),
            "{told:?}"
        );
        // A version without stage and build passes on nobody's claims about them.
        let claimed = asking("1")
            .header("x-env-stage", "claimed")
            .header("x-build-id", "claimed");
        let told = facts(stack, &claimed, "v1").await?;
        ensure!(told == due([Some("v1.0"), None, None]), "{told:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn metadata_is_cut_at_512_bytes_and_counted() -> Result<()> {
    let counter = "ombre_metadata_truncated_total";
    // `v2.3` and the stage take 10 bytes.
    let fits = "f".repeat(502);
    Stack::with(&policy("canary", &fits, ""), async |stack| {
        let told = facts(stack, &asking("2"), "v2.3").await?;
        ensure!(
            told == due([Some("v2.3"), Some("canary"), Some(&fits)]),
            "{told:?}"
        );
        ensure!(
            stack.envoy.sum(counter).await? == 0,
            "what fits was counted"
        );

        let long = "x".repeat(600);
        stack.change_policy(&policy("canary", &long, "")).await?;
        for count in 1..=3 {
            let [version, stage, build] = facts(stack, &asking("2"), "v2.3").await?;
            let sizes =
                [version, stage, build.clone()].map(|fact| fact.map_or(0, |fact| fact.len()));
            ensure!(sizes.iter().sum::<usize>() == 512, "{sizes:?}");
            ensure!(
                build.is_some_and(|build| long.starts_with(&build)),
                "the build is cut elsewhere"
            );
            let counted = stack.envoy.sum(counter).await?;
            ensure!(counted == count, "counted {counted}, not {count}");
        }
        // The other version's requests are not cut, and not counted.
        facts(stack, &asking("1"), "v1").await?;
        ensure!(stack.envoy.sum(counter).await? == 3);
        let warned = stack.controller.json("/v1/status").await?;
        let warnings = warned.pointer("/policy/warnings").map(ToString::to_string);
        ensure!(
            warnings.as_ref().is_some_and(|text| text.contains("512")),
            "{warnings:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_secret_never_leaves_envoy() -> Result<()> {
    let secret = policy("canary", "bld-secret", "    secret: [stage, build_id]\n");
    Stack::with(&secret, async |stack| {
        let claimed = asking("2").header("x-build-id", "claimed");
        for ask in [asking("2"), claimed] {
            let answer = stack.ask(&ask).await?;
            let echo = answer.echo()?;
            ensure!(echo.version == "v2", "{}", answer.seen());
            ensure!(
                !answer.seen().contains("bld-secret") && !answer.seen().contains("canary"),
                "{}",
                answer.seen()
            );
            let told = FACTS.map(|fact| echo.header(fact));
            ensure!(told == [Some("v2.3"), None, None], "{told:?}");
        }
        Ok(())
    })
    .await
}
