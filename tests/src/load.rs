//! Steady load through Envoy over a number of kept connections: which statuses came back, which
//! version answered, and what was lost or went astray.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::{Ask, Connection};
use crate::upstream::COUNTED_HEADER;

/// Examples of what went wrong that a report keeps.
const MAX_EXAMPLES: usize = 5;

/// A request of the load.
#[derive(Clone, Debug)]
pub struct Shot {
    /// What is sent; the load adds [`COUNTED_HEADER`] with `label`.
    pub ask: Ask,
    /// The name under which it is counted here and by the upstreams.
    pub label: String,
    /// The version that must answer; any when `None`.
    pub version: Option<String>,
}

/// Load that is running. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    connections: JoinSet<Report>,
}

/// What became of the load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests sent.
    pub sent: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers by version.
    pub versions: BTreeMap<String, u64>,
    /// Requests sent by label.
    pub labels: BTreeMap<String, u64>,
    /// Requests without an answer, or with one that no upstream gave.
    pub lost: u64,
    /// Requests answered by another version than they had to be.
    pub misrouted: u64,
    /// The first few of the lost and misrouted ones.
    pub examples: Vec<String>,
}

impl Shot {
    /// `ask`, counted as `label`, that `version` must answer.
    pub fn new(label: &str, ask: Ask, version: Option<&str>) -> Self {
        Self {
            ask: ask.header(COUNTED_HEADER, label),
            label: label.to_owned(),
            version: version.map(str::to_owned),
        }
    }
}

impl Load {
    /// Sends `shots` in turn over each of `connections` connections, one request per `pace` and
    /// connection.
    ///
    /// # Errors
    /// When there is nothing to send.
    pub fn start(
        address: SocketAddr,
        connections: usize,
        pace: Duration,
        shots: Vec<Shot>,
    ) -> Result<Self> {
        ensure!(!shots.is_empty(), "a load of no requests");
        let shots = Arc::new(shots);
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for number in 0..connections {
            // Connections begin at different shots, so that all kinds are always under way.
            let shots = shots.clone();
            tasks.spawn(shoot(address, pace, shots, number, stopping.clone()));
        }
        Ok(Self {
            stop,
            connections: tasks,
        })
    }

    /// Lets what is under way come back, and says what became of all.
    ///
    /// # Errors
    /// When a connection's task failed.
    pub async fn stop(mut self) -> Result<Report> {
        self.stop.send_replace(true);
        let mut sum = Report::default();
        while let Some(report) = self.connections.join_next().await {
            sum.add(report.context("a connection of the load broke off")?);
        }
        Ok(sum)
    }
}

impl Report {
    /// An error unless every request was answered with 200 by the version it had to be.
    ///
    /// # Errors
    /// Then, with examples.
    pub fn check(&self) -> Result<()> {
        let good = self.statuses.get(&200).copied().unwrap_or_default();
        ensure!(
            self.lost == 0 && self.misrouted == 0 && good == self.sent,
            "the load was not served well: {self:#?}"
        );
        ensure!(self.sent > 0, "the load sent nothing");
        Ok(())
    }

    /// One line: how many, of what status, by which version.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} sent, {} lost, {} misrouted",
            self.sent, self.lost, self.misrouted
        );
        for (status, count) in &self.statuses {
            write!(line, ", {count} x {status}").ok();
        }
        for (version, count) in &self.versions {
            write!(line, ", {version} {count}").ok();
        }
        line
    }

    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.lost += other.lost;
        self.misrouted += other.misrouted;
        merge(&mut self.statuses, other.statuses);
        merge(&mut self.versions, other.versions);
        merge(&mut self.labels, other.labels);
        let room = MAX_EXAMPLES.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.into_iter().take(room));
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(text());
        }
    }

    /// Sends one shot and counts what came of it; false when the connection is of no more use.
    async fn shoot(&mut self, connection: &mut Connection, shot: &Shot) -> bool {
        self.sent += 1;
        *self.labels.entry(shot.label.clone()).or_default() += 1;
        let answer = match connection.ask(&shot.ask).await {
            Ok(answer) => answer,
            Err(error) => {
                self.lost += 1;
                self.example(|| format!("{}: {error:#}", shot.label));
                return false;
            }
        };
        *self.statuses.entry(answer.status).or_default() += 1;
        match answer.echo() {
            Ok(echo) => {
                if shot
                    .version
                    .as_ref()
                    .is_some_and(|due| *due != echo.version)
                {
                    self.misrouted += 1;
                    self.example(|| format!("{}: {:?}", shot.label, answer.headers));
                }
                *self.versions.entry(echo.version).or_default() += 1;
            }
            Err(error) => {
                self.lost += 1;
                self.example(|| format!("{}: {error:#}", shot.label));
            }
        }
        // Envoy says so before it closes, for instance when it drains.
        answer.header("connection") != Some("close")
    }
}

async fn shoot(
    address: SocketAddr,
    pace: Duration,
    shots: Arc<Vec<Shot>>,
    first: usize,
    stopping: watch::Receiver<bool>,
) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for shot in shots.iter().cycle().skip(first % shots.len().max(1)) {
        ticks.tick().await;
        if *stopping.borrow() {
            break;
        }
        let mut open = match connection.take() {
            Some(open) => open,
            None => match Connection::open(address).await {
                Ok(open) => open,
                Err(error) => {
                    report.sent += 1;
                    report.lost += 1;
                    report.example(|| format!("{error:#}"));
                    continue;
                }
            },
        };
        if report.shoot(&mut open, shot).await {
            connection = Some(open);
        }
    }
    report
}

fn merge<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}
