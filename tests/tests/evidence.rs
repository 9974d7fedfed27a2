//! Where evidence comes from, on a real Envoy: its admin address or a real Prometheus. With the way to
//! it cut, nothing moves although the candidate fails; when it is back, the candidate is taken out.

use anyhow::{Context, Result, ensure};
use ombre_tests::forwarder::Forwarder;
use ombre_tests::poll::eventually;
use ombre_tests::ports::Port;
use ombre_tests::prometheus::Prometheus;
use ombre_tests::release::{LONG, held, hold, loaded, order, phase, release, text, transitions};
use ombre_tests::stack::{Setup, Stack};
use ombre_tests::upstream::Faults;
use serde_json::{Value, json};

fn policy(evidence: &str) -> String {
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: pages, path: "/shop/{{*rest}}" }}]
    versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}]
    default: v1
    unit: [{{ header: x-user-id }}]
    rollout: {{ candidate: v2, weight: 50, steps: [5, 25, 50, 100], hold: 1s }}
    degrade:
      outage: {{ requests: 10 }}
      evidence: {{ {evidence} }}
      guards: {{ trips_per_day: 9, ask_after: 5m }}
"#
    )
}

/// With the way cut while v2 fails nothing moves; when it is open again, v2 is taken out.
async fn blind_and_back(
    stack: &mut Stack,
    cut: impl FnOnce() -> Result<()>,
    open: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    hold(stack).await?;
    let load = loaded(stack).await?;
    cut()?;
    eventually(LONG, "the evidence is unknown", async || {
        let now = release(stack).await?;
        ensure!(held(&now, "unknown evidence"), "{now:#}");
        Ok(())
    })
    .await?;
    let source = "/sources/0/error";
    let board = stack.controller.json("/v1/services").await?;
    ensure!(
        board.pointer(source).is_some_and(Value::is_string),
        "{board:#}"
    );
    stack.v2.set_faults(Faults {
        fail: 1.0,
        ..Faults::default()
    });
    order(stack, json!("resume")).await?;
    let before = stack.v2.counts().total;
    eventually(LONG, "many requests have failed", async || {
        let failed = stack.v2.counts().total - before;
        ensure!(failed > 1000, "{failed} so far");
        Ok(())
    })
    .await?;
    let now = release(stack).await?;
    ensure!(
        text(&now, "/phase") == "ramping" && now.pointer("/share") == Some(&json!(50)),
        "{now:#}"
    );
    ensure!(held(&now, "unknown evidence"), "{now:#}");
    let moved = transitions(stack).await?;
    ensure!(moved.is_empty(), "{moved:#?}");
    open().await?;
    phase(stack, "failed_back").await?;
    let moved = transitions(stack).await?;
    let last = moved.last().context("no transition")?;
    let trigger = text(last, "/detail/event/judged/verdict/fired");
    ensure!(trigger == "outage", "{last:#}");
    let report = load.stop().await?;
    ensure!(
        report.lost == 0 && report.statuses.contains_key(&200),
        "{}",
        report.line()
    );
    Ok(())
}

#[tokio::test]
async fn an_admin_address_out_of_reach_moves_nothing_and_stops_nothing() -> Result<()> {
    let way = Forwarder::start().await?;
    let evidence = "interval: 250ms, judge: 500ms, short: 6s, window: 6s, longest: 12s, stale: 3s";
    let setup = Setup::new(&policy(evidence)).admin(format!("http://{}", way.address()));
    setup
        .run(async |stack| {
            let envoy = stack.envoy.admin();
            way.open(envoy);
            let cut = || {
                way.cut();
                Ok(())
            };
            let open = async || {
                way.open(envoy);
                Ok(())
            };
            blind_and_back(stack, cut, open).await
        })
        .await
}

#[tokio::test]
async fn a_candidate_is_taken_out_by_what_prometheus_scraped() -> Result<()> {
    let port = Port::free()?;
    let url = Prometheus::url(&port);
    let evidence = "interval: 2s, judge: 2s, short: 6s, window: 6s, longest: 12s, stale: 5s";
    let arguments = [
        "--evidence-promql",
        &url,
        "--promql-selector",
        r#"job="edge""#,
    ];
    let setup = Setup::new(&policy(evidence)).arguments(&arguments);
    setup
        .run(async |stack| {
            let mut store = Prometheus::start(port, &[stack.envoy.admin()], stack.dir())?;
            store.ready().await?;
            let board = stack.controller.json("/v1/services").await?;
            let sources = board.pointer("/sources").and_then(Value::as_array);
            let urls: Vec<&str> = sources
                .into_iter()
                .flatten()
                .map(|it| text(it, "/url"))
                .collect();
            ensure!(urls == [format!("{url}/")], "{board:#}");
            let store = std::cell::RefCell::new(store);
            let cut = || store.borrow_mut().kill();
            let open = async || store.borrow_mut().restart();
            blind_and_back(stack, cut, open).await
        })
        .await
}
