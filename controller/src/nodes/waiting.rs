//! A poll that waits for news. When its connection is closed first, the Envoy has left.

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::HeaderMap;

use super::{Identity, Nodes};
use crate::clock::steady;

/// A poll that waits. Dropping it says that its Envoy did not wait for the answer.
pub struct Waiting {
    nodes: Arc<Nodes>,
    identity: Identity,
    answered: bool,
}

impl Waiting {
    /// The poll of which note was taken, with these headers; `None` when it is nobody's.
    pub fn begin(nodes: &Arc<Nodes>, headers: &HeaderMap) -> Option<Self> {
        let identity = Identity::of(headers)?;
        nodes.table().get_mut(&identity)?.waiting += 1;
        let nodes = Arc::clone(nodes);
        let answered = false;
        Some(Self {
            nodes,
            identity,
            answered,
        })
    }

    /// It is answered. Whether the answer arrives is not known.
    pub fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let now = steady();
        self.nodes.waited(&self.identity, self.answered, now);
    }
}

impl Nodes {
    /// A poll waits no more. An Envoy has left when the last of its polls was not waited for.
    pub(crate) fn waited(&self, identity: &Identity, answered: bool, now: SystemTime) {
        let mut table = self.table();
        // It may have been forgotten meanwhile, and come back.
        let Some(polled) = table.get_mut(identity) else {
            return;
        };
        polled.waiting = polled.waiting.saturating_sub(1);
        if polled.waiting == 0 && !answered {
            (polled.node.left, polled.node.last_seen) = (true, now);
        }
    }
}
