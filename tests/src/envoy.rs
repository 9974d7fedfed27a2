//! A real Envoy on a configuration that users copy, one of `envoy/*.yaml`: its example ports and
//! paths are replaced, nothing else; or on what `ombre bootstrap` prints. Reads its statistics as
//! an operator does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::poll::{SOON, eventually};
use crate::ports::Port;
use crate::process::{Group, Process};
use crate::{binaries, client, http};

/// The cluster that takes everything by default.
pub const STABLE: &str = "demo_v1";
/// The cluster of the version being released.
pub const CANARY: &str = "demo_v2";

/// What an Envoy is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its configuration.
    pub config: Config,
    /// Worker threads.
    pub concurrency: u32,
    /// How Envoy is started.
    pub launcher: Launcher,
    /// Variables of its environment, beside those of the test's own.
    pub environment: Vec<(String, String)>,
}

/// Where its configuration comes from.
#[derive(Clone, Debug)]
pub enum Config {
    /// A file that users copy; what its example values are replaced by.
    Example {
        /// The configuration, as a text with the example values.
        template: String,
        /// Where the controller listens.
        controller: SocketAddr,
        /// The upstream of [`STABLE`].
        stable: SocketAddr,
        /// The upstream of [`CANARY`].
        canary: SocketAddr,
    },
    /// What `ombre bootstrap` has printed: all else comes over xDS.
    Bootstrap(String),
}

/// A configuration that users copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Example {
    /// `envoy/envoy.yaml`: the demo.
    #[default]
    Full,
    /// `envoy/lifecycle.yaml`: authentication, limits, CORS and errors around the filter.
    Lifecycle,
    /// `envoy/minimal.yaml`, to which a second cluster and the admin interface are added, as
    /// whoever copies it has them.
    Minimal,
}

/// Where Envoy listens. It is decided before Envoy starts, since the controller is told too.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub traffic: Port,
    /// For the operator.
    pub admin: Port,
}

/// How Envoy is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// The program itself.
    Program(PathBuf),
    /// `func-e run`, in a process group of its own, since func-e starts Envoy as its child.
    FuncE,
}

/// A running Envoy. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    listeners: Listeners,
    settings: Settings,
    config: PathBuf,
    log: PathBuf,
    http: reqwest::Client,
}

/// What `envoy/minimal.yaml` leaves to the Envoy that it is added to. It ends with its clusters.
const AROUND_MINIMAL: &str = "
    - name: demo_v2
      type: STATIC
      load_assignment:
        cluster_name: demo_v2
        endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: 9002 } } } }] }]
admin:
  address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }
";

impl Example {
    /// Its text, with the example values.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn template(self) -> Result<String> {
        let (name, around) = match self {
            Self::Full => ("envoy/envoy.yaml", ""),
            Self::Lifecycle => ("envoy/lifecycle.yaml", ""),
            Self::Minimal => ("envoy/minimal.yaml", AROUND_MINIMAL),
        };
        let path = binaries::workspace().join(name);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("`{}` cannot be read", path.display()))?;
        Ok(text + around)
    }

    /// The cluster that takes everything by default.
    pub const fn stable(self) -> &'static str {
        match self {
            Self::Full | Self::Lifecycle => STABLE,
            Self::Minimal => "my_service",
        }
    }
}

impl Listeners {
    /// Free ports.
    ///
    /// # Errors
    /// When there are none.
    pub fn free() -> Result<Self> {
        Ok(Self {
            traffic: Port::free()?,
            admin: Port::free()?,
        })
    }

    /// The address of the admin interface as the controller is told it.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.address())
    }
}

impl Envoy {
    /// Starts one with its files in `dir`, and does not wait for it.
    ///
    /// # Errors
    /// When the configuration has no place for a setting or the program cannot be started.
    pub fn start(settings: Settings, listeners: Listeners, dir: &Path) -> Result<Self> {
        let config = dir.join("envoy.yaml");
        let log = dir.join("envoy.log");
        let text = settings.config.text(&listeners)?;
        std::fs::write(&config, text)
            .with_context(|| format!("`{}` cannot be written", config.display()))?;
        let process = settings.spawn(&config, &log)?;
        Ok(Self {
            process,
            listeners,
            settings,
            config,
            log,
            http: http::client()?,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.listeners.traffic.address()
    }

    /// Where the operator asks.
    pub fn admin(&self) -> SocketAddr {
        self.listeners.admin.address()
    }

    /// The process, for its log and its end.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until `/ready` says so and the listener takes connections.
    ///
    /// # Errors
    /// When Envoy ends or is not ready in time.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("http://{}/ready", self.admin());
        let address = self.address();
        let Self { process, http, .. } = self;
        let asked = eventually(SOON, "Envoy is ready", async || {
            let answer = http.get(&url).timeout(Duration::from_secs(1)).send().await;
            // An Envoy that refuses its configuration ends, and need not be waited for.
            if process.ended()?.is_some() {
                return Ok(());
            }
            ensure!(answer?.status().is_success(), "Envoy is not ready");
            client::Connection::open(address).await?;
            Ok(())
        })
        .await;
        process.check()?;
        asked?;
        // Before anybody counts by which worker the next one is accepted.
        eventually(SOON, "a worker accepted the connection", async || {
            let accepted: u64 = self.accepted().await?.values().sum();
            ensure!(accepted > 0, "no worker did");
            Ok(())
        })
        .await
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again after its end, on the same ports and configuration.
    ///
    /// # Errors
    /// As [`Envoy::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = self.settings.spawn(&self.config, &self.log)?;
        Ok(())
    }

    /// Counters and gauges whose names match the regular expression `filter`.
    ///
    /// # Errors
    /// When the admin interface does not answer.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let url = format!("http://{}/stats", self.admin());
        let answer = self.http.get(url).query(&[("filter", filter)]).send();
        let text = answer.await?.error_for_status()?.text().await?;
        // Histograms and texts have values that are not whole numbers, and are left out.
        let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(lines
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// The line of one histogram: `name: P0(<last interval>,<since start>) P25(..) ..`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn histogram(&self, name: &str) -> Result<String> {
        let url = format!("http://{}/stats", self.admin());
        let answer = self.http.get(url).query(&[("filter", name)]).send();
        let text = answer.await?.error_for_status()?.text().await?;
        let found = text.lines().find(|line| line.starts_with(name));
        Ok(found
            .with_context(|| format!("there is no {name}"))?
            .to_owned())
    }

    /// The sum of the counters and gauges whose names match `filter`; zero when there is none.
    ///
    /// # Errors
    /// As [`Envoy::stats`].
    pub async fn sum(&self, filter: &str) -> Result<u64> {
        Ok(self.stats(filter).await?.values().sum())
    }

    /// What moves when a VM of the filter dies or is made: Envoy's statistics, and its log.
    ///
    /// # Errors
    /// When there are no such statistics.
    pub async fn vms(&self) -> Result<BTreeMap<String, u64>> {
        let mut stats = self
            .stats(r"^wasm\..*(vm_reload|\.active|\.created|vm_count)")
            .await?;
        ensure!(!stats.is_empty(), "Envoy has no wasm statistics");
        let failures = self.process.log().matches("Function: proxy_on").count();
        stats.insert("failures in the log".to_owned(), failures as u64);
        Ok(stats)
    }

    /// One kept connection to each worker, in the workers' order.
    ///
    /// # Errors
    /// When the workers' own counters do not tell within a few hundred connections.
    pub async fn worker_connections(&self) -> Result<Vec<client::Connection>> {
        let workers = self.settings.concurrency as usize;
        let mut found: BTreeMap<String, client::Connection> = BTreeMap::new();
        let mut before = self.accepted().await?;
        for _ in 0..400 {
            if found.len() == workers {
                return Ok(found.into_values().collect());
            }
            let connection = client::Connection::open(self.address()).await?;
            let after = eventually(SOON, "a worker accepted the connection", async || {
                let after = self.accepted().await?;
                ensure!(after != before, "no worker did");
                Ok(after)
            })
            .await?;
            let mut raised = after
                .iter()
                .filter(|(name, count)| before.get(*name) != Some(*count));
            if let (Some((name, _)), None) = (raised.next(), raised.next()) {
                found.entry(name.clone()).or_insert(connection);
            }
            before = after;
        }
        bail!("connections reached {} of {workers} workers", found.len())
    }

    /// Connections accepted so far by each worker of the traffic listener.
    async fn accepted(&self) -> Result<BTreeMap<String, u64>> {
        let port = self.listeners.traffic.number();
        self.stats(&format!(
            r"^listener\.127\.0\.0\.1_{port}\.worker_\d+\.downstream_cx_total$"
        ))
        .await
    }
}

impl Config {
    /// The template with this Envoy's own ports and paths. Every example value must be there:
    /// a configuration that lost one would run on somebody else's port.
    fn text(&self, listeners: &Listeners) -> Result<String> {
        let (template, controller, stable, canary) = match self {
            Self::Bootstrap(text) => return Ok(text.clone()),
            Self::Example {
                template,
                controller,
                stable,
                canary,
            } => (template, controller, stable, canary),
        };
        let port = |port: u16| format!("port_value: {port}");
        let wasm = binaries::wasm()?.display().to_string();
        let marks = [
            (port(8080), port(listeners.traffic.number())),
            (port(9901), port(listeners.admin.number())),
            (port(8600), port(controller.port())),
            (port(9001), port(stable.port())),
            (port(9002), port(canary.port())),
            ("target/ombre.wasm".to_owned(), wasm),
        ];
        let mut text = template.clone();
        for (number, (example, _)) in marks.iter().enumerate() {
            ensure!(
                text.contains(example.as_str()),
                "the configuration has no `{example}` to replace"
            );
            // In two passes, since a free port may be one of the examples.
            text = text.replace(example.as_str(), &placeholder(number));
        }
        for (number, (_, value)) in marks.iter().enumerate() {
            text = text.replace(&placeholder(number), value);
        }
        Ok(text)
    }
}

impl Settings {
    fn spawn(&self, config: &Path, log: &Path) -> Result<Process> {
        let (mut command, group) = match &self.launcher {
            Launcher::Program(path) => (Command::new(path), Group::Shared),
            Launcher::FuncE => {
                let mut command = Command::new("func-e");
                command.arg("run");
                (command, Group::Own)
            }
        };
        command.arg("-c").arg(config);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // Several Envoys run on one machine, and none is ever replaced hot.
        command.args(["--disable-hot-restart", "--log-level", "info"]);
        command.args(["--concurrency", &self.concurrency.to_string()]);
        Process::start("envoy", command, log, group)
    }
}

fn placeholder(number: usize) -> String {
    format!("<<ombre {number}>>")
}
