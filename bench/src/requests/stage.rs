//! Everything that has to run while requests are measured: one Envoy, for timing with one worker, and a listener
//! per case, what answers behind it, and what the pollers fetch policies from.

mod config;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ombre_tests::binaries;
use ombre_tests::ports::Port;
use ombre_tests::process::{Group, Process};
use tempfile::TempDir;

use super::cases::{Case, Kind};
use super::{load, processor};

const SOON: Duration = Duration::from_secs(60);
const PROBE: &[u8] = b"GET /shop/probe HTTP/1.1\r\nhost: x\r\nx-user-id: probe\r\n\r\n";

/// What answers requests behind the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// A local upstream: the whole request as it costs in use.
    Upstream,
    /// Nobody: the clusters have no hosts, so that Envoy itself answers 503 once the cluster is
    /// chosen. Without the share of the upstream, filters differ more clearly.
    Nobody,
}

/// All of it, running. Dropping it ends Envoy.
pub(crate) struct Stage {
    process: Process,
    /// The external processor, if a case has one.
    processor: Option<(Process, Port)>,
    listeners: Vec<Port>,
    answers: Answers,
    _dir: TempDir,
}

impl Answers {
    /// The status of every answer.
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Upstream => 200,
            Self::Nobody => 503,
        }
    }

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Upstream => "with a local upstream",
            Self::Nobody => "without an upstream",
        }
    }

    /// For file names and programs.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Nobody => "alone",
        }
    }
}

impl Stage {
    /// Starts it and waits until every case decides.
    pub(crate) fn start(cases: &[Case], answers: Answers, workers: usize) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ombre-bench-").tempdir()?;
        let listeners: Result<Vec<Port>> = cases.iter().map(|_| Port::free()).collect();
        let listeners = listeners?;
        let processed = cases.iter().any(|case| case.kind == Kind::ExtProc);
        let processor = processed.then(|| processor::start(dir.path()));
        let processor = processor.transpose()?;
        let host = processor.as_ref().map(|(_, port)| port.address());
        let config = config::of(cases, &listeners, answers, host, dir.path())?;
        let path = dir.path().join("envoy.json");
        fs::write(&path, serde_json::to_string_pretty(&config)?)?;
        let mut command = Command::new(binaries::envoy()?);
        command.args([
            "--concurrency",
            &workers.to_string(),
            "--log-level",
            "warning",
            "--use-dynamic-base-id",
            "-c",
        ]);
        command.arg(&path);
        let log = dir.path().join("envoy.log");
        let process = Process::start("envoy", command, &log, Group::Shared)?;
        let mut stage = Self {
            process,
            processor,
            listeners,
            answers,
            _dir: dir,
        };
        stage.wait(cases)?;
        Ok(stage)
    }

    /// Where the cases listen, in their order.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().map(Port::address)
    }

    pub(crate) const fn answers(&self) -> Answers {
        self.answers
    }

    /// The process id of Envoy.
    pub(crate) fn envoy(&self) -> u32 {
        self.process.id()
    }

    /// The process id of what Envoy asks about requests of this case.
    pub(crate) fn asked(&self, case: &Case) -> Option<u32> {
        let asked = self.processor.as_ref();
        let asked = asked.filter(|_| case.kind == Kind::ExtProc);
        asked.map(|(process, _)| process.id())
    }

    fn wait(&mut self, cases: &[Case]) -> Result<()> {
        let start = Instant::now();
        for (case, address) in cases.iter().zip(self.listeners().collect::<Vec<_>>()) {
            while let Err(error) = ready(case, address, self.answers) {
                self.process.check()?;
                if let Some((processor, _)) = &mut self.processor {
                    processor.check()?;
                }
                let late = format!(
                    "case `{}`: {error:#}\n{}",
                    case.name,
                    self.process.log_tail()
                );
                ensure!(start.elapsed() < SOON, late);
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

/// Whether the listener answers, and by what it is there for.
fn ready(case: &Case, address: SocketAddr, answers: Answers) -> Result<()> {
    let mut stream = load::connect(address)?;
    std::io::Write::write_all(&mut stream, PROBE)?;
    let mut buffer = Vec::new();
    let answer = load::read(&mut stream, &mut buffer)?;
    ensure!(
        answer.status == answers.status(),
        "status {}",
        answer.status
    );
    let head = String::from_utf8_lossy(&buffer).to_ascii_lowercase();
    let decides = matches!(
        case.kind,
        Kind::Ombre(..) | Kind::Lua { .. } | Kind::ExtProc
    );
    ensure!(
        !decides || head.contains("x-ombre-decision: route=shop-pages"),
        "no decision:\n{head}"
    );
    Ok(())
}
