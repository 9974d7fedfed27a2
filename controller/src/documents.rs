//! The two documents as they are handed out: sealed once, shared by all who wait for them, and since
//! when there is something newer than what somebody runs.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use axum::body::Bytes;
use ombre_policy::document::{Kind, Revision};
use tokio::sync::watch;

use crate::clock::steady;

/// Who runs something older than so many publications is behind for at least as long as the oldest of
/// these says.
const REMEMBERED: usize = 1024;

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
    policy: Row,
    decisions: Row,
}

/// The publications of one document.
#[derive(Debug)]
struct Row {
    newest: watch::Sender<Option<Published>>,
    /// When each was made, oldest first. Revisions are times too, but of a clock that may be set.
    times: Mutex<VecDeque<(Revision, SystemTime)>>,
}

impl Default for Documents {
    fn default() -> Self {
        let row = || Row {
            newest: watch::Sender::new(None),
            times: Mutex::default(),
        };
        Self {
            policy: row(),
            decisions: row(),
        }
    }
}

impl Documents {
    /// Replaces a document and wakes everybody who waits for it.
    pub fn publish(&self, kind: Kind, document: Published) {
        let row = self.row(kind);
        let mut times = row.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.push_back((document.revision, steady()));
        if times.len() > REMEMBERED {
            times.pop_front();
        }
        drop(times);
        row.newest.send_replace(Some(document));
    }

    /// Since when there has been a newer document than what is run; `None`: it is the newest.
    pub fn newer_since(&self, kind: Kind, run: Option<Revision>) -> Option<SystemTime> {
        let times = &self.row(kind).times;
        let times = times.lock().unwrap_or_else(PoisonError::into_inner);
        let first = times.partition_point(|(revision, _)| Some(*revision) <= run);
        times.get(first).map(|(_, since)| *since)
    }

    /// Replaces a document by one of the same revision, which nobody needs to be woken for:
    /// who has that revision has heard by other ways what the new bytes say.
    pub fn refresh(&self, kind: Kind, document: Published) {
        self.row(kind).newest.send_if_modified(|current| {
            *current = Some(document);
            false
        });
    }

    /// What is handed out now and from now on.
    pub fn subscribe(&self, kind: Kind) -> watch::Receiver<Option<Published>> {
        self.row(kind).newest.subscribe()
    }

    /// The revision that is handed out now.
    pub fn revision(&self, kind: Kind) -> Option<Revision> {
        let newest = &self.row(kind).newest;
        newest.borrow().as_ref().map(|document| document.revision)
    }

    /// How many wait or are about to.
    pub fn waiting(&self) -> usize {
        let rows = [&self.policy, &self.decisions];
        rows.map(|row| row.newest.receiver_count()).iter().sum()
    }

    const fn row(&self, kind: Kind) -> &Row {
        match kind {
            Kind::Policy => &self.policy,
            Kind::Decisions => &self.decisions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_is_so_since_the_first_publication_that_it_lacks() {
        let documents = Documents::default();
        let since = |run: u64| documents.newer_since(Kind::Policy, Some(Revision::new(run)));
        assert_eq!(since(0), None, "there is nothing");
        let before = steady();
        let publish = |kind, revision| {
            let revision = Revision::new(revision);
            let bytes = Bytes::new();
            documents.publish(kind, Published { revision, bytes });
        };
        publish(Kind::Policy, 5);
        let between = steady();
        publish(Kind::Policy, 9);
        publish(Kind::Decisions, 10);
        assert!((before..between).contains(&since(4).unwrap()));
        assert!(since(5).unwrap() >= between);
        assert_eq!((since(9), since(10)), (None, None));
        assert_eq!(documents.newer_since(Kind::Policy, None), since(0));
        for revision in 0..REMEMBERED as u64 {
            publish(Kind::Policy, 20 + revision);
        }
        assert!(since(0).unwrap() >= between, "at least for so long");
    }
}
