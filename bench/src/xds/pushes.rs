//! From a push over xDS to Envoy's acceptance of it, and to the first request that every worker decides
//! by it. The server runs in this program, so that the moment of the push and that of the ACK are known;
//! what the controller does before a push is measured by `changes`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ombre_tests::binaries;
use ombre_tests::client::{Ask, Connection};
use ombre_tests::envoy::{self, CANARY, Config, Envoy, Launcher, Listeners, STABLE};
use ombre_tests::feed::{self, Feed};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::upstream::Upstream;
use ombre_xds::node::Node;
use ombre_xds::registry::Registry;
use ombre_xds::server::{Catalog, Limits, Observer, Server};
use ombre_xds::snapshot::{Resource, Type};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Status;

use super::versions::{NODE, Versions};
use crate::table::Table;

const WORKERS: u32 = 2;
/// By no route of the policy: it goes to the listener's default.
const ELSEWHERE: &str = "/elsewhere";
const DECIDED: &str = "/shop/p0/x";

type Pushed = Option<Arc<dyn Catalog>>;

/// An answer to a push: its type, or why it was refused.
type Heard = Result<Type, String>;

/// Hears when Envoy answers.
struct Ear(UnboundedSender<(Instant, Heard)>);

/// A server, an Envoy that it feeds, and what is to be measured on them.
struct Bench {
    versions: Versions,
    feed: watch::Sender<Pushed>,
    heard: UnboundedReceiver<(Instant, Heard)>,
    workers: Vec<Connection>,
}

impl Observer for Ear {
    fn streams(&self) {}

    fn sent(&self, _: Type) {}

    fn accepted(&self, _: &Node, kind: Type, _: &[Arc<Resource>]) {
        self.0.send((Instant::now(), Ok(kind))).ok();
    }

    fn rejected(&self, _: &Node, kind: Type, text: &str) {
        let text = format!("{}: {text}", kind.short());
        self.0.send((Instant::now(), Err(text))).ok();
    }

    fn refused(&self, _: &Status) {}
}

/// What is pushed.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// Other routes: another default cluster.
    Routes,
    /// The filter's configuration: other decisions under a policy with this many routes.
    Decisions(usize),
}

/// Measures so many pushes. Every other pair is watched by requests without a pause on every worker; for
/// those between, which such a load would hold up, only the acceptance is timed.
pub(crate) async fn measure(
    feed: Feed,
    what: What,
    pushes: usize,
    table: &mut Table,
) -> Result<()> {
    let routes = match what {
        What::Routes => 3,
        What::Decisions(routes) => routes,
    };
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (v1, v2) = (
        Upstream::start("v1", any).await?,
        Upstream::start("v2", any).await?,
    );
    let listeners = Listeners::free()?;
    let clusters = [(STABLE, v1.address()), (CANARY, v2.address())];
    let versions = Versions::of(routes, &clusters, listeners.traffic.address())?;
    let (push, pushed) = watch::channel::<Pushed>(None);
    let (ear, heard) = unbounded_channel();
    let (stop, stopped) = watch::channel(false);
    let server = Server {
        feed: pushed,
        observer: Arc::new(Ear(ear)),
        registry: Arc::new(Registry::new(1, 10)),
        archive: Arc::default(),
        limits: Limits::default(),
        tls: None,
    };
    let listener = TcpListener::bind(any).await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(server.serve(listener, stopped));
    push.send_replace(Some(versions.fixed(0, 0, 1)));

    let dir = tempfile::tempdir()?;
    let admin = listeners.admin.address();
    let settings = envoy::Settings {
        config: Config::Bootstrap(feed::bootstrap(
            feed,
            NODE,
            address,
            admin,
            &["--cluster", "edge"],
        )?),
        concurrency: WORKERS,
        launcher: Launcher::Program(binaries::envoy()?),
        environment: Vec::new(),
    };
    let mut envoy = Envoy::start(settings, listeners, dir.path())?;
    let ready = ready(&mut envoy).await;
    if ready.is_err() {
        eprintln!("{}", envoy.process().log_tail());
    }
    let mut bench = Bench {
        versions,
        feed: push,
        heard,
        workers: ready?,
    };
    let name = match feed {
        Feed::Delta => "delta",
        Feed::File | Feed::Sotw => "SotW",
    };
    let (accepted, seen) = bench.pushes(what, pushes).await?;
    let what = match what {
        What::Routes => "RDS".to_owned(),
        What::Decisions(routes) => format!("ECDS with {routes} routes"),
    };
    table.add(format!("{what}, {name}: push -> ACK"), accepted);
    table.add(format!("{what}, {name}: push -> every worker"), seen);
    stop.send_replace(true);
    drop(bench);
    drop(envoy);
    serving.await??;
    Ok(())
}

/// Waits until both listener and filter are there; returns a connection to each worker.
async fn ready(envoy: &mut Envoy) -> Result<Vec<Connection>> {
    envoy.ready().await?;
    let mut workers = envoy.worker_connections().await?;
    for worker in &mut workers {
        eventually(SOON, "every worker decides", async || {
            let answer = worker.ask(&Ask::get(DECIDED)).await?;
            ensure!(answer.decision("version") == Some("v1"), answer.seen());
            Ok(())
        })
        .await?;
    }
    Ok(workers)
}

impl Bench {
    async fn pushes(
        &mut self,
        what: What,
        pushes: usize,
    ) -> Result<(Vec<Duration>, Vec<Duration>)> {
        let (mut accepted, mut seen) = (Vec::new(), Vec::new());
        for push in 1..=pushes {
            let (policy, decided) = match what {
                What::Routes => (push, 0),
                What::Decisions(_) => (0, push),
            };
            let next = self.versions.fixed(policy, decided, 1 + decided as u64);
            let due = if push % 2 == 0 { "v1" } else { "v2" };
            let watched = push / 2 % 2 == 0;
            let took = self.push(next, what, due, watched).await?;
            if watched { &mut seen } else { &mut accepted }.push(took);
            // Pushes at odd times, so that nothing falls into step with them.
            sleep(Duration::from_millis(push as u64 * 7 % 20)).await;
        }
        Ok((accepted, seen))
    }

    /// Pushes; returns how long it took until the last worker sends requests to the version that is due,
    /// or, if it is not watched, until the push was accepted.
    async fn push(
        &mut self,
        next: Arc<dyn Catalog>,
        what: What,
        due: &'static str,
        watched: bool,
    ) -> Result<Duration> {
        while self.heard.try_recv().is_ok() {}
        let kind = match what {
            What::Routes => Type::Route,
            What::Decisions(_) => Type::Extension,
        };
        let start = Instant::now();
        self.feed.send_replace(Some(next));
        let mut acceptance = None;
        if !watched {
            acceptance = Some(accepted(&mut self.heard, kind).await?);
        }
        let mut asking = JoinSet::new();
        for worker in self.workers.drain(..) {
            asking.spawn(asked(worker, what, due));
        }
        let mut last = start;
        while let Some(worker) = asking.join_next().await {
            let (worker, went) = worker??;
            last = last.max(went);
            self.workers.push(worker);
        }
        if watched {
            accepted(&mut self.heard, kind).await?;
        }
        Ok(acceptance.unwrap_or(last) - start)
    }
}

async fn accepted(heard: &mut UnboundedReceiver<(Instant, Heard)>, kind: Type) -> Result<Instant> {
    loop {
        let answer = timeout(SOON, heard.recv()).await.context("no ACK")?;
        let (when, answer) = answer.context("the server ended")?;
        match answer {
            Ok(accepted) if accepted == kind => return Ok(when),
            Ok(_) => {}
            Err(text) => bail!("refused: {text}"),
        }
    }
}

/// Asks until the answer comes from the version that is due; returns when that was.
async fn asked(mut worker: Connection, what: What, due: &str) -> Result<(Connection, Instant)> {
    let path = match what {
        What::Routes => ELSEWHERE,
        What::Decisions(_) => DECIDED,
    };
    let ask = Ask::get(path).header("x-user-id", "u1");
    let start = Instant::now();
    loop {
        let answer = worker.ask(&ask).await?;
        let now = Instant::now();
        if answer.echo()?.version == due {
            return Ok((worker, now));
        }
        ensure!(now - start < SOON, "a worker never does: {}", answer.seen());
    }
}
