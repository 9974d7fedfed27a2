//! The gRPC services: ADS and one service for each type, state of the world and delta. They translate
//! between the wire and `session`, keep limits, and decide nothing themselves.

mod bucket;
mod connection;
mod services;
mod stream;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service as pb;
use ombre_policy::document::Revision;
use ombre_tls::Tls;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tonic::transport::Server as Grpc;

use crate::archive::Archive;
use crate::node::Node;
use crate::registry::Registry;
use crate::snapshot::{Resource, Snapshot, Type};

/// What the newest state of the controller is for each Envoy.
pub trait Catalog: Send + Sync + 'static {
    /// What this Envoy is to have. The same `Arc` for all that are to have the same.
    fn snapshot(&self, node: &Node) -> Arc<Snapshot>;

    /// The filter of an older policy under the decisions that are in force now, and nothing else: for
    /// Envoys that wait for clusters of the newer one. `None`: it is as it was when that policy was
    /// replaced, or that policy is forgotten.
    fn meanwhile(&self, _policy: Revision) -> Option<Arc<Snapshot>> {
        None
    }
}

/// The newest catalog; none before the first good policy. Who is slow skips those in between.
pub type Feed = watch::Receiver<Option<Arc<dyn Catalog>>>;

/// Is told what happens on the streams.
pub trait Observer: Send + Sync + 'static {
    /// A stream got its place in the registry, or left it.
    fn streams(&self);
    /// Something was sent.
    fn sent(&self, kind: Type);
    /// It was accepted; this was new in it.
    fn accepted(&self, node: &Node, kind: Type, changed: &[Arc<Resource>]);
    /// It was refused.
    fn rejected(&self, node: &Node, kind: Type, text: &str);
    /// A stream was ended because of what the client did.
    fn refused(&self, why: &tonic::Status);
}

/// What one server takes. The defaults are far above what Envoys need.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Streams at a time.
    pub streams: usize,
    /// Streams of one connection at a time.
    pub streams_per_connection: u32,
    /// Names of one type on a stream.
    pub names: usize,
    /// Bytes of a request.
    pub message_bytes: usize,
    /// Requests of a stream at once.
    pub request_burst: u32,
    /// Requests of a stream in a second, after that.
    pub requests_per_second: u32,
    /// How long a stream may take to say who it is, and a connection to agree on TLS.
    pub patience: Duration,
    /// How long a client may be silent before it is asked whether it lives, and how long it has to answer.
    pub keepalive: Duration,
}

/// What all streams share.
pub(crate) struct Shared {
    feed: Feed,
    observer: Arc<dyn Observer>,
    registry: Arc<Registry>,
    archive: Arc<Archive>,
    limits: Limits,
    places: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

/// A server that is not running yet.
pub struct Server {
    /// What is handed out.
    pub feed: Feed,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// Where nodes are listed.
    pub registry: Arc<Registry>,
    /// What Envoys may have from before.
    pub archive: Arc<Archive>,
    /// What is taken.
    pub limits: Limits,
    /// Certificates; without them anybody who connects is believed.
    pub tls: Option<Tls>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            streams: 20_000,
            streams_per_connection: 100,
            names: 20_000,
            message_bytes: 4 << 20,
            request_burst: 1000,
            requests_per_second: 100,
            patience: Duration::from_secs(15),
            keepalive: Duration::from_secs(10),
        }
    }
}

impl Server {
    /// Serves until `stop` becomes true; then every stream is ended, and Envoy keeps what it has.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub async fn serve(
        self,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), tonic::transport::Error> {
        let Self {
            feed,
            observer,
            registry,
            archive,
            limits,
            tls,
        } = self;
        let incoming = connection::incoming(listener, tls, &limits);
        let (keepalive, bytes) = (limits.keepalive, limits.message_bytes);
        let shared = services::Services(Arc::new(Shared {
            feed,
            observer,
            registry,
            archive,
            places: Arc::new(Semaphore::new(limits.streams)),
            stop: stop.clone(),
            limits: limits.clone(),
        }));
        use pb::cluster::v3::cluster_discovery_service_server::ClusterDiscoveryServiceServer as Cds;
        use pb::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer as Ads;
        use pb::endpoint::v3::endpoint_discovery_service_server::EndpointDiscoveryServiceServer as Eds;
        use pb::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryServiceServer as Ecds;
        use pb::listener::v3::listener_discovery_service_server::ListenerDiscoveryServiceServer as Lds;
        use pb::route::v3::route_discovery_service_server::RouteDiscoveryServiceServer as Rds;
        Grpc::builder()
            .http2_keepalive_interval(Some(keepalive))
            .http2_keepalive_timeout(Some(keepalive))
            .max_concurrent_streams(limits.streams_per_connection)
            .http2_max_pending_accept_reset_streams(Some(20))
            .http2_max_header_list_size(16 << 10)
            .add_service(Ads::new(shared.clone()).max_decoding_message_size(bytes))
            .add_service(Cds::new(shared.clone()).max_decoding_message_size(bytes))
            .add_service(Eds::new(shared.clone()).max_decoding_message_size(bytes))
            .add_service(Ecds::new(shared.clone()).max_decoding_message_size(bytes))
            .add_service(Lds::new(shared.clone()).max_decoding_message_size(bytes))
            .add_service(Rds::new(shared).max_decoding_message_size(bytes))
            .serve_with_incoming_shutdown(incoming, async move {
                let _ = stop.wait_for(|stop| *stop).await;
            })
            .await
    }
}

#[cfg(test)]
mod tests;
