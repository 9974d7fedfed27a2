//! From a saved policy file to the first request decided by it, on the last of Envoy's workers;
//! and the part of that after the controller sent the policy out, which is taken from a long poll
//! that this program holds beside the one of Envoy.
//!
//! Each worker is asked over a connection of its own about once per millisecond, which is the
//! resolution.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Ask, Connection};
use ombre_tests::feed::Feed;
use ombre_tests::poll::SOON;
use ombre_tests::stack::{PROBE, Stack};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::table::Table;

const ASKED_EVERY: Duration = Duration::from_millis(1);

/// Measures so many changes of a policy with this many routes on an Envoy that is fed in this way.
pub(crate) async fn measure(
    feed: Feed,
    routes: usize,
    edits: usize,
    table: &mut Table,
) -> Result<()> {
    let (saved, sent) = Stack::fed(feed, &policy(routes, 0), async |stack| {
        changes(stack, routes, edits as u64).await
    })
    .await?;
    let fed = match feed {
        Feed::File => "",
        Feed::Sotw => ", xDS",
        Feed::Delta => ", delta xDS",
    };
    table.add(
        format!("file saved -> every worker decides, {routes} routes{fed}"),
        saved,
    );
    table.add(
        format!("controller -> every worker decides, {routes} routes{fed}"),
        sent,
    );
    Ok(())
}

async fn changes(
    stack: &mut Stack,
    routes: usize,
    edits: u64,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let mut workers = stack.envoy.worker_connections().await?;
    let (heard, mut publications) = unbounded_channel();
    let mut poller = JoinSet::new();
    let controller = stack.controller.address();
    poller.spawn(listen(controller, heard));
    // What is in force already is no change.
    publications.recv().await.context("the long poll ended")?;

    let (mut saved, mut sent) = (Vec::new(), Vec::new());
    for edit in 1..=edits {
        let text = policy(routes, edit);
        let start = Instant::now();
        stack.save_policy(&text)?;
        let due = stack.probe_route();
        let mut asking = JoinSet::new();
        for worker in workers.drain(..) {
            asking.spawn(decides(worker, due.clone()));
        }
        let mut last = start;
        while let Some(worker) = asking.join_next().await {
            let (worker, decided) = worker??;
            last = last.max(decided);
            workers.push(worker);
        }
        let publication = timeout(SOON, publications.recv()).await;
        let published = publication?.context("the long poll ended")?;
        saved.push(last - start);
        // A worker may have it before this program's own poll is answered: that counts as at once.
        sent.push(last.saturating_duration_since(published));
        // Changes at odd times, so that nothing falls into step with them.
        sleep(Duration::from_millis(edit * 7 % 50)).await;
    }
    Ok((saved, sent))
}

/// Asks until the answer was decided by the route `due`; returns when that was.
async fn decides(mut worker: Connection, due: String) -> Result<(Connection, Instant)> {
    let probe = Ask::get(PROBE);
    let start = Instant::now();
    loop {
        let answer = worker.ask(&probe).await?;
        let now = Instant::now();
        if answer.decision("route") == Some(due.as_str()) {
            return Ok((worker, now));
        }
        ensure!(now - start < SOON, "a worker never decided by {due}");
        sleep(ASKED_EVERY).await;
    }
}

/// Holds the long poll for policies, and tells when each one came.
async fn listen(controller: SocketAddr, heard: UnboundedSender<Instant>) -> Result<()> {
    let http = ombre_tests::http::client()?;
    let mut after = 0;
    while !heard.is_closed() {
        let url = format!("http://{controller}/v1/delivery/policy?after={after}");
        let answer = http.get(url).send().await?;
        let now = Instant::now();
        if answer.status().as_u16() != 200 {
            continue;
        }
        let revision = answer.headers().get("x-ombre-revision");
        let revision = revision.context("an answer without `x-ombre-revision`")?;
        after = revision.to_str()?.parse::<u64>()?;
        answer.bytes().await?;
        heard.send(now).ok();
    }
    Ok(())
}

pub(crate) fn policy(routes: usize, edit: u64) -> String {
    let mut text = "apiVersion: ombre/v1\nservices:\n  - name: shop\n    routes:\n".to_owned();
    for number in 0..routes {
        writeln!(
            text,
            "      - {{ name: r{number}, path: \"/shop/p{number}/{{id}}\" }}"
        )
        .ok();
    }
    write!(
        text,
        "    versions:\n      - {{ name: v1, cluster: demo_v1, build_id: b{edit} }}\n      \
         - {{ name: v2, cluster: demo_v2 }}\n    default: v1\n    \
         unit: [{{ header: x-user-id }}]\n    rollout: {{ candidate: v2, weight: 0 }}\n"
    )
    .ok();
    text
}
