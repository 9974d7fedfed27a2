//! What a change costs the requests that are under way: each of Envoy's workers is asked about once
//! per millisecond while policies and decisions are pushed, and the slowest answer is what a request
//! waited; beside it, how long the workers themselves say they were busy, and Envoy's memory.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Ask, Connection};
use ombre_tests::poll::SOON;
use ombre_tests::stack::{Setup, Stack};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::changes::policy;
use crate::table::Table;
use crate::{memory, report};

const SIZES: [usize; 4] = [10, 1_000, 10_000, 100_000];
/// How often Envoy brings its histograms up to date.
const FLUSHED_EVERY: Duration = Duration::from_secs(1);
const PACE: Duration = Duration::from_millis(1);
/// How long decisions are watched; a policy is until every worker decides by it.
const WATCHED: Duration = Duration::from_millis(200);

/// What the workers measured, in milliseconds: the median and the slowest.
struct Busy {
    median: f64,
    slowest: f64,
}

/// What was measured under a policy of one size.
struct Row {
    routes: usize,
    /// Bytes of the policy's document.
    document: usize,
    policy: Busy,
    decisions: Busy,
    /// Of Envoy, in MB.
    memory: f64,
}

/// Answers: when each was asked for, and how long it took.
type Waits = Vec<(Instant, Duration)>;

/// Measures all sizes, so many pushes of each kind.
pub(crate) async fn measure(pushed: u64) -> Result<()> {
    let (mut table, mut rows) = (Table::default(), Vec::new());
    let flushed = format!(
        "stats_flush_interval: {}s\nstats_config:",
        FLUSHED_EVERY.as_secs()
    );
    for routes in SIZES {
        let setup = Setup::new(&policy(routes, 0));
        let setup = setup.edit("stats_config:", &flushed);
        let run = setup.run(async |stack| pushes(stack, routes, pushed, &mut table).await);
        rows.push(run.await?);
    }
    let mut text = "| routes | document, bytes | policy p50 / longest, ms | decisions p50 / longest, ms | memory of Envoy, MB |\n\
        | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for row in &rows {
        writeln!(
            text,
            "| {} | {} | {:.2} / {:.2} | {:.3} / {:.3} | {:.0} |",
            row.routes,
            row.document,
            row.policy.median,
            row.policy.slowest,
            row.decisions.median,
            row.decisions.slowest,
            row.memory
        )?;
    }
    text.push_str("\nWhat requests waited, the slowest of each push (quiet: without one)\n\n");
    println!("{text}{table}");
    text.push_str(&table.markdown());
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    report::write(
        "takeover",
        &text,
        &json!({ "workers": rows, "waited": table.json() }),
    )
}

async fn pushes(stack: &mut Stack, routes: usize, pushed: u64, table: &mut Table) -> Result<Row> {
    let (stop, stopped) = watch::channel(false);
    let mut probes = JoinSet::new();
    for worker in stack.envoy.worker_connections().await? {
        probes.spawn(probe(worker, stopped.clone()));
    }
    let mut windows: BTreeMap<&str, Vec<(Instant, Instant)>> = BTreeMap::new();
    for _ in 0..pushed {
        let start = Instant::now();
        sleep(WATCHED).await;
        windows
            .entry("quiet")
            .or_default()
            .push((start, Instant::now()));
    }
    for edit in 1..=pushed {
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
    for edit in 1..=pushed {
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
    sleep(2 * FLUSHED_EVERY).await;
    Ok(Row {
        routes,
        document: document(stack).await?,
        policy: busy(stack, "policy").await?,
        decisions: busy(stack, "decisions").await?,
        memory: memory::of(stack.envoy.process().id())? / 1e6,
    })
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
    let revision = revision.and_then(Value::as_u64);
    revision.context("the status has no revision")
}

/// From the histogram, which is as old as its last flush.
async fn busy(stack: &Stack, kind: &str) -> Result<Busy> {
    let name = format!("wasmcustom.ombre_{kind}_take_microseconds");
    let text = stack.envoy.histogram(&name).await?;
    let of = |percentile: &str| {
        let from = text.split_once(&format!(" {percentile}("))?.1;
        let (_, all) = from.split_once(')')?.0.split_once(',')?;
        all.parse::<f64>().ok()
    };
    let (median, slowest) = of("P50").zip(of("P100")).context(text.clone())?;
    ensure!(slowest.is_finite(), "nothing in `{name}`");
    Ok(Busy {
        median: median / 1e3,
        slowest: slowest / 1e3,
    })
}

async fn document(stack: &Stack) -> Result<usize> {
    Ok(stack.controller.document("policy").await?.len())
}

impl Row {
    fn json(&self) -> Value {
        let busy = |busy: &Busy| json!({ "p50_ms": busy.median, "max_ms": busy.slowest });
        json!({
            "routes": self.routes, "document_bytes": self.document, "policy": busy(&self.policy),
            "decisions": busy(&self.decisions), "envoy_mb": self.memory,
        })
    }
}
