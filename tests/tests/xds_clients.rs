//! Clients of xDS that answer late or never, and very many of them: nobody else notices, memory is
//! bounded, and a ramp that has to wait for them says so.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use ombre_tests::binaries;
use ombre_tests::client::Ask;
use ombre_tests::feed::Feed;
use ombre_tests::fleet::{InForce, node, of_stream, settles, takes};
use ombre_tests::load::{Load, Shot};
use ombre_tests::poll::eventually;
use ombre_tests::release::{CONNECTIONS, LONG, PACE, held, phase, release, text, users};
use ombre_tests::silent::Silent;
use ombre_tests::stack::{Setup, Stack};
use ombre_tests::with_every_xds;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

const ENVOY: &str = "envoy-1";
const CLIENTS: usize = 1000;
/// What the controller may take for them, plans and all.
const MEMORY: u64 = 200 << 20;

fn services(more: &str) -> String {
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: pages, path: "/shop/{{*rest}}" }}]
    versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}]
    default: v1
    unit: [{{ header: x-user-id }}]
{more}"#
    )
}

fn rollout(weight: u32) -> String {
    services(&format!(
        "    rollout: {{ candidate: v2, weight: {weight} }}\n"
    ))
}

fn ramp() -> String {
    services(
        r"    rollout: { candidate: v2, weight: 25, steps: [25, 50, 100], hold: 1s, min_acked: 90, ack_timeout: 1s }
    degrade:
      fallback: v1
      outage: { requests: 10 }
      sustained: { for: 2s, latency: 200ms, slow: 0.05, errors: 0.01 }
      evidence: { interval: 250ms, judge: 500ms, short: 6s, window: 6s, longest: 12s, stale: 3s }
      guards: { cooldown: 2s, max_cooldown: 4s, trips_per_day: 9, ask_after: 5m }
      verify: { hold: 1s, requests: 5 }
",
    )
}

async fn a_ramp_waits_for_an_envoy_that_does_not_answer(feed: Feed) -> Result<()> {
    Stack::fed(feed, &ramp(), async |stack| {
        settles(&stack.controller, ENVOY).await?;
        let silent = Silent::connect(stack.xds()?, "envoy-silent").await?;
        let load = Load::start(stack.envoy.address(), CONNECTIONS, PACE, users())?;
        let waiting = eventually(LONG, "the ramp waits", async || {
            let now = release(stack).await?;
            let named = now.pointer("/unconfirmed") == Some(&json!(["envoy-silent"]));
            ensure!(held(&now, "too few proxies") && named, "{now:#}");
            Ok(now)
        })
        .await?;
        ensure!(text(&waiting, "/phase") == "ramping", "{waiting:#}");
        let said = Command::new(binaries::ombre()?)
            .args(["status", "shop", "--controller"])
            .arg(format!("http://{}", stack.controller.address()))
            .output()?;
        let said = String::from_utf8_lossy(&said.stdout);
        ensure!(
            said.contains("too few proxies") && said.contains("envoy-silent"),
            "{said}"
        );
        let later = release(stack).await?;
        ensure!(
            later.pointer("/share") == waiting.pointer("/share"),
            "{later:#}"
        );
        silent.speak();
        let done = phase(stack, "stable").await?;
        ensure!(done.pointer("/share") == Some(&json!(100)), "{done:#}");
        load.stop().await?.check()
    })
    .await
}

/// All at once, and while the policy changes: none of them ever answers.
async fn a_thousand_clients_come_back_at_once(feed: Feed) -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).context("files cannot be raised")?;
    Setup::new(&rollout(0))
        .feed(feed)
        .run(async |stack| {
            settles(&stack.controller, ENVOY).await?;
            let shots = vec![Shot::new("user", Ask::get("/shop/a"), None)];
            let load = Load::start(stack.envoy.address(), 4, Duration::from_millis(5), shots)?;
            let before = stack.controller.process().memory()?;
            let address = stack.xds()?;
            for round in 0..3_u32 {
                let begun = Instant::now();
                let names = (0..CLIENTS).map(|number| format!("silent-{number}"));
                let clients = try_join_all(
                    names.map(async |name| Silent::connect(address, &name).await),
                );
                let clients = clients.await?;
                let came = begun.elapsed();
                let known = stack.controller.json("/v1/nodes").await?;
                let known = known.pointer("/nodes").and_then(|nodes| nodes.as_array());
                ensure!(known.map(Vec::len) == Some(CLIENTS + 1), "not all are known");
                for change in 1..=10 {
                    let before = InForce::now(&stack.controller).await?;
                    stack.save_policy(&rollout(10 * round + change))?;
                    takes(&stack.controller, ENVOY, before).await?;
                }
                let took = begun.elapsed();
                let memory = stack.controller.process().memory()?;
                println!("{feed:?}: {CLIENTS} came in {came:.1?}, 10 changes later {took:.1?}, {} MiB over {}", memory >> 20, before >> 20);
                ensure!(memory < MEMORY, "{memory} bytes");
                drop(clients);
            }
            eventually(LONG, "only Envoy is left", async || {
                let (_, metrics) = stack.controller.text("/metrics").await?;
                ensure!(metrics.lines().any(|line| line == "ombre_xds_streams 1"), "{metrics}");
                Ok(())
            })
            .await?;
            let envoy = node(&stack.controller, ENVOY).await?;
            ensure!(of_stream(&envoy, "stage") == "settled", "{envoy:#}");
            let report = load.stop().await?;
            ensure!(report.lost == 0 && report.statuses.keys().eq([&200]), "{report:#?}");
            Ok(())
        })
        .await
}

with_every_xds!(
    a_ramp_waits_for_an_envoy_that_does_not_answer,
    a_thousand_clients_come_back_at_once,
);
