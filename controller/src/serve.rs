//! `ombre serve`: puts the parts together, runs them, and ends them in order.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::app::{App, delivery, delivery_router, router};
use crate::args::ServeArgs;
use crate::clients::Clients;
use crate::clock::Clock;
use crate::clusters::Clusters;
use crate::door::Door;
use crate::engine::{Handle, Parts, Start};
use crate::evidence::Collector;
use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::notify::webhooks;
use crate::publish::Publisher;
use crate::server::{self, Limits};
use crate::state::StateDir;
use crate::xds::Xds;

/// Requests that are being answered have this long when the controller is told to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or Ctrl-C.
///
/// # Errors
/// When the state cannot be taken up or the address cannot be listened on.
pub async fn run(args: ServeArgs) -> anyhow::Result<()> {
    raise_file_limit();
    survive_file_size_limit()?;
    let (dir, saved) = StateDir::open(&args.state_dir)?;
    let metrics = Arc::new(Metrics::default());
    let publisher = Arc::new(Publisher::new(dir, saved, Arc::clone(&metrics)));
    let (stop, stopped) = watch::channel(false);
    // All of them before anything is served at one of them.
    let api = Door::plain("listen", args.listen)?;
    let wanted = args.delivery.wanted();
    let delivery = wanted.map(|wanted| Door::open(wanted, &stopped));
    let delivery = delivery.transpose()?;
    let xds = Xds::bind(&args.xds, &args.state_dir, &stopped)?;
    let nodes = Arc::new(Nodes::with_xds(xds.as_ref().map(Xds::registry)));
    let clients = Clients::new(args.trust.ca_file.as_deref())?;
    let (releases, handle) = releases(&args, &clients, &publisher, &nodes, &metrics)?;
    for webhook in webhooks(
        &clients,
        &args.webhooks,
        args.webhook_secret_file.as_deref(),
        &metrics,
    )? {
        tokio::spawn(webhook.run(handle.news(), stopped.clone()));
    }
    let clusters = Clusters::new(&clients, args.envoy_admins)?;
    let address = api.listener.local_addr()?;
    let loopback = address.ip().is_loopback();
    if !loopback {
        warn!(%address, "the API has no authentication of its own: keep others away from this address");
    }
    let app = App {
        publisher: Arc::clone(&publisher),
        nodes,
        engine: handle,
        metrics: Arc::clone(&metrics),
        patience: delivery::PATIENCE,
        loopback,
        started: SystemTime::now(),
        stop: stopped.clone(),
    };
    let discovery = xds.map(|xds| {
        tokio::spawn(app.engine.clone().follow_clusters(xds.clusters()));
        let (publisher, metrics) = (Arc::clone(&publisher), Arc::clone(&metrics));
        tokio::spawn(xds.run(publisher, metrics, stopped.clone()))
    });
    let loader = Loader::new(args.policies, publisher, metrics, clusters);
    let loading = tokio::spawn(loader.run(stopped.clone()));
    let releasing = tokio::spawn(releases.run(stop.subscribe()));
    info!(%address, version = env!("CARGO_PKG_VERSION"), "listening");
    let mut servers = JoinSet::new();
    if let Some(door) = delivery {
        let app = App {
            // Who has a certificate may have any name for this machine.
            loopback: door.tls.is_none() && door.listener.local_addr()?.ip().is_loopback(),
            ..app.clone()
        };
        let router = delivery_router(app);
        servers.spawn(server::serve(
            door,
            router,
            Limits::default(),
            stopped.clone(),
        ));
    }
    servers.spawn(server::serve(api, router(app), Limits::default(), stopped));
    let signal = told_to_end().await?;
    info!(signal, "ending");
    stop.send_replace(true);
    // Waiting polls are answered and streams ended at once; whoever is slower than this is left behind.
    let farewell = Instant::now() + FAREWELL;
    while let Ok(Some(ended)) = timeout_at(farewell, servers.join_next()).await {
        ended?;
    }
    if let Some(discovery) = discovery
        && let Ok(ended) = timeout_at(farewell, discovery).await
    {
        ended?;
    }
    loading.await?;
    releasing.await?;
    Ok(())
}

/// The release loop, and what the API needs of it.
fn releases(
    args: &ServeArgs,
    clients: &Clients,
    publisher: &Arc<Publisher>,
    nodes: &Arc<Nodes>,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Start, Handle)> {
    let collector = match args.evidence_promql.clone() {
        Some(store) => Collector::of_store(clients, store, &args.promql_selector)?,
        None => Collector::of_envoys(clients, args.envoy_admins.clone())?,
    };
    let parts = Parts {
        publisher: Arc::clone(publisher),
        nodes: Arc::clone(nodes),
        collector,
        metrics: Arc::clone(metrics),
        clients: clients.clone(),
        clock: Clock::start(),
    };
    Ok(Start::new(&args.state_dir, parts)?)
}

async fn told_to_end() -> std::io::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// A file that may not grow is an error like a full disk. The signal that comes with it would end the
/// program; a handler, once there, stays.
fn survive_file_size_limit() -> std::io::Result<()> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}

/// Every waiting poll holds a file open, and the usual soft limit of 1024 is for programs that
/// use `select`.
fn raise_file_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(?current, %error, "limit of open files not raised: fewer polls can wait");
    }
}
