//! The built `ombre serve` on a port that it keeps over a restart.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::poll::{SOON, eventually};
use crate::ports::Port;
use crate::process::{Group, Process};
use crate::{binaries, http};

/// A controller. Dropping it kills it.
#[derive(Debug)]
pub struct Controller {
    process: Process,
    port: Port,
    settings: Settings,
    http: reqwest::Client,
}

/// What a controller is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The policy file that it watches.
    pub policy: PathBuf,
    /// The directory of its log and its state.
    pub dir: PathBuf,
    /// The admin address of an Envoy whose clusters it checks.
    pub envoy_admin: String,
    /// Arguments beside these.
    pub arguments: Vec<String>,
    /// The process group it runs in.
    pub group: Group,
}

impl Controller {
    /// Starts one, and does not wait for it.
    ///
    /// # Errors
    /// When the program is missing or cannot be started.
    pub fn start(settings: Settings) -> Result<Self> {
        let port = Port::free()?;
        let process = settings.spawn(&port)?;
        Ok(Self {
            process,
            port,
            settings,
            http: http::client()?,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The process, for its log and its end.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until `/healthz` says so.
    ///
    /// # Errors
    /// When it ends or does not answer in time.
    pub async fn healthy(&mut self) -> Result<()> {
        let url = format!("http://{}/healthz", self.address());
        let Self { process, http, .. } = self;
        let asked = eventually(SOON, "the controller is healthy", async || {
            let answer = http.get(&url).timeout(Duration::from_secs(1)).send().await;
            if process.ended()?.is_some() {
                return Ok(());
            }
            ensure!(answer?.status().is_success(), "it is not healthy");
            Ok(())
        })
        .await;
        process.check()?;
        asked
    }

    /// What `path` answers as JSON.
    ///
    /// # Errors
    /// When it does not answer with 200 and JSON.
    pub async fn json(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(self.url(path)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// The sealed document, as Envoy gets it.
    ///
    /// # Errors
    /// When it does not answer with one.
    pub async fn document(&self, kind: &str) -> Result<Vec<u8>> {
        let url = self.url(&format!("/v1/delivery/{kind}?after=0"));
        let answer = self.http.get(url).send().await?.error_for_status()?;
        Ok(answer.bytes().await?.to_vec())
    }

    /// Why the policy files as they are now are not in force, as `/v1/status` says it.
    ///
    /// # Errors
    /// When the status does not answer or has no such field.
    pub async fn last_error(&self) -> Result<Option<Value>> {
        let mut status = self.json("/v1/status").await?;
        let error = status.get_mut("last_error").map(Value::take);
        let error = error.context("the status has no `last_error`")?;
        Ok((!error.is_null()).then_some(error))
    }

    /// What `path` answers, as status and text.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn text(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.http.get(self.url(path)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Puts `body` to `path`, and returns status and text.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(u16, String)> {
        let answer = self.http.put(self.url(path)).json(body).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Posts `body` to `path`, and returns status and text.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, String)> {
        let answer = self.http.post(self.url(path)).json(body).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// From the next start on, another value for one of its arguments.
    ///
    /// # Errors
    /// When it has no such argument.
    pub fn change_argument(&mut self, name: &str, value: &str) -> Result<()> {
        let arguments = &mut self.settings.arguments;
        let at = arguments.iter().position(|argument| argument == name);
        let place = at.and_then(|at| arguments.get_mut(at + 1));
        value.clone_into(place.with_context(|| format!("there is no {name}"))?);
        Ok(())
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again after its end, on the same port and state.
    ///
    /// # Errors
    /// As [`Controller::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = self.settings.spawn(&self.port)?;
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }
}

impl Settings {
    fn spawn(&self, port: &Port) -> Result<Process> {
        let mut command = Command::new(binaries::ombre()?);
        command.arg("serve").arg("--policy").arg(&self.policy);
        command.args(["--listen", &port.address().to_string()]);
        command.args(["--envoy-admin", &self.envoy_admin]);
        command.args(&self.arguments);
        command.arg("--state-dir").arg(self.dir.join("state"));
        Process::start("ombre", command, &self.dir.join("ombre.log"), self.group)
    }
}
