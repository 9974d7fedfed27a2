//! Hands out what is in force: both documents to the filters, and the view to everybody else.

use std::sync::Arc;
use std::time::SystemTime;

use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::{Kind, Revision, seal};
use tracing::warn;

use super::{Held, InForce, Publisher, next};
use crate::compiled::Compiled;
use crate::documents::Published;
use crate::state::Saved;

impl Publisher {
    /// Puts a policy in force, with what was decided before.
    pub(super) fn put_in_force(
        &self,
        saved: &Saved,
        revision: Revision,
        compiled: Arc<Compiled>,
        loaded_at: SystemTime,
    ) {
        let (table, problems) = compiled.applicable_both(&saved.decisions, &saved.released);
        for problem in &problems {
            warn!(%problem, "decision kept, without effect under this policy");
        }
        self.documents
            .publish(Kind::Policy, sealed_policy(&compiled, revision, &table));
        self.metrics.policy_revision(revision);
        self.hand_out_decisions(saved.decisions_revision, revision, &table);
        self.change_view(|view| {
            view.in_force = Some(InForce {
                compiled,
                revision,
                decisions_revision: saved.decisions_revision,
                decisions: Arc::new(saved.decisions.clone()),
                released: Arc::new(saved.released.clone()),
                table: Arc::new(table),
                without_effect: Arc::new(problems),
                loaded_at,
            });
        });
    }

    /// Puts a policy in force that filters cannot tell from the one before. What was decided for the
    /// other may mean something else now: a `degrade` block is none of the filters' business.
    pub(super) fn settle(&self, held: &mut Held, now: InForce) {
        let (table, problems) = now
            .compiled
            .applicable_both(&held.saved.decisions, &held.saved.released);
        if table != *now.table {
            held.saved.decisions_revision = next(&mut held.saved);
            self.report_save(held);
            return self.hand_out(&held.saved, now);
        }
        self.change_view(|view| {
            view.in_force = Some(InForce {
                released: Arc::new(held.saved.released.clone()),
                without_effect: Arc::new(problems),
                ..now
            });
        });
    }

    /// Hands out the newest decisions under the policy in force.
    pub(super) fn hand_out(&self, saved: &Saved, now: InForce) {
        let (table, problems) = now
            .compiled
            .applicable_both(&saved.decisions, &saved.released);
        self.hand_out_decisions(saved.decisions_revision, now.revision, &table);
        // Whoever takes the policy from now on starts with these decisions.
        self.documents.refresh(
            Kind::Policy,
            sealed_policy(&now.compiled, now.revision, &table),
        );
        self.change_view(|view| {
            view.in_force = Some(InForce {
                decisions_revision: saved.decisions_revision,
                decisions: Arc::new(saved.decisions.clone()),
                released: Arc::new(saved.released.clone()),
                table: Arc::new(table),
                without_effect: Arc::new(problems),
                ..now
            });
        });
    }

    fn hand_out_decisions(&self, revision: Revision, policy: Revision, table: &DecisionTable) {
        let bytes = seal(Kind::Decisions, revision, policy, &table.encode()).into();
        self.documents
            .publish(Kind::Decisions, Published { revision, bytes });
        self.metrics.decisions_revision(revision);
    }
}

fn sealed_policy(compiled: &Compiled, revision: Revision, table: &DecisionTable) -> Published {
    let bytes = seal(
        Kind::Policy,
        revision,
        revision,
        &compiled.plan.encode(table),
    )
    .into();
    Published { revision, bytes }
}
