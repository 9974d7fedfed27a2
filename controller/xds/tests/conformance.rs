//! The protocol, case by case, by a client of our own over real gRPC. The names are those of
//! xds-test-harness (`sotw_*`, `delta_*`), of go-control-plane (`test_*`) and of Envoy's
//! ads_integration_test (`envoy_*`); `ombre_*` is what those suites lack. Left out, because the server
//! does not have it: TTL (`TestTTLResponse`: it fails closed), prefixes (`TestLinearDeltaPrefix-
//! Subscription`: no `xdstp`), REST, and inconsistent snapshots, which a policy cannot make.

#[cfg(test)]
#[path = "conformance/client.rs"]
mod client;
#[cfg(test)]
#[path = "conformance/world.rs"]
mod world;

#[path = "conformance/delta.rs"]
mod delta;
#[path = "conformance/envoy.rs"]
mod envoy;
#[path = "conformance/go_control_plane.rs"]
mod go_control_plane;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/ombre.rs"]
mod ombre;
#[path = "conformance/sotw.rs"]
mod sotw;

use client::Service;
use ombre_xds::snapshot::Type;

/// The services on which a type can be asked for.
fn services(kind: Type) -> [Service; 2] {
    [Service::Aggregated, Service::Own(kind)]
}

/// Types that can be asked for as a whole.
const WHOLE: [Type; 2] = [Type::Cluster, Type::Listener];
