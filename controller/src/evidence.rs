//! Where counts come from: every source is asked at every tick, one request in flight each, and
//! what came in time is handed on. A source is an Envoy, or a store that scrapes many. Concludes
//! nothing.

pub mod envoy;
pub mod ledger;
pub mod promql;
mod roster;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::evidence::Histogram;
use reqwest::Url;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use crate::clients::Clients;
use crate::clients::address::shown;
use crate::clock::Clock;
use envoy::Envoy;
use promql::Store;
use roster::Roster;
pub use roster::{ProxyId, Readings};

/// One answer of one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When its counters were read.
    pub at: Moment,
    /// How long that was ago when it was asked for.
    pub age: Millis,
    /// How long the proxy had been running, in seconds, if it says; less than before is a restart.
    pub uptime: Option<u64>,
    /// Counters of the clusters that it has, by the names that they have in statistics.
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

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The clusters.
    pub clusters: Arc<Vec<String>>,
    /// How often it is asked for.
    pub interval: Millis,
    /// The age from which evidence is none.
    pub stale: Millis,
}

/// What a source said of its proxies.
#[derive(Debug, Default)]
pub struct Answer {
    /// Each proxy, by a name that it keeps, and its counters, if they can be used.
    pub proxies: Vec<(String, Option<Reading>)>,
    /// What is wrong with some of it.
    pub complaint: Option<String>,
}

/// Why a source did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// An Envoy.
    #[error(transparent)]
    Envoy(#[from] envoy::FetchError),
    /// A store.
    #[error(transparent)]
    Store(#[from] promql::QueryError),
}

/// How a source answered the last time.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct SourceStatus {
    /// Its address.
    pub url: String,
    /// The proxies that it is waited for to tell of.
    pub proxies: usize,
    /// When it was asked for the last answer that could be used.
    #[schema(value_type = Option<u64>)]
    pub answered: Option<Moment>,
    /// What is wrong with the last one.
    pub error: Option<String>,
}

/// All sources.
#[derive(Debug)]
pub struct Collector {
    sources: Vec<Source>,
    roster: Roster,
}

#[derive(Debug)]
struct Source {
    origin: Arc<Origin>,
    asking: Option<JoinHandle<Result<Answer, AskError>>>,
    asked: Moment,
    status: SourceStatus,
}

#[derive(Debug)]
enum Origin {
    Envoy(Envoy),
    Store(Store),
}

impl Collector {
    /// Evidence from each of these Envoys, by their admin addresses.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn of_envoys(clients: &Clients, admins: Vec<Url>) -> Result<Self, reqwest::Error> {
        let client = envoy::client(clients)?;
        let mut roster = Roster::default();
        let mut sources = Vec::new();
        for (number, url) in admins.into_iter().enumerate() {
            // An Envoy that was named is waited for, whether it ever answered or not.
            roster.enlist(number);
            let shown = shown(&url);
            let origin = Origin::Envoy(Envoy::new(client.clone(), url));
            sources.push(Source::new(origin, shown));
        }
        Ok(Self { sources, roster })
    }

    /// Evidence from this store, of all the Envoys that `selector` (label matchers, separated by
    /// commas, may be empty) leaves.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn of_store(clients: &Clients, url: Url, selector: &str) -> Result<Self, reqwest::Error> {
        let shown = shown(&url);
        let origin = Origin::Store(Store::new(promql::client(clients)?, url, selector));
        Ok(Self {
            sources: vec![Source::new(origin, shown)],
            roster: Roster::default(),
        })
    }

    /// Asks every source that is not being asked yet, and returns what is there within `patience`.
    /// A late answer belongs to a later tick.
    pub async fn collect(
        &mut self,
        wanted: &Wanted,
        clock: &Clock,
        patience: Duration,
    ) -> Readings {
        let deadline = Instant::now() + patience;
        let now = clock.now();
        for source in &mut self.sources {
            source.ask(wanted, clock);
        }
        self.roster.open();
        for (number, source) in self.sources.iter_mut().enumerate() {
            for (name, reading) in source.take(deadline).await {
                self.roster.note(number, name, reading, now);
            }
            source.status.proxies = self.roster.of_source(number);
        }
        self.roster.close(now)
    }

    /// How each source answered the last time.
    pub fn status(&self) -> Vec<SourceStatus> {
        let status = self.sources.iter().map(|source| source.status.clone());
        status.collect()
    }
}

impl Source {
    fn new(origin: Origin, url: String) -> Self {
        Self {
            origin: Arc::new(origin),
            asking: None,
            asked: Moment::from_unix_millis(0),
            status: SourceStatus {
                url,
                proxies: 0,
                answered: None,
                error: None,
            },
        }
    }

    fn ask(&mut self, wanted: &Wanted, clock: &Clock) {
        if self.asking.is_none() {
            let (origin, wanted) = (Arc::clone(&self.origin), wanted.clone());
            self.asked = clock.now();
            // A store's samples have times of their own, by a clock of the same world.
            let now = match *origin {
                Origin::Envoy(_) => self.asked,
                Origin::Store(_) => clock.wall(),
            };
            self.asking = Some(tokio::spawn(async move { origin.read(&wanted, now).await }));
        }
    }

    async fn take(&mut self, deadline: Instant) -> Vec<(String, Option<Reading>)> {
        let Some(asking) = self.asking.as_mut() else {
            return Vec::new();
        };
        let Ok(joined) = timeout_at(deadline, asking).await else {
            self.status.error = Some("no answer yet".to_owned());
            return Vec::new();
        };
        self.asking = None;
        let error = match joined {
            Ok(Ok(answer)) => {
                if answer.proxies.iter().any(|(_, reading)| reading.is_some()) {
                    self.status.answered = Some(self.asked);
                }
                self.status.error = answer.complaint;
                return answer.proxies;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.status.error = Some(error);
        Vec::new()
    }
}

impl Origin {
    async fn read(&self, wanted: &Wanted, now: Moment) -> Result<Answer, AskError> {
        match self {
            Self::Envoy(envoy) => {
                let reading = envoy.read(&wanted.clusters, now).await?;
                Ok(Answer {
                    proxies: vec![(String::new(), Some(reading))],
                    complaint: None,
                })
            }
            Self::Store(store) => Ok(store.read(wanted, now).await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_is_shown_without_its_password() {
        let clients = Clients::new(None).unwrap();
        // Nobody answers at port 1.
        let url: Url = "http://ann:secret@127.0.0.1:1/?token=secret"
            .parse()
            .unwrap();
        let envoys = Collector::of_envoys(&clients, vec![url.clone()]).unwrap();
        let store = Collector::of_store(&clients, url, "").unwrap();
        let wanted = Wanted {
            clusters: Arc::default(),
            interval: Millis::from_secs(1),
            stale: Millis::from_secs(1),
        };
        for mut collector in [envoys, store] {
            collector
                .collect(&wanted, &Clock::start(), Duration::from_secs(20))
                .await;
            let status = collector.status().remove(0);
            assert_eq!(status.url, "http://127.0.0.1:1/");
            let error = status.error.unwrap();
            assert!(error.contains("no answer"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
