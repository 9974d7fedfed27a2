//! The controller's side of xDS: where it is served, what is handed out after each change, and who is
//! told of what the Envoys answer. The protocol itself is `ombre_xds`.

mod account;
mod catalog;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use ombre_xds::archive::Archive;
use ombre_xds::registry::Registry;
use ombre_xds::server::{Limits, Server};
use ombre_xds::tls::{Files, Tls};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{broadcast, watch};
use tracing::{error, info, warn};

use self::account::Account;
pub use self::account::ClusterAccepted;
use crate::args::XdsArgs;
use crate::metrics::Metrics;
use crate::publish::Publisher;

/// More Envoys than this are not served by one controller.
const MOST_NODES: usize = 10_000;
/// An Envoy that asks each service by itself has five, and twice as many while it reconnects.
const MOST_STREAMS_EACH: usize = 20;
/// Connections that wait to be accepted: after a restart all Envoys come at once. The system may allow
/// fewer.
const BACKLOG: u32 = 4096;
/// In the state directory.
const ARCHIVE: &str = "xds-clusters";
/// Accepted clusters that nobody has looked at yet.
const NEWS: usize = 1024;

/// An xDS server that listens and does not serve yet.
pub struct Xds {
    listener: TcpListener,
    tls: Option<Tls>,
    archive: Archive,
    wasm: String,
    registry: Arc<Registry>,
    clusters: broadcast::Sender<ClusterAccepted>,
}

impl Xds {
    /// Listens, if that is asked for.
    ///
    /// # Errors
    /// When it cannot listen, when certificates cannot be used, and when others than this machine would
    /// be served without them and nobody has said that this is meant.
    pub async fn bind(
        args: &XdsArgs,
        state_dir: &Path,
        stop: &watch::Receiver<bool>,
    ) -> anyhow::Result<Option<Self>> {
        let XdsArgs {
            xds_listen,
            xds_wasm,
            xds_tls_cert,
            xds_tls_key,
            xds_tls_client_ca,
            xds_insecure,
        } = args.clone();
        let (Some(address), Some(wasm)) = (xds_listen, xds_wasm) else {
            return Ok(None);
        };
        let listener = listen(address).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let tls = match (xds_tls_cert, xds_tls_key, xds_tls_client_ca) {
            (Some(cert), Some(key), Some(client_ca)) => {
                let files = Files {
                    cert,
                    key,
                    client_ca,
                };
                Some(Tls::open(files, stop.clone())?)
            }
            _ if address.ip().is_loopback() => None,
            _ if xds_insecure => {
                warn!(%address, "xds is served without TLS: whoever reaches this address gets the policy");
                None
            }
            _ => bail!(
                "xDS on {address} needs --xds-tls-cert, --xds-tls-key and --xds-tls-client-ca, since others than this machine can reach it; --xds-insecure serves it without"
            ),
        };
        info!(%address, tls = tls.is_some(), "listening for xds");
        Ok(Some(Self {
            listener,
            tls,
            archive: Archive::open(state_dir.join(ARCHIVE)),
            wasm,
            registry: Arc::new(Registry::new(MOST_NODES, MOST_STREAMS_EACH)),
            clusters: broadcast::Sender::new(NEWS),
        }))
    }

    /// Where the Envoys are listed.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Every new configuration of a cluster that the first Envoy has accepted.
    pub fn clusters(&self) -> broadcast::Receiver<ClusterAccepted> {
        self.clusters.subscribe()
    }

    /// Serves what the publisher has, until it is told to stop.
    pub async fn run(
        self,
        publisher: Arc<Publisher>,
        metrics: Arc<Metrics>,
        stop: watch::Receiver<bool>,
    ) {
        let (offer, feed) = watch::channel(None);
        let following = catalog::follow(publisher, self.wasm, offer, stop.clone());
        let account = Account::new(metrics, Arc::clone(&self.registry), self.clusters);
        let server = Server {
            feed,
            observer: Arc::new(account),
            registry: self.registry,
            archive: Arc::new(self.archive),
            limits: Limits::default(),
            tls: self.tls,
        };
        let serving = async {
            if let Err(error) = server.serve(self.listener, stop).await {
                error!(%error, "xds is served no more");
            }
        };
        tokio::join!(following, serving);
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
