//! What a change costs the requests that are under way: each of Envoy's workers is asked about once
//! per millisecond while policies and decisions are pushed, and the slowest answer is what a request
//! waited; beside it, how long the workers themselves say they were busy, and Envoy's memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Ask, Connection};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Setup, Stack};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::changes::policy;
use crate::table::Table;

const SIZES: [usize; 4] = [10, 1_000, 10_000, 100_000];
const PUSHES: u64 = 20;
const PACE: Duration = Duration::from_millis(1);
/// How long decisions are watched; a policy is until every worker decides by it.
const WATCHED: Duration = Duration::from_millis(200);

/// What the workers measured, in milliseconds: the median and the slowest.
struct Busy {
    median: f64,
    slowest: f64,
}

/// Answers: when each was asked for, and how long it took.
type Waits = Vec<(Instant, Duration)>;

/// Measures all sizes, printing each as soon as it is known.
pub(crate) async fn measure() -> Result<()> {
    println!(
        "{:>8} {:>9} {:>22} {:>22} {:>9}",
        "routes", "bytes", "policy busy p50/max", "decisions busy p50/max", "Envoy MB"
    );
    let mut table = Table::default();
    for routes in SIZES {
        let setup = Setup::new(&policy(routes, 0));
        setup
            .run(async |stack| pushes(stack, routes, &mut table).await)
            .await?;
    }
    println!("\nwhat requests waited, the slowest of each push (quiet: without one)");
    print!("{table}");
    Ok(())
}

async fn pushes(stack: &mut Stack, routes: usize, table: &mut Table) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut probes = JoinSet::new();
    for worker in stack.envoy.worker_connections().await? {
        probes.spawn(probe(worker, stopped.clone()));
    }
    let mut windows: BTreeMap<&str, Vec<(Instant, Instant)>> = BTreeMap::new();
    for _ in 0..PUSHES {
        let start = Instant::now();
        sleep(WATCHED).await;
        windows
            .entry("quiet")
            .or_default()
            .push((start, Instant::now()));
    }
    for edit in 1..=PUSHES {
        let mut before = revision(stack, "policy").await?;
        stack.save_policy(&policy(routes, edit))?;
        // Until then it is the controller that works, on the same two cores.
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            let now = revision(stack, "policy").await?;
            if now != std::mem::replace(&mut before, now) {
                break;
            }
            sleep(PACE).await;
        }
        let start = Instant::now();
        stack.in_force().await?;
        windows
            .entry("policy")
            .or_default()
            .push((start, Instant::now()));
        sleep(WATCHED).await;
    }
    for edit in 1..=PUSHES {
        let share = edit.to_string().parse::<f64>()?;
        let body = json!({ "services": { "shop": { "weight": share } } });
        let start = Instant::now();
        stack.decide(&body).await?;
        sleep(WATCHED).await;
        windows
            .entry("decisions")
            .or_default()
            .push((start, Instant::now()));
    }
    stop.send_replace(true);
    let mut waits = Waits::new();
    while let Some(probe) = probes.join_next().await {
        waits.extend(probe??);
    }
    for (name, starts) in windows {
        let slowest = starts.iter().map(|(start, end)| {
            // A few milliseconds early, since the controller tells after it has handed out.
            let watched = *start - Duration::from_millis(20)..*end;
            let within = waits.iter().filter(|(asked, _)| watched.contains(asked));
            within.map(|(_, wait)| *wait).max().unwrap_or_default()
        });
        table.add(format!("{name}, {routes} routes"), slowest.collect());
    }
    let (policy, decisions) = (
        busy(stack, "policy").await?,
        busy(stack, "decisions").await?,
    );
    println!(
        "{routes:>8} {:>9} {:>22} {:>22} {:>9.0}",
        document(stack).await?,
        format!("{:.2} / {:.2} ms", policy.median, policy.slowest),
        format!("{:.3} / {:.3} ms", decisions.median, decisions.slowest),
        memory(stack)?,
    );
    Ok(())
}

async fn probe(mut worker: Connection, stopped: watch::Receiver<bool>) -> Result<Waits> {
    let page = Ask::get("/shop/p1/x");
    let mut waits = Waits::new();
    while !*stopped.borrow() {
        let asked = Instant::now();
        let answer = worker.ask(&page).await?;
        ensure!(answer.status == 200, "{}", answer.seen());
        waits.push((asked, asked.elapsed()));
        sleep(PACE).await;
    }
    Ok(waits)
}

async fn revision(stack: &Stack, kind: &str) -> Result<u64> {
    let status = stack.controller.json("/v1/status").await?;
    let revision = status.pointer(&format!("/{kind}/revision"));
    let revision = revision.and_then(serde_json::Value::as_u64);
    revision.context("the status has no revision")
}

/// From the histogram, which Envoy brings up to date every five seconds.
async fn busy(stack: &Stack, kind: &str) -> Result<Busy> {
    let name = format!("wasmcustom.ombre_{kind}_take_microseconds");
    eventually(SOON, "Envoy has counted every push", async || {
        let text = stack.envoy.histogram(&name).await?;
        let of = |percentile: &str| {
            let from = text.split_once(&format!(" {percentile}("))?.1;
            let (_, all) = from.split_once(')')?.0.split_once(',')?;
            all.parse::<f64>().ok()
        };
        let (median, slowest) = of("P50").zip(of("P100")).context(text.clone())?;
        ensure!(slowest.is_finite(), "nothing yet");
        Ok(Busy {
            median: median / 1e3,
            slowest: slowest / 1e3,
        })
    })
    .await
}

async fn document(stack: &Stack) -> Result<usize> {
    Ok(stack.controller.document("policy").await?.len())
}

fn memory(stack: &mut Stack) -> Result<f64> {
    let id = stack.envoy.process().id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.context("no VmRSS")?.parse::<f64>()? / 1024.0)
}
