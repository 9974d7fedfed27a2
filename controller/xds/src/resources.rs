//! From a policy to what Envoy gets: a pure function, and the same bytes for the same policy,
//! since versions are hashes of them.

mod cluster;
mod endpoint;
mod extension;
mod listener;
mod proto;
mod route;
#[cfg(test)]
mod tests;
mod tls;

use ombre_policy::policy::{Hosts, Listener, Policy};
use prost::Message;

use crate::node::Node;
use crate::snapshot::{Resource, Revisions, Snapshot, Type};

/// What the filter gets.
#[derive(Clone, Debug)]
pub struct Extension {
    /// The filter's code: a file on Envoy's machine.
    pub wasm: String,
    /// The policy and the decisions in force, as the filter reads them from its configuration.
    pub configuration: Vec<u8>,
    /// Of both.
    pub revisions: Revisions,
}

/// Envoys that get the same: those that the same listeners are for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeGroup {
    listeners: Vec<String>,
}

impl NodeGroup {
    /// The group of an Envoy under this policy.
    pub fn of(policy: &Policy, node: &Node) -> Self {
        let text = |key: &str| node.metadata().get(key).map(String::as_str);
        let listeners = policy.listeners().iter();
        let listeners = listeners.filter(|listener| listener.nodes.cover(node.cluster(), text));
        Self {
            listeners: listeners.map(|listener| listener.name.clone()).collect(),
        }
    }

    /// The names of its listeners, in the order of the policy.
    pub fn listeners(&self) -> &[String] {
        &self.listeners
    }

    fn has(&self, listener: &Listener) -> bool {
        self.listeners.contains(&listener.name)
    }
}

/// Everything that the Envoys of a group get: all clusters and the filter, their listeners, and
/// the routes of these.
pub fn of(policy: &Policy, extension: &Extension, group: &NodeGroup) -> Snapshot {
    let mut snapshot = Snapshot::new(extension.revisions);
    for cluster in policy.clusters() {
        let message = cluster::message(cluster);
        insert(&mut snapshot, Type::Cluster, &cluster.name, &message);
        if let Hosts::Endpoints(endpoints) = &cluster.hosts {
            let message = endpoint::message(&cluster.name, endpoints);
            insert(&mut snapshot, Type::Endpoint, &cluster.name, &message);
        }
    }
    insert_filter(&mut snapshot, extension);
    let cohorts = policy.cohorts();
    for listener in policy.listeners().iter().filter(|one| group.has(one)) {
        let message = listener::message(listener);
        insert(&mut snapshot, Type::Listener, &listener.name, &message);
        let message = route::message(listener, &cohorts);
        insert(&mut snapshot, Type::Route, &listener.name, &message);
    }
    snapshot
}

/// The filter alone: for Envoys that cannot have the rest yet.
pub fn filter(extension: &Extension) -> Snapshot {
    let mut snapshot = Snapshot::new(extension.revisions);
    insert_filter(&mut snapshot, extension);
    snapshot
}

fn insert_filter(snapshot: &mut Snapshot, extension: &Extension) {
    let message = extension::message(extension);
    insert(snapshot, Type::Extension, extension::NAME, &message);
}

fn insert(snapshot: &mut Snapshot, kind: Type, name: &str, message: &impl Message) {
    snapshot.insert(kind, Resource::new(name, message.encode_to_vec()));
}
