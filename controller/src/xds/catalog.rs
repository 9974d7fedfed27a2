//! From what is in force to what each Envoy is to have: made once for all Envoys that are to have the
//! same, and anew when a change could be seen by one of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::{Kind, Revision, join, seal};
use ombre_xds::node::Node;
use ombre_xds::resources::{self, Extension, NodeGroup};
use ombre_xds::server::Catalog;
use ombre_xds::snapshot::{Revisions, Snapshot};
use tokio::sync::watch;
use tracing::warn;

use crate::compiled::Compiled;
use crate::publish::{InForce, Publisher};

/// An Envoy that waits for clusters while more policies than these are replaced gets newer decisions
/// only with the newest one.
const MOST_REPLACED: usize = 8;

/// What was in force at one moment.
struct Offer {
    now: InForce,
    extension: Extension,
    made: Mutex<HashMap<NodeGroup, Arc<Snapshot>>>,
    /// Since when the decisions say what they say; a new policy alone gives them a new revision.
    decided: Revision,
    replaced: VecDeque<Replaced>,
    /// The filters of those, under the decisions of this moment.
    meanwhile: Mutex<BTreeMap<Revision, Arc<Snapshot>>>,
}

/// A policy that was offered before.
#[derive(Clone)]
struct Replaced {
    compiled: Arc<Compiled>,
    revision: Revision,
    /// Of the last decisions that were offered with it.
    decisions: Revision,
}

impl Offer {
    fn first(now: InForce, wasm: &str) -> Self {
        let decided = now.decisions_revision;
        Self::new(now, wasm.to_owned(), decided, VecDeque::new())
    }

    /// What comes after this.
    fn then(&self, now: InForce) -> Self {
        let before = &self.now;
        let says_the_same = before.decisions == now.decisions && before.released == now.released;
        let decided = match says_the_same {
            true => self.decided,
            false => now.decisions_revision,
        };
        let mut replaced = self.replaced.clone();
        if before.revision != now.revision {
            replaced.push_back(Replaced {
                compiled: Arc::clone(&before.compiled),
                revision: before.revision,
                decisions: before.decisions_revision,
            });
        }
        while replaced.len() > MOST_REPLACED {
            replaced.pop_front();
        }
        Self::new(now, self.extension.wasm.clone(), decided, replaced)
    }

    fn new(now: InForce, wasm: String, decided: Revision, replaced: VecDeque<Replaced>) -> Self {
        let revisions = Revisions {
            policy: now.revision,
            decisions: now.decisions_revision,
        };
        Self {
            extension: extension(wasm, &now.compiled, &now.table, revisions),
            now,
            made: Mutex::default(),
            decided,
            replaced,
            meanwhile: Mutex::default(),
        }
    }

    /// The filter of a policy of before under the decisions of this moment, as far as it can carry
    /// them out.
    fn decided_anew(&self, replaced: &Replaced) -> Snapshot {
        let Replaced {
            compiled, revision, ..
        } = replaced;
        // What it cannot carry out is about what its Envoys do not have yet.
        let (table, _) = compiled.applicable_both(&self.now.decisions, &self.now.released);
        let revisions = Revisions {
            policy: *revision,
            decisions: self.decided,
        };
        let wasm = self.extension.wasm.clone();
        resources::filter(&extension(wasm, compiled, &table, revisions))
    }
}

fn extension(
    wasm: String,
    compiled: &Compiled,
    table: &DecisionTable,
    revisions: Revisions,
) -> Extension {
    let policy = seal(
        Kind::Policy,
        revisions.policy,
        revisions.policy,
        &compiled.plan.encode(table),
    );
    let decisions = seal(
        Kind::Decisions,
        revisions.decisions,
        revisions.policy,
        &table.encode(),
    );
    Extension {
        wasm,
        configuration: join(&policy, &decisions),
        revisions,
    }
}

impl Catalog for Offer {
    fn snapshot(&self, node: &Node) -> Arc<Snapshot> {
        let policy = &self.now.compiled.policy;
        let group = NodeGroup::of(policy, node);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = made
            .entry(group)
            .or_insert_with_key(|group| Arc::new(resources::of(policy, &self.extension, group)));
        Arc::clone(snapshot)
    }

    fn meanwhile(&self, policy: Revision) -> Option<Arc<Snapshot>> {
        let mut made = self
            .meanwhile
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if policy == self.now.revision {
            // Only clusters or listeners differ.
            let filter = made
                .entry(policy)
                .or_insert_with(|| Arc::new(resources::filter(&self.extension)));
            return Some(Arc::clone(filter));
        }
        let mut replaced = self.replaced.iter();
        let replaced = replaced.find(|replaced| replaced.revision == policy)?;
        if self.decided <= replaced.decisions {
            return None;
        }
        let filter = made
            .entry(policy)
            .or_insert_with(|| Arc::new(self.decided_anew(replaced)));
        Some(Arc::clone(filter))
    }
}

/// Offers what is in force, and after each change what is in force then.
pub(super) async fn follow(
    publisher: Arc<Publisher>,
    wasm: String,
    offer: watch::Sender<Option<Arc<dyn Catalog>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut changes = publisher.changes();
    let mut offered: Option<Arc<Offer>> = None;
    loop {
        changes.mark_unchanged();
        if let Some(now) = publisher.view().in_force
            && offered
                .as_ref()
                .is_none_or(|before| differs(&before.now, &now))
        {
            let clusters = now.compiled.policy.clusters();
            if clusters.is_empty() && offered.is_none() {
                warn!(
                    "the policy has no `clusters` and `listeners`: Envoys that get all else by xds serve nobody"
                );
            }
            let next = Arc::new(match &offered {
                None => Offer::first(now, &wasm),
                Some(before) => before.then(now),
            });
            offer.send_replace(Some(next.clone()));
            offered = Some(next);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Whether an Envoy could tell them apart. A policy whose clusters alone have changed keeps its revision.
fn differs(before: &InForce, now: &InForce) -> bool {
    !Arc::ptr_eq(&before.compiled, &now.compiled)
        || before.revision != now.revision
        || before.decisions_revision != now.decisions_revision
}
