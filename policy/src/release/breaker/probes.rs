//! The probes of one half-open time: counted, named, and each with an end.

use std::collections::BTreeMap;

use crate::duration::Moment;

/// Permission for one request through a half-open breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    id: u32,
    /// When it counts as failed unless answered.
    pub expires: Moment,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probes {
    limit: u32,
    given: u32,
    succeeded: u32,
    waiting: BTreeMap<u32, Moment>,
}

impl Probes {
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            limit,
            given: 0,
            succeeded: 0,
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn give(&mut self, expires: Moment) -> Option<Probe> {
        if self.given >= self.limit {
            return None;
        }
        self.given += 1;
        let id = self.given;
        self.waiting.insert(id, expires);
        Some(Probe { id, expires })
    }

    /// Whether this very probe was still waiting: one of an earlier half-open time has the same
    /// number but another end.
    pub(super) fn take(&mut self, probe: Probe) -> bool {
        let ours = self.waiting.get(&probe.id) == Some(&probe.expires);
        ours && self.waiting.remove(&probe.id).is_some()
    }

    /// Counts a success; whether it was the last one needed.
    pub(super) const fn succeed(&mut self) -> bool {
        self.succeeded = self.succeeded.saturating_add(1);
        self.succeeded >= self.limit
    }

    /// Drops what has expired and says how many did.
    pub(super) fn expire(&mut self, now: Moment) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|_, expires| now < *expires);
        before - self.waiting.len()
    }

    pub(super) const fn succeeded(&self) -> u32 {
        self.succeeded
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}
