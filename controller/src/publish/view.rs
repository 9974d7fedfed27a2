//! What is known about what is in force: read at any time, while the next change is being made.

use std::sync::Arc;
use std::time::SystemTime;

use ombre_policy::decisions::{DecisionTable, Decisions, Released};
use ombre_policy::document::Revision;
use ombre_policy::problem::{Problem, Problems};

use crate::compiled::Compiled;

/// What is in force.
#[derive(Clone)]
pub struct InForce {
    /// The policy.
    pub compiled: Arc<Compiled>,
    /// Its revision.
    pub revision: Revision,
    /// The revision of the decisions document.
    pub decisions_revision: Revision,
    /// The operator's decisions, by names.
    pub decisions: Arc<Decisions>,
    /// What the releases decided; not all of it holds under this policy.
    pub released: Arc<Released>,
    /// Those of both that this policy can carry out.
    pub table: Arc<DecisionTable>,
    /// Why the others are kept but without effect.
    pub without_effect: Arc<Vec<Problem>>,
    /// When the policy was loaded from its files.
    pub loaded_at: SystemTime,
}

impl InForce {
    /// What the releases decided and holds under this policy, by names.
    #[must_use]
    pub fn released(&self) -> Decisions {
        self.released.under(&self.compiled.policy)
    }
}

/// Why the newest files are not in force.
#[derive(Clone)]
pub struct Refusal {
    /// What is wrong with them.
    pub problems: Arc<Problems>,
    /// Since when.
    pub since: SystemTime,
}

/// Everything that can be read at any time, without waiting for a change to be made.
#[derive(Clone, Default)]
pub struct View {
    /// What is in force, once there was a good policy.
    pub in_force: Option<InForce>,
    /// Why the newest files are not, if they are not.
    pub refusal: Option<Refusal>,
    /// Why the state cannot be kept, if it cannot.
    pub state_error: Option<String>,
}

impl View {
    /// Whether a good policy is in force and the state can be kept.
    pub const fn is_ready(&self) -> bool {
        self.in_force.is_some() && self.state_error.is_none()
    }
}
