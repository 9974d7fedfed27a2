//! From a fault to the last request that meets it: the candidate answers everything with 500, and the
//! outage trigger takes it out. Where the time goes is read from the controller's events and from the
//! time at which its decision was published.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use ombre_tests::client::Ask;
use ombre_tests::load::{Load, Shot};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::Stack;
use ombre_tests::upstream::{Faults, Upstream};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::table::Table;

/// Rounds that run beside each other, each with a controller, an Envoy and upstreams of its own: a round
/// is mostly waiting, and its load takes a sixth of a core.
const AT_A_TIME: u64 = 4;
const CONNECTIONS: usize = 8;
const PACE: Duration = Duration::from_millis(8);
/// How often it is looked whether v2 still gets requests: the resolution.
const LOOKED_EVERY: Duration = Duration::from_millis(2);
/// Without a request for so long it gets none any more.
const QUIET: Duration = Duration::from_millis(300);

/// Two ticks.
const REST: Duration = Duration::from_secs(2);

/// The policy's defaults, but for what would keep the next round from coming soon.
const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes: [{ name: pages, path: "/shop/{*rest}" }]
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    unit: [{ header: x-user-id }]
    rollout: { candidate: v2, weight: 50, hold: 1h }
    degrade:
      guards: { cooldown: 1h, trips_per_day: 1000 }
"#;

/// When things happened, since the Unix epoch.
#[derive(Clone)]
struct Times {
    fault: Duration,
    /// The end of the first tick of which half failed.
    seen: Duration,
    decided: Duration,
    published: Duration,
    /// When the last request reached v2.
    last: Duration,
}

/// From when to when.
type Part = fn(&Times) -> [Duration; 2];

/// The controller's events, line by line.
struct Events {
    response: Response,
    text: String,
}

/// Measures so many fail-backs.
pub(crate) async fn measure(rounds: u64, table: &mut Table) -> Result<()> {
    let stacks = (0..AT_A_TIME).map(|first| some((first..rounds).step_by(AT_A_TIME as usize)));
    let all = try_join_all(stacks).await?.concat();
    let parts: [(&str, Part); 5] = [
        ("1 fault -> the tick that shows it", |times| {
            [times.fault, times.seen]
        }),
        ("2 -> decided", |times| [times.seen, times.decided]),
        ("3 -> kept and published", |times| {
            [times.decided, times.published]
        }),
        ("4 -> last request of v2", |times| {
            [times.published, times.last]
        }),
        ("all: fault -> last request of v2", |times| {
            [times.fault, times.last]
        }),
    ];
    for (name, part) in parts {
        let took = all
            .iter()
            .map(part)
            .map(|[from, to]| to.saturating_sub(from));
        table.add(name.to_owned(), took.collect());
    }
    Ok(())
}

/// These rounds, one after the other, on parts of their own.
async fn some(rounds: impl Iterator<Item = u64>) -> Result<Vec<Times>> {
    Stack::with(POLICY, async |stack| {
        let user = |number: u32| Ask::get("/shop/a").header("x-user-id", number.to_string());
        let shots = (0..200).map(|number| Shot::new("user", user(number), None));
        let address = stack.envoy.address();
        let load = Load::start(address, CONNECTIONS, PACE, shots.collect())?;
        let mut all = Vec::new();
        for round in rounds {
            all.push(fail_back(stack, round).await?);
        }
        load.stop().await?;
        Ok(all)
    })
    .await
}

async fn fail_back(stack: &mut Stack, round: u64) -> Result<Times> {
    stack.v2.set_faults(Faults::default());
    // What failed at last is counted by then, and is not held against the next round.
    sleep(REST).await;
    let body = json!({ "command": { "set_weight": 50 }, "actor": "bench", "reason": "next round" });
    eventually(SOON, "v2 gets its share again", async || {
        let path = "/v1/services/shop/orders";
        let (status, text) = stack.controller.post(path, &body).await?;
        ensure!(status == 200, "{status}: {text}");
        Ok(())
    })
    .await?;
    eventually(SOON, "both versions are judged", async || {
        let now = stack.controller.json("/v1/services/shop").await?;
        for side in ["candidate", "stable"] {
            let requests = now.pointer(&format!("/judgement/{side}/requests"));
            ensure!(requests.and_then(Value::as_u64) > Some(500), "{now:#}");
        }
        let phase = now.get("phase").and_then(Value::as_str);
        ensure!(phase == Some("stable"), "{now:#}");
        Ok(())
    })
    .await?;
    // Faults at odd times, so that none falls into step with the ticks.
    sleep(Duration::from_millis(round * 377 % 1000)).await;
    let mut events = Events::open(stack).await?;
    let fault = since_epoch()?;
    stack.v2.set_faults(Faults {
        fail: 1.0,
        ..Faults::default()
    });
    let (told, last) = tokio::join!(timeout(SOON, events.fail_back()), last_request(&stack.v2));
    let (seen, decided) = told.context("it does not fail back")??;
    let status = stack.controller.json("/v1/status").await?;
    let published = status.pointer("/decisions/revision");
    let published = published.and_then(Value::as_u64);
    Ok(Times {
        fault,
        seen,
        decided,
        published: Duration::from_millis(published.context("the status has no revision")?),
        last: last?,
    })
}

/// When the last request reached the upstream.
async fn last_request(upstream: &Upstream) -> Result<Duration> {
    let (mut seen, mut last) = (upstream.counts().total, since_epoch()?);
    loop {
        let (total, now) = (upstream.counts().total, since_epoch()?);
        if total != seen {
            (seen, last) = (total, now);
        }
        if now.saturating_sub(last) > QUIET {
            return Ok(last);
        }
        sleep(LOOKED_EVERY).await;
    }
}

fn since_epoch() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

impl Events {
    async fn open(stack: &Stack) -> Result<Self> {
        let url = format!("http://{}/v1/events", stack.controller.address());
        let response = ombre_tests::http::client()?.get(url).send().await?;
        Ok(Self {
            response: response.error_for_status()?,
            text: String::new(),
        })
    }

    /// Reads until the release has failed back: the first tick that showed the fault, and the decision.
    async fn fail_back(&mut self) -> Result<(Duration, Duration)> {
        let mut seen = None;
        loop {
            let data = self.next().await?;
            let at = data.get("at").and_then(Value::as_u64);
            let Some(at) = at.map(Duration::from_millis) else {
                continue;
            };
            let count = |name: &str| data.pointer(&format!("/candidate/counted/{name}"));
            let count = |name: &str| count(name).and_then(Value::as_u64).unwrap_or(0);
            if count("requests") >= 50 && 2 * count("errors") >= count("requests") {
                seen.get_or_insert(at);
            }
            if data.pointer("/detail/transition/to") == Some(&json!("failed_back")) {
                return Ok((seen.context("it was decided without a tick")?, at));
            }
        }
    }

    /// The next event's data.
    async fn next(&mut self) -> Result<Value> {
        loop {
            while let Some((line, rest)) = self.text.split_once('\n') {
                let data = line.strip_prefix("data:").map(serde_json::from_str);
                self.text = rest.to_owned();
                if let Some(data) = data {
                    return Ok(data?);
                }
            }
            let chunk = self.response.chunk().await?.context("the events ended")?;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }
}
