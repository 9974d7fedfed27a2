//! What a client gets through Envoy: which version serves it, what the upstream receives, what is
//! refused, and what passes untouched.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Answer, Ask, Connection};
use ombre_tests::feed::Feed;
use ombre_tests::stack::Stack;
use ombre_tests::with_every_feed;

const SHOP: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: api, path: "/api/{version}/{*rest}" }
      - { name: item, path: "/shop/item/{id:[0-9]+}" }
      - { name: pages, path: "/shop/{*rest}" }
      - { name: orders, hosts: [orders.example.com], methods: [POST], path: /orders }
    versions:
      - { name: v1, cluster: demo_v1, stage: prod, build_id: bld-9a3f2e1 }
      - { name: v2, cluster: demo_v2, stage: canary, build_id: bld-b71c004 }
    default: v1
    colors: { canary-v2: v2, stable-v1: v1 }
"#;

const V1: &str = "v1";
const V2: &str = "v2";

/// Asks every case and names all that were not answered by their version.
async fn check_versions(stack: &Stack, cases: &[(&str, Ask, &str)]) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, ask, due) in cases {
        let answer = stack.ask(ask).await?;
        match answer.echo() {
            Ok(echo) if answer.status == 200 && echo.version == *due => {}
            _ => wrong.push(format!("{name}: not {due} but {}", seen(&answer))),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn seen(answer: &Answer) -> String {
    format!(
        "{} {:?} {}",
        answer.status,
        answer.headers,
        String::from_utf8_lossy(&answer.body)
    )
}

fn page() -> Ask {
    Ask::get("/shop/cart")
}

async fn a_version_is_asked_for_in_four_ways(feed: Feed) -> Result<()> {
    Stack::fed(feed, SHOP, async |stack| {
        let accept = |value: &str| page().header("accept", value);
        let wants = |path: &str, accept: &str| Ask::get(path).header("accept", accept);
        let v2_api = "application/vnd.api+v2";
        check_versions(
            stack,
            &[
                ("nothing asked", page(), V1),
                (
                    "article's media type, v1",
                    accept("application/vnd.api+v1"),
                    V1,
                ),
                ("article's media type, v2", accept(v2_api), V2),
                (
                    "media type with q",
                    accept("application/vnd.shop.v2+json;q=0.9"),
                    V2,
                ),
                (
                    "the larger q wins",
                    accept(
                        "application/vnd.shop.v1+json;q=0.4, application/vnd.shop.v2+json;q=0.9",
                    ),
                    V2,
                ),
                (
                    "a browser's accept",
                    accept("text/html,application/xhtml+xml,*/*;q=0.8"),
                    V1,
                ),
                ("path v2", Ask::get("/api/v2/users/7"), V2),
                ("path v1", Ask::get("/api/v1/users/7"), V1),
                ("header", page().header("X-API-Version", "2"), V2),
                ("header with v", page().header("x-api-version", "v2"), V2),
                ("query", Ask::get("/shop/cart?version=v2"), V2),
                (
                    "query among others",
                    Ask::get("/shop/cart?a=1&version=v2&b=2"),
                    V2,
                ),
                // Where they disagree: accept, path, header, query.
                (
                    "accept before path",
                    wants("/api/v2/x", "application/vnd.api+v1"),
                    V1,
                ),
                (
                    "accept before path, reversed",
                    wants("/api/v1/x", v2_api),
                    V2,
                ),
                (
                    "path before header",
                    Ask::get("/api/v1/x").header("x-api-version", "2"),
                    V1,
                ),
                (
                    "path before header, reversed",
                    Ask::get("/api/v2/x").header("x-api-version", "1"),
                    V2,
                ),
                (
                    "header before query",
                    Ask::get("/shop/x?version=v2").header("x-api-version", "1"),
                    V1,
                ),
                (
                    "header before query, reversed",
                    Ask::get("/shop/x?version=v1").header("x-api-version", "2"),
                    V2,
                ),
                // A version nobody configured is served by the default.
                (
                    "unknown by accept",
                    accept("application/vnd.shop.v9+json"),
                    V1,
                ),
                ("unknown by path", Ask::get("/api/v9/x"), V1),
                ("unknown by header", page().header("x-api-version", "9"), V1),
                ("unknown by query", Ask::get("/shop/x?version=v9"), V1),
                (
                    "not a version at all",
                    page().header("x-api-version", "two"),
                    V1,
                ),
            ],
        )
        .await?;

        let reversed = SHOP.replace(
            "    default: v1\n",
            "    default: v1\n    detect: [query, header, path, accept]\n",
        );
        stack.change_policy(&reversed).await?;
        check_versions(
            stack,
            &[
                (
                    "query before header",
                    Ask::get("/shop/x?version=v2").header("x-api-version", "1"),
                    V2,
                ),
                (
                    "header before path",
                    Ask::get("/api/v1/x").header("x-api-version", "2"),
                    V2,
                ),
                (
                    "path before accept",
                    wants("/api/v2/x", "application/vnd.api+v1"),
                    V2,
                ),
            ],
        )
        .await?;

        let header_only = SHOP.replace(
            "    default: v1\n",
            "    default: v1\n    detect: [header]\n",
        );
        stack.change_policy(&header_only).await?;
        check_versions(
            stack,
            &[
                ("accept is not asked", accept(v2_api), V1),
                ("path is not asked", Ask::get("/api/v2/x"), V1),
                ("query is not asked", Ask::get("/shop/x?version=v2"), V1),
                ("header is", page().header("x-api-version", "2"), V2),
            ],
        )
        .await
    })
    .await
}

async fn an_unknown_version_is_refused_where_the_policy_says_so(feed: Feed) -> Result<()> {
    let reject = SHOP.replace(
        "    default: v1\n",
        "    default: v1\n    on_unknown: reject\n",
    );
    Stack::fed(feed, &reject, async |stack| {
        let before = [stack.v1.counts().total, stack.v2.counts().total];
        for (name, ask, due) in [
            (
                "accept",
                page().header("accept", "application/vnd.shop.v9+json"),
                406,
            ),
            ("path", Ask::get("/api/v9/users/7"), 404),
            ("header", page().header("x-api-version", "9"), 400),
            ("query", Ask::get("/shop/cart?version=v9"), 400),
        ] {
            let answer = stack.ask(&ask).await?;
            ensure!(
                answer.status == due,
                "{name}: not {due} but {}",
                seen(&answer)
            );
            let json: serde_json::Value = serde_json::from_slice(&answer.body).context(name)?;
            ensure!(
                json.is_object(),
                "{name}: the body is no JSON object: {json}"
            );
        }
        let after = [stack.v1.counts().total, stack.v2.counts().total];
        ensure!(before == after, "a refused request reached an upstream");
        check_versions(
            stack,
            &[
                ("nothing asked", page(), V1),
                ("a known version", page().header("x-api-version", "2"), V2),
            ],
        )
        .await
    })
    .await
}

async fn colors_decide_and_invalid_ones_are_dropped_and_counted(feed: Feed) -> Result<()> {
    Stack::fed(feed, SHOP, async |stack| {
        let header = |color: &str| page().header("x-envoy-traffic-color", color);
        let cookie = |color: &str| page().header("cookie", format!("a=b; traffic_color={color}"));
        let both = |path: &str, header: &str, cookie: &str| {
            let ask = Ask::get(path).header("cookie", format!("traffic_color={cookie}"));
            if header.is_empty() {
                ask
            } else {
                ask.header("x-envoy-traffic-color", header)
            }
        };
        check_versions(
            stack,
            &[
                ("by header", header("canary-v2"), V2),
                ("by cookie", cookie("canary-v2"), V2),
                ("by query", Ask::get("/shop/x?color=canary-v2"), V2),
                (
                    "header before cookie",
                    both("/shop/x", "stable-v1", "canary-v2"),
                    V1,
                ),
                (
                    "header before cookie, reversed",
                    both("/shop/x", "canary-v2", "stable-v1"),
                    V2,
                ),
                (
                    "cookie before query",
                    both("/shop/x?color=canary-v2", "", "stable-v1"),
                    V1,
                ),
                (
                    "cookie before query, reversed",
                    both("/shop/x?color=stable-v1", "", "canary-v2"),
                    V2,
                ),
                ("a color without a version", header("blue"), V1),
                (
                    "a version asked for is stronger",
                    header("canary-v2").header("x-api-version", "1"),
                    V1,
                ),
            ],
        )
        .await?;

        let counted = async || stack.envoy.sum("ombre_invalid_color").await;
        ensure!(
            counted().await? == 0,
            "an invalid color was counted too early"
        );
        let long = "a".repeat(33);
        for (number, invalid) in (1..).zip(["CANARY-V2", long.as_str(), "<script>"]) {
            let answer = stack.ask(&header(invalid)).await?;
            let echo = answer.echo()?;
            ensure!(
                answer.status == 200 && echo.version == V1,
                "{invalid}: {}",
                seen(&answer)
            );
            let onward = echo
                .headers
                .get("x-envoy-traffic-color")
                .map(String::as_str);
            ensure!(
                onward == Some("prod"),
                "{invalid}: the upstream got the color {onward:?}"
            );
            let count = counted().await?;
            ensure!(
                count == number,
                "{invalid}: counted {count} times in all, not {number}"
            );
        }
        check_versions(
            stack,
            &[("32 are not too many", header(&"a".repeat(32)), V1)],
        )
        .await?;
        ensure!(
            counted().await? == 3,
            "a valid color was counted as invalid"
        );
        Ok(())
    })
    .await
}

async fn the_upstream_learns_the_decision_and_the_client_sees_it(feed: Feed) -> Result<()> {
    Stack::fed(feed, SHOP, async |stack| {
        let ask = page()
            .header("x-envoy-traffic-color", "canary-v2")
            .header("baggage", "other=1")
            .header("x-env-stage", "forged")
            .header("x-ombre-group", "forged");
        let answer = stack.ask(&ask).await?;
        let echo = answer.echo()?;
        let got = |name: &str| echo.headers.get(name).map(String::as_str);
        let mut wrong = Vec::new();
        for (name, due) in [
            ("x-envoy-traffic-color", Some("canary-v2")),
            ("x-traffic-tag", Some("canary-v2")),
            ("x-env-stage", Some("canary")),
            ("x-build-id", Some("bld-b71c004")),
            ("x-ombre-cluster", Some("demo_v2")),
            ("x-ombre-group", None),
        ] {
            if got(name) != due {
                wrong.push(format!("{name}: {:?}, not {due:?}", got(name)));
            }
        }
        let version = got("x-api-version").unwrap_or_default();
        if !version.contains('2') {
            wrong.push(format!("x-api-version: `{version}`"));
        }
        let baggage = got("baggage").unwrap_or_default();
        if !(baggage.contains("other=1") && baggage.contains("canary-v2")) {
            wrong.push(format!("baggage: `{baggage}`"));
        }
        if got("x-request-id").is_none() {
            wrong.push("x-request-id is gone".to_owned());
        }
        for (part, due) in [("route", "pages"), ("version", "v2"), ("reason", "color")] {
            if answer.decision(part) != Some(due) {
                wrong.push(format!("{part}: {:?}, not {due}", answer.decision(part)));
            }
        }
        ensure!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), seen(&answer));
        Ok(())
    })
    .await
}

async fn the_most_specific_route_decides_and_no_route_passes_untouched(feed: Feed) -> Result<()> {
    Stack::fed(feed, SHOP, async |stack| {
        for (name, ask, due) in [
            ("the rest", page(), Some("pages")),
            ("a number", Ask::get("/shop/item/7"), Some("item")),
            ("not a number", Ask::get("/shop/item/7a"), Some("pages")),
            (
                "host and method",
                Ask::new("POST", "/orders").host("orders.example.com"),
                Some("orders"),
            ),
            (
                "host with port",
                Ask::new("POST", "/orders").host("orders.example.com:80"),
                Some("orders"),
            ),
            (
                "another method",
                Ask::get("/orders").host("orders.example.com"),
                None,
            ),
            ("another host", Ask::new("POST", "/orders"), None),
            ("no route", Ask::get("/elsewhere"), None),
        ] {
            let answer = stack.ask(&ask).await?;
            ensure!(
                answer.decision("route") == due,
                "{name}: not {due:?} but {}",
                seen(&answer)
            );
            ensure!(answer.status == 200, "{name}: {}", seen(&answer));
        }

        let path = "/elsewhere/a%20b?version=v2&color=canary-v2";
        let ask = Ask::get(path)
            .header("x-api-version", "2")
            .header("x-envoy-traffic-color", "Any Thing")
            .header("accept", "application/vnd.api+v2");
        let answer = stack.ask(&ask).await?;
        let echo = answer.echo()?;
        ensure!(echo.version == V1, "no route: {}", seen(&answer));
        ensure!(echo.path == path, "the path became {}", echo.path);
        let got = |name: &str| echo.headers.get(name).map(String::as_str);
        ensure!(got("x-api-version") == Some("2"), "{:?}", echo.headers);
        ensure!(
            got("x-envoy-traffic-color") == Some("Any Thing"),
            "{:?}",
            echo.headers
        );
        ensure!(
            got("x-env-stage").is_none() && got("baggage").is_none(),
            "{:?}",
            echo.headers
        );
        Ok(())
    })
    .await
}

/// The users of 200 who are served by v2, asked over one connection.
async fn on_v2(stack: &Stack) -> Result<BTreeSet<u32>> {
    let mut connection = Connection::open(stack.envoy.address()).await?;
    let mut users = BTreeSet::new();
    for user in 0..200 {
        let ask = page().header("x-user-id", format!("user-{user}"));
        if connection.ask(&ask).await?.echo()?.version == V2 {
            users.insert(user);
        }
    }
    Ok(users)
}

async fn a_rollout_only_adds_users_and_a_minted_unit_stays(feed: Feed) -> Result<()> {
    let rollout = |weight: &str| {
        format!(
            "{SHOP}    unit: [{{ header: x-user-id }}, mint]\n    rollout: {{ candidate: v2, weight: {weight} }}\n"
        )
    };
    Stack::fed(feed, &rollout("0"), async |stack| {
        let mut before = on_v2(stack).await?;
        ensure!(before.is_empty(), "at 0 % v2 serves {before:?}");
        for (weight, least, most) in [("10", 8, 35), ("50", 75, 125), ("100", 200, 200)] {
            stack.change_policy(&rollout(weight)).await?;
            let now = on_v2(stack).await?;
            ensure!(
                now.is_superset(&before),
                "at {weight} % users fell back: {before:?} {now:?}"
            );
            ensure!(
                (least..=most).contains(&now.len()),
                "at {weight} % {} of 200",
                now.len()
            );
            before = now;
        }

        stack.change_policy(&rollout("50")).await?;
        let mut versions = BTreeSet::new();
        for _ in 0..20 {
            let first = stack.ask(&page()).await?;
            let cookie = first.header("set-cookie").context("no unit was minted")?;
            let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
            let version = first.echo()?.version;
            for _ in 0..3 {
                let again = stack.ask(&page().header("cookie", &cookie)).await?;
                ensure!(
                    again.echo()?.version == version,
                    "the unit `{cookie}` did not stay"
                );
                ensure!(
                    again.header("set-cookie").is_none(),
                    "a known unit was minted again"
                );
            }
            versions.insert(version);
        }
        ensure!(
            versions.len() == 2,
            "20 minted units at 50 % all got {versions:?}"
        );
        Ok(())
    })
    .await
}

with_every_feed!(
    a_version_is_asked_for_in_four_ways,
    an_unknown_version_is_refused_where_the_policy_says_so,
    colors_decide_and_invalid_ones_are_dropped_and_counted,
    the_upstream_learns_the_decision_and_the_client_sees_it,
    the_most_specific_route_decides_and_no_route_passes_untouched,
    a_rollout_only_adds_users_and_a_minted_unit_stays,
);
