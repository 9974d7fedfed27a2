//! Which Envoys are connected and what each of them runs, as its streams say. Bounded: a node that is
//! gone is forgotten when its place is needed, the longest gone first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::line::Line;
use crate::message::Flavor;
use crate::node::Node;
use crate::session::{Session, Stage, Standing};
use crate::snapshot::{Revisions, Type};

/// The Envoys that are or were connected, by node id.
#[derive(Debug)]
pub struct Registry {
    table: Mutex<Table>,
    most_nodes: usize,
    most_streams_each: usize,
}

/// One Envoy.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it says of itself.
    pub node: Node,
    /// Its streams; none when it is gone.
    pub streams: Vec<StreamStatus>,
    /// What it decides requests by: what it accepted last, on each stream that carries the filter.
    pub applied: Option<Revisions>,
    /// Since when.
    pub applied_since: SystemTime,
    /// When it was first heard of.
    pub first_seen: SystemTime,
    /// When it said something last, or was found to be gone.
    pub last_seen: SystemTime,
    /// When a stream of it carried the filter last: now, while one does; never, if it takes only other
    /// things from here.
    pub filter_seen: Option<SystemTime>,
    /// Whether it is gone because it closed its connection itself.
    pub left: bool,
}

/// How one stream stands.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// In which form of the protocol.
    pub flavor: Flavor,
    /// When it was opened.
    pub opened: SystemTime,
    /// How far the Envoy is on its way to the newest snapshot.
    pub stage: StageName,
    /// Since when.
    pub stage_since: SystemTime,
    /// How each type stands that was asked for, and for a refused one, since when.
    pub types: BTreeMap<Type, (Standing, Option<SystemTime>)>,
    /// What the Envoy decides requests by, as far as this stream tells.
    pub applied: Option<Revisions>,
}

/// A stage without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageName {
    /// Clusters and endpoints are being added.
    Adding,
    /// Listeners, routes and the filter are being switched.
    Switching,
    /// What is no longer wanted is being removed.
    Removing,
    /// It has what it is to have.
    Settled,
    /// It refused something: nothing further is sent until that changes.
    Held,
}

/// Why a stream finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The node has its share.
    #[error("this node already has {0} streams; is its `node.id` used by several Envoys?")]
    Streams(usize),
    /// Every place is taken by a node that is connected.
    #[error("{0} nodes are connected already, and more are not served here")]
    Nodes(usize),
}

/// A stream's place. Dropping it says that the stream has ended.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: Arc<Registry>,
    id: String,
    number: u64,
    line: Line,
}

#[derive(Debug, Default)]
struct Table {
    nodes: HashMap<String, Known>,
    /// Numbers streams.
    streams: u64,
}

#[derive(Debug)]
struct Known {
    node: Node,
    streams: BTreeMap<u64, StreamStatus>,
    applied: Option<Revisions>,
    applied_since: SystemTime,
    first_seen: SystemTime,
    last_seen: SystemTime,
    filter_seen: Option<SystemTime>,
    /// What the stream came over that ended last.
    line: Line,
}

impl StageName {
    /// As the API and the log have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adding => "adding",
            Self::Switching => "switching",
            Self::Removing => "removing",
            Self::Settled => "settled",
            Self::Held => "held",
        }
    }

    fn of(session: &Session) -> Self {
        let held = |kind: &Type| session.standing(*kind).rejected.is_some();
        if Type::ALL.iter().any(held) {
            return Self::Held;
        }
        match session.stage() {
            Stage::Adding { .. } => Self::Adding,
            Stage::Switching => Self::Switching,
            Stage::Removing => Self::Removing,
            Stage::Settled => Self::Settled,
        }
    }
}

impl Registry {
    /// One for so many nodes, each with so many streams.
    pub fn new(most_nodes: usize, most_streams_each: usize) -> Self {
        Self {
            table: Mutex::default(),
            most_nodes,
            most_streams_each,
        }
    }

    /// All nodes, by id.
    pub fn list(&self) -> Vec<Entry> {
        let table = self.table();
        let mut entries: Vec<Entry> = table.nodes.values().map(Known::entry).collect();
        entries.sort_by(|a, b| a.node.id().cmp(b.node.id()));
        entries
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        let table = self.table();
        table.nodes.values().map(|known| known.streams.len()).sum()
    }

    /// A place for a new stream of this node, which comes over this connection.
    pub(crate) fn seat(
        self: &Arc<Self>,
        node: &Node,
        flavor: Flavor,
        line: Line,
    ) -> Result<Seat, Full> {
        let now = SystemTime::now();
        let mut table = self.table();
        if !table.nodes.contains_key(node.id()) && table.nodes.len() >= self.most_nodes {
            table.forget_one().ok_or(Full::Nodes(self.most_nodes))?;
        }
        table.streams += 1;
        let number = table.streams;
        let known = table.nodes.entry(node.id().to_owned());
        let known = known.or_insert_with(|| Known {
            node: node.clone(),
            streams: BTreeMap::new(),
            applied: None,
            applied_since: now,
            first_seen: now,
            last_seen: now,
            filter_seen: None,
            line: Line::default(),
        });
        if known.streams.len() >= self.most_streams_each {
            return Err(Full::Streams(self.most_streams_each));
        }
        known.node = node.clone();
        known.last_seen = now;
        let status = StreamStatus {
            flavor,
            opened: now,
            stage: StageName::Settled,
            stage_since: now,
            types: BTreeMap::new(),
            applied: None,
        };
        known.streams.insert(number, status);
        Ok(Seat {
            registry: Arc::clone(self),
            id: node.id().to_owned(),
            number,
            line,
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Takes note of how the stream stands now. `filter`: what lies in the filter that was accepted last
    /// on this stream; an Envoy that refuses a listener still decides requests by that.
    pub(crate) fn note(&self, session: &Session, filter: Option<Revisions>) {
        let now = SystemTime::now();
        let mut table = self.registry.table();
        let Some(known) = table.nodes.get_mut(&self.id) else {
            return;
        };
        known.last_seen = now;
        if let Some(status) = known.streams.get_mut(&self.number) {
            status.note(session, filter, now);
        }
        known.reckon(now);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut table = self.registry.table();
        if let Some(known) = table.nodes.get_mut(&self.id) {
            let now = SystemTime::now();
            let ended = known.streams.remove(&self.number);
            if ended.is_some_and(|status| status.carries_filter()) {
                known.filter_seen = Some(now);
            }
            known.last_seen = now;
            known.line = self.line.clone();
            known.reckon(now);
        }
    }
}

impl Table {
    /// Forgets the node that was gone longest, if one is gone.
    fn forget_one(&mut self) -> Option<()> {
        let gone = self.nodes.values().filter(|known| known.streams.is_empty());
        let longest = gone.min_by_key(|known| known.last_seen)?;
        let id = longest.node.id().to_owned();
        self.nodes.remove(&id).map(drop)
    }
}

impl Known {
    fn entry(&self) -> Entry {
        Entry {
            node: self.node.clone(),
            streams: self.streams.values().cloned().collect(),
            applied: self.applied,
            applied_since: self.applied_since,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            filter_seen: match self.carrying().next() {
                Some(_) => Some(SystemTime::now()),
                None => self.filter_seen,
            },
            left: self.streams.is_empty() && self.line.is_hung_up(),
        }
    }

    fn carrying(&self) -> impl Iterator<Item = &StreamStatus> {
        let streams = self.streams.values();
        streams.filter(|status| status.carries_filter())
    }

    /// What the node runs for sure: where several streams carry the filter, perhaps because several
    /// Envoys have one id, what the last of them runs. One that is gone still runs what it had.
    fn reckon(&mut self, now: SystemTime) {
        let mut carrying = self.carrying().peekable();
        if carrying.peek().is_none() {
            return;
        }
        let applied: Option<Vec<Revisions>> = carrying.map(|status| status.applied).collect();
        // One by one: an Envoy that waits for clusters has newer decisions with an older policy.
        let least = applied.and_then(|all| {
            all.into_iter().reduce(|a, b| Revisions {
                policy: a.policy.min(b.policy),
                decisions: a.decisions.min(b.decisions),
            })
        });
        if least != self.applied {
            self.applied = least;
            self.applied_since = now;
        }
    }
}

impl StreamStatus {
    fn carries_filter(&self) -> bool {
        self.types.contains_key(&Type::Extension)
    }

    fn note(&mut self, session: &Session, filter: Option<Revisions>, now: SystemTime) {
        let stage = StageName::of(session);
        if stage != self.stage {
            (self.stage, self.stage_since) = (stage, now);
        }
        for kind in Type::ALL {
            let standing = session.standing(kind);
            if !standing.subscribed {
                continue;
            }
            let before = self.types.get(&kind);
            let since = match before {
                Some((before, since)) if before.rejected == standing.rejected => *since,
                _ => standing.rejected.is_some().then_some(now),
            };
            self.types.insert(kind, (standing, since));
        }
        // A filter that the Envoy has from an earlier stream is not sent again, thus not accepted again.
        let settled = session.applied().map(|snapshot| snapshot.revisions());
        let newest = |revisions: &Revisions| (revisions.policy, revisions.decisions);
        self.applied = settled.into_iter().chain(filter).max_by_key(newest);
    }
}

#[cfg(test)]
mod tests;
