//! A listener that ombre delivers to Envoy by xDS: where requests come in, and what becomes of
//! those that ombre does not decide.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::names::{
    Unique, check_cluster, check_file, check_name, check_node_text, check_span, socket_address,
};
use crate::duration::Millis;
use crate::load::report::{Place, Report};
use crate::raw::{RawListener, RawNodes};

const TIMEOUT: Millis = Millis::from_secs(15);
const DAY: Millis = Millis::from_secs(24 * 60 * 60);

/// A validated listener.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Listener {
    /// Its name, and that of its routes and statistics.
    pub name: String,
    /// The port is not 0.
    pub address: SocketAddr,
    /// The cluster for requests that ombre does not decide.
    pub default_cluster: String,
    /// How long an answer may take, at most a day; `None` for ever.
    pub timeout: Option<Millis>,
    /// TLS to clients.
    pub tls: Option<DownstreamTls>,
    /// Which Envoys get it.
    pub nodes: Nodes,
    pub(crate) place: Place,
}

/// TLS to clients. The files are on Envoy's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamTls {
    /// The certificate and those between it and the root.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// Which Envoys, by what they say of themselves; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    cluster: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl Listener {
    pub(crate) fn validate(
        report: &mut Report,
        place: &Place,
        raw: &RawListener,
        known: &mut Unique,
    ) -> Option<Self> {
        let name_place = place.key("name");
        check_name(report, &name_place, &raw.name);
        known.check(report, &name_place, &raw.name);
        check_cluster(report, &place.key("default_cluster"), &raw.default_cluster);
        let timeout = raw.timeout.unwrap_or(TIMEOUT);
        let timeout = (timeout != Millis::ZERO).then_some(timeout);
        if let Some(timeout) = timeout {
            check_span(report, &place.key("timeout"), timeout, DAY);
        }
        let tls_place = place.key("tls");
        let tls = raw.tls.as_ref().map(|raw| {
            check_file(report, &tls_place.key("cert"), &raw.cert);
            check_file(report, &tls_place.key("key"), &raw.key);
            DownstreamTls {
                cert: raw.cert.clone(),
                key: raw.key.clone(),
            }
        });
        let nodes = Nodes::validate(report, &place.key("nodes"), &raw.nodes);
        Some(Self {
            name: raw.name.clone(),
            address: report.take(&place.key("address"), socket_address(&raw.address))?,
            default_cluster: raw.default_cluster.clone(),
            timeout,
            tls,
            nodes,
            place: place.clone(),
        })
    }
}

impl Nodes {
    /// Whether an Envoy of this `node.cluster` is meant, whose `node.metadata` holds these texts.
    pub fn cover<'m>(&self, cluster: &str, metadata: impl Fn(&str) -> Option<&'m str>) -> bool {
        let is_cluster = self.cluster.as_deref().is_none_or(|own| own == cluster);
        let mut texts = self.metadata.iter();
        is_cluster && texts.all(|(key, text)| metadata(key) == Some(text))
    }

    /// Whether some Envoy may be meant by both.
    pub(crate) fn overlap(&self, other: &Self) -> bool {
        let clusters_differ =
            matches!((&self.cluster, &other.cluster), (Some(one), Some(two)) if one != two);
        let mut texts = self.metadata.iter();
        let texts_differ = texts.any(|(key, text)| {
            let other = other.metadata.get(key);
            other.is_some_and(|other| other != text)
        });
        !clusters_differ && !texts_differ
    }

    fn validate(report: &mut Report, place: &Place, raw: &RawNodes) -> Self {
        if let Some(cluster) = &raw.cluster {
            check_node_text(report, &place.key("cluster"), cluster);
        }
        let metadata = place.key("metadata");
        for (key, text) in &raw.metadata {
            check_node_text(report, &metadata, key);
            check_node_text(report, &metadata.key(key), text);
        }
        Self {
            cluster: raw.cluster.clone(),
            metadata: raw.metadata.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn nodes(cluster: Option<&str>, metadata: &[(&str, &str)]) -> Nodes {
        let pairs = metadata.iter();
        Nodes {
            cluster: cluster.map(str::to_owned),
            metadata: pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        }
    }

    #[test]
    fn nodes_are_covered_by_all_that_is_said_of_them() {
        let edge = |key: &str| (key == "zone").then_some("a");
        for (name, nodes, expected) in [
            ("all", nodes(None, &[]), true),
            ("cluster", nodes(Some("edge"), &[]), true),
            ("other_cluster", nodes(Some("core"), &[]), false),
            ("metadata", nodes(None, &[("zone", "a")]), true),
            ("both", nodes(Some("edge"), &[("zone", "a")]), true),
            ("other_text", nodes(Some("edge"), &[("zone", "b")]), false),
            ("other_key", nodes(Some("edge"), &[("rack", "a")]), false),
        ] {
            assert_eq!(nodes.cover("edge", edge), expected, "{name}");
        }
    }

    #[test]
    fn nodes_overlap_unless_something_keeps_them_apart() {
        for (name, one, two, expected) in [
            ("all", nodes(None, &[]), nodes(Some("a"), &[]), true),
            ("same", nodes(Some("a"), &[]), nodes(Some("a"), &[]), true),
            (
                "cluster",
                nodes(Some("a"), &[]),
                nodes(Some("b"), &[]),
                false,
            ),
            (
                "text",
                nodes(None, &[("zone", "a")]),
                nodes(None, &[("zone", "b")]),
                false,
            ),
            (
                "different_keys",
                nodes(None, &[("zone", "a")]),
                nodes(None, &[("rack", "b")]),
                true,
            ),
        ] {
            assert_eq!(one.overlap(&two), expected, "{name}");
            assert_eq!(two.overlap(&one), expected, "{name} reversed");
        }
    }
}
