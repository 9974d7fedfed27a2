//! Keeps what is in force in step with the files: looks when told to, loads what changed, and
//! puts it in force or says why not.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ombre_policy::problem::{Problem, Problems};
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::clusters::Clusters;
use crate::compiled::Compiled;
use crate::metrics::Metrics;
use crate::publish::{Outcome, Publisher};
use crate::source::{Inventory, Reader};
use crate::watch::{Hint, Watch};

/// How often to look at the files without having been told to.
const NET: Duration = Duration::from_secs(2);

/// Loads one set of policy files.
pub struct Loader {
    paths: Vec<PathBuf>,
    publisher: Arc<Publisher>,
    metrics: Arc<Metrics>,
    clusters: Clusters,
    inventory: Inventory,
    watch: Watch,
    /// A policy that is good but for clusters that an Envoy does not have, and what was said
    /// about it. It is tried again, since Envoy may get them.
    waiting: Option<(Compiled, Problems)>,
}

impl Loader {
    /// A loader that has read nothing yet.
    pub fn new(
        paths: Vec<PathBuf>,
        publisher: Arc<Publisher>,
        metrics: Arc<Metrics>,
        clusters: Clusters,
    ) -> Self {
        Self {
            inventory: Inventory::unread(&paths),
            paths,
            publisher,
            metrics,
            clusters,
            watch: Watch::default(),
            waiting: None,
        }
    }

    /// Loads now and then whenever the files change, until told to stop. Nobody waits then for an Envoy
    /// that is being asked; a policy that is being published is published whole.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.work() => {}
            () = told(&mut stop) => {}
        }
    }

    async fn work(mut self) {
        let mut net = interval(NET);
        net.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut done = self.load().await;
        loop {
            if let Err(error) = done {
                error!(%error, "loading failed unexpectedly, the last good policy stays");
            }
            self.watch.follow(&self.inventory);
            done = tokio::select! {
                hint = self.watch.changed() => self.look(hint).await,
                _ = net.tick() => self.look_around().await,
            };
        }
    }

    /// Loads if the files say anything new. What is being written is looked at when it is closed.
    async fn look(&mut self, hint: Hint) -> Result<(), JoinError> {
        if self.watch.is_being_written() {
            return Ok(());
        }
        let before = self.inventory.clone();
        let changed = spawn_blocking(move || {
            if hint == Hint::Nearby && !before.looks_touched() {
                return None;
            }
            let now = before.again();
            let same = now.same_content(&before);
            Some((now, same))
        });
        match changed.await? {
            None => Ok(()),
            Some((now, true)) => {
                self.inventory = now;
                Ok(())
            }
            Some((_, false)) => self.load().await,
        }
    }

    async fn look_around(&mut self) -> Result<(), JoinError> {
        let publisher = Arc::clone(&self.publisher);
        spawn_blocking(move || publisher.save_what_is_unsaved()).await?;
        self.look(Hint::Nearby).await?;
        match self.waiting.take() {
            Some((compiled, problems)) => self.check_and_publish(compiled, Some(problems)).await,
            None => Ok(()),
        }
    }

    async fn load(&mut self) -> Result<(), JoinError> {
        let started = Instant::now();
        let (paths, publisher) = (self.paths.clone(), Arc::clone(&self.publisher));
        let load = spawn_blocking(move || {
            let reader = Reader::default();
            let compiled = reader
                .policies(&paths)
                .and_then(|sources| Compiled::new(sources, &reader, &publisher.slots()));
            (compiled, reader.inventory())
        });
        let (compiled, inventory) = load.await?;
        if self.watch.is_being_written() {
            // Perhaps half of it was read. It is another content than before, so it is read again.
            return Ok(());
        }
        self.inventory = inventory;
        self.waiting = None;
        self.metrics.load_took(started.elapsed());
        match compiled {
            Ok(compiled) => {
                log_warnings(&compiled.warnings);
                self.check_and_publish(compiled, None).await
            }
            Err(problems) => {
                self.refuse(problems);
                Ok(())
            }
        }
    }

    /// `told` is what was said about this policy before, and need not be said again.
    async fn check_and_publish(
        &mut self,
        compiled: Compiled,
        told: Option<Problems>,
    ) -> Result<(), JoinError> {
        if let Err(problems) = self.clusters.check(&compiled.policy).await {
            if told.as_ref() != Some(&problems) {
                self.refuse(problems.clone());
            }
            self.waiting = Some((compiled, problems));
            return Ok(());
        }
        let publisher = Arc::clone(&self.publisher);
        let (services, versions, routes) = compiled.policy.size();
        match spawn_blocking(move || publisher.put_policy(compiled)).await? {
            Outcome::Published(revision) => {
                info!(%revision, services, versions, routes, "policy published");
            }
            Outcome::Resumed(revision) => {
                info!(%revision, "policy resumed, unchanged since the last run")
            }
            Outcome::Unchanged(revision) => {
                info!(%revision, "policy files changed, the policy in force did not")
            }
        }
        Ok(())
    }

    fn refuse(&self, problems: Problems) {
        for problem in problems.iter() {
            error!(%problem, "policy refused, the last good one stays");
        }
        self.publisher.refuse(problems);
    }
}

/// Waits until `stop` becomes true, or nobody is left to say so.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn log_warnings(warnings: &[Problem]) {
    for warning in warnings {
        warn!(%warning, "policy allowed, but probably not meant so");
    }
}

#[cfg(test)]
mod tests;
