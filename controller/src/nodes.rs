//! What each Envoy runs, from the headers that its poller sends along, or from its xDS streams. A
//! bounded table: headers are taken from whoever can reach the API.

mod census;
mod discovery;
mod waiting;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::http::HeaderMap;
use ombre_policy::document::{Kind, Revision};
use ombre_xds::registry::{Entry, Registry};
use serde::Serialize;
use tracing::warn;
use utoipa::ToSchema;

pub use self::census::{Behind, Census};
pub use self::discovery::Discovery;
pub use self::waiting::Waiting;
use crate::clock::steady;
use crate::timestamp;

/// More Envoys than this are not told apart. It is above what one controller is meant for (10,000): the
/// freeze of one that is not on the list is waited for by nobody.
const MOST_NODES: usize = 16_384;
/// So many of those that were silent longest are forgotten at once, for looking for them takes long.
const FORGOTTEN: usize = MOST_NODES / 64;
const LONGEST_NAME: usize = 256;
const LONGEST_INSTANCE: usize = 64;
const LONGEST_SWITCHES: usize = 1024;

/// An Envoy that fell silent may be cut off and go on serving. It is counted on for so long: twice as
/// long as a poll takes.
const SILENT: Duration = Duration::from_secs(60);
/// One that closed its connections has ended, or comes back: the poller tries again every 2 s at the
/// most, and an xDS client of Envoy's some five times meanwhile.
const AWAY: Duration = Duration::from_secs(15);

/// One that is gone for so long is of no interest any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// The Envoys that polled or are served over xDS.
#[derive(Default)]
pub struct Nodes {
    table: Mutex<BTreeMap<Identity, Polled>>,
    registry: Option<Arc<Registry>>,
    /// Whether somebody without a name has been told of.
    nameless: AtomicBool,
}

/// Which Envoy. Several may have been started with the same node id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Identity {
    /// Its node id.
    pub name: String,
    /// The number of its process, as its poller tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// One Envoy.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Node {
    /// Who it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// How many workers hold plans.
    pub workers: Option<u32>,
    /// What its poller has.
    pub received: Revisions,
    /// What every worker of it runs.
    pub applied: Revisions,
    /// Since when every worker runs that policy, as far as it told.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String)]
    pub applied_since: SystemTime,
    /// The switches that are compiled in or set in its environment, in one line.
    pub switches: Option<String>,
    /// How many documents it refused.
    pub rejected: Option<u64>,
    /// When it was first heard of.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String)]
    pub first_seen: SystemTime,
    /// Now, while a poll or a stream of it is open; else when one was last.
    #[serde(serialize_with = "timestamp::serialize")]
    #[schema(value_type = String)]
    pub last_seen: SystemTime,
    /// Whether it closed its connections itself, and is not back.
    pub left: bool,
    /// Whether another one of its name came after it had left.
    pub replaced: bool,
    /// How it stands over xDS, if that is how it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xds: Option<Discovery>,
}

/// An Envoy as its poller tells of it.
struct Polled {
    node: Node,
    /// How many polls wait.
    waiting: usize,
}

/// A revision of each document, where known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Revisions {
    /// Of the policy.
    #[schema(value_type = Option<u64>)]
    pub policy: Option<Revision>,
    /// Of the decisions.
    #[schema(value_type = Option<u64>)]
    pub decisions: Option<Revision>,
}

impl Nodes {
    /// Those that poll, and those of this registry.
    pub fn with_xds(registry: Option<Arc<Registry>>) -> Self {
        Self {
            registry,
            ..Self::default()
        }
    }

    /// Takes note of a poll. One without a node id is nobody's.
    pub fn polled(&self, headers: &HeaderMap, kind: Kind, after: Revision, now: SystemTime) {
        let Some(identity) = Identity::of(headers) else {
            if !self.nameless.swap(true, Ordering::Relaxed) {
                warn!(
                    "an Envoy polls without a node id: it is on no list, and no release can wait for it; give it `node.id`"
                );
            }
            return;
        };
        let mut table = self.table();
        if !table.contains_key(&identity) {
            if table.len() >= MOST_NODES {
                forget_most_silent(&mut table);
            }
            replace(&mut table, &identity);
        }
        let polled = table.entry(identity.clone());
        let node = &mut polled.or_insert_with(|| Polled::new(identity, now)).node;
        (node.last_seen, node.left, node.replaced) = (now, false, false);
        match kind {
            Kind::Policy => node.received.policy = Some(after),
            Kind::Decisions => node.received.decisions = Some(after),
        }
        let applied = text(headers, "x-ombre-applied", LONGEST_NAME)
            .map(applied)
            .unwrap_or_default();
        if applied.policy != node.applied.policy {
            node.applied_since = now;
        }
        node.applied = applied;
        node.workers =
            text(headers, "x-ombre-workers", LONGEST_NAME).and_then(|text| text.parse().ok());
        node.rejected =
            text(headers, "x-ombre-rejected", LONGEST_NAME).and_then(|text| text.parse().ok());
        node.switches = text(headers, "x-ombre-switches", LONGEST_SWITCHES).map(str::to_owned);
    }

    /// All of them, by name.
    pub fn list(&self) -> Vec<Node> {
        let now = steady();
        let polled = {
            let mut table = self.table();
            table.retain(|_, polled| polled.waiting > 0 || polled.node.is_remembered(now));
            table.values().map(|polled| polled.seen(now)).collect()
        };
        let entries = self.registry.iter().flat_map(|registry| registry.list());
        let mut nodes = merged(polled, entries, now);
        nodes.retain(|node| node.is_remembered(now));
        nodes
    }

    /// Those that may still serve.
    pub fn live(&self) -> Vec<Node> {
        let mut nodes = self.list();
        let now = steady();
        nodes.retain(|node| node.may_serve(now));
        nodes
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Identity, Polled>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Whether it may serve, as far as is known: it is connected, or was not long ago.
    pub fn may_serve(&self, now: SystemTime) -> bool {
        !self.replaced && self.away(now) < if self.left { AWAY } else { SILENT }
    }

    /// Whether it ended, as far as can be known: it left, and did not come back while it could have.
    pub fn has_ended(&self, now: SystemTime) -> bool {
        self.left && !self.may_serve(now)
    }

    fn is_remembered(&self, now: SystemTime) -> bool {
        self.away(now) < FORGOTTEN_AFTER
    }

    fn away(&self, now: SystemTime) -> Duration {
        now.duration_since(self.last_seen).unwrap_or_default()
    }
}

impl Identity {
    /// Of whoever sent this, unless it has no name.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        Some(Self {
            name: text(headers, "x-ombre-node", LONGEST_NAME)?.to_owned(),
            instance: text(headers, "x-ombre-instance", LONGEST_INSTANCE).map(str::to_owned),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instance {
            Some(instance) => write!(f, "{} ({instance})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl Polled {
    fn new(identity: Identity, now: SystemTime) -> Self {
        let node = Node {
            identity,
            workers: None,
            received: Revisions::default(),
            applied: Revisions::default(),
            applied_since: now,
            switches: None,
            rejected: None,
            first_seen: now,
            last_seen: now,
            left: false,
            replaced: false,
            xds: None,
        };
        Self { node, waiting: 0 }
    }

    fn seen(&self, now: SystemTime) -> Node {
        let mut node = self.node.clone();
        if self.waiting > 0 {
            node.last_seen = now;
        }
        node
    }
}

/// One of each, by name. An Envoy may have changed from one way to the other, or take its clusters
/// over xDS and its policy from the poller: what tells of its filter is the way that did so last.
fn merged(
    polled: Vec<Node>,
    entries: impl IntoIterator<Item = Entry>,
    now: SystemTime,
) -> Vec<Node> {
    let mut nodes: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    for node in polled {
        nodes
            .entry(node.identity.name.clone())
            .or_default()
            .push(node);
    }
    for entry in entries {
        let seen = entry.filter_seen;
        let found = Node::discovered(entry, now);
        let known = nodes.entry(found.identity.name.clone()).or_default();
        known.retain(|polled| seen < Some(polled.last_seen));
        if known.is_empty() {
            known.push(found);
        } else {
            for polled in known {
                polled.put_beside(&found);
            }
        }
    }
    nodes.into_values().flatten().collect()
}

/// Those of this name that have left ended, since it came after them: an Envoy was started again. Those
/// that have not are others, or the process that it takes over from.
fn replace(table: &mut BTreeMap<Identity, Polled>, by: &Identity) {
    let first = Identity {
        name: by.name.clone(),
        instance: None,
    };
    let namesakes = table.range_mut(first..);
    for (_, polled) in namesakes.take_while(|(other, _)| other.name == by.name) {
        polled.node.replaced = polled.node.left;
        if polled.waiting > 0 {
            warn!(
                node_id = by.name,
                "several Envoys poll under one node id: give each its own, or nobody can tell who is meant"
            );
        }
    }
}

/// Makes room in a full table. Those that wait are forgotten last.
fn forget_most_silent(table: &mut BTreeMap<Identity, Polled>) {
    let silence = |polled: &Polled| (polled.waiting > 0, polled.node.last_seen);
    let mut silent: Vec<_> = table.values().map(silence).collect();
    let (_, &mut last, _) = silent.select_nth_unstable(FORGOTTEN - 1);
    table.retain(|_, polled| silence(polled) > last);
}

/// A header of printable ASCII that is not longer than it may be.
fn text<'a>(headers: &'a HeaderMap, name: &str, longest: usize) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    (!value.is_empty() && value.len() <= longest).then_some(value)
}

/// `<policy revision>/<decisions revision>`.
fn applied(text: &str) -> Revisions {
    let number = |text: &str| text.parse().ok().map(Revision::new);
    let (policy, decisions) = text.split_once('/').unwrap_or((text, ""));
    Revisions {
        policy: number(policy),
        decisions: number(decisions),
    }
}

#[cfg(test)]
mod tests;
