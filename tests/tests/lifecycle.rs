//! A request's phases around the filter, on `envoy/lifecycle.yaml`: authentication before the match,
//! limits by route and version after it, isolation of versions, CORS, one shape of errors, and what
//! is counted for each cohort.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Answer, Ask, Connection};
use ombre_tests::envoy::Example;
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{PROBE, Setup, Stack};
use ombre_tests::upstream::Faults;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: shop-api, path: "/api/{version}/{*rest}" }
      - { name: shop-pages, path: "/shop/{*rest}" }
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    on_unknown: reject
    unit: [{ header: x-user-id }]
    experiment:
      experiment: checkout-flow-v2
      groups:
        - { name: control, weight: 0 }
        - { name: treatment, weight: 100 }
"#;

/// demo:demo
const KNOWN: &str = "Basic ZGVtbzpkZW1v";
/// Of 100 requests at once, at least this many are above the 64 under way and the 16 that wait. Not
/// all 20, since each worker may open one connection beyond.
const BEYOND: u64 = 15;
const ORIGIN: &str = "https://shop.example.com";

fn known(path: &str) -> Ask {
    Ask::get(path)
        .header("authorization", KNOWN)
        .header("origin", ORIGIN)
}

/// `{"error": .., "message": ..}` under the status, readable by the page that asked.
fn check_error(name: &str, answer: &Answer, status: u16) -> Result<Value> {
    ensure!(answer.status == status, "{name}: {}", answer.seen());
    let body = answer.json().with_context(|| name.to_owned())?;
    for field in ["error", "message"] {
        let text = body.get(field).and_then(Value::as_str);
        ensure!(
            text.is_some_and(|text| !text.is_empty()),
            "{name}: no `{field}` in {body}"
        );
    }
    ensure!(
        answer.header("content-type") == Some("application/json"),
        "{name}: {}",
        answer.seen()
    );
    ensure!(
        answer.header("access-control-allow-origin") == Some(ORIGIN),
        "{name}: no CORS header: {}",
        answer.seen()
    );
    Ok(body)
}

/// The stack is ready as soon as an authenticated probe is decided by the policy.
async fn stack<T>(body: impl AsyncFnOnce(&mut Stack) -> Result<T>) -> Result<T> {
    Setup::new(POLICY)
        .example(Example::Lifecycle)
        .header("authorization", KNOWN)
        .run(body)
        .await
}

#[tokio::test]
async fn nobody_is_decided_about_before_it_is_known_who_asks() -> Result<()> {
    stack(async |stack| {
        for (name, ask) in [
            ("no credentials", Ask::get("/shop/a")),
            (
                "a wrong password",
                Ask::get("/shop/a").header("authorization", "Basic ZGVtbzp3cm9uZw=="),
            ),
            // Would be refused by the filter, if it came so far.
            ("an unknown version", Ask::get("/api/v9/a")),
            (
                "a claimed user",
                Ask::get("/shop/a").header("x-user-id", "demo"),
            ),
        ] {
            let answer = stack.ask(&ask.header("origin", ORIGIN)).await?;
            check_error(name, &answer, 401)?;
            ensure!(
                answer.header("x-ombre-decision").is_none(),
                "{name}: {}",
                answer.seen()
            );
        }
        let decided = stack.envoy.sum("ombre_refused_total").await?;
        ensure!(decided == 0, "the filter refused {decided} of them");
        let asked = [&stack.v1, &stack.v2].map(|upstream| upstream.counts().paths);
        ensure!(asked.iter().all(|paths| !paths.contains_key("/shop/a")));

        let answer = stack
            .ask(&known("/shop/a").header("x-user-id", "mallory"))
            .await?;
        let echo = answer.echo()?;
        ensure!(
            echo.header("x-user-id") == Some("demo"),
            "the unit is not who was authenticated: {}",
            answer.seen()
        );
        let group = echo.header("x-ombre-group");
        ensure!(group == Some("checkout-flow-v2=treatment"), "{group:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn limits_count_by_route_and_version() -> Result<()> {
    stack(async |stack| {
        // Five in ten seconds for v2 on this route.
        let limited = known("/api/v2/a");
        let mut served = 0;
        let refused = loop {
            let answer = stack.ask(&limited).await?;
            if answer.status != 200 {
                break answer;
            }
            served += 1;
            ensure!(served <= 10, "{served} were served, and no end");
        };
        ensure!(served >= 5, "only {served} were served");
        check_error("above the limit", &refused, 429)?;
        ensure!(
            refused.header("retry-after") == Some("10"),
            "{}",
            refused.seen()
        );
        for (name, ask) in [
            ("another version", known("/api/v1/a")),
            (
                "another route",
                known("/shop/a").header("x-api-version", "2"),
            ),
            ("no route", known("/elsewhere")),
            (
                "a forged decision",
                known("/shop/a").header("x-ombre-decision", "route=shop-api;version=v2;"),
            ),
        ] {
            for _ in 0..10 {
                let answer = stack.ask(&ask).await?;
                ensure!(answer.status == 200, "{name}: {}", answer.seen());
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn answers_have_cors_headers_and_errors_one_shape() -> Result<()> {
    stack(async |stack| {
        let preflight = Ask::new("OPTIONS", "/shop/a")
            .header("origin", ORIGIN)
            .header("access-control-request-method", "PUT");
        let answer = stack.ask(&preflight).await?;
        ensure!(answer.status == 200, "{}", answer.seen());
        for (name, due) in [
            ("access-control-allow-origin", ORIGIN),
            ("access-control-allow-methods", "GET, POST, PUT, DELETE"),
            ("access-control-max-age", "600"),
        ] {
            ensure!(answer.header(name) == Some(due), "{}", answer.seen());
        }
        let answer = stack.ask(&known("/shop/a")).await?;
        ensure!(
            answer.header("access-control-allow-origin") == Some(ORIGIN)
                && answer.header("access-control-expose-headers") == Some("x-ombre-decision"),
            "{}",
            answer.seen()
        );
        let stranger = Ask::get("/shop/a")
            .header("authorization", KNOWN)
            .header("origin", "https://elsewhere.example.com");
        let answer = stack.ask(&stranger).await?;
        ensure!(
            answer.header("access-control-allow-origin").is_none(),
            "{}",
            answer.seen()
        );

        // ombre's own refusal passes as it is.
        let answer = stack.ask(&known("/api/v9/a")).await?;
        let body = check_error("ombre's own", &answer, 404)?;
        ensure!(body.get("versions") == Some(&json!(["v1", "v2"])), "{body}");
        // A version that has written nothing itself.
        stack.v2.close();
        let wants_v2 = known("/shop/a").header("x-api-version", "2");
        eventually(SOON, "v2 is gone", async || {
            let answer = stack.ask(&wants_v2).await?;
            check_error("no upstream", &answer, 503)
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_version_that_hangs_takes_nothing_from_the_other() -> Result<()> {
    stack(async |stack| {
        stack.v2.set_faults(Faults {
            hang: 1.0,
            ..Faults::default()
        });
        let address = stack.envoy.address();
        let mut hanging = JoinSet::new();
        for _ in 0..100 {
            hanging.spawn(async move {
                let mut connection = Connection::open(address).await?;
                connection
                    .ask(&known("/shop/a").header("x-api-version", "2"))
                    .await
            });
        }
        eventually(SOON, "v2 has all that it may have", async || {
            let over = stack
                .envoy
                .sum(r"^cluster\.demo_v2\.upstream_rq_pending_overflow$")
                .await?;
            ensure!(over >= BEYOND, "{over} were refused");
            Ok(())
        })
        .await?;
        let start = Instant::now();
        for _ in 0..50 {
            let answer = stack.ask(&known("/shop/a")).await?;
            ensure!(answer.status == 200, "{}", answer.seen());
        }
        let took = start.elapsed();
        ensure!(took < Duration::from_secs(5), "50 requests took {took:?}");
        let over = stack
            .envoy
            .sum(r"^cluster\.demo_v1\.upstream_rq_pending_overflow$")
            .await?;
        ensure!(over == 0, "v1 refused {over}");
        let mut refused = 0;
        while let Some(answer) = hanging.try_join_next() {
            check_error("beyond the limit", &answer??, 503)?;
            refused += 1;
        }
        ensure!(refused >= BEYOND, "only {refused} were refused");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_cohort_is_counted_by_envoy() -> Result<()> {
    stack(async |stack| {
        let count = async |group: &str, what: &str| {
            let name =
                format!(r"^vhost\.all\.vcluster\.checkout-flow-v2_{group}\.upstream_rq_{what}$");
            stack.envoy.sum(&name).await
        };
        for _ in 0..7 {
            stack.ask(&known("/shop/a")).await?;
        }
        stack.v1.set_faults(Faults {
            fail: 1.0,
            ..Faults::default()
        });
        for _ in 0..3 {
            stack.ask(&known("/shop/a")).await?;
        }
        for (group, what, due) in [
            ("treatment", "total", 10),
            ("treatment", "2xx", 7),
            ("treatment", "5xx", 3),
            ("control", "total", 0),
        ] {
            eventually(SOON, "cohorts are counted", async || {
                let counted = count(group, what).await?;
                ensure!(counted == due, "{group} {what}: {counted}, not {due}");
                Ok(())
            })
            .await?;
        }
        // What belongs to no cohort counts in none.
        stack
            .ask(&Ask::get(PROBE).header("authorization", KNOWN))
            .await?;
        ensure!(count("treatment", "total").await? == 10);
        Ok(())
    })
    .await
}
