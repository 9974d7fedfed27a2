//! One breaker for each cluster of the policy in force (§4.2), fed by what every proxy counts of it. It
//! stops no request, which is Envoy's business: it says where traffic may be moved to.

use std::collections::BTreeMap;
use std::sync::Arc;

use ombre_policy::document::Revision;
use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::breaker::{
    Board, BreakerTerms, Change, Circuit, CircuitState, ConfigUpdate, Refreshed,
};
use ombre_policy::release::evidence::{Sample, Sum, Window};
use ombre_policy::release::machine::{Circuits, Jitter};
use ombre_policy::release::settings::Settings;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::openapi::shapes;
use crate::evidence::ledger::Ledger;
use crate::evidence::{Readings, Wanted};
use crate::metrics::Metrics;

/// What a breaker looks at.
const SPAN: Millis = Millis::from_secs(10);

/// All breakers.
pub(super) struct Breakers {
    board: Board,
    counted: BTreeMap<String, Counted>,
    metrics: Arc<Metrics>,
}

/// What is known of one cluster.
struct Counted {
    ledger: Ledger,
    window: Window,
}

/// A breaker as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClusterView {
    /// Name, failure rate in parts per million over the last 10 s, and whether it is half open.
    #[serde(flatten)]
    #[schema(value_type = shapes::CircuitState)]
    pub breaker: CircuitState,
    /// Whether traffic may be moved to it.
    #[schema(value_type = shapes::Circuit)]
    pub state: Circuit,
    /// The configuration that began it.
    #[schema(value_type = u64)]
    pub revision: Revision,
}

impl Breakers {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            board: Board::default(),
            counted: BTreeMap::new(),
            metrics,
        }
    }

    /// Follows the clusters of a policy: raises an update for each that came, changed or went. What a
    /// cluster is for says whether it changed.
    pub(super) fn follow<P: PartialEq>(
        &mut self,
        before: &BTreeMap<String, P>,
        after: &BTreeMap<String, P>,
        revision: Revision,
    ) {
        let update = |name: &String, change| ConfigUpdate {
            cluster_name: name.clone(),
            revision,
            change,
        };
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            self.config_update(&update(name, Change::Removed));
        }
        for (name, purpose) in after {
            if before.get(name) != Some(purpose) {
                let begun = Change::Set(BreakerTerms::default());
                self.config_update(&update(name, begun));
            }
        }
    }

    /// A cluster came, changed or went, by a policy or by discovery. Its own breaker begins anew, and no
    /// other. Revisions are publication times, whoever publishes: what is not newer is dropped.
    pub(super) fn config_update(&mut self, update: &ConfigUpdate) -> Refreshed {
        let refreshed = self.board.update(update);
        let name = &update.cluster_name;
        match refreshed {
            Refreshed::Begun => {
                let counted = Counted {
                    ledger: Ledger::default(),
                    window: Window::new(Millis::from_secs(1), SPAN),
                };
                self.counted.insert(name.clone(), counted);
            }
            Refreshed::Removed => {
                self.counted.remove(name);
            }
            Refreshed::Dropped => {}
        }
        self.metrics.breaker_update(refreshed);
        refreshed
    }

    /// An Envoy runs another configuration of a cluster. Clusters that serve no version have no breaker.
    pub(super) fn accepted(&mut self, cluster_name: String, revision: Revision) {
        if self.counted.contains_key(&cluster_name) {
            self.config_update(&ConfigUpdate {
                cluster_name,
                revision,
                change: Change::Set(BreakerTerms::default()),
            });
        }
    }

    /// Takes one tick, and returns the breakers that are closed no more, or again. What is between is not
    /// told: without requests an open breaker is half open now and then for ever.
    pub(super) fn tick(
        &mut self,
        readings: &Readings,
        wanted: &Wanted,
        now: Moment,
        jitter: Jitter,
    ) -> Vec<ClusterView> {
        let mut settings = Settings::article();
        settings.evidence.interval = wanted.interval;
        settings.evidence.stale = wanted.stale;
        let before = self.views();
        for (name, counted) in &mut self.counted {
            let Some(breaker) = self.board.get_mut(name) else {
                continue;
            };
            let was_closed = breaker.circuit() == Circuit::Closed;
            let sample = counted.ledger.tick(name, readings, &settings);
            let mut tick = Sum::default();
            tick.add(&sample, wanted.interval);
            breaker.tick(now, jitter);
            if !matches!(sample, Sample::Unknown(_)) {
                breaker.passed(&tick, now, jitter);
            }
            if !was_closed && breaker.circuit() == Circuit::Closed {
                // The faults that opened it are over, and must not open it again.
                counted.window.clear();
            } else {
                counted.window.push(now, sample);
            }
            breaker.observe(&counted.window.sum(now, SPAN), now, jitter);
        }
        let after = self.views();
        let state = |view: &ClusterView| {
            let closed = view.state == Circuit::Closed;
            (view.breaker.cluster_name.clone(), closed)
        };
        let known: Vec<_> = before.iter().map(state).collect();
        let changed = |view: &ClusterView| !known.contains(&state(view));
        after.into_iter().filter(changed).collect()
    }

    /// The breakers of both versions of a release.
    pub(super) fn circuits(&self, candidate: &str, stable: &str) -> Circuits {
        Circuits {
            candidate: self.board.circuit(candidate),
            stable: self.board.circuit(stable),
        }
    }

    /// All of them, by cluster.
    pub(super) fn views(&self) -> Vec<ClusterView> {
        let all = self.board.all();
        all.map(|(name, revision, breaker)| ClusterView {
            breaker: breaker.state(name),
            state: breaker.circuit(),
            revision,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
