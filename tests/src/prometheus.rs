//! A real Prometheus that scrapes Envoys every second, and a controller if alerts are wanted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::poll::{SOON, eventually};
use crate::ports::Port;
use crate::process::{Group, Process};
use crate::{binaries, http};

/// The alerts that users copy, below the root of the workspace.
pub const ALERTS: &str = "docs/prometheus/alerts.yaml";

/// A Prometheus. Dropping it kills it.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    port: Port,
    dir: PathBuf,
    http: reqwest::Client,
}

impl Prometheus {
    /// Starts one on this port, with its files in `dir`, and does not wait for it.
    ///
    /// # Errors
    /// When there is none, or it cannot be started.
    pub fn start(port: Port, envoys: &[SocketAddr], dir: &Path) -> Result<Self> {
        Self::start_with(port, &config(envoys), dir)
    }

    /// The same with the alerts that users copy, of this controller as well.
    ///
    /// # Errors
    /// As [`Prometheus::start`].
    pub fn with_alerts(
        port: Port,
        envoys: &[SocketAddr],
        controller: SocketAddr,
        dir: &Path,
    ) -> Result<Self> {
        let rules = binaries::workspace().join(ALERTS);
        let config = format!(
            "{}  - job_name: ombre\n    static_configs: [{{ targets: [\"{controller}\"] }}]\n\
             rule_files: [\"{}\"]\n",
            config(envoys),
            rules.display()
        );
        Self::start_with(port, &config, dir)
    }

    fn start_with(port: Port, config: &str, dir: &Path) -> Result<Self> {
        let dir = dir.join("prometheus");
        std::fs::create_dir(&dir)?;
        std::fs::write(dir.join("prometheus.yml"), config)?;
        Ok(Self {
            process: spawn(&port, &dir)?,
            port,
            dir,
            http: http::client()?,
        })
    }

    /// Its address, as the controller is told it.
    pub fn url(port: &Port) -> String {
        format!("http://{}", port.address())
    }

    /// Waits until it answers queries.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("{}/-/ready", Self::url(&self.port));
        let Self { process, http, .. } = self;
        let asked = eventually(SOON, "Prometheus is ready", async || {
            let answer = http.get(&url).timeout(Duration::from_secs(1)).send().await;
            if process.ended()?.is_some() {
                return Ok(());
            }
            ensure!(answer?.status().is_success(), "Prometheus is not ready");
            Ok(())
        })
        .await;
        self.process.check()?;
        asked.context("the store of the evidence is missing")
    }

    /// What its API answers at this path.
    ///
    /// # Errors
    /// When it does not answer with 200 and JSON.
    pub async fn json(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", Self::url(&self.port));
        let answer = self.http.get(url).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on the same port and files.
    ///
    /// # Errors
    /// As [`Prometheus::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(&self.port, &self.dir)?;
        Ok(())
    }
}

fn config(envoys: &[SocketAddr]) -> String {
    let targets: Vec<String> = envoys.iter().map(|envoy| format!("\"{envoy}\"")).collect();
    format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nscrape_configs:\n  \
         - job_name: edge\n    metrics_path: /stats/prometheus\n    static_configs: [{{ targets: [{}] }}]\n",
        targets.join(", ")
    )
}

fn spawn(port: &Port, dir: &Path) -> Result<Process> {
    let mut command = Command::new(binaries::prometheus()?);
    command.arg(format!(
        "--config.file={}",
        dir.join("prometheus.yml").display()
    ));
    command.arg(format!(
        "--storage.tsdb.path={}",
        dir.join("data").display()
    ));
    command.arg(format!("--web.listen-address={}", port.address()));
    command.current_dir(dir);
    Process::start(
        "prometheus",
        command,
        &dir.join("prometheus.log"),
        Group::Shared,
    )
}
