//! Steps one release: keeps what changed, then performs what follows, in the machine's order.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use ombre_policy::decisions::{Frozen, MadeFor, Released, ReleasedService, ServiceDecisions};
use ombre_policy::document::Revision;
use ombre_policy::release::machine::{
    Action, Context, Event, Jitter, Order, Phase, PhaseName, Refusal, Release, step,
};
use ombre_policy::release::share::Percent;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::follow::whole;
use super::service::Service;
use super::{Engine, News, account};
use crate::clock::steady;
use crate::nodes::Node;
use crate::store::{Entry, NewEntry, Record};

/// What became of a step.
pub(super) enum Outcome {
    /// It was done; an order may have been refused.
    Stepped(Option<Refusal>),
    /// It could not be kept, and was not done.
    NotKept(String),
}

impl Engine {
    /// INVARIANT: a state is kept before anything follows from it, with one exception: an abort gives
    /// writes back to the version that owns them, and a full disk must not refuse them for ever.
    pub(super) async fn step(&mut self, name: &str, event: Event) -> Outcome {
        let Some(service) = self.services.get(name) else {
            return Outcome::Stepped(None);
        };
        // The list of nodes is copied, so only who asks for it gets it.
        let reach = service.terms.reach;
        let confirmed = reach.and_then(|_| confirmed(&self.nodes.live(), service.published));
        let at = self.now();
        let context = Context {
            terms: &service.terms,
            now: at,
            jitter: chance(),
            confirmed,
            circuits: self
                .breakers
                .circuits(&service.candidate_cluster, &service.stable_cluster),
        };
        let before = &service.record.release;
        let (after, actions) = step(before, &event, &context);
        let entries = account::entries(service, &event, &after, &actions, at);
        if after != *before || !service.unwritten.is_empty() || !entries.is_empty() {
            let mut record = service.record.clone();
            if !freezing(&after) {
                record.awaited.clear();
            } else if !freezing(before) {
                let live = self.nodes.live().into_iter();
                record.awaited = live.map(|node| node.identity.to_string()).collect();
            }
            let aborted = |release: &Release| release.phase.name() == PhaseName::Aborted;
            let aborts = aborted(&after) && !aborted(before);
            record.release = after;
            if !self.write(record, entries, aborts).await {
                return Outcome::NotKept(self.store_error.clone().unwrap_or_default());
            }
        }
        let mut refusal = None;
        for action in actions {
            refusal = refusal.or(match action {
                Action::Refuse(refusal) => Some(refusal),
                _ => None,
            });
            self.perform(name, action).await;
        }
        Outcome::Stepped(refusal)
    }

    /// Refuses an order that comes too late for the release itself to refuse it.
    pub(super) async fn refuse(&mut self, name: &str, order: &Order, why: Refusal) -> Outcome {
        let Some(service) = self.services.get(name) else {
            return Outcome::Stepped(None);
        };
        let (record, entry) = (
            service.record.clone(),
            account::refused(order, why, self.now()),
        );
        if self.write(record, vec![entry], false).await {
            Outcome::Stepped(Some(why))
        } else {
            Outcome::NotKept(self.store_error.clone().unwrap_or_default())
        }
    }

    /// Keeps a release, together with what could not be kept before, and tells who listens; whether
    /// it is in force now. What `must` be in force is so, and told, also when it cannot be kept.
    async fn write(&mut self, record: Record, entries: Vec<NewEntry>, must: bool) -> bool {
        let name = record.service.clone();
        let service = self.services.get(&name);
        let mut news = service.map_or_else(Vec::new, |service| service.unwritten.clone());
        let told = news.len();
        news.extend(entries);
        let (unwritten, untold) = match self.keep(&record, news.clone()).await {
            Some(written) => (Vec::new(), written.into_iter().skip(told).collect()),
            None if must => {
                let untold = news.iter().skip(told);
                let untold = untold.map(|entry| entry.numbered(&name, 0)).collect();
                (news, untold)
            }
            None => return false,
        };
        self.tell(untold);
        if let Some(service) = self.services.get_mut(&name) {
            service.record = record;
            service.unwritten = unwritten;
        }
        true
    }

    async fn perform(&mut self, name: &str, action: Action) {
        match action {
            Action::Publish(_) => {
                let revision = self.publish().await;
                if let Some(service) = self.services.get_mut(name) {
                    service.published = revision;
                }
            }
            Action::Alert(alert) => {
                if let Some(service) = self.services.get_mut(name) {
                    service.measured.alert(alert);
                }
                let alert = format!("{alert:?}");
                warn!(service = %name, alert, "somebody should look at this release");
            }
            Action::Notify(transition) => {
                if let Some(service) = self.services.get_mut(name) {
                    let phase = &service.record.release.phase;
                    service.measured.transition(&transition, phase);
                }
                let (from, to) = (transition.from, transition.to);
                let (from_share, share) = (transition.from_share, transition.to_share);
                info!(service = %name, %from, %to, %from_share, %share, "release moved");
            }
            Action::Refuse(_) => {}
            Action::StopDrain { .. } => {
                if let Some(service) = self.services.get_mut(name) {
                    service.stop_drain().await;
                }
            }
            Action::StartDrain { turn, freeze_seq } => {
                let Some(service) = self.services.get(name) else {
                    return;
                };
                if service
                    .drain
                    .as_ref()
                    .is_some_and(|drain| drain.turn == turn)
                {
                    return;
                }
                if let Some(log) = &service.settings.sync_log {
                    let url = log.apply_url.clone();
                    self.start_drain(name, turn, freeze_seq, url).await;
                }
            }
            Action::ForgetEvidence => {
                if let Some(service) = self.services.get_mut(name) {
                    service.judge.forget();
                    service.judgement = None;
                }
            }
        }
    }

    /// Puts what all releases decide in force; under which revision the filters have it.
    pub(super) async fn publish(&mut self) -> Option<Revision> {
        let services = self.services.iter();
        let services = services.map(|(name, service)| (name.clone(), decided(service)));
        let released = Released {
            services: services.collect(),
        };
        let publisher = Arc::clone(&self.publisher);
        match spawn_blocking(move || publisher.put_released(released)).await {
            Ok(revision) => revision,
            Err(error) => {
                error!(%error, "publishing failed unexpectedly");
                None
            }
        }
    }

    /// The proxies that have yet to confirm a freeze; a freeze that nobody heard of is no freeze.
    pub(super) fn unconfirmed(&self, service: &Service) -> Vec<String> {
        if let Some(error) = self.publisher.view().state_error {
            // After a restart the first documents come from there, and would let writes in again.
            return vec![error];
        }
        let nodes = self.nodes.list();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| (node.identity.to_string(), node))
            .collect();
        let running = nodes
            .iter()
            .filter(|(_, node)| runs(node, service.published));
        let confirmed: Vec<&String> = running.map(|(who, _)| who).collect();
        let now = steady();
        let live = nodes.iter().filter(|(_, node)| node.may_serve(now));
        let mut open: Vec<String> = live.map(|(who, _)| who.clone()).collect();
        // One that fell silent may be cut off, and let writes through: it is waited for to the end.
        let ended = |who: &String| {
            nodes
                .iter()
                .any(|(is, node)| is == who && node.has_ended(now))
        };
        let awaited = service.record.awaited.iter();
        open.extend(awaited.filter(|who| !ended(who)).cloned());
        open.sort();
        open.dedup();
        if open.is_empty() {
            return vec!["no proxy is there".to_owned()];
        }
        open.retain(|who| !confirmed.contains(&who));
        open
    }

    /// Tells those who listen.
    pub(super) fn tell(&self, entries: Vec<Entry>) {
        for entry in entries {
            if let Ok(data) = serde_json::to_value(&entry) {
                self.news.tell(News::event(&entry.kind, data));
            }
        }
    }
}

/// Whether a proxy runs what was published; what nobody was told nobody runs.
fn runs(node: &Node, published: Option<Revision>) -> bool {
    published.is_some() && node.applied.decisions >= published
}

/// The share of the live proxies that run what was published.
fn confirmed(live: &[Node], published: Option<Revision>) -> Option<Percent> {
    let running = live.iter().filter(|node| runs(node, published)).count();
    let share = (100 * running).checked_div(live.len())?;
    u8::try_from(share)
        .ok()
        .and_then(|share| Percent::new(share).ok())
}

fn freezing(release: &Release) -> bool {
    matches!(release.phase, Phase::Freezing { .. })
}

/// What the filters are told of one release, by names, and what it was decided for.
fn decided(service: &Service) -> ReleasedService {
    let record = &service.record;
    let decision = record.release.decision();
    let mut decided = ServiceDecisions {
        weight: Some(weight(record)),
        ..ServiceDecisions::default()
    };
    let (candidate, stable) = (record.candidate.clone(), record.stable.clone());
    if decision.degraded {
        decided.degraded.insert(candidate.clone(), stable.clone());
    }
    if decision.frozen {
        let seconds = service.terms.drain_timeout.get().div_ceil(1000);
        let retry_after = u32::try_from(seconds.clamp(1, 3600)).unwrap_or(3600);
        let frozen = Frozen { retry_after };
        decided.frozen.insert(candidate.clone(), frozen);
    }
    ReleasedService {
        made_for: MadeFor {
            candidate,
            stable,
            default: service.default.clone(),
            weight: record.weight,
        },
        decided,
    }
}

/// The candidate's share as the filters are told it, in percent. One below one percent is not rounded
/// up while it is the policy's own.
pub(super) fn weight(record: &Record) -> f64 {
    let share = record.release.decision().share;
    if share == whole(record.weight) {
        record.weight
    } else {
        f64::from(share.get())
    }
}

pub(super) fn chance() -> Jitter {
    let random = RandomState::new().hash_one(0_u8) % 1000;
    Jitter::new(random as f64 / 1000.0)
}
