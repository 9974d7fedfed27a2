//! The demo upstream: answers every path with what it is and what it received, counts requests,
//! and can be told over HTTP to fail, delay or hang a share of them. Several run in one process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{self, Ask};

/// The request header whose values are counted apart, so that a test can prove which of its
/// requests came here.
pub const COUNTED_HEADER: &str = "x-demo-count";

/// Distinct paths and header values counted; what comes after that is counted in the total only.
const MAX_COUNTED: usize = 4096;

/// A running upstream. Dropping it stops it at once.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// What an upstream does to a share (0 to 1) of its requests. The shares are met exactly, spread
/// evenly: 0.25 is every fourth request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The share answered with 500.
    pub fail: f64,
    /// The share delayed by `delay_ms`; all requests when only `delay_ms` is given.
    pub delay: Option<f64>,
    /// The delay in milliseconds.
    pub delay_ms: u64,
    /// The share never answered.
    pub hang: f64,
}

/// A call that an upstream makes for each request to one of its paths: it hands on the header
/// `baggage` and nothing else, and answers with what it is answered.
#[derive(Clone, Debug)]
pub struct Relay {
    /// The path that is asked for.
    pub from: String,
    /// Whom it calls.
    pub address: SocketAddr,
    /// The path that it asks for.
    pub to: String,
}

/// What an upstream was asked so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All requests, failed and hanging ones among them.
    pub total: u64,
    /// Those answered with 500 as told.
    pub failed: u64,
    /// By path without the query.
    pub paths: BTreeMap<String, u64>,
    /// By value of [`COUNTED_HEADER`].
    pub headers: BTreeMap<String, u64>,
}

/// What an upstream answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Echo {
    /// The version it was started as.
    pub version: String,
    /// The method received.
    pub method: String,
    /// The path received, with the query.
    pub path: String,
    /// The headers received; values of a repeated one joined by `, `, bytes that are not UTF-8
    /// replaced.
    pub headers: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Shared {
    version: String,
    state: Mutex<Serving>,
    stopping: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
struct Serving {
    faults: Faults,
    relay: Option<Relay>,
    /// Requests since the faults were set.
    since: u64,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Treatment {
    fail: bool,
    delay: Option<Duration>,
    hang: bool,
}

impl Echo {
    /// The value of a header received.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Upstream {
    /// Starts one on `address` (port 0: any free port).
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(version: &str, address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("the upstream {version} cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            version: version.to_owned(),
            state: Mutex::default(),
            stopping: stopping.clone(),
        });
        let app = app(shared.clone());
        let server = tokio::spawn(async move {
            let served = axum::serve(listener, app).with_graceful_shutdown(stopped(stopping));
            if let Err(error) = served.await {
                eprintln!("the upstream on {address} ended: {error}");
            }
        });
        Ok(Self {
            address,
            shared,
            stop,
            server,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The version it was started as.
    pub fn version(&self) -> &str {
        &self.shared.version
    }

    /// What it was asked so far.
    pub fn counts(&self) -> Counts {
        self.shared.serving().counts.clone()
    }

    /// Forgets what it was asked.
    pub fn reset_counts(&self) {
        self.shared.serving().counts = Counts::default();
    }

    /// What it does from the next request on.
    pub fn set_faults(&self, faults: Faults) {
        let mut serving = self.shared.serving();
        serving.faults = faults;
        serving.since = 0;
    }

    /// Whom it calls from the next request on.
    pub fn set_relay(&self, relay: Relay) {
        self.shared.serving().relay = Some(relay);
    }

    /// Takes no requests from now on; connections to it are closed or refused.
    pub fn close(&self) {
        self.stop.send_replace(true);
    }

    /// Answers what it has begun, hanging requests with 503, and ends.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.server).await {
            eprintln!("the upstream on {} ended: {error}", self.address);
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.server.abort();
    }
}

impl Shared {
    fn serving(&self) -> MutexGuard<'_, Serving> {
        // Counters stay usable after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serving {
    fn count(&mut self, path: &str, headers: &HeaderMap) -> Treatment {
        self.since += 1;
        let counts = &mut self.counts;
        counts.total += 1;
        raise(&mut counts.paths, path);
        if let Some(value) = headers.get(COUNTED_HEADER) {
            raise(
                &mut counts.headers,
                &String::from_utf8_lossy(value.as_bytes()),
            );
        }
        let treatment = self.faults.treatment(self.since);
        counts.failed += u64::from(treatment.fail);
        treatment
    }
}

impl Faults {
    fn treatment(&self, nth: u64) -> Treatment {
        let hang = falls(self.hang, nth);
        let delayed = self.delay_ms > 0 && falls(self.delay.unwrap_or(1.0), nth);
        Treatment {
            hang,
            fail: !hang && falls(self.fail, nth),
            delay: delayed.then(|| Duration::from_millis(self.delay_ms)),
        }
    }

    fn problem(&self) -> Option<&'static str> {
        let shares = [self.fail, self.hang, self.delay.unwrap_or(0.0)];
        let good = shares.iter().all(|share| (0.0..=1.0).contains(share));
        (!good).then_some("`fail`, `delay` and `hang` are shares from 0 to 1\n")
    }
}

/// Whether the `nth` request (from 1) is one of `share`: those at which the sum of shares passes
/// a whole number.
fn falls(share: f64, nth: u64) -> bool {
    let sum = |n: u64| (n as f64 * share + 1e-9).floor();
    nth > 0 && sum(nth) > sum(nth - 1)
}

fn raise(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count += 1;
    } else if counts.len() < MAX_COUNTED {
        counts.insert(key.to_owned(), 1);
    }
}

fn app(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/control", post(control))
        .route("/counts", get(counts))
        .fallback(echo)
        .with_state(shared)
}

async fn control(State(shared): State<Arc<Shared>>, Json(faults): Json<Faults>) -> Response {
    if let Some(problem) = faults.problem() {
        return (StatusCode::BAD_REQUEST, problem).into_response();
    }
    let mut serving = shared.serving();
    serving.faults = faults;
    serving.since = 0;
    Json(faults).into_response()
}

async fn counts(State(shared): State<Arc<Shared>>) -> Json<Counts> {
    Json(shared.serving().counts.clone())
}

async fn echo(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let treatment = shared
        .serving()
        .count(request.uri().path(), request.headers());
    if treatment.hang {
        stopped(shared.stopping.clone()).await;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if let Some(delay) = treatment.delay {
        tokio::time::sleep(delay).await;
    }
    let relay = shared.serving().relay.clone();
    if let Some(relay) = relay.filter(|relay| relay.from == request.uri().path()) {
        return relayed(&relay, request.headers()).await;
    }
    let status = if treatment.fail {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::OK
    };
    let answer = Echo {
        version: shared.version.clone(),
        method: request.method().to_string(),
        path: request.uri().to_string(),
        headers: received(request.headers()),
    };
    (status, Json(answer)).into_response()
}

async fn relayed(relay: &Relay, headers: &HeaderMap) -> Response {
    let handed_on = headers.get_all("baggage").iter();
    let call = handed_on.fold(Ask::get(&relay.to), |call, value| {
        call.header("baggage", value.as_bytes())
    });
    match client::ask(relay.address, &call).await {
        Ok(answer) => (
            StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY),
            answer.body,
        )
            .into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

fn received(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut received: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        received
            .entry(name.to_string())
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    received
}

/// Ends when the upstream is stopped or dropped.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same.
    stopping.wait_for(|stop| *stop).await.ok();
}

#[cfg(test)]
mod tests {
    use super::{Faults, falls};

    #[test]
    fn shares_are_met_exactly() {
        for (share, of, expected) in [
            (0.0, 1000, 0),
            (0.05, 1000, 50),
            (0.1, 1000, 100),
            (0.25, 8, 2),
            (1.0, 7, 7),
        ] {
            let fallen = (1..=of).filter(|nth| falls(share, *nth)).count();
            assert_eq!(fallen, expected, "{share} of {of}");
        }
    }

    #[test]
    fn a_delay_without_a_share_concerns_all() {
        let faults = Faults {
            delay_ms: 7,
            ..Faults::default()
        };
        assert!((1..10).all(|nth| faults.treatment(nth).delay.is_some()));
    }
}
