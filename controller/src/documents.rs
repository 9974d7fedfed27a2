//! The two documents as they are handed out: sealed once, shared by all who wait for them.

use axum::body::Bytes;
use ombre_policy::document::{Kind, Revision};
use tokio::sync::watch;

/// A sealed document.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its revision, as in the envelope.
    pub revision: Revision,
    /// Envelope and body.
    pub bytes: Bytes,
}

/// What is handed out at present; nothing before the first good policy.
#[derive(Debug)]
pub struct Documents {
    policy: watch::Sender<Option<Published>>,
    decisions: watch::Sender<Option<Published>>,
}

impl Default for Documents {
    fn default() -> Self {
        Self {
            policy: watch::Sender::new(None),
            decisions: watch::Sender::new(None),
        }
    }
}

impl Documents {
    /// Replaces a document and wakes everybody who waits for it.
    pub fn publish(&self, kind: Kind, document: Published) {
        self.sender(kind).send_replace(Some(document));
    }

    /// Replaces a document by one of the same revision, which nobody needs to be woken for:
    /// who has that revision has heard by other ways what the new bytes say.
    pub fn refresh(&self, kind: Kind, document: Published) {
        self.sender(kind).send_if_modified(|current| {
            *current = Some(document);
            false
        });
    }

    /// What is handed out now and from now on.
    pub fn subscribe(&self, kind: Kind) -> watch::Receiver<Option<Published>> {
        self.sender(kind).subscribe()
    }

    /// The revision that is handed out now.
    pub fn revision(&self, kind: Kind) -> Option<Revision> {
        self.sender(kind)
            .borrow()
            .as_ref()
            .map(|document| document.revision)
    }

    /// How many wait or are about to.
    pub fn waiting(&self) -> usize {
        self.policy.receiver_count() + self.decisions.receiver_count()
    }

    const fn sender(&self, kind: Kind) -> &watch::Sender<Option<Published>> {
        match kind {
            Kind::Policy => &self.policy,
            Kind::Decisions => &self.decisions,
        }
    }
}
