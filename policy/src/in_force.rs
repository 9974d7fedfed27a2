//! What a worker has in force: a plan, decisions and switches. It takes documents whole, newer
//! and valid, or not at all, and decides each request by what it has.

mod classify;
mod cohort;

use crate::decisions::DecisionTable;
use crate::document::{self, DocumentError, Kind, Revision};
use crate::headers::HeaderMap;
use crate::plan::Plan;
use crate::switches::Switches;
use crate::verdict::{Cohort, Verdict};

/// The plan and decisions of one worker. Until a policy was taken every request passes.
#[derive(Debug, Default)]
pub struct InForce {
    plan: Option<Plan>,
    policy_revision: Revision,
    decisions: DecisionTable,
    decisions_revision: Revision,
    switches: Switches,
    scratch: Scratch,
}

/// Buffers that requests use one after the other, so that none allocates.
#[derive(Debug, Default)]
struct Scratch {
    path: Vec<u8>,
    value: Vec<u8>,
    cohorts: Vec<Cohort>,
}

/// What came of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A policy, and the decisions in it, are in force.
    Policy(Revision),
    /// Decisions are in force.
    Decisions(Revision),
    /// It is not newer than what is in force.
    NotNewer,
}

/// Why a document was not taken. What was in force stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It is damaged, or of another build.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The decisions are for a policy that this worker does not have, or not yet.
    #[error("the decisions are for policy {wanted}, this worker has {has}")]
    OtherPolicy {
        /// What they are for.
        wanted: Revision,
        /// What is in force.
        has: Revision,
    },
}

impl InForce {
    /// Nothing in force but switches.
    pub fn new(switches: Switches) -> Self {
        Self {
            switches,
            ..Self::default()
        }
    }

    /// Takes a sealed document.
    ///
    /// # Errors
    /// When it is damaged, cannot be decoded, or is for another policy.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Taken, NotTaken> {
        let document = document::open(bytes)?;
        match document.kind {
            Kind::Policy if document.revision <= self.policy_revision => Ok(Taken::NotNewer),
            Kind::Policy => {
                let (plan, decisions) = Plan::decode(document.body)?;
                self.put(plan, document.revision, decisions);
                Ok(Taken::Policy(document.revision))
            }
            Kind::Decisions if document.policy_revision != self.policy_revision => {
                let (wanted, has) = (document.policy_revision, self.policy_revision);
                Err(NotTaken::OtherPolicy { wanted, has })
            }
            Kind::Decisions if document.revision <= self.decisions_revision => Ok(Taken::NotNewer),
            Kind::Decisions => {
                self.decisions = DecisionTable::decode(document.body)?;
                self.decisions_revision = document.revision;
                Ok(Taken::Decisions(document.revision))
            }
        }
    }

    /// Puts a plan and its decisions in force without a document.
    pub fn put(&mut self, plan: Plan, revision: Revision, decisions: DecisionTable) {
        self.plan = Some(plan);
        self.policy_revision = revision;
        self.decisions = decisions;
        // The decisions inside a policy document are as old as the document.
        self.decisions_revision = revision;
    }

    /// The policy in force; zero before the first.
    pub const fn policy_revision(&self) -> Revision {
        self.policy_revision
    }

    /// The decisions in force.
    pub const fn decisions_revision(&self) -> Revision {
        self.decisions_revision
    }

    /// The switches in force.
    pub const fn switches(&self) -> &Switches {
        &self.switches
    }

    /// Decides a request. `entropy` is asked only when a unit is minted.
    pub fn decide<'a>(
        &'a mut self,
        headers: HeaderMap<'a>,
        entropy: impl FnOnce() -> [u8; 16],
    ) -> Verdict<'a> {
        let scratch = &mut self.scratch;
        let Some(plan) = &self.plan else {
            return classify::without_plan(&self.switches, headers, scratch);
        };
        classify::classify(
            plan,
            &self.decisions,
            &self.switches,
            headers,
            scratch,
            entropy,
        )
    }
}

#[cfg(test)]
#[cfg(feature = "load")]
mod tests;
