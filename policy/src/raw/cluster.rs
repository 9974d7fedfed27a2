//! What users write of a cluster that ombre delivers to Envoy by xDS.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::duration::Millis;

/// What serves a version: its hosts, and what Envoy is to know of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCluster {
    /// Unique over all policy files.
    pub name: String,
    /// The hosts by address.
    #[serde(default)]
    pub endpoints: Option<Vec<RawEndpoint>>,
    /// The hosts by name and port, instead of `endpoints`.
    #[serde(default)]
    pub dns: Option<String>,
    /// How long connecting may take.
    #[serde(default)]
    pub connect_timeout: Option<Millis>,
    /// TLS to the hosts; plain text without it.
    #[serde(default)]
    pub tls: Option<RawUpstreamTls>,
    /// Whether the hosts speak HTTP/2.
    #[serde(default)]
    pub http2: bool,
    /// What one Envoy has in flight to the cluster at most.
    #[serde(default)]
    pub circuit_breakers: RawCircuitBreakers,
    /// When a host is left out for a while.
    #[serde(default)]
    pub outlier_detection: RawOutlierDetection,
}

/// A host: `10.0.0.1:8080`, or a map.
#[derive(Clone, Debug)]
pub enum RawEndpoint {
    /// IP and port.
    Address(String),
    /// With weight and health.
    Full(RawFullEndpoint),
}

/// A host with weight and health.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawFullEndpoint {
    /// IP and port.
    pub address: String,
    /// Its share beside the weights of the others.
    #[serde(default)]
    pub weight: Option<u32>,
    /// Whether it takes requests.
    #[serde(default)]
    pub health: Health,
}

/// Whether a host takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It does.
    #[default]
    Healthy,
    /// It finishes what it has and gets nothing new.
    Draining,
    /// It does not.
    Unhealthy,
}

/// TLS to upstreams. The files are on Envoy's machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawUpstreamTls {
    /// The server name to ask for; the name in `dns` unless given.
    #[serde(default)]
    pub sni: Option<String>,
    /// Who signed the hosts' certificates.
    pub ca: String,
    /// Envoy's own certificate.
    #[serde(default)]
    pub cert: Option<String>,
    /// Its key.
    #[serde(default)]
    pub key: Option<String>,
    /// The names of which a certificate must hold one; `sni` unless given.
    #[serde(default)]
    pub san: Option<Vec<String>>,
}

/// What one Envoy has in flight to a cluster at most.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCircuitBreakers {
    /// Connections.
    #[serde(default)]
    pub connections: Option<u32>,
    /// Requests that wait for a connection.
    #[serde(default)]
    pub pending: Option<u32>,
    /// Requests.
    #[serde(default)]
    pub requests: Option<u32>,
}

/// When a host is left out for a while: `off`, or a map.
#[derive(Clone, Debug)]
pub enum RawOutlierDetection {
    /// Never.
    Off,
    /// By these numbers.
    On(RawOutlierLimits),
}

/// The numbers of the outlier detection.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawOutlierLimits {
    /// Answers of 5xx in a row.
    #[serde(default)]
    pub consecutive_5xx: Option<u32>,
    /// Failures to connect or to get an answer, in a row.
    #[serde(default)]
    pub consecutive_local_origin_failure: Option<u32>,
    /// How often hosts are looked at.
    #[serde(default)]
    pub interval: Option<Millis>,
    /// How long the first time is.
    #[serde(default)]
    pub base_ejection: Option<Millis>,
    /// So many percent of the hosts are left out at most.
    #[serde(default)]
    pub max_ejection_percent: Option<u32>,
}

impl Default for RawOutlierDetection {
    fn default() -> Self {
        Self::On(RawOutlierLimits::default())
    }
}

// By hand and not `untagged`, as in `raw`.
impl<'de> Deserialize<'de> for RawEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Endpoint;
        impl<'de> Visitor<'de> for Endpoint {
            type Value = RawEndpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address like `10.0.0.1:8080`, or a map with `address`")
            }

            fn visit_str<E>(self, address: &str) -> Result<Self::Value, E> {
                Ok(RawEndpoint::Address(address.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                RawFullEndpoint::deserialize(MapAccessDeserializer::new(map)).map(RawEndpoint::Full)
            }
        }
        deserializer.deserialize_any(Endpoint)
    }
}

impl<'de> Deserialize<'de> for RawOutlierDetection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Detection;
        impl<'de> Visitor<'de> for Detection {
            type Value = RawOutlierDetection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, or a map")
            }

            // Some YAML writers turn a bare `off` into false.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Self::Value, E> {
                if on {
                    return Err(E::invalid_value(de::Unexpected::Bool(on), &self));
                }
                Ok(RawOutlierDetection::Off)
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
                match word {
                    "off" => Ok(RawOutlierDetection::Off),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                RawOutlierLimits::deserialize(MapAccessDeserializer::new(map))
                    .map(RawOutlierDetection::On)
            }
        }
        deserializer.deserialize_any(Detection)
    }
}
