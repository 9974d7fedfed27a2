//! Changes under load over xDS, one after the other as fast as Envoy confirms them: versions that come
//! and go with their clusters, weights, decisions, moved hosts. No request is lost.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::client::Ask;
use ombre_tests::feed::{self, Feed};
use ombre_tests::fleet::{InForce, node, settles, takes, takes_other};
use ombre_tests::load::{Load, Report, Shot};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Setup, Stack};
use ombre_tests::with_every_xds;
use serde_json::json;

const ENVOY: &str = "envoy-1";
const CONNECTIONS: usize = 4;
const PACE: Duration = Duration::from_millis(2);
const SWAPS: u32 = 200;
const MOVES: u32 = 50;

fn services(versions: &[&str], more: &str) -> String {
    let default = versions.first().copied().unwrap_or_default();
    let versions = versions
        .iter()
        .map(|version| format!("{{ name: {version}, cluster: demo_{version} }}"));
    let versions: Vec<String> = versions.collect();
    format!(
        "apiVersion: ombre/v1\nservices:\n  - name: shop\n    routes: [{{ name: pages, path: \"/shop/{{*rest}}\" }}]\n    \
         versions: [{}]\n    default: {default}\n{more}",
        versions.join(", ")
    )
}

fn rollout(weight: u32) -> String {
    format!(
        "    unit: [{{ header: x-user-id }}]\n    rollout: {{ candidate: v2, weight: {weight} }}\n"
    )
}

/// Clusters of these names and hosts, and the listener, which sends to the first what is not decided.
fn sections(stack: &Stack, clusters: &[(&str, SocketAddr)]) -> String {
    let default = clusters.first().map_or("", |(name, _)| *name);
    let timeout = Duration::from_secs(15);
    let listener = feed::listener("traffic", stack.envoy.address(), default, timeout);
    format!("{}listeners:\n{listener}", feed::clusters(clusters))
}

/// Users, of whom each asks again and again, and one path that no route covers.
fn shots() -> Vec<Shot> {
    let user = |number: u32| Ask::get("/shop/a").header("x-user-id", number.to_string());
    let mut shots: Vec<Shot> = (0..40)
        .map(|number| Shot::new("user", user(number), None))
        .collect();
    shots.push(Shot::new("undecided", Ask::get("/elsewhere"), None));
    shots
}

/// Starts all under load, lets `changes` run, and reports the load.
async fn under_load(
    feed: Feed,
    changes: impl AsyncFnOnce(&mut Stack) -> Result<u32>,
) -> Result<Report> {
    let policy = services(&["v1", "v2"], &rollout(50));
    let mut outcome = Report::default();
    Setup::new(&policy)
        .feed(feed)
        .run(async |stack| {
            settles(&stack.controller, ENVOY).await?;
            let load = Load::start(stack.envoy.address(), CONNECTIONS, PACE, shots())?;
            let begun = Instant::now();
            let number = changes(stack).await?;
            let took = begun.elapsed();
            let report = load.stop().await?;
            println!(
                "{feed:?}: {number} changes in {took:.1?}: {}",
                report.line()
            );
            report.check()?;
            ensure!(
                report.sent > u64::from(number),
                "too little load: {}",
                report.line()
            );
            outcome = report;
            Ok(())
        })
        .await?;
    Ok(outcome)
}

async fn versions_are_swapped(feed: Feed) -> Result<()> {
    let report = under_load(feed, async |stack| {
        let mut before = InForce::now(&stack.controller).await?;
        let hosts = [
            ("v1", "demo_v1", stack.v1.address()),
            ("v2", "demo_v2", stack.v2.address()),
        ];
        for (number, (version, cluster, host)) in (0..SWAPS).zip(hosts.into_iter().cycle()) {
            let text = services(&[version], "") + &sections(stack, &[(cluster, host)]);
            stack.write_policy(text.as_bytes())?;
            let taken = takes(&stack.controller, ENVOY, before).await;
            before = taken.with_context(|| format!("swap {number}"))?;
        }
        eventually(SOON, "no cluster is left behind", async || {
            let filter = r"^cluster\.demo_v.*membership_total$";
            let left = stack.envoy.stats(filter).await?;
            ensure!(left.len() == 1, "{left:?}");
            Ok(())
        })
        .await?;
        Ok(SWAPS)
    })
    .await?;
    let served = |version: &str| report.versions.get(version).copied().unwrap_or(0);
    ensure!(
        served("v1") > 100 && served("v2") > 100,
        "{}",
        report.line()
    );
    Ok(())
}

async fn weights_change(feed: Feed) -> Result<()> {
    let report = under_load(feed, async |stack| {
        let hosts = [
            ("demo_v1", stack.v1.address()),
            ("demo_v2", stack.v2.address()),
        ];
        let mut before = InForce::now(&stack.controller).await?;
        for number in 0..SWAPS {
            let weight = number * 37 % 101;
            let text = services(&["v1", "v2"], &rollout(weight)) + &sections(stack, &hosts);
            stack.write_policy(text.as_bytes())?;
            before = takes(&stack.controller, ENVOY, before).await?;
        }
        Ok(SWAPS)
    })
    .await?;
    ensure!(report.versions.len() == 2, "{}", report.line());
    Ok(())
}

async fn decisions_change(feed: Feed) -> Result<()> {
    let changes = SWAPS / 2;
    let report = under_load(feed, async |stack| {
        let mut before = InForce::now(&stack.controller).await?;
        for number in 0..changes {
            let weight = 1 + number * 37 % 99;
            let decisions = json!({ "services": { "shop": { "weight": weight } } });
            stack.decide(&decisions).await?;
            before = takes(&stack.controller, ENVOY, before).await?;
        }
        Ok(changes)
    })
    .await?;
    ensure!(report.versions.len() == 2, "{}", report.line());
    Ok(())
}

async fn hosts_move(feed: Feed) -> Result<()> {
    let report = under_load(feed, async |stack| {
        let homes = [stack.v2.address(), stack.v1.address()];
        let mut before = node(&stack.controller, ENVOY).await?;
        let services = services(&["v1", "v2"], &rollout(0));
        for (_, home) in (0..MOVES).zip(homes.into_iter().cycle()) {
            let hosts = [("demo_v1", home), ("demo_v2", stack.v2.address())];
            let text = services.clone() + &sections(stack, &hosts);
            stack.write_policy(text.as_bytes())?;
            before = takes_other(&stack.controller, ENVOY, "eds", &before).await?;
        }
        Ok(MOVES)
    })
    .await?;
    ensure!(report.versions.len() == 2, "{}", report.line());
    Ok(())
}

with_every_xds!(
    versions_are_swapped,
    weights_change,
    decisions_change,
    hosts_move,
);
