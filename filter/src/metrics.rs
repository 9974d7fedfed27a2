//! The filter's counters and histograms in Envoy's statistics (`wasmcustom.ombre_...`), defined once per root,
//! because every definition takes an id that Envoy never frees.

use ombre_policy::document::Kind;
use ombre_policy::verdict::Count;

use crate::host::Counters;

/// What happens to documents; what happens to requests is `Count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker took a policy.
    PolicyTaken,
    /// A worker took decisions.
    DecisionsTaken,
    /// A document was refused, by a worker or by the poller.
    DocumentRejected,
    /// A poll failed and is tried again.
    PollFailed,
    /// A request's headers could not be read: it went on to the default.
    HeadersUnreadable,
}

/// The ids of the counters of one root.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    events: Vec<Option<u32>>,
    counts: Vec<Option<u32>>,
    taking: [Option<u32>; 2],
}

impl Event {
    const ALL: [Self; 5] = [
        Self::PolicyTaken,
        Self::DecisionsTaken,
        Self::DocumentRejected,
        Self::PollFailed,
        Self::HeadersUnreadable,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::PolicyTaken => "policies_taken",
            Self::DecisionsTaken => "decisions_taken",
            Self::DocumentRejected => "documents_rejected",
            Self::PollFailed => "polls_failed",
            Self::HeadersUnreadable => "headers_unreadable",
        }
    }
}

impl Metrics {
    /// Defines every counter, so that all are there to be read before the first is counted.
    pub fn define(host: &impl Counters) -> Self {
        let define = |name| host.define(&format!("ombre_{name}_total"));
        Self {
            events: Event::ALL
                .iter()
                .map(|event| define(event.name()))
                .collect(),
            counts: Count::ALL
                .iter()
                .map(|count| define(count.name()))
                .collect(),
            taking: [Kind::Policy, Kind::Decisions].map(|kind| {
                host.define_histogram(&format!("ombre_{}_take_microseconds", kind.name()))
            }),
        }
    }

    /// Counts an event.
    pub fn event(&self, host: &impl Counters, event: Event) {
        increment(
            host,
            &self.events,
            Event::ALL.iter().position(|known| *known == event),
        );
    }

    /// How long a worker was busy taking a document; its requests waited for it.
    pub fn took(&self, host: &impl Counters, kind: Kind, microseconds: u64) {
        let [policy, decisions] = self.taking;
        let id = match kind {
            Kind::Policy => policy,
            Kind::Decisions => decisions,
        };
        if let Some(id) = id {
            host.record(id, microseconds);
        }
    }

    /// Counts what a verdict asks to count.
    pub fn count(&self, host: &impl Counters, count: Count) {
        increment(
            host,
            &self.counts,
            Count::ALL.iter().position(|known| *known == count),
        );
    }
}

fn increment(host: &impl Counters, ids: &[Option<u32>], at: Option<usize>) {
    if let Some(id) = at.and_then(|at| ids.get(at).copied().flatten()) {
        host.increment(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn every_event_and_count_has_a_counter_of_its_own() {
        let fake = Fake::default();
        let metrics = Metrics::define(&fake);
        for event in Event::ALL {
            metrics.event(&fake, event);
        }
        for count in Count::ALL {
            metrics.count(&fake, count);
        }
        for kind in [Kind::Policy, Kind::Decisions] {
            metrics.took(&fake, kind, 7);
        }
        for (name, value) in fake.counters.borrow().iter() {
            assert_eq!(*value, 1, "{name}");
        }
    }
}
