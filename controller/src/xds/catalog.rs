//! From what is in force to what each Envoy is to have: made once for all Envoys that are to have the
//! same, and anew when a change could be seen by one of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ombre_policy::document::{Kind, join, seal};
use ombre_xds::node::Node;
use ombre_xds::resources::{self, Extension, NodeGroup};
use ombre_xds::server::Catalog;
use ombre_xds::snapshot::{Revisions, Snapshot};
use tokio::sync::watch;
use tracing::warn;

use crate::compiled::Compiled;
use crate::publish::{InForce, Publisher};

/// What was in force at one moment.
pub(super) struct Offer {
    compiled: Arc<Compiled>,
    extension: Extension,
    made: Mutex<HashMap<NodeGroup, Arc<Snapshot>>>,
}

impl Offer {
    pub(super) fn new(now: &InForce, wasm: &str) -> Self {
        let revisions = Revisions {
            policy: now.revision,
            decisions: now.decisions_revision,
        };
        let policy = seal(
            Kind::Policy,
            now.revision,
            now.revision,
            &now.compiled.plan.encode(&now.table),
        );
        let decisions = seal(
            Kind::Decisions,
            now.decisions_revision,
            now.revision,
            &now.table.encode(),
        );
        Self {
            compiled: Arc::clone(&now.compiled),
            extension: Extension {
                wasm: wasm.to_owned(),
                configuration: join(&policy, &decisions),
                revisions,
            },
            made: Mutex::default(),
        }
    }
}

impl Catalog for Offer {
    fn snapshot(&self, node: &Node) -> Arc<Snapshot> {
        let policy = &self.compiled.policy;
        let group = NodeGroup::of(policy, node);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = made
            .entry(group)
            .or_insert_with_key(|group| Arc::new(resources::of(policy, &self.extension, group)));
        Arc::clone(snapshot)
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
    let mut offered: Option<InForce> = None;
    loop {
        changes.mark_unchanged();
        if let Some(now) = publisher.view().in_force
            && offered.as_ref().is_none_or(|before| differs(before, &now))
        {
            let clusters = now.compiled.policy.clusters();
            if clusters.is_empty() && offered.is_none() {
                warn!(
                    "the policy has no `clusters` and `listeners`: Envoys that get all else by xds serve nobody"
                );
            }
            offer.send_replace(Some(Arc::new(Offer::new(&now, &wasm))));
            offered = Some(now);
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
