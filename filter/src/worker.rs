//! One worker: holds what requests are decided by, and takes newer documents from shared memory when
//! it is woken. The slow tick is the safety net for a wake-up that got lost. Over xDS it is made with
//! its documents instead, and every newer document makes another worker.

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

/// A worker and the host it runs in.
#[derive(Debug)]
pub struct Worker<H> {
    pub(crate) host: H,
    pub(crate) in_force: InForce,
    pub(crate) metrics: Metrics,
    /// Those of the request that is being decided; kept so that no request allocates.
    pub(crate) headers: Vec<u8>,
    entry: Option<Entry>,
    report: Report,
    tried: Tried,
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
            entry: None,
            report: Report::default(),
            tried: Tried::default(),
        }
    }

    /// A worker that decides by these documents from the first request on, and by no others: it reads
    /// no shared memory, registers no queue and asks for no tick.
    ///
    /// # Errors
    /// When one of them cannot be taken.
    pub fn with_documents(host: H, switches: Switches, joined: &[u8]) -> Result<Self, NotTaken> {
        let mut worker = Self::new(host, switches);
        if let Err(why) = worker.take_both(joined) {
            worker.metrics.event(&worker.host, Event::DocumentRejected);
            return Err(why);
        }
        Ok(worker)
    }

    /// Takes what is there already, so that after a reload the very first request is decided by it.
    pub fn on_configure(&mut self) {
        registry::prepare(&self.host);
        self.take_newer();
        self.host.tick_every(FIRST_TICK);
    }

    /// The safety net: takes what was missed, and shows that this worker lives. `poller_beside`:
    /// whether this VM holds the poller, thus runs on Envoy's main thread, which serves no requests.
    pub fn on_tick(&mut self, poller_beside: bool) {
        if poller_beside {
            return self.on_done();
        }
        self.sign_on();
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

    /// Envoy has no more use for this worker. Its timer would go on for ever if it were left running.
    pub fn on_done(&mut self) {
        self.host.tick_every(Duration::ZERO);
        if let Some(entry) = self.entry.take() {
            registry::strike_off(&self.host, entry.id);
        }
    }

    fn sign_on(&mut self) {
        let listed = |entry: Entry| registry::entries(&self.host).contains(&entry);
        if self.entry.is_some_and(listed) {
            return;
        }
        if self.entry.is_none() {
            self.host.tick_every(TICK);
        }
        self.entry = registry::sign_on(&self.host);
    }

    fn publish(&mut self) {
        self.report.policy = self.in_force.policy_revision();
        self.report.decisions = self.in_force.decisions_revision();
        if let Some(entry) = self.entry {
            registry::publish(&self.host, entry.id, self.report);
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
