//! CDS: a cluster, whose endpoints come by EDS, or whose hosts DNS knows.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster as Message, OutlierDetection,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use ombre_policy::policy::{self, Cluster, Hosts};

use super::proto::{CONNECTION_BUFFER, ads, duration, http2_windows, number};
use super::{endpoint, tls};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) fn message(cluster: &Cluster) -> Message {
    let (kind, eds_cluster_config, load_assignment) = match &cluster.hosts {
        Hosts::Endpoints(_) => (DiscoveryType::Eds, Some(eds()), None),
        Hosts::Dns { host, port } => {
            let assignment = endpoint::by_name(&cluster.name, host, *port);
            (DiscoveryType::StrictDns, None, Some(assignment))
        }
    };
    let tls = cluster.tls.as_ref();
    let options = cluster.http2.then(|| (HTTP_OPTIONS.to_owned(), http2()));
    Message {
        name: cluster.name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        eds_cluster_config,
        load_assignment,
        // Only what DNS knows is looked up. Many names have an IPv6 address that nobody listens on.
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        connect_timeout: Some(duration(cluster.connect_timeout)),
        per_connection_buffer_limit_bytes: number(CONNECTION_BUFFER),
        circuit_breakers: Some(circuit_breakers(&cluster.circuit_breakers)),
        outlier_detection: cluster.outlier_detection.as_ref().map(outlier_detection),
        transport_socket: tls.map(|tls| tls::upstream(tls, cluster.http2)),
        // At most one entry: a map of more would be encoded in any order.
        typed_extension_protocol_options: HashMap::from_iter(options),
        ..Message::default()
    }
}

fn eds() -> EdsClusterConfig {
    EdsClusterConfig {
        eds_config: Some(ads()),
        ..EdsClusterConfig::default()
    }
}

fn http2() -> Any {
    let http2 = ProtocolConfig::Http2ProtocolOptions(http2_windows());
    pack_any(HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(http2),
            },
        )),
        ..HttpProtocolOptions::default()
    })
}

fn circuit_breakers(limits: &policy::CircuitBreakers) -> CircuitBreakers {
    let thresholds = Thresholds {
        max_connections: number(limits.connections),
        max_pending_requests: number(limits.pending),
        max_requests: number(limits.requests),
        ..Thresholds::default()
    };
    CircuitBreakers {
        thresholds: vec![thresholds],
        ..CircuitBreakers::default()
    }
}

fn outlier_detection(limits: &policy::OutlierDetection) -> OutlierDetection {
    OutlierDetection {
        // Hosts that cannot be reached are told apart from hosts that answer with 5xx.
        split_external_local_origin_errors: true,
        consecutive_5xx: number(limits.consecutive_5xx),
        consecutive_local_origin_failure: number(limits.consecutive_local_origin_failure),
        interval: Some(duration(limits.interval)),
        base_ejection_time: Some(duration(limits.base_ejection)),
        max_ejection_percent: number(limits.max_ejection_percent),
        ..OutlierDetection::default()
    }
}
