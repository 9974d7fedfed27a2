//! What goes on with a request: its color over two hops, others' baggage, the id, the client's
//! address, and the path that it was asked for before a rewrite.

use anyhow::{Context, Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::stack::Stack;
use ombre_tests::upstream::{Echo, Relay};

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: front
    routes: [{ name: front, path: "/front/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    colors: { canary-v2: v2 }
  - name: back
    routes:
      - { name: back, path: "/back/{*rest}" }
      - { name: old-item, path: "/old/{id}/item/{*rest}", rewrite: "/items/{id}/{rest}" }
      - { name: item, path: "/by-version/{*rest}", rewrite: "/route{path}" }
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2, rewrite: "/v2{path}" }]
    default: v1
    colors: { canary-v2: v2 }
"#;

const COLOR: &str = "x-envoy-traffic-color";

fn color(ask: Ask, color: &str) -> Ask {
    ask.header(COLOR, color)
}

async fn echo(stack: &Stack, ask: &Ask) -> Result<Echo> {
    let answer = stack.ask(ask).await?;
    ensure!(answer.status == 200, "{}", answer.seen());
    answer.echo()
}

#[tokio::test]
async fn the_color_reaches_the_second_service_through_baggage_alone() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        for upstream in [&stack.v1, &stack.v2] {
            upstream.set_relay(Relay {
                from: "/front/a".to_owned(),
                address: stack.envoy.address(),
                to: "/back/b".to_owned(),
            });
        }
        let front = || Ask::get("/front/a");
        for (name, ask, version, due) in [
            ("by header", color(front(), "canary-v2"), "v2", "canary-v2"),
            (
                "by cookie",
                front().header("cookie", "traffic_color=canary-v2"),
                "v2",
                "canary-v2",
            ),
            (
                "by query",
                Ask::get("/front/a?color=canary-v2"),
                "v2",
                "canary-v2",
            ),
            (
                "without a version of its own",
                color(front(), "blue"),
                "v1",
                "blue",
            ),
            ("none", front(), "v1", "prod"),
            (
                "among others' baggage",
                color(front(), "canary-v2").header("baggage", "tenant=7;p=1,region=eu"),
                "v2",
                "canary-v2",
            ),
            (
                "ours wins over what is said in baggage",
                color(front(), "canary-v2").header("baggage", "traffic-color=blue"),
                "v2",
                "canary-v2",
            ),
            (
                "baggage alone",
                front().header("baggage", "a=1,traffic-color=canary-v2"),
                "v2",
                "canary-v2",
            ),
        ] {
            stack.v1.reset_counts();
            stack.v2.reset_counts();
            let answer = stack.ask(&ask).await?;
            let back = answer.echo().with_context(|| name.to_owned())?;
            ensure!(
                answer.decision("version") == Some(version) && back.version == version,
                "{name}: {}",
                answer.seen()
            );
            ensure!(
                back.path.ends_with("/back/b") && back.header(COLOR) == Some(due),
                "{name}: {back:?}"
            );
            ensure!(
                back.header("x-traffic-tag") == Some(due),
                "{name}: {back:?}"
            );
            if name.starts_with("among") {
                let baggage = back.header("baggage").unwrap_or_default();
                for member in ["traffic-color=canary-v2", "tenant=7;p=1", "region=eu"] {
                    ensure!(
                        baggage.split(',').any(|found| found.trim() == member),
                        "{name}: no {member} in {baggage}"
                    );
                }
            }
            // Both hops arrived at the version, and nothing at the other.
            let counts = [stack.v1.counts().total, stack.v2.counts().total];
            let due = if version == "v1" { [2, 0] } else { [0, 2] };
            ensure!(counts == due, "{name}: {counts:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn baggage_is_merged_and_never_replaced() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let many: Vec<String> = (0..63).map(|number| format!("k{number}=v")).collect();
        let many = many.join(",");
        for (name, sent, due) in [
            ("none", vec![], "traffic-color=blue".to_owned()),
            (
                "one header",
                vec!["a=1;p=2, b=%20"],
                "traffic-color=blue,a=1;p=2,b=%20".to_owned(),
            ),
            (
                "two headers",
                vec!["a=1", "b=2"],
                "traffic-color=blue,a=1,b=2".to_owned(),
            ),
            (
                "an old color",
                vec!["a=1,traffic-color=red,b=2"],
                "traffic-color=blue,a=1,b=2".to_owned(),
            ),
            (
                "as many as there may be",
                vec![many.as_str()],
                format!("traffic-color=blue,{many}"),
            ),
        ] {
            let ask = sent
                .iter()
                .fold(color(Ask::get("/front/x"), "blue"), |ask, value| {
                    ask.header("baggage", value)
                });
            let echo = echo(stack, &ask).await?;
            let got = echo.header("baggage");
            ensure!(got == Some(due.as_str()), "{name}: {got:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn id_address_and_original_path_go_on() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let id = "11111111-2222-3333-4444-555555555555";
        let ask = Ask::get("/front/x").header("x-request-id", id);
        let got = echo(stack, &ask).await?;
        ensure!(got.header("x-request-id") == Some(id), "{got:?}");
        let forwarded = got
            .header("x-forwarded-for")
            .context("no x-forwarded-for")?;
        ensure!(forwarded.parse::<std::net::IpAddr>().is_ok(), "{forwarded}");
        let got = echo(stack, &ask.header("x-forwarded-for", "203.0.113.9")).await?;
        let listed = got.header("x-forwarded-for").unwrap_or_default();
        ensure!(listed.starts_with("203.0.113.9,"), "{listed}");
        ensure!(got.header("x-envoy-original-path").is_none(), "{got:?}");

        for (asked, version, received) in [
            ("/old/7/item/a/b?x=1&y=%2F", "1", "/items/7/a/b?x=1&y=%2F"),
            ("/old/a%20b/item/c", "1", "/items/a%20b/c"),
            ("/by-version/a?q", "1", "/route/by-version/a?q"),
            // A version's own rewrite wins.
            ("/by-version/a?q", "2", "/v2/by-version/a?q"),
            ("/back/a", "2", "/v2/back/a"),
        ] {
            let ask = Ask::get(asked)
                .header("x-api-version", version)
                .header("x-envoy-original-path", "/forged");
            let got = echo(stack, &ask).await?;
            ensure!(got.path == received, "{asked}: {}", got.path);
            ensure!(
                got.header("x-envoy-original-path") == Some(asked),
                "{asked}: {got:?}"
            );
        }
        // Nothing was rewritten: there is no original.
        let got = echo(stack, &Ask::get("/back/a").header("x-api-version", "1")).await?;
        ensure!(got.header("x-envoy-original-path").is_none(), "{got:?}");
        Ok(())
    })
    .await
}
