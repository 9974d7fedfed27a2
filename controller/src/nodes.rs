//! What each Envoy runs, from the headers that its poller sends along, or from its xDS streams. A
//! bounded table: headers are taken from whoever can reach the API.

mod census;
mod discovery;
mod waiting;

use std::collections::{BTreeMap, HashMap};
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
const LONGEST_SWITCHES: usize = 1024;

/// An Envoy that fell silent may be cut off and go on serving. It is counted on for so long: twice as
/// long as a poll takes.
const SILENT: Duration = Duration::from_secs(60);
/// One that closed its connections has ended, or comes back: the poller tries again every 2 s at the
/// most, and an xDS client of Envoy's some five times meanwhile.
const AWAY: Duration = Duration::from_secs(15);

/// The Envoys that polled or are served over xDS, by node id.
#[derive(Default)]
pub struct Nodes {
    table: Mutex<HashMap<String, Polled>>,
    registry: Option<Arc<Registry>>,
    /// Whether somebody without a name has been told of.
    nameless: AtomicBool,
}

/// One Envoy.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Node {
    /// Its node id.
    pub name: String,
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
        let Some(name) = text(headers, "x-ombre-node", LONGEST_NAME) else {
            if !self.nameless.swap(true, Ordering::Relaxed) {
                warn!(
                    "an Envoy polls without a node id: it is on no list, and no release can wait for it; give it `node.id`"
                );
            }
            return;
        };
        let mut table = self.table();
        if !table.contains_key(name) && table.len() >= MOST_NODES {
            forget_most_silent(&mut table);
        }
        let polled = table.entry(name.to_owned());
        let node = &mut polled.or_insert_with(|| Polled::new(name, now)).node;
        (node.last_seen, node.left) = (now, false);
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
        let polled = self.table();
        let polled = polled.values().map(|polled| polled.seen(now)).collect();
        let entries = self.registry.iter().flat_map(|registry| registry.list());
        merged(polled, entries, now)
    }

    /// Those that may still serve.
    pub fn live(&self) -> Vec<Node> {
        let mut nodes = self.list();
        let now = steady();
        nodes.retain(|node| node.may_serve(now));
        nodes
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Polled>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Whether it may serve, as far as is known: it is connected, or was not long ago.
    pub fn may_serve(&self, now: SystemTime) -> bool {
        let away = now.duration_since(self.last_seen).unwrap_or_default();
        away < if self.left { AWAY } else { SILENT }
    }

    /// Whether it ended, as far as can be known: it left, and did not come back while it could have.
    pub fn has_ended(&self, now: SystemTime) -> bool {
        self.left && !self.may_serve(now)
    }
}

impl Polled {
    fn new(name: &str, now: SystemTime) -> Self {
        let node = Node {
            name: name.to_owned(),
            workers: None,
            received: Revisions::default(),
            applied: Revisions::default(),
            applied_since: now,
            switches: None,
            rejected: None,
            first_seen: now,
            last_seen: now,
            left: false,
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

/// One of each name, by name. An Envoy may have changed from one way to the other, or take its clusters
/// over xDS and its policy from the poller: what tells of its filter is the way that did so last.
fn merged(
    polled: Vec<Node>,
    entries: impl IntoIterator<Item = Entry>,
    now: SystemTime,
) -> Vec<Node> {
    let polled = polled.into_iter().map(|node| (node.name.clone(), node));
    let mut nodes: BTreeMap<String, Node> = polled.collect();
    for entry in entries {
        let seen = entry.filter_seen;
        let found = Node::discovered(entry, now);
        let node = match nodes.remove(&found.name) {
            Some(polled) if seen < Some(polled.last_seen) => polled.beside(found),
            _ => found,
        };
        nodes.insert(node.name.clone(), node);
    }
    nodes.into_values().collect()
}

/// Makes room in a full table. Those that wait are forgotten last.
fn forget_most_silent(table: &mut HashMap<String, Polled>) {
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
