//! The validated policy: every name resolved, every number in range, every template parsed.
//! Only `load` makes one, so whoever holds one need not check again.

pub(crate) mod cluster;
mod cohorts;
pub(crate) mod experiment;
pub(crate) mod features;
pub(crate) mod listener;
pub(crate) mod names;
mod release;
pub(crate) mod rewrite;
pub(crate) mod rollout;
pub(crate) mod route;
pub(crate) mod service;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hash::SLOTS;
use crate::slots::SlotTable;
pub use cluster::{
    CircuitBreakers, Cluster, Endpoint, Health, Hosts, OWN_CLUSTER, OutlierDetection, SubjectName,
    UpstreamTls,
};
pub use cohorts::Cohort;
pub(crate) use experiment::{Experiment, Group, Layer};
pub use listener::{DownstreamTls, Listener, Nodes};
pub use names::{AddressError, host_and_port, socket_address};
pub use release::{Member, Release};
pub(crate) use route::{Host, Route};
pub(crate) use service::{Service, Verification, Version};

/// What is released, and how.
#[derive(Debug)]
pub struct Policy {
    pub(crate) services: Vec<Service>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) listeners: Vec<Listener>,
}

/// The slot tables of every layer and experiment, kept from one policy to the next so that a
/// change of weights moves only the units it must. Keyed by service and salt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotTables {
    tables: BTreeMap<String, SlotTable>,
}

impl Policy {
    /// How many services, versions and routes there are.
    pub fn size(&self) -> (usize, usize, usize) {
        let versions = self.services.iter().map(|service| service.versions.len());
        let routes = self.services.iter().map(|service| service.routes.len());
        (self.services.len(), versions.sum(), routes.sum())
    }

    /// The names of the services, each with its versions' names.
    pub fn services(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.services.iter().map(|service| {
            let versions = service.versions.iter().map(|version| version.name.as_str());
            (service.name.as_str(), versions.collect())
        })
    }

    /// Every version that is served, as service, version and Envoy cluster.
    pub fn serving(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.services.iter().flat_map(|service| {
            let versions = service.versions.iter();
            versions.map(|version| {
                let (name, cluster) = (version.name.as_str(), version.cluster.as_str());
                (service.name.as_str(), name, cluster)
            })
        })
    }

    /// The clusters that ombre delivers to Envoy, in the order of the files; none for Envoys that
    /// have their own. Every cluster that a version or a listener names is one of them.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The listeners that ombre delivers to Envoy, in the order of the files.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Every Envoy cluster that a version names, with the file and path that name it.
    pub fn named_clusters(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.services
            .iter()
            .flat_map(|service| &service.versions)
            .map(|version| {
                let place = &version.cluster_place;
                (place.file(), place.path(), version.cluster.as_str())
            })
    }

    /// The slot tables for this policy, planned from the ones before it.
    pub fn slots(&self, previous: &SlotTables) -> SlotTables {
        let layers = self.services.iter().flat_map(|service| {
            let name = service.name.as_str();
            service.layers.iter().map(move |layer| (name, layer))
        });
        let tables = layers.flat_map(|(service, layer)| {
            let shares = layer
                .experiments
                .iter()
                .map(|e| (e.name.clone(), e.share.slots()));
            let shares = (layer.table_key(), shares.collect::<Vec<_>>());
            let arms = layer.experiments.iter().map(move |experiment| {
                let arms = experiment
                    .groups
                    .iter()
                    .map(|g| (g.name.clone(), g.weight.slots()));
                (experiment.table_key(service), arms.collect::<Vec<_>>())
            });
            std::iter::once(shares).chain(arms)
        });
        let tables = tables.filter_map(|(key, wanted)| {
            // A sum above the number of slots cannot come out of validation.
            let table = SlotTable::plan(previous.tables.get(&key), &wanted).ok()?;
            Some((key, table))
        });
        SlotTables {
            tables: tables.collect(),
        }
    }
}

impl SlotTables {
    /// The table under a key.
    pub(crate) fn get(&self, key: &str) -> Option<&SlotTable> {
        self.tables.get(key)
    }
}

/// A share of all units, held as slots: 0 to [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u32);

/// A number that is no percentage with at most three decimals.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{0} is not a percentage: write 0 to 100 with at most three decimals")]
pub(crate) struct ShareError(f64);

impl Share {
    pub(crate) const ALL: Self = Self(SLOTS);

    /// From 0 to 100 percent, in thousandths.
    pub(crate) fn percent(percent: f64) -> Result<Self, ShareError> {
        let slots = percent * f64::from(SLOTS) / 100.0;
        let whole = slots.round();
        if !(0.0..=100.0).contains(&percent) || (slots - whole).abs() > 1e-6 {
            return Err(ShareError(percent));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole and between 0 and SLOTS, checked above"
        )]
        Ok(Self(whole as u32))
    }

    pub(crate) fn percentage(self) -> f64 {
        f64::from(self.0) * 100.0 / f64::from(SLOTS)
    }

    pub(crate) const fn slots(self) -> u32 {
        self.0
    }
}
