//! All parts in one call: a policy in a directory of its own, two upstreams, the controller and
//! Envoy. A changed policy is waited for by asking every worker of Envoy, not by sleeping.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binaries;
use crate::client::{Answer, Ask, Connection, ask};
use crate::controller::{self, Controller};
use crate::envoy::{self, Envoy, Launcher, Listeners};
use crate::poll::{SOON, eventually};
use crate::process::Group;
use crate::upstream::Upstream;

/// The path by which the harness asks which policy is in force.
pub const PROBE: &str = "/ombre-probe";

/// Worker threads of Envoy: more than one, so that a worker that misses a document is seen.
const WORKERS: u32 = 2;

/// All parts, running.
#[derive(Debug)]
pub struct Stack {
    /// Envoy; dropped first, since it depends on the others.
    pub envoy: Envoy,
    /// The controller.
    pub controller: Controller,
    /// The upstream behind [`envoy::STABLE`].
    pub v1: Upstream,
    /// The upstream behind [`envoy::CANARY`].
    pub v2: Upstream,
    policy: PathBuf,
    edits: u64,
    dir: TempDir,
}

impl Stack {
    /// Starts all parts under `policy`, waits until it is in force on every worker, and hands the
    /// stack to `body`. When that fails, prints the logs.
    ///
    /// `policy` ends with its list of services: the harness adds one of its own, by which it
    /// asks whether the policy is in force.
    ///
    /// # Errors
    /// The error of `body`, or that a part does not start.
    pub async fn with<T>(
        policy: &str,
        body: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        Self::with_envoy(policy, envoy::template()?, body).await
    }

    /// As [`Stack::with`], on another configuration of Envoy than the one that users copy.
    ///
    /// # Errors
    /// As [`Stack::with`].
    pub async fn with_envoy<T>(
        policy: &str,
        template: String,
        body: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let mut stack = Self::start(policy, template).await?;
        let result = async {
            stack.ready().await?;
            body(&mut stack).await
        }
        .await;
        if result.is_err() {
            stack.print_logs();
        }
        result
    }

    /// Asks once through Envoy, over a connection of its own.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn ask(&self, request: &Ask) -> Result<Answer> {
        ask(self.envoy.address(), request).await
    }

    /// The policy file.
    pub fn policy_path(&self) -> &Path {
        &self.policy
    }

    /// A directory for files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces the policy file as an editor does, by rename, and does not wait. What is written
    /// is `policy` alone, without the harness's own service.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_policy(&self, policy: &[u8]) -> Result<()> {
        replace(&self.policy, policy)
    }

    /// Replaces the policy and waits until every worker decides by it.
    ///
    /// # Errors
    /// When it is not in force in time.
    pub async fn change_policy(&mut self, policy: &str) -> Result<()> {
        self.save_policy(policy)?;
        self.in_force().await
    }

    /// Replaces the policy and does not wait; [`Stack::in_force`] waits for it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save_policy(&mut self, policy: &str) -> Result<()> {
        self.edits += 1;
        self.write_policy(marked(policy, self.edits).as_bytes())
    }

    /// As [`Stack::change_policy`], on connections from [`Envoy::worker_connections`] that are
    /// kept for many changes.
    ///
    /// # Errors
    /// When it is not in force in time.
    pub async fn change_policy_on(
        &mut self,
        policy: &str,
        workers: &mut [Connection],
    ) -> Result<()> {
        self.save_policy(policy)?;
        decided_by(self.edits, workers).await
    }

    /// Waits until every worker decides by the policy last written by the harness.
    ///
    /// # Errors
    /// When it is not in force in time.
    pub async fn in_force(&mut self) -> Result<()> {
        let mut workers = self.envoy.worker_connections().await?;
        decided_by(self.edits, &mut workers).await
    }

    /// The route that [`PROBE`] is decided by once the policy last written by the harness is in
    /// force.
    pub fn probe_route(&self) -> String {
        probe_route(self.edits)
    }

    /// Prints the ends of all logs.
    pub fn print_logs(&mut self) {
        eprintln!("{}", self.controller.process().log_tail());
        eprintln!("{}", self.envoy.process().log_tail());
    }

    async fn start(policy: &str, template: String) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("ombre-").tempdir()?;
        // The policy has a directory of its own, as it has where people edit it.
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies)?;
        let path = policies.join("policy.yaml");
        replace(&path, marked(policy, 0).as_bytes())?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v1 = Upstream::start("v1", any).await?;
        let v2 = Upstream::start("v2", any).await?;
        let listeners = Listeners::free()?;
        let controller = Controller::start(controller::Settings {
            policy: path.clone(),
            dir: dir.path().to_path_buf(),
            envoy_admin: listeners.admin_url(),
            group: Group::Shared,
        })?;
        let settings = envoy::Settings {
            template,
            controller: controller.address(),
            stable: v1.address(),
            canary: v2.address(),
            concurrency: WORKERS,
            launcher: Launcher::Program(binaries::envoy()?),
        };
        let envoy = Envoy::start(settings, listeners, dir.path())?;
        Ok(Self {
            envoy,
            controller,
            v1,
            v2,
            policy: path,
            edits: 0,
            dir,
        })
    }

    async fn ready(&mut self) -> Result<()> {
        self.controller.healthy().await?;
        self.envoy.ready().await?;
        self.in_force().await
    }
}

/// `policy` with a service whose route carries `edit` in its name, which the response of
/// [`PROBE`] shows.
pub fn marked(policy: &str, edit: u64) -> String {
    let cluster = envoy::STABLE;
    let route = probe_route(edit);
    format!(
        "{}\n  - name: ombre-probe\n    routes: [{{ name: {route}, path: {PROBE} }}]\n    \
         versions: [{{ name: v1, cluster: {cluster} }}]\n    default: v1\n",
        policy.trim_end()
    )
}

fn probe_route(edit: u64) -> String {
    format!("probe-{edit}")
}

/// Waits until each of the connections is answered by the policy marked with `edit`.
async fn decided_by(edit: u64, workers: &mut [Connection]) -> Result<()> {
    let due = probe_route(edit);
    let probe = Ask::get(PROBE);
    for worker in workers {
        eventually(SOON, "every worker decides by the policy", async || {
            let answer = worker.ask(&probe).await?;
            ensure!(
                answer.decision("route") == Some(due.as_str()),
                "a worker decides by another policy: status {}, x-ombre-decision {:?}, not {due}",
                answer.status,
                answer.header("x-ombre-decision"),
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}

fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, content)
        .and_then(|()| std::fs::rename(&draft, path))
        .with_context(|| format!("`{}` cannot be written", path.display()))
}
