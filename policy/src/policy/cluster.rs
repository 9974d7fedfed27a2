//! A cluster that ombre delivers to Envoy by xDS: its hosts, and what Envoy is to know of them.
//! What is not written is as in `envoy/envoy.yaml`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::names::{Unique, check_cluster, check_file, check_span, host_and_port, socket_address};
use crate::duration::Millis;
use crate::load::report::{Place, Report};
pub use crate::raw::Health;
use crate::raw::{
    RawCircuitBreakers, RawCluster, RawEndpoint, RawOutlierDetection, RawOutlierLimits,
    RawUpstreamTls,
};

/// The cluster in which Envoys find the controller; `ombre bootstrap` writes it.
pub const OWN_CLUSTER: &str = "ombre_xds";

/// Envoy adds weights up in 32 bits, and no share needs to be finer.
const MAX_WEIGHT: u32 = 1000;
const MAX_ENDPOINTS: usize = 10_000;
const CONNECT_TIMEOUT: Millis = Millis::from_secs(1);
const DAY: Millis = Millis::from_secs(24 * 60 * 60);

/// A validated cluster.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cluster {
    /// The name by which versions and listeners call it.
    pub name: String,
    /// Its hosts.
    pub hosts: Hosts,
    /// How long connecting may take: 1 ms to a day.
    pub connect_timeout: Millis,
    /// TLS to the hosts.
    pub tls: Option<UpstreamTls>,
    /// Whether the hosts speak HTTP/2.
    pub http2: bool,
    /// What one Envoy has in flight at most.
    pub circuit_breakers: CircuitBreakers,
    /// When a host is left out; `None` for never.
    pub outlier_detection: Option<OutlierDetection>,
}

/// Where the hosts of a cluster are.
#[derive(Clone, Debug, PartialEq)]
pub enum Hosts {
    /// At these addresses, at least one, no two the same.
    Endpoints(Vec<Endpoint>),
    /// At all addresses that DNS has for the name.
    Dns {
        /// A name, not an address.
        host: String,
        /// Not 0.
        port: u16,
    },
}

/// A host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The port is not 0.
    pub address: SocketAddr,
    /// Its share beside the weights of the others: 1 to 1000.
    pub weight: u32,
    /// Whether it takes requests.
    pub health: Health,
}

/// TLS to hosts that must prove who they are. The files are on Envoy's machine.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamTls {
    /// The server name to ask for.
    pub sni: Option<String>,
    /// Who signed the hosts' certificates.
    pub ca: String,
    /// Envoy's own certificate and its key.
    pub identity: Option<(String, String)>,
    /// Of which a certificate must hold one; at least one.
    pub san: Vec<SubjectName>,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq)]
pub enum SubjectName {
    /// `checkout.internal`.
    Dns(String),
    /// `spiffe://example.com/checkout`.
    Uri(String),
    /// `10.0.0.1`.
    Ip(IpAddr),
}

/// What one Envoy has in flight to a cluster at most; beyond it, requests get 503 at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitBreakers {
    /// Connections, at least 1.
    pub connections: u32,
    /// Requests that wait for a connection, at least 1.
    pub pending: u32,
    /// Requests, at least 1.
    pub requests: u32,
}

/// When a host is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Answers of 5xx in a row, at least 1.
    pub consecutive_5xx: u32,
    /// Failures to connect or to get an answer in a row, at least 1.
    pub consecutive_local_origin_failure: u32,
    /// How often hosts are looked at: 1 ms to a day.
    pub interval: Millis,
    /// How long the first time is: 1 ms to a day.
    pub base_ejection: Millis,
    /// So many percent of the hosts are left out at most: 0 to 100.
    pub max_ejection_percent: u32,
}

impl Cluster {
    pub(crate) fn validate(
        report: &mut Report,
        place: &Place,
        raw: &RawCluster,
        known: &mut Unique,
    ) -> Option<Self> {
        let name_place = place.key("name");
        check_cluster(report, &name_place, &raw.name);
        known.check(report, &name_place, &raw.name);
        if raw.name == OWN_CLUSTER {
            let message = format!("`{OWN_CLUSTER}` is where Envoy finds ombre: choose another");
            report.error(&name_place, message);
        }
        let connect_timeout = raw.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        check_span(report, &place.key("connect_timeout"), connect_timeout, DAY);
        let hosts = hosts(report, place, raw);
        let dns = match &hosts {
            Some(Hosts::Dns { host, .. }) => Some(host.as_str()),
            Some(Hosts::Endpoints(_)) | None => None,
        };
        let tls_place = place.key("tls");
        let tls = raw.tls.as_ref();
        let tls = tls.map(|raw| UpstreamTls::validate(report, &tls_place, raw, dns));
        let breakers_place = place.key("circuit_breakers");
        let circuit_breakers =
            CircuitBreakers::validate(report, &breakers_place, &raw.circuit_breakers);
        let outlier_place = place.key("outlier_detection");
        let outlier_detection = match &raw.outlier_detection {
            RawOutlierDetection::Off => None,
            RawOutlierDetection::On(raw) => {
                Some(OutlierDetection::validate(report, &outlier_place, raw))
            }
        };
        Some(Self {
            name: raw.name.clone(),
            hosts: hosts?,
            connect_timeout,
            tls,
            http2: raw.http2,
            circuit_breakers,
            outlier_detection,
        })
    }
}

fn hosts(report: &mut Report, place: &Place, raw: &RawCluster) -> Option<Hosts> {
    match (&raw.endpoints, &raw.dns) {
        (Some(list), None) => Some(Hosts::Endpoints(endpoints(
            report,
            &place.key("endpoints"),
            list,
        ))),
        (None, Some(dns)) => {
            let place = place.key("dns");
            let (host, port) = report.take(&place, host_and_port(dns))?;
            Some(Hosts::Dns { host, port })
        }
        (Some(_), Some(_)) | (None, None) => {
            report.error(
                place,
                "give either `endpoints`, like `[10.0.0.1:8080]`, or `dns`, like `checkout.internal:8080`",
            );
            None
        }
    }
}

fn endpoints(report: &mut Report, place: &Place, list: &[RawEndpoint]) -> Vec<Endpoint> {
    if list.is_empty() {
        report.error(place, "is empty: a cluster has at least one host");
    } else if list.len() > MAX_ENDPOINTS {
        let message = format!("has {} hosts: at most {MAX_ENDPOINTS}", list.len());
        report.error(place, message);
    }
    let mut seen = HashSet::new();
    let endpoints = list.iter().enumerate().filter_map(|(index, raw)| {
        let place = place.item(index);
        let (place, text, weight, health) = match raw {
            RawEndpoint::Address(text) => (place, text, None, Health::Healthy),
            RawEndpoint::Full(raw) => {
                if let Some(weight) = raw.weight.filter(|w| !(1..=MAX_WEIGHT).contains(w)) {
                    let message = format!("`{weight}` is not between 1 and {MAX_WEIGHT}");
                    report.error(&place.key("weight"), message);
                }
                (place.key("address"), &raw.address, raw.weight, raw.health)
            }
        };
        let address = report.take(&place, socket_address(text))?;
        if !seen.insert(address) {
            report.error(&place, format!("`{address}` is listed twice"));
        }
        Some(Endpoint {
            address,
            weight: weight.unwrap_or(1),
            health,
        })
    });
    endpoints.collect()
}

impl UpstreamTls {
    fn validate(
        report: &mut Report,
        place: &Place,
        raw: &RawUpstreamTls,
        dns: Option<&str>,
    ) -> Self {
        let sni = raw.sni.as_deref().or(dns);
        if let Some(name) = sni {
            check_subject(report, &place.key("sni"), name);
        }
        check_file(report, &place.key("ca"), &raw.ca);
        for (key, file) in [("cert", &raw.cert), ("key", &raw.key)] {
            if let Some(file) = file {
                check_file(report, &place.key(key), file);
            }
        }
        if raw.cert.is_some() != raw.key.is_some() {
            report.error(place, "give both `cert` and `key`, or neither");
        }
        let own: Vec<String> = sni.map(str::to_owned).into_iter().collect();
        let names = raw.san.as_ref().unwrap_or(&own);
        let san_place = place.key("san");
        if names.is_empty() {
            report.error(
                &san_place,
                "name at least one, or give `sni`: otherwise every certificate of this `ca` would do",
            );
        }
        for (index, name) in names.iter().enumerate() {
            check_subject(report, &san_place.item(index), name);
        }
        Self {
            sni: sni.map(str::to_owned),
            ca: raw.ca.clone(),
            identity: raw.cert.clone().zip(raw.key.clone()),
            san: names.iter().map(|name| SubjectName::of(name)).collect(),
        }
    }
}

impl SubjectName {
    /// By its form: an address, else a URI if it has `://`, else a DNS name.
    pub fn of(text: &str) -> Self {
        if let Ok(ip) = text.parse() {
            Self::Ip(ip)
        } else if text.contains("://") {
            Self::Uri(text.to_owned())
        } else {
            Self::Dns(text.to_owned())
        }
    }
}

impl CircuitBreakers {
    fn validate(report: &mut Report, place: &Place, raw: &RawCircuitBreakers) -> Self {
        let limits = Self {
            connections: raw.connections.unwrap_or(1024),
            pending: raw.pending.unwrap_or(1024),
            requests: raw.requests.unwrap_or(4096),
        };
        for (key, limit) in [
            ("connections", limits.connections),
            ("pending", limits.pending),
            ("requests", limits.requests),
        ] {
            check_count(report, &place.key(key), limit);
        }
        limits
    }
}

impl OutlierDetection {
    fn validate(report: &mut Report, place: &Place, raw: &RawOutlierLimits) -> Self {
        let limits = Self {
            consecutive_5xx: raw.consecutive_5xx.unwrap_or(20),
            consecutive_local_origin_failure: raw.consecutive_local_origin_failure.unwrap_or(5),
            interval: raw.interval.unwrap_or(Millis::from_secs(2)),
            base_ejection: raw.base_ejection.unwrap_or(Millis::from_secs(5)),
            max_ejection_percent: raw.max_ejection_percent.unwrap_or(50),
        };
        for (key, count) in [
            ("consecutive_5xx", limits.consecutive_5xx),
            (
                "consecutive_local_origin_failure",
                limits.consecutive_local_origin_failure,
            ),
        ] {
            check_count(report, &place.key(key), count);
        }
        check_span(report, &place.key("interval"), limits.interval, DAY);
        check_span(
            report,
            &place.key("base_ejection"),
            limits.base_ejection,
            DAY,
        );
        if limits.max_ejection_percent > 100 {
            let message = format!("`{}` exceeds 100", limits.max_ejection_percent);
            report.error(&place.key("max_ejection_percent"), message);
        }
        limits
    }
}

fn check_count(report: &mut Report, place: &Place, count: u32) {
    if count == 0 {
        report.error(place, "must be at least 1");
    }
}

/// A name in a certificate, or to ask one by.
fn check_subject(report: &mut Report, place: &Place, name: &str) {
    if !(1..=255).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
        report.error(
            place,
            format!("`{name}` is not a name: use 1 to 255 visible ASCII characters"),
        );
    }
}
