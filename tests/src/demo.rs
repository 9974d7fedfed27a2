//! The demo of `make run`: two versions of an upstream, the controller and Envoy with the filter,
//! under a policy to be edited. Stops everything it started, and nothing else.

mod lines;
mod xds;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::Value;
use tokio::time::{Instant, interval};

use crate::client::{Ask, ask};
use crate::controller::{self, Controller};
use crate::envoy::{self, Envoy, Example, Launcher, Listeners};
use crate::load::{Load, Shot};
use crate::poll::{SOON, eventually};
use crate::ports::Port;
use crate::process::{Group, Interrupt};
use crate::upstream::Upstream;
use crate::{binaries, client};

use lines::LINES;
use xds::Xds;

/// The port for traffic when nobody else has it.
const PREFERRED_PORT: u16 = 8080;
/// How long a child may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
/// Users of the background traffic: enough that a percentage of them is seen as one.
const USERS: u64 = 200;
const CONNECTIONS: u32 = 4;

/// Starts two versions of a demo service behind Envoy with ombre, and shows how a policy moves
/// traffic between them while you edit it.
#[derive(Debug, Parser)]
pub struct Args {
    /// Where the policy to edit, the logs and the controller's state are put
    #[arg(long, default_value_os_t = binaries::workspace().join(".demo"))]
    dir: PathBuf,
    /// Requests per second that the demo itself sends for different users; 0 for none
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
    rate: u32,
    /// End after this many seconds
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Run the five curl lines, and fail unless each shows what is printed beside it
    #[arg(long)]
    check: bool,
    /// Start Envoy by `func-e run`
    #[arg(long, env = "FUNC_E", value_parser = clap::builder::FalseyValueParser::new())]
    func_e: bool,
    /// Let Envoy get everything from the controller by xDS, instead of from envoy/envoy.yaml
    #[arg(long, env = "XDS", value_parser = clap::builder::FalseyValueParser::new())]
    xds: bool,
}

/// The running parts.
struct Demo {
    envoy: Envoy,
    controller: Controller,
    v1: Upstream,
    v2: Upstream,
    policy: PathBuf,
    xds: Option<Xds>,
}

/// What one second is the difference of.
#[derive(Clone, Copy, Default)]
struct Totals {
    v1: u64,
    v2: u64,
    errors: u64,
}

/// Runs the demo until Ctrl-C, SIGTERM or its time is over.
///
/// # Errors
/// When a part does not start or ends by itself, or a checked line does not show what it should.
pub async fn run(args: Args) -> Result<()> {
    let Args {
        dir,
        rate,
        seconds,
        check,
        func_e,
        xds,
    } = args;
    let launcher = if func_e {
        Launcher::FuncE
    } else {
        Launcher::Program(binaries::envoy()?)
    };
    // Before anything is started that would be left behind.
    let mut interrupt = Interrupt::listen()?;
    let mut demo = Demo::start(&dir, launcher, xds).await?;
    let result = tokio::select! {
        result = demo.show(rate, seconds, check) => result,
        () = interrupt.received() => Ok(()),
    };
    let stopped = demo.stop().await;
    result.and(stopped)
}

impl Demo {
    async fn start(dir: &Path, launcher: Launcher, xds: bool) -> Result<Self> {
        let policy = prepare(dir)?;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let v1 = Upstream::start("v1", any).await?;
        let v2 = Upstream::start("v2", any).await?;
        let listeners = Listeners {
            traffic: Port::preferred(PREFERRED_PORT)?,
            admin: Port::free()?,
        };
        let traffic = listeners.traffic.address();
        let xds = xds.then(|| Xds::prepare(dir, traffic, [v1.address(), v2.address()]));
        let xds = xds.transpose()?;
        let arguments = xds.as_ref().map(Xds::arguments).transpose()?;
        let controller = Controller::start(controller::Settings {
            policy: policy.clone(),
            dir: dir.to_path_buf(),
            envoy_admin: listeners.admin_url(),
            arguments: arguments.unwrap_or_default(),
            group: Group::Own,
        })?;
        let config = match &xds {
            Some(xds) => envoy::Config::Bootstrap(xds.bootstrap(listeners.admin.address())?),
            None => envoy::Config::Example {
                template: Example::Full.template()?,
                controller: controller.address(),
                stable: v1.address(),
                canary: v2.address(),
            },
        };
        let settings = envoy::Settings {
            config,
            concurrency: 2,
            launcher,
            environment: Vec::new(),
        };
        let envoy = Envoy::start(settings, listeners, dir)?;
        Ok(Self {
            envoy,
            controller,
            v1,
            v2,
            policy,
            xds,
        })
    }

    async fn show(&mut self, rate: u32, seconds: Option<u64>, check: bool) -> Result<()> {
        self.ready().await?;
        self.print();
        if check {
            for line in &LINES {
                line.check(self.envoy.address())?;
            }
            println!("all {} lines show what they should\n", LINES.len());
        }
        let _load = (rate > 0).then(|| self.traffic(rate)).transpose()?;
        self.follow(seconds).await
    }

    /// Waits until a request is decided by the demo's policy.
    async fn ready(&mut self) -> Result<()> {
        self.controller.healthy().await?;
        self.envoy.ready().await?;
        let address = self.envoy.address();
        let probe = Ask::get("/shop/cart");
        let decided = eventually(SOON, "the policy is in force in Envoy", async || {
            let answer = ask(address, &probe).await?;
            ensure!(answer.decision("route").is_some(), "it is not yet");
            Ok(())
        })
        .await;
        decided.with_context(|| self.logs())
    }

    fn print(&self) {
        let address = self.envoy.address();
        println!("traffic     http://{address}");
        println!("Envoy       http://{}", self.envoy.admin());
        println!("controller  http://{}", self.controller.address());
        for upstream in [&self.v1, &self.v2] {
            let (version, address) = (upstream.version(), upstream.address());
            println!("version {version}  http://{address}");
        }
        println!(
            "\nEdit and save, and see the traffic move:\n  {}",
            self.policy.display()
        );
        if let Some(xds) = &self.xds {
            println!("  {}", xds.policy().display());
        }
        println!("\nTry:");
        for line in &LINES {
            println!(
                "  {}\n      # {}",
                line.command(&address.to_string()),
                line.effect()
            );
        }
        println!(
            "\nMake v2 fail (with `degrade: {{}}` added under `rollout` in the policy, it is taken out \
             within a minute):\n  curl -d '{{\"fail\": 0.05, \"delay_ms\": 900, \"hang\": 0.1}}' \
             -H 'content-type: application/json' http://{}/control\n\nHow the release stands, and why:\n  \
             {} status --controller http://{}\n\nCtrl-C ends the demo.\n",
            self.v2.address(),
            binaries::ombre()
                .map_or_else(|_| "ombre".to_owned(), |ombre| ombre.display().to_string()),
            self.controller.address()
        );
    }

    fn traffic(&self, rate: u32) -> Result<Load> {
        let shots = (0..USERS).map(|user| {
            let request = Ask::get("/shop/cart").host(client::HOST);
            Shot::new(
                "demo",
                request.header("x-user-id", format!("user-{user}")),
                None,
            )
        });
        let pace = Duration::from_secs(1) * CONNECTIONS / rate;
        Load::start(
            self.envoy.address(),
            CONNECTIONS as usize,
            pace,
            shots.collect(),
        )
    }

    /// Prints one line per second, and watches over the children.
    async fn follow(&mut self, seconds: Option<u64>) -> Result<()> {
        let start = Instant::now();
        let mut ticks = interval(Duration::from_secs(1));
        ticks.tick().await;
        let mut before = self.totals().await?;
        let mut refusal = None;
        while seconds.is_none_or(|limit| start.elapsed().as_secs() < limit) {
            ticks.tick().await;
            self.controller.process().check()?;
            self.envoy.process().check()?;
            let now = self.totals().await?;
            println!(
                "{:>5} s   v1 {:>5}   v2 {:>5}   errors {:>5}",
                start.elapsed().as_secs(),
                now.v1 - before.v1,
                now.v2 - before.v2,
                now.errors.saturating_sub(before.errors),
            );
            before = now;
            refusal = self.tell_refusal(refusal).await;
        }
        Ok(())
    }

    /// Says why the edited policy is not in force, once for each reason, and that it is again.
    async fn tell_refusal(&self, before: Option<Value>) -> Option<Value> {
        // A controller that is busy is asked again in a second.
        let Ok(now) = self.controller.last_error().await else {
            return before;
        };
        match &now {
            Some(error) if now != before => {
                let part = |name| error.get(name).and_then(Value::as_str).unwrap_or_default();
                let [file, place, message] = ["file", "place", "message"].map(part);
                println!("policy refused, the last good one stays: {file}:{place}: {message}");
            }
            None if before.is_some() => println!("the policy is in force again"),
            _ => {}
        }
        now
    }

    async fn totals(&self) -> Result<Totals> {
        let errors = self.envoy.stats(r"^http\.[^.]+\.downstream_rq_5xx$").await;
        let errors = errors.unwrap_or_default();
        let of_traffic = errors.iter().filter(|(name, _)| !name.contains("admin"));
        Ok(Totals {
            v1: self.v1.counts().total,
            v2: self.v2.counts().total,
            errors: of_traffic.map(|(_, count)| count).sum(),
        })
    }

    fn logs(&mut self) -> String {
        let controller = self.controller.process().log_tail();
        let envoy = self.envoy.process().log_tail();
        format!("{controller}{envoy}")
    }

    /// Ends what it started, those first that depend on the others.
    async fn stop(mut self) -> Result<()> {
        println!("stopping Envoy, the controller and the upstreams");
        self.envoy.process().terminate(PATIENCE).await?;
        self.controller.process().terminate(PATIENCE).await?;
        self.v1.stop().await;
        self.v2.stop().await;
        Ok(())
    }
}

/// The directory with a fresh copy of the policy; an edited one of an earlier run is kept beside.
fn prepare(dir: &Path) -> Result<PathBuf> {
    let state = dir.join("state");
    let policy = dir.join("policy.yaml");
    std::fs::create_dir_all(&state)
        .and_then(|()| std::fs::remove_dir_all(&state))
        .with_context(|| format!("`{}` cannot be written", dir.display()))?;
    for log in ["ombre.log", "envoy.log"] {
        // There is none the first time.
        std::fs::remove_file(dir.join(log)).ok();
    }
    let example = binaries::workspace().join("envoy/demo-policy.yaml");
    let text = std::fs::read(&example)
        .with_context(|| format!("`{}` cannot be read", example.display()))?;
    if std::fs::read(&policy).is_ok_and(|edited| edited != text) {
        std::fs::rename(&policy, dir.join("policy.previous.yaml"))?;
    }
    std::fs::write(&policy, text)?;
    Ok(policy)
}
