//! The generated service traits, each call handed on to one stream.

use std::sync::Arc;

use envoy_types::pb::envoy::service::cluster::v3::cluster_discovery_service_server::ClusterDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryService;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_server::EndpointDiscoveryService;
use envoy_types::pb::envoy::service::extension::v3::extension_config_discovery_service_server::ExtensionConfigDiscoveryService;
use envoy_types::pb::envoy::service::listener::v3::listener_discovery_service_server::ListenerDiscoveryService;
use envoy_types::pb::envoy::service::route::v3::route_discovery_service_server::RouteDiscoveryService;
use tonic::{Request, Response, Status, Streaming};

use super::Shared;
use super::stream::{self, Told};
use super::wire::{Delta, Sotw};
use crate::snapshot::Type;

/// All services.
#[derive(Clone)]
pub(super) struct Services(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Services {
    type StreamAggregatedResourcesStream = Told<Sotw>;
    type DeltaAggregatedResourcesStream = Told<Delta>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Told<Sotw>>, Status> {
        stream::open::<Sotw>(&self.0, None, request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Told<Delta>>, Status> {
        stream::open::<Delta>(&self.0, None, request)
    }
}

macro_rules! one_type {
    ($service:ident, $kind:expr, $sotw:ident: $Sotw:ident, $delta:ident: $Delta:ident, $fetch:ident) => {
        #[tonic::async_trait]
        impl $service for Services {
            type $Sotw = Told<Sotw>;
            type $Delta = Told<Delta>;

            async fn $sotw(
                &self,
                request: Request<Streaming<DiscoveryRequest>>,
            ) -> Result<Response<Told<Sotw>>, Status> {
                stream::open::<Sotw>(&self.0, Some($kind), request)
            }

            async fn $delta(
                &self,
                request: Request<Streaming<DeltaDiscoveryRequest>>,
            ) -> Result<Response<Told<Delta>>, Status> {
                stream::open::<Delta>(&self.0, Some($kind), request)
            }

            async fn $fetch(
                &self,
                _: Request<DiscoveryRequest>,
            ) -> Result<Response<DiscoveryResponse>, Status> {
                Err(Status::unimplemented(
                    "resources are streamed, not fetched; use api_type: GRPC",
                ))
            }
        }
    };
}

one_type!(
    ClusterDiscoveryService, Type::Cluster,
    stream_clusters: StreamClustersStream, delta_clusters: DeltaClustersStream, fetch_clusters
);
one_type!(
    EndpointDiscoveryService, Type::Endpoint,
    stream_endpoints: StreamEndpointsStream, delta_endpoints: DeltaEndpointsStream, fetch_endpoints
);
one_type!(
    ExtensionConfigDiscoveryService, Type::Extension,
    stream_extension_configs: StreamExtensionConfigsStream,
    delta_extension_configs: DeltaExtensionConfigsStream, fetch_extension_configs
);
one_type!(
    ListenerDiscoveryService, Type::Listener,
    stream_listeners: StreamListenersStream, delta_listeners: DeltaListenersStream, fetch_listeners
);
one_type!(
    RouteDiscoveryService, Type::Route,
    stream_routes: StreamRoutesStream, delta_routes: DeltaRoutesStream, fetch_routes
);
