//! One tick: evidence in, every release stepped, writes frozen once every proxy says so.

use std::sync::Arc;
use std::time::Duration;

use ombre_policy::duration::Moment;
use ombre_policy::release::fleet::{Standing, admit};
use ombre_policy::release::judge::{Judgement, Verdict};
use ombre_policy::release::machine::{Event, Permit};
use ombre_policy::release::settings::Evidence;
use serde_json::json;
use tokio::time::Instant;
use tracing::info;

use super::perform::chance;
use super::{Engine, News, TICK};
use crate::clock::wall;
use crate::evidence::{Readings, Wanted};

/// A tick waits at most this long for evidence; what comes later belongs to the next.
const PATIENCE: Duration = Duration::from_millis(400);
/// While all is well, it is tried this often whether the store can be written.
const PROBE: Duration = Duration::from_secs(5);
/// Rows of each sync log that are cleared away with it.
const CLEARED: u32 = 1000;
/// Ticks begin this much too early now and then.
const SLACK: u64 = 50;

impl Engine {
    /// Does one tick and says how long the next one is away from its beginning.
    pub(super) async fn tick(&mut self) -> Duration {
        self.probe_store().await;
        self.follow().await;
        let period = self.period();
        if self.clusters.is_empty() {
            return period;
        }
        let wanted = self.wanted();
        let patience = PATIENCE.min(period / 2);
        let readings = self.collector.collect(&wanted, &self.clock, patience).await;
        self.tick_breakers(&readings, &wanted);
        let judged = self.judge(&readings, self.now());
        let permits = self.permits(&judged, self.now());
        let names: Vec<String> = self.services.keys().cloned().collect();
        for ((name, judgement), permit) in names.into_iter().zip(judged).zip(permits) {
            let event = judgement.map_or(Event::Clock, |judgement| Event::Judged {
                verdict: judgement.verdict,
                permit,
            });
            self.step(&name, event).await;
        }
        self.confirm_freezes().await;
        self.drain_on().await;
        self.publish().await;
        period
    }

    /// Whether one more tick would make an outage of what some candidate shows.
    pub(super) fn suspects_outage(&self) -> bool {
        let mut services = self.services.values();
        services.any(|service| service.judge.suspects_outage())
    }

    /// Looks between two ticks whether an outage is one already.
    pub(super) async fn look(&mut self) {
        let wanted = self.wanted();
        let patience = PATIENCE.min(self.period() / 8);
        let readings = self.collector.collect(&wanted, &self.clock, patience).await;
        let at = self.now();
        let services = self.services.values_mut();
        let judged: Vec<_> = services
            .map(|service| service.look(&readings, at))
            .collect();
        let permits = self.permits(&judged, at);
        let names: Vec<String> = self.services.keys().cloned().collect();
        for ((name, judgement), permit) in names.into_iter().zip(judged).zip(permits) {
            if let Some(Judgement { verdict, .. }) = judgement {
                self.step(&name, Event::Judged { verdict, permit }).await;
            }
        }
    }

    fn tick_breakers(&mut self, readings: &Readings, wanted: &Wanted) {
        for changed in self
            .breakers
            .tick(readings, wanted, self.clock.now(), chance())
        {
            let (cluster, state) = (&changed.breaker.cluster_name, changed.state);
            let failure_rate = changed.breaker.failure_rate.get();
            info!(%cluster, ?state, failure_rate, "breaker");
            if let Ok(data) = serde_json::to_value(&changed) {
                self.news.tell(News::event("breaker", data));
            }
        }
    }

    /// What the most patient service still takes for evidence; each looks at the age itself.
    fn wanted(&self) -> Wanted {
        let evidence = || {
            let services = self.services.values();
            services.map(|service| &service.settings.evidence)
        };
        // Breakers look also where nothing is released.
        let fill = Evidence::default();
        Wanted {
            clusters: Arc::clone(&self.clusters),
            interval: evidence()
                .map(|it| it.interval)
                .min()
                .unwrap_or(fill.interval),
            stale: evidence().map(|it| it.stale).max().unwrap_or(fill.stale),
        }
    }

    /// A store that cannot be written is known of before something must be kept, and one that can be
    /// written again is known of although nothing moves.
    async fn probe_store(&mut self) {
        let due = Instant::now();
        if self.store_error.is_none() && due < self.next_probe {
            return;
        }
        self.next_probe = due + PROBE;
        let at = wall();
        let tried = self.stored(move |store| {
            store.probe()?;
            store.forget_applied(at, CLEARED)
        });
        self.note_store(tried.await.err());
    }

    fn period(&self) -> Duration {
        let intervals = self.services.values();
        let shortest = intervals
            .map(|service| service.settings.evidence.interval.get())
            .min();
        shortest.map_or(TICK, |shortest| Duration::from_millis(shortest.max(10)))
    }

    /// Judges each release that is due; none where there is nothing new to say.
    fn judge(&mut self, readings: &Readings, now: Moment) -> Vec<Option<Judgement>> {
        let mut judged = Vec::with_capacity(self.services.len());
        for (name, service) in &mut self.services {
            if now.unix_millis() + SLACK < service.due.unix_millis() {
                judged.push(None);
                continue;
            }
            service.due = now.after(service.settings.evidence.interval);
            let tick = service.samples(readings);
            let (candidate, stable) = (&tick.candidate, &tick.stable);
            self.news.tell_evidence(
                || json!({ "at": now, "service": name, "candidate": candidate, "stable": stable }),
            );
            let trial = service.record.release.trial(now, &service.terms);
            let judgement = service
                .judge
                .observe(now, tick.candidate, tick.stable, trial);
            if let Some(judgement) = &judgement {
                // Between two judging ticks only an outage is looked for, which says less.
                let whole = judgement.breach.is_some() || judgement.fired.is_some();
                if whole || matches!(judgement.verdict, Verdict::Unknown(_)) {
                    service.judgement = Some(judgement.clone());
                }
            }
            judged.push(judgement);
        }
        judged
    }

    fn permits(&self, judged: &[Option<Judgement>], now: Moment) -> Vec<Permit> {
        let standings = self.services.values().zip(judged);
        let standings: Vec<Standing> = standings
            .map(|(service, judgement)| {
                let fired = matches!(
                    judgement.as_ref().map(|judgement| judgement.verdict),
                    Some(Verdict::Fired(_))
                );
                let severity = judgement.as_ref().map_or(0.0, Judgement::severity);
                let most = service.settings.guards.max_concurrent;
                Standing::of(&service.record.release, fired, severity, most, now)
            })
            .collect();
        admit(&standings, now)
    }
}
