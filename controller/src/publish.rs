//! The one place where what is in force changes: policies, decisions and revisions, one change
//! at a time, each sealed, stored and handed out. Blocking: call it off the async threads.

mod hand_out;
pub mod merge;
mod view;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use ombre_policy::decisions::{Decisions, Released};
use ombre_policy::document::{Kind, Revision};
use ombre_policy::policy::SlotTables;
use ombre_policy::problem::Problems;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::compiled::Compiled;
use crate::documents::Documents;
use crate::metrics::{Load, Metrics};
use crate::state::{Saved, SavedPolicy, StateDir, StateError};
pub use view::{InForce, Refusal, View};

/// A state that was lost is overtaken in a step or two.
const MOST_RAISES: u32 = 16;

/// Publishes, and knows what is published.
pub struct Publisher {
    documents: Documents,
    metrics: Arc<Metrics>,
    held: Mutex<Held>,
    view: RwLock<View>,
    changes: watch::Sender<()>,
}

/// What became of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in force under a new revision.
    Published(Revision),
    /// It is the one that was in force before a restart, and keeps its revision.
    Resumed(Revision),
    /// Filters cannot tell it from the one in force; they hear nothing.
    Unchanged(Revision),
}

/// Why decisions were not taken.
#[derive(Debug, thiserror::Error)]
pub enum DecisionsError {
    /// There is nothing yet to decide about.
    #[error("no policy is in force yet")]
    NoPolicy,
    /// They do not fit the policy.
    #[error("the decisions do not fit the policy")]
    Invalid(#[source] Problems),
    /// They would be lost in a restart.
    #[error("the decisions cannot be stored")]
    State(#[from] StateError),
}

struct Held {
    dir: StateDir,
    saved: Saved,
    unsaved: bool,
    /// How often this run published above what a filter had.
    raises: u32,
}

impl Publisher {
    /// A publisher that goes on from what was saved. Nothing is in force until the first policy.
    pub fn new(dir: StateDir, saved: Saved, metrics: Arc<Metrics>) -> Self {
        let publisher = Self {
            documents: Documents::default(),
            metrics,
            held: Mutex::new(Held {
                dir,
                saved,
                unsaved: true,
                raises: 0,
            }),
            view: RwLock::default(),
            changes: watch::Sender::new(()),
        };
        publisher.save_what_is_unsaved();
        publisher
    }

    /// The documents that are handed out.
    pub const fn documents(&self) -> &Documents {
        &self.documents
    }

    /// What is known now.
    pub fn view(&self) -> View {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Wakes whoever waits for a change of what is known.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The slot tables that the next policy is to be planned from.
    pub fn slots(&self) -> SlotTables {
        self.held().saved.slots.clone()
    }

    /// Puts a policy in force.
    pub fn put_policy(&self, compiled: Compiled) -> Outcome {
        let mut held = self.held();
        let loaded_at = SystemTime::now();
        let before = self.view().in_force;
        let known = held
            .saved
            .policy
            .filter(|saved| saved.fingerprint == compiled.fingerprint);
        let compiled = Arc::new(compiled);
        held.saved.released.forget_edited(&compiled.policy);
        if let (Some(now), Some(known)) = (before, known) {
            let now = InForce {
                compiled,
                loaded_at,
                ..now
            };
            self.settle(&mut held, now);
            self.change_view(|view| view.refusal = None);
            self.metrics.load(Load::Unchanged);
            return Outcome::Unchanged(known.revision);
        }
        let revision = match known {
            Some(known) => known.revision,
            None => next(&mut held.saved),
        };
        held.saved.policy = Some(SavedPolicy {
            fingerprint: compiled.fingerprint,
            revision,
        });
        if known.is_none() || held.saved.decisions_revision <= revision {
            held.saved.decisions_revision = next(&mut held.saved);
        }
        let moved = held.saved.slots != compiled.slots;
        held.saved.slots = compiled.slots.clone();
        // Revisions could be found again after a crash, from the clock. Slots could not, so they
        // are stored before anybody acts on them; nothing else waits for the disk.
        if moved {
            self.report_save(&mut held);
        }
        self.put_in_force(&held.saved, revision, compiled, loaded_at);
        self.change_view(|view| view.refusal = None);
        if !moved {
            self.report_save(&mut held);
        }
        self.metrics.load(Load::Accepted);
        match known {
            Some(_) => Outcome::Resumed(revision),
            None => Outcome::Published(revision),
        }
    }

    /// Notes that the newest files are not fit to be in force.
    pub fn refuse(&self, problems: Problems) {
        self.metrics.load(Load::Refused);
        self.change_view(|view| {
            view.refusal = Some(Refusal {
                problems: Arc::new(problems),
                since: SystemTime::now(),
            });
        });
    }

    /// Puts decisions in force, in place of those before.
    ///
    /// # Errors
    /// When there is no policy, when they do not fit it, or when they cannot be stored; then
    /// those before stay in force.
    pub fn put_decisions(&self, decisions: Decisions) -> Result<Revision, DecisionsError> {
        let mut held = self.held();
        let now = self.view().in_force.ok_or(DecisionsError::NoPolicy)?;
        decisions
            .compile(&now.compiled.policy)
            .map_err(DecisionsError::Invalid)?;
        let before = held.saved.clone();
        let revision = next(&mut held.saved);
        held.saved.decisions_revision = revision;
        held.saved.decisions = decisions.completed(&now.compiled.policy);
        if let Err(error) = self.save(&mut held) {
            held.saved = before;
            return Err(error.into());
        }
        self.hand_out(&held.saved, now);
        Ok(revision)
    }

    /// Puts what the releases decided in force, beside the operator's decisions, and says under which
    /// revision the filters have it. Handed out even when the state directory cannot be written: the
    /// store has it, and says it again after a restart.
    ///
    /// Where no release decides any more what was decided last holds on, see [`Released::take`].
    pub fn put_released(&self, decided: Released) -> Option<Revision> {
        let mut held = self.held();
        let now = self.view().in_force?;
        let mut released = held.saved.released.clone();
        released.take(decided, &now.compiled.policy);
        if held.saved.released == released {
            return Some(now.decisions_revision);
        }
        held.saved.released = released;
        let revision = next(&mut held.saved);
        held.saved.decisions_revision = revision;
        // An Envoy that is served over xDS takes whatever it is given, so what one has seen must never
        // be older after a restart: a frozen write would come back.
        self.report_save(&mut held);
        self.hand_out(&held.saved, now);
        Some(revision)
    }

    /// Publishes above a revision that a filter has and that this controller does not know of,
    /// because its state was lost or its clock set back. Without this the filter would take
    /// nothing for as long as the clock needs to catch up. Only so often in a run: somebody else who
    /// publishes to the same filters would be overtaken, and overtake, for ever.
    pub fn publish_above(&self, kind: Kind, ahead: Revision) {
        let mut held = self.held();
        let Some(now) = self.view().in_force else {
            return;
        };
        if self.documents.revision(kind) >= Some(ahead) || held.raises > MOST_RAISES {
            return;
        }
        held.raises += 1;
        if held.raises > MOST_RAISES {
            error!(
                "filters are ahead of this controller again and again: another one serves them too; end one of them, and start this one again"
            );
            return;
        }
        warn!(kind = kind.name(), %ahead, "a filter is ahead of this controller: publishing above it");
        held.saved.last = held.saved.last.max(ahead);
        let mut revision = now.revision;
        if kind == Kind::Policy {
            revision = next(&mut held.saved);
            held.saved.policy = Some(SavedPolicy {
                fingerprint: now.compiled.fingerprint,
                revision,
            });
        }
        held.saved.decisions_revision = next(&mut held.saved);
        match kind {
            Kind::Policy => self.put_in_force(&held.saved, revision, now.compiled, now.loaded_at),
            Kind::Decisions => self.hand_out(&held.saved, now),
        }
        self.report_save(&mut held);
    }

    /// Tries again to save what could not be saved.
    pub fn save_what_is_unsaved(&self) {
        let mut held = self.held();
        if held.unsaved {
            self.report_save(&mut held);
        }
    }

    /// Saves where the change is made whether or not it can be saved.
    fn report_save(&self, held: &mut Held) {
        if let Err(error) = self.save(held) {
            let message = error.to_string();
            if self.view().state_error.as_ref() != Some(&message) {
                error!(%error, "state not saved: filters are served from memory, a restart would lose it");
            }
            self.change_view(|view| view.state_error = Some(message));
        }
    }

    fn save(&self, held: &mut Held) -> Result<(), StateError> {
        let result = held.dir.save(&held.saved);
        held.unsaved = result.is_err();
        self.metrics.state_saved(result.is_ok());
        if result.is_ok() && self.view().state_error.is_some() {
            info!("state is saved again");
            self.change_view(|view| view.state_error = None);
        }
        result
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_replace(());
    }
}

/// The next revision. Both documents draw from one row of numbers, so that a later one is larger
/// whichever it is.
fn next(saved: &mut Saved) -> Revision {
    let unix_ms = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
    saved.last = saved.last.next(unix_ms);
    saved.last
}

#[cfg(test)]
mod tests;
