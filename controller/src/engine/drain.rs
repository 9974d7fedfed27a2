//! Applies a sync log to the stable version, up to where it was frozen. The log has one entry for each
//! key, so that a few of them may be on their way at once and no key's changes overtake each other.
//! An entry counts as applied when it and all before it were answered with 2xx. What was applied twice
//! after a crash changes nothing: each entry is its key's whole new state.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use ombre_policy::release::machine::{Event, Turn};
use reqwest::{Client, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{info, warn};

use super::Message;
use crate::clients::Clients;
use crate::clients::body::BodyError;
use crate::store::{Pending, Store, StoreError};

/// One entry has this long; a drain that is stopped waits for it.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// Entries read, and noted as applied, at once.
const BATCH: u32 = 1024;
/// Entries on their way at once: a time limit of 30 s holds 100,000 entries of 4 ms each.
const AT_ONCE: usize = 16;
/// A refusal (4xx) that stays one after so many tries is final.
const TRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A drain under way.
pub(super) struct Drain {
    /// The turn it belongs to.
    pub(super) turn: Turn,
    /// The last entry that it is to apply.
    pub(super) until: u64,
    /// How it ended, if it did.
    pub(super) ended: Option<Event>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The end of a drain.
pub(crate) struct Applied {
    pub(super) service: String,
    pub(super) turn: Turn,
    /// The last entry applied, or why one cannot be.
    pub(super) result: Result<u64, String>,
}

/// Why an entry was not applied.
enum Failure {
    /// It may be the next time.
    Passing(String),
    /// It will not be.
    Final(String),
    /// Told to stop.
    Stopped,
}

struct Work {
    service: String,
    until: u64,
    url: String,
    client: Client,
    store: Arc<Store>,
    stopped: watch::Receiver<bool>,
}

/// The client for all drains.
///
/// # Errors
/// When it cannot be built.
pub(super) fn client(clients: &Clients) -> reqwest::Result<Client> {
    clients.builder().timeout(TIME_LIMIT).no_proxy().build()
}

impl Drain {
    /// Begins to apply what waits up to `until`, and sends word when that is done.
    pub(super) fn start(
        service: &str,
        turn: Turn,
        until: u64,
        url: String,
        (client, store, outbox): (Client, Arc<Store>, mpsc::Sender<Message>),
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut told = stopped.clone();
        let service = service.to_owned();
        let work = Work {
            service: service.clone(),
            until,
            url,
            client,
            store,
            stopped,
        };
        let task = tokio::spawn(async move {
            info!(%service, until, "draining");
            let result = match work.run().await {
                Ok(()) => Ok(until),
                Err(Failure::Final(reason) | Failure::Passing(reason)) => Err(reason),
                Err(Failure::Stopped) => return,
            };
            let applied = Applied {
                service,
                turn,
                result,
            };
            // Whoever stops a drain waits for its end and reads no messages meanwhile.
            tokio::select! {
                _ = outbox.send(Message::Drain(applied)) => {}
                _ = told.wait_for(|stop| *stop) => {}
            }
        });
        Self {
            turn,
            until,
            ended: None,
            stop,
            task,
        }
    }

    /// Stops, and waits until no entry is in flight.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            warn!(%error, "a drain ended unexpectedly");
        }
    }
}

impl Work {
    async fn run(&self) -> Result<(), Failure> {
        let mut applied = self
            .stored(|store, service| store.log_applied(service))
            .await?;
        while applied < self.until {
            let (after, until) = (applied, self.until);
            let batch = self
                .stored(move |store, service| store.pending(service, after, until, BATCH))
                .await?;
            // Entries that were replaced since the freeze have moved behind its end.
            let whole = batch.last().map_or(until, |last| last.seq);
            let mut failure = None;
            let failed = AtomicBool::new(false);
            let answers: Vec<_> = batch
                .iter()
                .map(|entry| self.insist(entry, &failed))
                .collect();
            let mut answers = stream::iter(answers).buffered(AT_ONCE);
            // To the end also after a failure: nothing may be in flight when the drain is over.
            for entry in &batch {
                match answers.next().await {
                    Some(Ok(())) if failure.is_none() => applied = entry.seq,
                    Some(Err(why)) if failure.is_none() => {
                        failed.store(true, Ordering::Relaxed);
                        failure = Some(why);
                    }
                    _ => {}
                }
            }
            if failure.is_none() {
                applied = whole;
            }
            let reached = applied;
            self.stored(move |store, service| store.applied(service, reached))
                .await?;
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Applies one entry, again and again while there is hope and no entry before it `failed`.
    async fn insist(&self, entry: &Pending, failed: &AtomicBool) -> Result<(), Failure> {
        let mut pause = FIRST_PAUSE;
        let mut refused = 0;
        loop {
            if self.is_stopped() || failed.load(Ordering::Relaxed) {
                return Err(Failure::Stopped);
            }
            match self.apply(entry).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(reason)) => {
                    refused += 1;
                    if refused >= TRIES {
                        return Err(Failure::Final(reason));
                    }
                }
                Err(Failure::Passing(reason)) => {
                    warn!(service = %self.service, seq = entry.seq, reason, "sync log waits");
                }
                Err(Failure::Stopped) => return Err(Failure::Stopped),
            }
            self.wait(&mut pause).await?;
        }
    }

    async fn apply(&self, entry: &Pending) -> Result<(), Failure> {
        let key = format!("{}-{}", self.service, entry.seq);
        let request = self.client.post(&self.url).header("idempotency-key", key);
        let answer = match request.json(&entry.change).send().await {
            Ok(answer) => answer,
            Err(error) => return Err(Failure::Passing(BodyError::from(error).to_string())),
        };
        let status = answer.status();
        // Read to its end, so that the connection can be used again.
        let _ = answer.bytes().await;
        let reason = format!(
            "entry {} of key `{}`: `sync_log.apply_url` answered {status}",
            entry.seq, entry.change.pk
        );
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Passing(reason))
            }
            status if status.is_client_error() => Err(Failure::Final(reason)),
            _ => Err(Failure::Passing(reason)),
        }
    }

    /// Asks the store, again and again: that it fails for a while ends no drain.
    async fn stored<T: Send + 'static>(
        &self,
        work: impl Fn(&Store, &str) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> Result<T, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let (store, service) = (Arc::clone(&self.store), self.service.clone());
            let work = work.clone();
            let error = match spawn_blocking(move || work(&store, &service)).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            warn!(service = %self.service, error, "sync log waits for the store");
            self.wait(&mut pause).await?;
        }
    }

    /// Whether it was told to stop, or nobody is left to say so.
    fn is_stopped(&self) -> bool {
        *self.stopped.borrow() || self.stopped.has_changed().is_err()
    }

    /// Waits before something is tried again, longer each time, unless told to stop.
    async fn wait(&self, pause: &mut Duration) -> Result<(), Failure> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = sleep(*pause) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return Err(Failure::Stopped),
        }
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
