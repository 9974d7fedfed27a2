//! The one per Envoy that talks to the controller: two long polls, one per kind of document. What
//! comes is checked, laid into shared memory and announced to every worker. It must never die, since
//! nothing would start it again, and it must go on whatever the controller answers or does not.

use std::time::Duration;

use ombre_policy::document::{Kind, Revision, open};

use crate::config::PollerConfig;
use crate::host::Host;
use crate::metrics::{Event, Metrics};
use crate::registry;
use crate::shelf::{self, Latest};

mod crew;
mod poll;

use crew::Crew;
use poll::Poll;

const FIRST_TICK: Duration = Duration::from_millis(1);
const TICK_MS: u64 = 1000;
const INSTANCE: &str = "ombre/instance";
/// The controller answers 304 after 30 s; later than this it is not there any more.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Who this Envoy is, for the controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Envoy's node id. Several may have been given the same one.
    pub node: String,
    /// The switches in force, in one line.
    pub switches: String,
}

/// The poller and the host it runs in.
#[derive(Debug)]
pub struct Poller<H> {
    host: H,
    config: PollerConfig,
    identity: Identity,
    /// Tells this process from others with the same node id, and from the one before a restart.
    instance: String,
    metrics: Metrics,
    polls: [Poll; 2],
    crew: Crew,
    rejected: u64,
    /// What the controller was told last, and the call that told it when no poll did.
    told: String,
    telling: Option<(u32, u64)>,
    crew_seen_ms: u64,
    period: Duration,
}

impl<H: Host> Poller<H> {
    /// A poller that goes on from what lies in shared memory.
    pub fn new(host: H, config: PollerConfig, identity: Identity) -> Self {
        registry::prepare(&host);
        let latest = Latest::read(&host);
        let metrics = Metrics::define(&host);
        let instance = instance(&host);
        // Calls of the throw-away VM in which Envoy tries a configuration would be cancelled: the
        // first tick, which never comes there, begins.
        host.tick_every(FIRST_TICK);
        Self {
            host,
            config,
            identity: Identity {
                node: visible(&identity.node),
                switches: visible(&identity.switches),
            },
            instance,
            metrics,
            polls: [Kind::Policy, Kind::Decisions].map(|kind| Poll::new(kind, latest.of(kind))),
            crew: Crew::default(),
            rejected: 0,
            told: String::new(),
            telling: None,
            crew_seen_ms: 0,
            period: FIRST_TICK,
        }
    }

    /// Sends what is due, looks after the workers' list and tells the controller what changed there.
    pub fn on_tick(&mut self) {
        let now = self.host.now_ms();
        if now.abs_diff(self.crew_seen_ms) >= TICK_MS {
            self.crew_seen_ms = now;
            self.crew.look(&self.host, now);
        }
        self.send_due(now);
        self.tell(now);
        self.set_timer(now);
    }

    /// An answer came. `status` is what stands in `:status`.
    pub fn on_response(&mut self, token: u32, status: &[u8], body: impl FnOnce() -> Vec<u8>) {
        let now = self.host.now_ms();
        if self.telling.is_some_and(|(telling, _)| telling == token) {
            self.telling = None;
            if status != b"200" {
                self.told.clear();
            }
        } else if let Some(at) = self.polls.iter().position(|poll| poll.waits_for(token)) {
            let outcome = match status {
                b"200" => self.receive(at, &body()),
                b"304" => Outcome::Nothing,
                _ => Outcome::Failed,
            };
            self.settle(at, outcome, now);
            self.send_due(now);
        }
        self.set_timer(now);
    }

    fn receive(&mut self, at: usize, sealed: &[u8]) -> Outcome {
        let Some(poll) = self.polls.get_mut(at) else {
            return Outcome::Failed;
        };
        match open(sealed) {
            Ok(document) if document.kind == poll.kind && document.revision > poll.after => {
                poll.after = document.revision;
                shelf::put(&self.host, poll.kind, document.revision, sealed);
                self.crew.wake(&self.host);
                return Outcome::Taken;
            }
            Ok(document) => poll.complain(format_args!(
                "it holds {} {}",
                document.kind.name(),
                document.revision
            )),
            Err(error) => poll.complain(format_args!("{error}")),
        }
        self.rejected += 1;
        self.metrics.event(&self.host, Event::DocumentRejected);
        Outcome::Failed
    }

    fn settle(&mut self, at: usize, outcome: Outcome, now: u64) {
        let Some(poll) = self.polls.get_mut(at) else {
            return;
        };
        match outcome {
            Outcome::Taken => poll.again(now),
            Outcome::Nothing => poll.again_unless_hasty(now),
            Outcome::Failed => {
                self.metrics.event(&self.host, Event::PollFailed);
                if poll.failed(now, self.host.entropy()) {
                    log::warn!(
                        "the poll for {} at cluster `{}` fails; what is in force stays, and it is tried again",
                        poll.kind.name(),
                        self.config.cluster
                    );
                }
            }
        }
    }

    fn send_due(&mut self, now: u64) {
        for at in 0..self.polls.len() {
            let Some((kind, after)) = self.polls.get(at).and_then(|poll| poll.due(now)) else {
                continue;
            };
            match self.send(kind, after) {
                Some(token) => {
                    if let Some(poll) = self.polls.get_mut(at) {
                        poll.sent(token, now);
                    }
                }
                None => self.settle(at, Outcome::Failed, now),
            }
        }
    }

    fn send(&mut self, kind: Kind, after: Revision) -> Option<u32> {
        let path = format!("/v1/delivery/{}?after={after}", kind.name());
        let workers = self.crew.count().to_string();
        let applied = self.crew.applied();
        let rejected = self
            .rejected
            .saturating_add(self.crew.rejected())
            .to_string();
        self.told = self.news();
        let headers = [
            ("x-ombre-node", self.identity.node.as_str()),
            ("x-ombre-instance", &self.instance),
            ("x-ombre-workers", &workers),
            ("x-ombre-applied", &applied),
            ("x-ombre-switches", &self.identity.switches),
            ("x-ombre-rejected", &rejected),
        ];
        self.host
            .get(&self.config.cluster, &path, &headers, TIMEOUT)
    }

    /// The polls tell what is in force, but the next one may be 30 s away. A poll for anything at
    /// all is answered at once, and what it brings is known already.
    fn tell(&mut self, now: u64) {
        let lost = |(_, since): (u32, u64)| now.abs_diff(since) > poll::LOST_MS;
        let telling = self.telling.is_some_and(|telling| !lost(telling));
        let known = Latest::read(&self.host).decisions > Revision::default();
        if telling || !known || self.told == self.news() || !self.polls.iter().all(Poll::is_waiting)
        {
            return;
        }
        self.telling = self
            .send(Kind::Decisions, Revision::default())
            .map(|token| (token, now));
    }

    fn news(&self) -> String {
        format!(
            "{} {} {}",
            self.crew.count(),
            self.crew.applied(),
            self.crew.rejected()
        )
    }

    fn set_timer(&mut self, now: u64) {
        let wait = self
            .polls
            .iter()
            .map(|poll| poll.wait(now))
            .min()
            .unwrap_or(TICK_MS);
        let period = Duration::from_millis(wait.clamp(1, TICK_MS));
        if period != self.period {
            self.period = period;
            self.host.tick_every(period);
        }
    }
}

/// How a poll ended.
enum Outcome {
    Taken,
    Nothing,
    Failed,
}

/// The number of this process, drawn by its first poller: those after it are the same Envoy.
fn instance(host: &impl Host) -> String {
    let known = host
        .read(INSTANCE)
        .0
        .and_then(|known| known.try_into().ok());
    let number = u64::from_le_bytes(known.unwrap_or_else(|| {
        let [drawn @ .., _, _, _, _, _, _, _, _] = host.entropy();
        host.write(INSTANCE, &drawn, None);
        drawn
    }));
    format!("{number:016x}")
}

/// Header values may hold visible ASCII and spaces; a node's id may hold anything.
fn visible(text: &str) -> String {
    let visible = |c: char| {
        if c == ' ' || c.is_ascii_graphic() {
            c
        } else {
            '_'
        }
    };
    text.chars().take(256).map(visible).collect()
}

#[cfg(test)]
mod tests;
