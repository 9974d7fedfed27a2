//! EDS: the hosts of a cluster, their weights and health.

use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint as Host, LbEndpoint, LocalityLbEndpoints,
};
use ombre_policy::policy::{Endpoint, Health};

use super::proto::{address, named_address, number};

pub(super) fn message(cluster: &str, endpoints: &[Endpoint]) -> ClusterLoadAssignment {
    assignment(cluster, endpoints.iter().map(endpoint).collect())
}

/// Of a cluster whose hosts DNS knows; it stands in the cluster itself.
pub(super) fn by_name(cluster: &str, name: &str, port: u16) -> ClusterLoadAssignment {
    assignment(cluster, vec![host(named_address(name, port))])
}

fn assignment(cluster: &str, lb_endpoints: Vec<LbEndpoint>) -> ClusterLoadAssignment {
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints,
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

fn endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let health = match endpoint.health {
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy => HealthStatus::Unhealthy,
    };
    LbEndpoint {
        health_status: health.into(),
        load_balancing_weight: number(endpoint.weight),
        ..host(address(&endpoint.address))
    }
}

fn host(address: Address) -> LbEndpoint {
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Host {
            address: Some(address),
            ..Host::default()
        })),
        ..LbEndpoint::default()
    }
}
