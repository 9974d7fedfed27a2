//! Where counts come from: every Envoy is asked at every tick, one request in flight each, and
//! what came in time is handed on. Concludes nothing.

pub mod envoy;
pub mod ledger;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ombre_policy::duration::Moment;
use ombre_policy::release::evidence::Histogram;
use reqwest::Url;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::clients::Clients;

pub use envoy::{Envoy, FetchError};

/// One answer of one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was asked for.
    pub at: Moment,
    /// Counters of the clusters that it has, by name.
    pub clusters: BTreeMap<String, ClusterTotals>,
}

/// One cluster's counters, cumulative since the proxy's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTotals {
    /// Requests that were answered, by the upstream or by Envoy in its place.
    pub requests: u64,
    /// Those of them answered with 5xx, timeouts and resets among them.
    pub errors: u64,
    /// The latencies of those the upstream answered.
    pub latency: Histogram,
}

/// How a proxy answered the last time.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    /// Its admin address.
    pub url: String,
    /// The last answer that could be used.
    pub answered: Option<Moment>,
    /// Why the last one could not.
    pub error: Option<String>,
}

/// All proxies.
#[derive(Debug)]
pub struct Collector {
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    envoy: Arc<Envoy>,
    asking: Option<JoinHandle<Result<Reading, FetchError>>>,
    status: SourceStatus,
}

impl Collector {
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(clients: &Clients, admins: Vec<Url>) -> Result<Self, reqwest::Error> {
        let client = envoy::client(clients)?;
        let sources = admins.into_iter().map(|url| Source {
            status: SourceStatus {
                url: url.to_string(),
                answered: None,
                error: None,
            },
            envoy: Arc::new(Envoy::new(client.clone(), url)),
            asking: None,
        });
        Ok(Self {
            sources: sources.collect(),
        })
    }

    /// Asks every proxy that is not being asked yet, and returns what is there within `patience`,
    /// one entry for each proxy. A late answer belongs to a later tick.
    pub async fn collect(
        &mut self,
        clusters: &Arc<Vec<String>>,
        now: Moment,
        patience: Duration,
    ) -> Vec<Option<Reading>> {
        let deadline = Instant::now() + patience;
        for source in &mut self.sources {
            source.ask(clusters, now);
        }
        let mut readings = Vec::with_capacity(self.sources.len());
        for source in &mut self.sources {
            readings.push(source.take(deadline).await);
        }
        readings
    }

    /// How each proxy answered the last time.
    pub fn status(&self) -> Vec<SourceStatus> {
        let status = self.sources.iter().map(|source| source.status.clone());
        status.collect()
    }
}

impl Source {
    fn ask(&mut self, clusters: &Arc<Vec<String>>, now: Moment) {
        if self.asking.is_none() {
            let (envoy, clusters) = (Arc::clone(&self.envoy), Arc::clone(clusters));
            let ask = async move { envoy.read(&clusters, now).await };
            self.asking = Some(tokio::spawn(ask));
        }
    }

    async fn take(&mut self, deadline: Instant) -> Option<Reading> {
        let Ok(joined) = timeout_at(deadline, self.asking.as_mut()?).await else {
            self.status.error = Some("no answer yet".to_owned());
            return None;
        };
        self.asking = None;
        match joined {
            Ok(Ok(reading)) => {
                self.status.answered = Some(reading.at);
                self.status.error = None;
                Some(reading)
            }
            Ok(Err(error)) => {
                self.status.error = Some(error.to_string());
                None
            }
            Err(error) => {
                self.status.error = Some(error.to_string());
                None
            }
        }
    }
}
