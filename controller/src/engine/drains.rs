//! What a fail-back waits for: every proxy refuses writes, those that were under way have ended, the
//! log is applied. And what comes after it: a write that took longer is in the log too late, and is
//! brought over for as long as the stable version owns writes.

use std::sync::Arc;

use ombre_policy::duration::Moment;
use ombre_policy::release::machine::{Command, Event, Phase, Turn, WriteOwner};
use tracing::{error, warn};

use super::Engine;
use super::drain::{Applied, Drain};
use super::service::Service;
use crate::store::Backlog;

impl Engine {
    /// Reads the sync log's end for each release whose freeze every proxy has confirmed, when writes
    /// that were forwarded before have had time to end.
    pub(super) async fn confirm_freezes(&mut self) {
        let now = self.now();
        let freezing: Vec<(String, bool)> = self
            .services
            .iter()
            .map(|(name, service)| {
                let freezing = matches!(service.record.release.phase, Phase::Freezing { .. });
                let confirmed = freezing && self.unconfirmed(service).is_empty();
                (name.clone(), confirmed)
            })
            .collect();
        for (name, confirmed) in freezing {
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            let turn = service.record.release.turn;
            if !service.settled(confirmed, now) {
                continue;
            }
            let log = name.clone();
            match self.stored(move |store| store.log_top(&log)).await {
                Ok(freeze_seq) => {
                    self.step(&name, Event::Frozen { turn, freeze_seq }).await;
                }
                Err(error) => self.note_store(Some(error)),
            }
        }
    }

    /// The end of a drain, told once; it is remembered for as long as it could not be kept.
    pub(super) async fn drained(&mut self, applied: Applied) {
        let Applied {
            service: name,
            turn,
            result,
        } = applied;
        let event = match result {
            Ok(applied_seq) => Event::Drained { turn, applied_seq },
            Err(reason) => {
                error!(service = %name, reason, "sync log cannot be applied");
                Event::DrainFailed { turn }
            }
        };
        let drain = self
            .services
            .get_mut(&name)
            .and_then(|it| it.drain.as_mut());
        if let Some(drain) = drain.filter(|drain| drain.turn == turn) {
            drain.ended = Some(event.clone());
        }
        self.step(&name, event).await;
    }

    /// Steps on whose drain ended without anything following from it, and drains what came late.
    pub(super) async fn drain_on(&mut self) {
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            let Some(service) = self.services.get_mut(&name) else {
                continue;
            };
            match service.record.release.phase.owner() {
                WriteOwner::Nobody => {
                    if let Some(event) = service.unheard() {
                        self.step(&name, event).await;
                    }
                }
                WriteOwner::Fallback => self.drain_late(&name).await,
                // What it writes from now on is its own.
                WriteOwner::Candidate => service.stop_drain().await,
            }
        }
    }

    /// Whether an order is to switch without what waits in the log.
    pub(super) fn gives_up(&self, name: &str, command: &Command) -> bool {
        let forced = matches!(command, Command::Rollback { force: true });
        let owned = |service: &Service| {
            let owner = service.record.release.phase.owner();
            service.settings.sync_log.is_some() && owner != WriteOwner::Fallback
        };
        forced && self.services.get(name).is_some_and(owned)
    }

    /// Ends the log of a release before another one begins: its versions may be others.
    pub(super) async fn end_log(&mut self, name: &str) {
        if let Some(service) = self.services.get_mut(name) {
            service.stop_drain().await;
        }
        let service = name.to_owned();
        if let Ok(Backlog { waiting, .. }) = self.stored(move |it| it.backlog(&service)).await
            && waiting > 0
        {
            warn!(service = %name, waiting, "another release begins: the log of the last one is not applied any more");
        }
    }

    /// Gives up what waits in a service's log, as a person ordered.
    pub(super) async fn give_up(&mut self, name: &str) {
        let service = name.to_owned();
        if let Err(error) = self.stored(move |store| store.give_up(&service)).await {
            warn!(service = %name, error, "what was given up is brought over after all");
        }
    }

    async fn drain_late(&mut self, name: &str) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let Some(log) = &service.settings.sync_log else {
            return;
        };
        let (url, turn) = (log.apply_url.clone(), service.record.release.turn);
        if service.drain.as_ref().is_some_and(|it| it.ended.is_none()) {
            return;
        }
        // One that cannot be applied is not tried again before there is something new.
        let tried = service.drain.as_ref().map_or(0, |drain| drain.until);
        let log = name.to_owned();
        let ends = self.stored(move |store| Ok((store.log_applied(&log)?, store.log_top(&log)?)));
        let top = match ends.await {
            Ok((applied, top)) if top > applied.max(tried) => top,
            Ok(_) => return,
            Err(error) => return self.note_store(Some(error)),
        };
        self.start_drain(name, turn, top, url).await;
    }

    pub(super) async fn start_drain(&mut self, name: &str, turn: Turn, until: u64, url: String) {
        let (client, store) = (self.client.clone(), Arc::clone(&self.store));
        let outbox = self.outbox.clone();
        if let Some(service) = self.services.get_mut(name) {
            service.stop_drain().await;
            let drain = Drain::start(name, turn, until, url, (client, store, outbox));
            service.drain = Some(drain);
        }
    }
}

impl Service {
    /// Whether a freeze has been confirmed by every proxy for long enough.
    fn settled(&mut self, confirmed: bool, now: Moment) -> bool {
        if !confirmed {
            self.confirmed = None;
            return false;
        }
        let since = *self.confirmed.get_or_insert(now);
        now.since(since) >= self.settings.drain.settle
    }

    /// The end of the drain under way, if it has one.
    fn unheard(&self) -> Option<Event> {
        self.drain.as_ref().and_then(|drain| drain.ended.clone())
    }
}
