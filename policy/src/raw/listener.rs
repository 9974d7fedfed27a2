//! What users write of a listener that ombre delivers to Envoy by xDS.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::duration::Millis;

/// Where Envoy takes requests, and what becomes of those that ombre does not decide.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawListener {
    /// Unique over all policy files.
    pub name: String,
    /// IP and port.
    pub address: String,
    /// The cluster for requests that ombre does not decide.
    pub default_cluster: String,
    /// How long an answer may take; `0s` for ever.
    #[serde(default)]
    pub timeout: Option<Millis>,
    /// TLS to clients; plain text without it.
    #[serde(default)]
    pub tls: Option<RawDownstreamTls>,
    /// Which Envoys get the listener; all of them unless given.
    #[serde(default)]
    pub nodes: RawNodes,
}

/// TLS to clients. The files are on Envoy's machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDownstreamTls {
    /// The certificate and those between it and the root.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// Which Envoys, by what they say of themselves in their bootstrap.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawNodes {
    /// Those of this `node.cluster`; any unless given.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Those with all of these texts in their `node.metadata`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}
