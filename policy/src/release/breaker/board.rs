//! All breakers by cluster, and what a configuration update does: it refreshes the one whose
//! cluster it names, once per revision, and no other.

use std::collections::BTreeMap;

use super::{Breaker, BreakerTerms, Circuit};
use crate::document::Revision;

/// A cluster was added, changed or removed, by a policy reload or by discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigUpdate {
    /// The Envoy cluster.
    pub cluster_name: String,
    /// The configuration's revision.
    pub revision: Revision,
    /// What happened to it.
    pub change: Change,
}

/// What happened to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new or its configuration changed: what was known of it is history.
    Set(BreakerTerms),
    /// It is gone.
    Removed,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// The cluster's breaker begins anew.
    Begun,
    /// The cluster's breaker is gone.
    Removed,
    /// The update is not newer than what is known of the cluster.
    Dropped,
}

/// The breakers of all clusters.
#[derive(Debug, Clone, Default)]
pub struct Board {
    /// A removed cluster keeps its revision, so that an update which was overtaken cannot revive it.
    clusters: BTreeMap<String, (Revision, Option<Breaker>)>,
}

impl Board {
    /// Applies an update to the breaker of its cluster.
    pub fn update(&mut self, update: &ConfigUpdate) -> Refreshed {
        let known = self.clusters.get(&update.cluster_name);
        if known.is_some_and(|(revision, _)| update.revision <= *revision) {
            return Refreshed::Dropped;
        }
        let (breaker, refreshed) = match update.change {
            Change::Set(terms) => (Some(Breaker::new(terms)), Refreshed::Begun),
            Change::Removed => (None, Refreshed::Removed),
        };
        let name = update.cluster_name.clone();
        self.clusters.insert(name, (update.revision, breaker));
        refreshed
    }

    /// The breaker of a cluster.
    #[must_use]
    pub fn get_mut(&mut self, cluster_name: &str) -> Option<&mut Breaker> {
        self.clusters.get_mut(cluster_name)?.1.as_mut()
    }

    /// All breakers by cluster name, each with the revision that began it.
    pub fn all(&self) -> impl Iterator<Item = (&str, Revision, &Breaker)> {
        let all = self.clusters.iter();
        all.filter_map(|(name, (revision, breaker))| {
            let breaker = breaker.as_ref()?;
            Some((name.as_str(), *revision, breaker))
        })
    }

    /// The circuit of a cluster; one that is not known is closed.
    #[must_use]
    pub fn circuit(&self, cluster_name: &str) -> Circuit {
        let breaker = self.clusters.get(cluster_name);
        let breaker = breaker.and_then(|(_, breaker)| breaker.as_ref());
        breaker.map(Breaker::circuit).unwrap_or_default()
    }
}
