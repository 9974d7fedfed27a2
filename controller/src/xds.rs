//! The controller's side of xDS: where it is served, what is handed out after each change, and who is
//! told of what the Envoys answer. The protocol itself is `ombre_xds`.

mod account;
mod catalog;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use ombre_xds::archive::Archive;
use ombre_xds::registry::Registry;
use ombre_xds::server::{Limits, Server};
use tokio::sync::{broadcast, watch};
use tracing::error;

use self::account::Account;
pub use self::account::ClusterAccepted;
use crate::args::XdsArgs;
use crate::door::{Door, Purpose, Wanted, files};
use crate::metrics::Metrics;
use crate::publish::Publisher;

/// More Envoys than this are not served by one controller.
const MOST_NODES: usize = 10_000;
/// An Envoy that asks each service by itself has five, and twice as many while it reconnects.
const MOST_STREAMS_EACH: usize = 20;
/// In the state directory.
const ARCHIVE: &str = "xds-clusters";
/// Accepted clusters that nobody has looked at yet.
const NEWS: usize = 1024;

/// An xDS server that listens and does not serve yet.
pub struct Xds {
    door: Door,
    archive: Archive,
    wasm: String,
    registry: Arc<Registry>,
    clusters: broadcast::Sender<ClusterAccepted>,
}

impl Xds {
    /// Listens, if that is asked for.
    ///
    /// # Errors
    /// As [`Door::open`].
    pub fn bind(
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
        let wanted = Wanted {
            purpose: Purpose::Xds,
            address,
            files: files(xds_tls_cert, xds_tls_key, xds_tls_client_ca),
            insecure: xds_insecure,
        };
        Ok(Some(Self {
            door: Door::open(wanted, stop)?,
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
            tls: self.door.tls,
        };
        let serving = async {
            if let Err(error) = server.serve(self.door.listener, stop).await {
                error!(%error, "xds is served no more");
            }
        };
        tokio::join!(following, serving);
    }
}
