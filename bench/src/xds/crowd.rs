//! One controller and very many Envoys, played by clients that take everything over delta xDS, each on a
//! connection of its own: how long until all have what there is, and a change; and what that costs the
//! controller in memory and processor time.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ombre_tests::controller::{self, Controller};
use ombre_tests::envoy::{CANARY, STABLE};
use ombre_tests::feed;
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::ports::Port;
use ombre_tests::process::Group;
use ombre_xds::snapshot::Type;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{self, LISTENER, Told};
use crate::changes::policy;
use crate::table::Table;
use crate::{cpu, memory};

const MB: f64 = 1e6;
/// A thousand clients need this long at worst to be there.
const PATIENCE: Duration = Duration::from_secs(120);

type News = UnboundedReceiver<Told>;

/// The controller, and what it serves.
struct Served {
    controller: Controller,
    xds: Port,
    routes: usize,
    dir: tempfile::TempDir,
}

/// What was measured.
pub(crate) struct Measured {
    pub(crate) table: Table,
    clients: usize,
    routes: usize,
    /// Of the controller, in MB.
    alone: f64,
    connected: f64,
    changed: f64,
    most: f64,
    /// Processor time of the controller for one change.
    decisions_cpu: Duration,
}

/// Measures so many clients under a policy with this many routes, with so many changes of each kind.
pub(crate) async fn measure(clients: usize, routes: usize, changes: usize) -> Result<Measured> {
    let mut served = Served::start(routes).await?;
    let pid = served.controller.process().id();
    let alone = memory::of(pid)? / MB;
    let mut table = Table::default();

    let (tell, mut news) = unbounded_channel();
    let mut crowd = JoinSet::new();
    let start = Instant::now();
    for number in 0..clients {
        crowd.spawn(client::run(served.xds.address(), number, tell.clone()));
    }
    drop(tell);
    let mut missing = clients * Type::ALL.len();
    let mut last = start;
    while missing > 0 {
        let told = hear(&mut news, &mut crowd).await?;
        // Endpoints may be told of twice.
        missing -= usize::from(told.first);
        last = told.when;
    }
    table.add(
        format!("{clients} clients connect -> all have everything"),
        vec![last - start],
    );
    let connected = memory::of(pid)? / MB;

    let mut change = Change::default();
    let before = cpu::of(pid)?;
    for number in 1..=changes {
        let body = json!({ "services": { "shop": { "weight": number % 100 } } });
        let start = Instant::now();
        let (status, text) = served.controller.put("/v1/decisions", &body).await?;
        ensure!(status == 200, "{status}: {text}");
        change
            .wait(start, clients, Type::Extension, &mut news, &mut crowd)
            .await?;
    }
    let decisions_cpu = cpu::of(pid)?.saturating_sub(before) / u32::try_from(changes)?.max(1);
    change.report("decisions put", "ECDS", &mut table);

    let mut change = Change::default();
    for number in 1..=changes {
        let start = Instant::now();
        served.save(if number % 2 == 0 { STABLE } else { CANARY })?;
        change
            .wait(start, clients, Type::Route, &mut news, &mut crowd)
            .await?;
    }
    change.report("file saved", "RDS", &mut table);
    Ok(Measured {
        table,
        clients,
        routes,
        alone,
        connected,
        changed: memory::of(pid)? / MB,
        most: memory::most(pid)? / MB,
        decisions_cpu,
    })
}

/// When the first and the last client heard of a change.
#[derive(Default)]
struct Change {
    first: Vec<Duration>,
    all: Vec<Duration>,
    spread: Vec<Duration>,
}

impl Change {
    async fn wait(
        &mut self,
        start: Instant,
        clients: usize,
        kind: Type,
        news: &mut News,
        crowd: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        let (mut first, mut last, mut missing) = (None, start, clients);
        while missing > 0 {
            let told = hear(news, crowd).await?;
            if told.kind != kind {
                continue;
            }
            let when = told.when;
            first = Some(first.map_or(when, |first: Instant| first.min(when)));
            last = last.max(when);
            missing -= 1;
        }
        let first = first.unwrap_or(start);
        self.first.push(first.saturating_duration_since(start));
        self.all.push(last - start);
        self.spread.push(last - first);
        Ok(())
    }

    fn report(self, what: &str, kind: &str, table: &mut Table) {
        table.add(
            format!("{kind}: {what} -> the first client has it"),
            self.first,
        );
        table.add(format!("{kind}: {what} -> all have it"), self.all);
        table.add(
            format!("{kind}: from the first client to the last"),
            self.spread,
        );
    }
}

async fn hear(news: &mut News, crowd: &mut JoinSet<Result<()>>) -> Result<Told> {
    tokio::select! {
        heard = timeout(PATIENCE, news.recv()) => {
            heard.context("a client heard nothing")?.context("all clients ended")
        }
        Some(ended) = crowd.join_next() => {
            ended??;
            bail!("a client ended")
        }
    }
}

impl Served {
    async fn start(routes: usize) -> Result<Self> {
        let xds = Port::free()?;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("policy.yaml");
        std::fs::write(&file, text(routes, STABLE))?;
        let mut controller = Controller::start(controller::Settings {
            policy: file,
            dir: dir.path().to_path_buf(),
            // Nobody listens there: the clients are no Envoys that could be asked.
            envoy_admin: "http://127.0.0.1:1".to_owned(),
            arguments: feed::serving(xds.address())?,
            group: Group::Shared,
        })?;
        controller.healthy().await?;
        eventually(SOON, "the policy is in force", async || {
            controller.document("policy").await
        })
        .await?;
        Ok(Self {
            controller,
            xds,
            routes,
            dir,
        })
    }

    fn save(&self, default: &str) -> Result<()> {
        let draft = self.dir.path().join("policy.draft");
        std::fs::write(&draft, text(self.routes, default))?;
        std::fs::rename(&draft, self.dir.path().join("policy.yaml"))?;
        Ok(())
    }
}

fn text(routes: usize, default: &str) -> String {
    // Nobody asks these.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    policy(routes, 0)
        + &feed::clusters(&[(STABLE, nobody), (CANARY, nobody)])
        + "listeners:\n"
        + &feed::listener(LISTENER, nobody, default, SOON)
}

impl Measured {
    /// In Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{} clients, {} routes\n\n{}\n",
            self.clients,
            self.routes,
            self.table.markdown()
        );
        writeln!(
            text,
            "Controller: {:.1} MB alone, {:.1} MB with all clients ({:.0} KB each), {:.1} MB after the changes, {:.1} MB at most; {:.1} ms of processor time for new decisions.",
            self.alone,
            self.connected,
            self.each(),
            self.changed,
            self.most,
            self.decisions_cpu.as_secs_f64() * 1e3,
        )
        .ok();
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "clients": self.clients, "routes": self.routes, "times": self.table.json(),
            "controller_mb": { "alone": self.alone, "connected": self.connected, "changed": self.changed, "most": self.most },
            "kb_per_client": self.each(), "decisions_cpu_s": self.decisions_cpu.as_secs_f64(),
        })
    }

    fn each(&self) -> f64 {
        (self.connected - self.alone) * 1e3 / self.clients.max(1) as f64
    }
}
