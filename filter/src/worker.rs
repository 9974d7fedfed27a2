//! The worker of a VM: holds what requests are decided by, and takes newer documents from shared memory
//! when it is woken. The slow tick is the safety net for a wake-up that got lost. Over xDS it is configured
//! with its documents instead. Every root context of the VM stands for this one worker.

use std::mem;
use std::time::Duration;

use ombre_policy::document::{Kind, Revision, split};
use ombre_policy::in_force::{InForce, NotTaken, Taken};
use ombre_policy::switches::Switches;

use crate::host::Host;
use crate::metrics::{Event, Metrics};
use crate::registry::{self, Entry, Report};
use crate::shelf::{self, Latest};

/// Envoy runs every new configuration in a throw-away VM first, which must not register a queue; its
/// ticks never come, so the first tick is where a worker that stays begins. Soon, since until then
/// it is not woken.
const FIRST_TICK: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_secs(1);
/// A root that has not ticked for so long has ended: Envoy does not tell (`filter/link`).
const SILENT_MS: u64 = 3500;

/// A worker and the host it runs in.
#[derive(Debug)]
pub struct Worker<H> {
    pub(crate) host: H,
    pub(crate) in_force: InForce,
    pub(crate) metrics: Metrics,
    /// Those of the request that is being decided; kept so that no request allocates.
    pub(crate) headers: Vec<u8>,
    source: Source,
    signed: Option<Signed>,
    report: Report,
    tried: Tried,
}

/// Where documents come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The poller, by shared memory.
    Poller,
    /// The configuration: this worker reads no shared memory and is on no list.
    Configuration,
}

/// The list's entry, and the root context that is its queue's consumer.
#[derive(Clone, Copy, Debug)]
struct Signed {
    entry: Entry,
    root: u32,
    /// When that root ticked last.
    seen_ms: u64,
}

/// What was tried last, so that a document that cannot be taken is not decoded again at every tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tried {
    policy: Revision,
    /// Decisions are tried again under another policy.
    decisions: (Revision, Revision),
}

impl<H: Host> Worker<H> {
    /// A worker that lets every request pass until it has taken a policy.
    pub fn new(host: H, switches: Switches) -> Self {
        let metrics = Metrics::define(&host);
        Self {
            host,
            in_force: InForce::new(switches),
            metrics,
            headers: Vec::new(),
            source: Source::Poller,
            signed: None,
            report: Report::default(),
            tried: Tried::default(),
        }
    }

    /// Takes what is there already, so that after a reload the very first request is decided by it.
    pub fn on_configure(&mut self) {
        self.source = Source::Poller;
        registry::prepare(&self.host);
        self.take_newer();
        self.host.tick_every(FIRST_TICK);
    }

    /// Decides by these documents from the next request on, and by no others: both are taken, whatever
    /// their revisions, or what was in force stays.
    ///
    /// # Errors
    /// When one of them cannot be taken.
    pub fn on_documents(&mut self, joined: &[u8]) -> Result<(), NotTaken> {
        let empty = InForce::new(self.in_force.switches().clone());
        let before = mem::replace(&mut self.in_force, empty);
        if let Err(why) = self.take_both(joined) {
            self.in_force = before;
            self.metrics.event(&self.host, Event::DocumentRejected);
            return Err(why);
        }
        self.source = Source::Configuration;
        self.tried = Tried::default();
        self.sign_off();
        Ok(())
    }

    /// The safety net: takes what was missed, and shows that this worker lives. `root` is the context
    /// that ticks. `poller_beside`: whether this VM holds the poller, thus runs on Envoy's main thread,
    /// which serves no requests.
    pub fn on_tick(&mut self, root: u32, poller_beside: bool) {
        if poller_beside || self.source == Source::Configuration {
            self.host.tick_every(Duration::ZERO);
            return self.sign_off();
        }
        self.host.tick_every(TICK);
        self.sign_on(root);
        self.take_newer();
        self.report.beat += 1;
        self.publish();
    }

    /// There may be something newer.
    pub fn on_wake(&mut self, queue: u32) {
        self.host.drain(queue);
        if self.take_newer() {
            self.publish();
        }
    }

    /// Once, and again where the list or the queue's consumer got lost.
    fn sign_on(&mut self, root: u32) {
        let now = self.host.now_ms();
        if let Some(signed) = &mut self.signed {
            if signed.root == root {
                signed.seen_ms = now;
            }
            let lives = now.abs_diff(signed.seen_ms) < SILENT_MS;
            if lives && registry::entries(&self.host).contains(&signed.entry) {
                return;
            }
            self.sign_off();
        }
        self.signed = registry::sign_on(&self.host).map(|entry| Signed {
            entry,
            root,
            seen_ms: now,
        });
    }

    fn sign_off(&mut self) {
        if let Some(signed) = self.signed.take() {
            registry::strike_off(&self.host, signed.entry.id);
        }
    }

    fn publish(&mut self) {
        self.report.policy = self.in_force.policy_revision();
        self.report.decisions = self.in_force.decisions_revision();
        if let Some(signed) = self.signed {
            registry::publish(&self.host, signed.entry.id, self.report);
        }
    }

    /// Whether anything was tried. The policy goes first: decisions are made for one.
    fn take_newer(&mut self) -> bool {
        let latest = Latest::read(&self.host);
        let before = self.tried;
        if latest.policy > self.in_force.policy_revision() && latest.policy != self.tried.policy {
            self.tried.policy = latest.policy;
            self.take(Kind::Policy);
        }
        let decisions = (latest.decisions, self.in_force.policy_revision());
        if latest.decisions > self.in_force.decisions_revision()
            && decisions != self.tried.decisions
        {
            self.tried.decisions = decisions;
            self.take(Kind::Decisions);
        }
        self.tried != before
    }

    fn take_both(&mut self, joined: &[u8]) -> Result<(), NotTaken> {
        let pair = split(joined)?;
        self.take_sealed(Kind::Policy, pair.policy)?;
        self.take_sealed(Kind::Decisions, pair.decisions)
    }

    fn take(&mut self, kind: Kind) {
        let Some(sealed) = shelf::document(&self.host, kind) else {
            return;
        };
        match self.take_sealed(kind, &sealed) {
            // They are for the policy before, or for the one to come, and are tried again with it.
            Ok(()) | Err(NotTaken::OtherPolicy { .. }) => {}
            Err(why) => {
                self.metrics.event(&self.host, Event::DocumentRejected);
                self.report.rejected += 1;
                log::warn!("{} refused, the one before stays: {why}", kind.name());
            }
        }
    }

    /// Puts a document in force if it is newer.
    fn take_sealed(&mut self, kind: Kind, sealed: &[u8]) -> Result<(), NotTaken> {
        let start = self.host.now_us();
        let taken = self.in_force.take(sealed)?;
        let took = self.host.now_us().saturating_sub(start);
        match taken {
            Taken::Policy(revision) => {
                self.metrics.event(&self.host, Event::PolicyTaken);
                log::info!("policy {revision} is in force");
            }
            Taken::Decisions(revision) => {
                self.metrics.event(&self.host, Event::DecisionsTaken);
                log::debug!("decisions {revision} are in force");
            }
            Taken::NotNewer => return Ok(()),
        }
        self.metrics.took(&self.host, kind, took);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
