//! All parts in one call: a policy in a directory of its own, two upstreams, the controller and
//! Envoy. A changed policy is waited for by asking every worker of Envoy, not by sleeping.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binaries;
use crate::client::{Answer, Ask, Connection, ask};
use crate::controller::{self, Controller};
use crate::envoy::{self, Config, Envoy, Example, Launcher, Listeners};
use crate::feed::{self, Feed};
use crate::poll::{SOON, eventually};
use crate::ports::Port;
use crate::process::Group;
use crate::upstream::Upstream;

/// The path by which the harness asks which policy is in force.
pub const PROBE: &str = "/ombre-probe";

/// Worker threads of Envoy: more than one, so that a worker that misses a document is seen.
const WORKERS: u32 = 2;

/// How long an upstream may take in the files that users copy.
const TIMEOUT: Duration = Duration::from_secs(15);

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
    /// Where the controller serves xDS, if it does.
    xds: Option<Port>,
    policy: PathBuf,
    example: Example,
    /// What stands in the policy after its services.
    sections: String,
    /// By which it is asked which policy is in force.
    probe: Ask,
    edits: u64,
    dir: TempDir,
}

/// What the parts are started with.
#[derive(Clone, Debug)]
pub struct Setup {
    policy: String,
    example: Example,
    feed: Feed,
    timeout: Duration,
    environment: Vec<(String, String)>,
    files: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    edits: Vec<(String, String)>,
    admin: Option<String>,
    arguments: Vec<String>,
    bootstrap: Vec<String>,
}

impl Setup {
    /// Under this policy, which ends with its list of services: the harness adds one of its own,
    /// by which it asks whether the policy is in force.
    pub fn new(policy: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            example: Example::default(),
            feed: Feed::default(),
            timeout: TIMEOUT,
            environment: Vec::new(),
            files: Vec::new(),
            headers: Vec::new(),
            edits: Vec::new(),
            admin: None,
            arguments: Vec::new(),
            bootstrap: Vec::new(),
        }
    }

    /// The same with another configuration of Envoy.
    #[must_use]
    pub fn example(mut self, example: Example) -> Self {
        self.example = example;
        self
    }

    /// The same with Envoy fed in another way.
    #[must_use]
    pub fn feed(mut self, feed: Feed) -> Self {
        self.feed = feed;
        self
    }

    /// The same with another limit to how long an upstream may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same with a variable more in Envoy's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a file more beside the policy.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// The same with a header more on the harness's own requests, as a configuration may ask for.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with a piece of Envoy's configuration file replaced by another.
    #[must_use]
    pub fn edit(mut self, piece: &str, other: &str) -> Self {
        self.edits.push((piece.to_owned(), other.to_owned()));
        self
    }

    /// The same with another address of Envoy's admin interface told to the controller.
    #[must_use]
    pub fn admin(mut self, url: String) -> Self {
        self.admin = Some(url);
        self
    }

    /// The same with arguments more for the controller.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        self.arguments.extend(arguments);
        self
    }

    /// The same with arguments more for `ombre bootstrap`.
    #[must_use]
    pub fn bootstrap(mut self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        self.bootstrap.extend(arguments);
        self
    }

    /// Starts all parts, waits until the policy is in force on every worker, and hands the stack
    /// to `body`. When that fails, prints the logs.
    ///
    /// # Errors
    /// The error of `body`, or that a part does not start.
    pub async fn run<T>(self, body: impl AsyncFnOnce(&mut Stack) -> Result<T>) -> Result<T> {
        let mut stack = Stack::start(self).await?;
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
}

impl Stack {
    /// [`Setup::run`] under `policy` and nothing else.
    ///
    /// # Errors
    /// As there.
    pub async fn with<T>(
        policy: &str,
        body: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        Setup::new(policy).run(body).await
    }

    /// The same with Envoy fed in this way.
    ///
    /// # Errors
    /// As there.
    pub async fn fed<T>(
        feed: Feed,
        policy: &str,
        body: impl AsyncFnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        Setup::new(policy).feed(feed).run(body).await
    }

    /// Asks once through Envoy, over a connection of its own.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn ask(&self, request: &Ask) -> Result<Answer> {
        ask(self.envoy.address(), request).await
    }

    /// Waits until every worker answers `request` as `check` wants it.
    ///
    /// # Errors
    /// The last complaint of `check`, when that takes too long.
    pub async fn on_every_worker(
        &self,
        request: &Ask,
        check: impl Fn(&Answer) -> Result<()>,
    ) -> Result<()> {
        for mut worker in self.envoy.worker_connections().await? {
            eventually(SOON, "every worker answers as it should", async || {
                let answer = worker.ask(request).await?;
                check(&answer).with_context(|| answer.seen())
            })
            .await?;
        }
        Ok(())
    }

    /// Puts decisions, which must be taken. [`Stack::on_every_worker`] waits for their effect.
    ///
    /// # Errors
    /// When they are not taken.
    pub async fn decide(&self, decisions: &serde_json::Value) -> Result<()> {
        let (status, text) = self.controller.put("/v1/decisions", decisions).await?;
        ensure!(
            status == 200,
            "the decisions were not taken: {status} {text}"
        );
        Ok(())
    }

    /// The policy file.
    pub fn policy_path(&self) -> &Path {
        &self.policy
    }

    /// Where the controller serves xDS.
    ///
    /// # Errors
    /// When Envoy is not fed that way.
    pub fn xds(&self) -> Result<SocketAddr> {
        let port = self.xds.as_ref().context("nobody serves xds here")?;
        Ok(port.address())
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

    /// Replaces a file beside the policy as an editor does, by rename, and does not wait.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_file(&self, name: &str, text: &str) -> Result<()> {
        replace(&self.policy.with_file_name(name), text.as_bytes())
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
        let text = marked_for(self.example, policy, self.edits) + &self.sections;
        self.write_policy(text.as_bytes())
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
        decided_by(&self.probe, self.edits, workers).await
    }

    /// Waits until every worker decides by the policy last written by the harness.
    ///
    /// # Errors
    /// When it is not in force in time.
    pub async fn in_force(&mut self) -> Result<()> {
        let mut workers = self.envoy.worker_connections().await?;
        decided_by(&self.probe, self.edits, &mut workers).await
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

    async fn start(setup: Setup) -> Result<Self> {
        let Setup {
            policy,
            example,
            feed,
            timeout,
            environment,
            files,
            headers,
            edits,
            admin,
            mut arguments,
            bootstrap,
        } = setup;
        let probe = headers.iter().fold(Ask::get(PROBE), |ask, (name, value)| {
            ask.header(name, value)
        });
        let dir = tempfile::Builder::new().prefix("ombre-").tempdir()?;
        // The policy has a directory of its own, as it has where people edit it.
        let policies = dir.path().join("policies");
        std::fs::create_dir(&policies)?;
        let path = policies.join("policy.yaml");
        for (name, text) in files {
            replace(&policies.join(name), text.as_bytes())?;
        }
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v1 = Upstream::start("v1", any).await?;
        let v2 = Upstream::start("v2", any).await?;
        let listeners = Listeners::free()?;
        let xds = match feed {
            Feed::File => None,
            Feed::Sotw | Feed::Delta => Some(Port::free()?),
        };
        let mut sections = String::new();
        if let Some(xds) = &xds {
            ensure!(
                example == Example::Full && edits.is_empty(),
                "there is no file to take or to edit"
            );
            arguments.extend(feed::serving(xds.address())?);
            let clusters = [(envoy::STABLE, v1.address()), (envoy::CANARY, v2.address())];
            sections = feed::clusters(&clusters)
                + "listeners:\n"
                + &feed::listener(
                    "traffic",
                    listeners.traffic.address(),
                    envoy::STABLE,
                    timeout,
                );
        }
        let text = marked_for(example, &policy, 0) + &sections;
        replace(&path, text.as_bytes())?;
        let controller = Controller::start(controller::Settings {
            policy: path.clone(),
            dir: dir.path().to_path_buf(),
            envoy_admin: admin.unwrap_or_else(|| listeners.admin_url()),
            arguments,
            group: Group::Shared,
        })?;
        let config = match &xds {
            Some(xds) => Config::Bootstrap(feed::bootstrap(
                feed,
                "envoy-1",
                xds.address(),
                listeners.admin.address(),
                &bootstrap,
            )?),
            None => Config::Example {
                template: template(example, timeout, edits)?,
                controller: controller.address(),
                stable: v1.address(),
                canary: v2.address(),
            },
        };
        let settings = envoy::Settings {
            config,
            concurrency: WORKERS,
            launcher: Launcher::Program(binaries::envoy()?),
            environment,
        };
        let envoy = Envoy::start(settings, listeners, dir.path())?;
        Ok(Self {
            envoy,
            controller,
            v1,
            v2,
            xds,
            policy: path,
            example,
            sections,
            probe,
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

/// The configuration file with what the test wants changed in it.
fn template(
    example: Example,
    timeout: Duration,
    mut edits: Vec<(String, String)>,
) -> Result<String> {
    if timeout != TIMEOUT {
        let piece = |timeout: Duration| format!("timeout: {}s }}", timeout.as_secs_f64());
        edits.push((piece(TIMEOUT), piece(timeout)));
    }
    let mut template = example.template()?;
    for (piece, other) in edits {
        ensure!(
            template.contains(&piece),
            "Envoy's configuration has no `{piece}`"
        );
        template = template.replace(&piece, &other);
    }
    Ok(template)
}

/// `policy` with a service whose route carries `edit` in its name, which the response of
/// [`PROBE`] shows.
pub fn marked(policy: &str, edit: u64) -> String {
    marked_for(Example::Full, policy, edit)
}

fn marked_for(example: Example, policy: &str, edit: u64) -> String {
    let cluster = example.stable();
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
async fn decided_by(probe: &Ask, edit: u64, workers: &mut [Connection]) -> Result<()> {
    let due = probe_route(edit);
    for worker in workers {
        eventually(SOON, "every worker decides by the policy", async || {
            let answer = worker.ask(probe).await?;
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
