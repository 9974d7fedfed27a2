//! `ombre simulate`: steps the same judge and the same machine over recorded or written evidence, and
//! says what they would have done, when, and why. `ombre record` writes such evidence.

mod run;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};
use ombre_policy::duration::Moment;
use ombre_policy::policy::SlotTables;
use ombre_policy::release::evidence::Sample;
use serde::{Deserialize, Serialize};

use crate::args::{OutputFormat, RecordArgs, SimulateArgs};
use crate::clients::Clients;
use crate::compiled::Compiled;
pub use run::{Simulation, Told};

/// One line of evidence: both versions of one service in one tick.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The end of the tick, Unix milliseconds.
    pub at: Moment,
    /// The service.
    pub service: String,
    /// What its candidate did.
    pub candidate: Sample,
    /// What its stable version did.
    pub stable: Sample,
}

/// Simulates on standard output.
///
/// # Errors
/// When the evidence cannot be read; with its line.
pub fn run(args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let compiled = match Compiled::from_files(&args.policies, &SlotTables::default()) {
        Ok(compiled) => compiled,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut simulation = Simulation::new(&compiled.policy);
    let path = args.evidence.display();
    let file = File::open(&args.evidence).with_context(|| format!("`{path}` cannot be read"))?;
    let mut out = std::io::stdout().lock();
    for (number, text) in (1..).zip(BufReader::new(file).lines()) {
        let text = text.with_context(|| format!("`{path}`, line {number}"))?;
        if text.trim().is_empty() {
            continue;
        }
        let line: Line =
            serde_json::from_str(&text).with_context(|| format!("`{path}`, line {number}"))?;
        let Some(told) = simulation.take(line) else {
            bail!(
                "`{path}`, line {number}: no such service with a `rollout` and a `degrade` block"
            );
        };
        for told in told {
            match args.output {
                OutputFormat::Text => writeln!(out, "{told}")?,
                OutputFormat::Json => writeln!(out, "{}", serde_json::to_string(&told)?)?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the evidence of a running controller, line by line, until it ends or is ended.
///
/// # Errors
/// When the controller does not answer or the file cannot be written.
pub fn record(args: &RecordArgs) -> anyhow::Result<ExitCode> {
    let url = args.at.controller.join("/v1/events")?;
    let path = args.evidence.display();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&args.evidence)
        .with_context(|| format!("`{path}` cannot be written"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let clients = Clients::new(args.at.trust.ca_file.as_deref())?;
        let client = clients.builder().no_proxy().build()?;
        let response = client.get(url.clone()).send().await;
        let response = response.with_context(|| format!("no answer from {url}"))?;
        let mut response = response.error_for_status()?;
        let mut stream = Stream::default();
        while let Some(part) = response.chunk().await? {
            for evidence in stream.take(&part) {
                writeln!(file, "{evidence}").with_context(|| format!("`{path}`"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// A stream of server-sent events, of which only evidence is wanted.
#[derive(Default)]
struct Stream {
    rest: Vec<u8>,
    wanted: bool,
}

impl Stream {
    fn take(&mut self, part: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(part);
        let mut found = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if let Some(kind) = line.strip_prefix("event:") {
                self.wanted = kind.trim() == "evidence";
            } else if let Some(data) = line.strip_prefix("data:")
                && self.wanted
            {
                found.push(data.trim().to_owned());
            } else if line.is_empty() {
                self.wanted = false;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
