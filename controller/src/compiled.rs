//! From policy files to a plan: the controller's one call into the language.

use std::path::PathBuf;

use crate::publish::merge::merge;
use crate::source::Reader;
use ombre_policy::decisions::{DecisionTable, Decisions, Released};
use ombre_policy::document::FORMAT;
use ombre_policy::load::{Files, SourceFile, load};
use ombre_policy::plan::Plan;
use ombre_policy::policy::{Policy, SlotTables};
use ombre_policy::problem::{Problem, Problems};
use xxhash_rust::xxh64::xxh64;

/// A good policy, ready to be published.
pub struct Compiled {
    /// What the files say.
    pub policy: Policy,
    /// What the filters run.
    pub plan: Plan,
    /// Where the units' groups lie; kept, so that the next load moves only whom it must.
    pub slots: SlotTables,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<Problem>,
    /// The policy files it came from.
    pub sources: Vec<SourceFile>,
    /// Equal for policies that the filters cannot tell apart.
    pub fingerprint: u64,
}

impl Compiled {
    /// Loads and compiles.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn new(
        sources: Vec<SourceFile>,
        files: &dyn Files,
        previous: &SlotTables,
    ) -> Result<Self, Problems> {
        let loaded = load(&sources, files)?;
        let slots = loaded.policy.slots(previous);
        let plan = Plan::compile(&loaded.policy, &slots);
        // Over the encoded plan, not the text: a comment is no reason to publish, another
        // release of ombre that encodes otherwise is.
        let fingerprint = xxh64(&plan.encode(&DecisionTable::default()), FORMAT.into());
        Ok(Self {
            policy: loaded.policy,
            plan,
            slots,
            warnings: loaded.warnings,
            sources,
            fingerprint,
        })
    }

    /// Loads and compiles files that nobody has in force yet, for the commands.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn from_files(policies: &[PathBuf], previous: &SlotTables) -> Result<Self, Problems> {
        let reader = Reader::default();
        let sources = reader.policies(policies)?;
        Self::new(sources, &reader, previous)
    }

    /// What the operator and the releases decided together, as far as this policy can carry it out,
    /// and why it cannot carry out the rest.
    pub fn applicable_both(
        &self,
        operator: &Decisions,
        released: &Released,
    ) -> (DecisionTable, Vec<Problem>) {
        let (merged, mut overruled) = merge(operator, &released.under(&self.policy));
        let (table, problems) = self.applicable(&merged);
        overruled.extend(problems);
        (table, overruled)
    }

    /// The decisions that this policy can carry out, and why it cannot carry out the others. The
    /// policy may have lost a service or version since; the rest of the decisions holds on.
    fn applicable(&self, decisions: &Decisions) -> (DecisionTable, Vec<Problem>) {
        match decisions.compile(&self.policy) {
            Ok(table) => (table, Vec::new()),
            Err(problems) => {
                let kept = decisions.kept_by(&self.policy).compile(&self.policy);
                (kept.unwrap_or_default(), problems.iter().cloned().collect())
            }
        }
    }
}
