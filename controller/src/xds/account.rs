//! What the Envoys answered, counted and handed on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use ombre_policy::document::Revision;
use ombre_xds::node::Node;
use ombre_xds::registry::Registry;
use ombre_xds::server::Observer;
use ombre_xds::snapshot::{Resource, Type, Version};
use tokio::sync::broadcast;
use tonic::Status;

use crate::metrics::{Metrics, Xds};

/// A configuration of a cluster is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterAccepted {
    /// The cluster.
    pub cluster: String,
    /// When the first Envoy accepted it, in the row of numbers that publications have.
    pub revision: Revision,
}

pub(super) struct Account {
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    clusters: broadcast::Sender<ClusterAccepted>,
    /// The configuration of each cluster that was told of last.
    known: Mutex<HashMap<String, Version>>,
}

impl Account {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        registry: Arc<Registry>,
        clusters: broadcast::Sender<ClusterAccepted>,
    ) -> Self {
        Self {
            metrics,
            registry,
            clusters,
            known: Mutex::default(),
        }
    }

    /// Tells of a cluster's configuration once, however many Envoys accept it.
    fn cluster(&self, resource: &Resource) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.insert(resource.name().to_owned(), resource.version());
        if before == Some(resource.version()) {
            return;
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.map_or(0, |since| since.as_millis());
        let accepted = ClusterAccepted {
            cluster: resource.name().to_owned(),
            revision: Revision::new(u64::try_from(now).unwrap_or(u64::MAX)),
        };
        // Nobody has to listen.
        let _ = self.clusters.send(accepted);
    }
}

impl Observer for Account {
    fn streams(&self) {
        self.metrics.xds_streams(self.registry.streams());
    }

    fn sent(&self, kind: Type) {
        self.metrics.xds(kind, Xds::Push);
    }

    fn accepted(&self, _: &Node, kind: Type, changed: &[Arc<Resource>]) {
        self.metrics.xds(kind, Xds::Ack);
        if kind == Type::Cluster {
            for resource in changed {
                self.cluster(resource);
            }
        }
    }

    fn rejected(&self, _: &Node, kind: Type, _: &str) {
        self.metrics.xds(kind, Xds::Nack);
    }

    fn refused(&self, _: &Status) {
        self.metrics.xds_stream_refused();
    }
}
