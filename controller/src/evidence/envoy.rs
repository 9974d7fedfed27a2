//! Reads the counters of one Envoy from its admin address. Measured on Envoy 1.40: for every
//! request that was answered, also by a route timeout (504), a reset or a refused connection (503),
//! `upstream_rq_completed` is raised, and for 5xx `upstream_rq_5xx`. So these two say it all, and
//! `upstream_rq_timeout` or `upstream_rq_rx_reset` on top would count the same request twice.
//! A gRPC call that failed is a 200 there; Envoy's filter `grpc_stats` counts its status, if it is set up.

use std::collections::HashMap;
use std::time::Duration;

use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::evidence::{Bin, Histogram};
use reqwest::{Client, Response, Url};
use serde::Deserialize;
use serde_json::Value;

use super::Reading;
use crate::clients::Clients;
use crate::clients::body::{BodyError, body};

/// Envoy has this long to answer.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// About 700 clusters with full histograms.
const SIZE_LIMIT: usize = 4 << 20;
/// Above this a filter that names the clusters would be too long for a URL.
const LONGEST_FILTER: usize = 8 << 10;

const REQUESTS: &str = "upstream_rq_completed";
const ERRORS: &str = "upstream_rq_5xx";
const LATENCY: &str = "upstream_rq_time";
/// The parts of `cluster.<name>.grpc.<status>`: those that Envoy itself makes 5xx of, as a server
/// answers them: unknown, deadline exceeded, unimplemented, internal, unavailable, data loss.
const GRPC: &str = "grpc";
const GRPC_ERRORS: [&str; 6] = ["2", "4", "12", "13", "14", "15"];
/// In seconds, brought up to date with every flush, 0 before the first.
const UPTIME: &str = "server.uptime";

/// One Envoy.
#[derive(Debug)]
pub struct Envoy {
    client: Client,
    admin: Url,
}

/// Why there is no reading.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No answer, or none of a sensible size.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Another answer than Envoy's.
    #[error("the answer is not Envoy's list of statistics: {0}")]
    Answer(#[from] serde_json::Error),
    /// Numbers that cannot be.
    #[error("`{0}` has a value that is not a count")]
    Malformed(String),
}

#[derive(Deserialize)]
struct Answer {
    stats: Vec<Stat>,
}

/// A counter with name and value, or all the histograms.
#[derive(Deserialize)]
struct Stat {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    histograms: Histograms,
}

#[derive(Default, Deserialize)]
struct Histograms {
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    name: String,
    #[serde(default)]
    totals: Vec<Bucket>,
}

/// In milliseconds.
#[derive(Deserialize)]
struct Bucket {
    lower_bound: f64,
    width: f64,
    count: u64,
}

/// The client for all Envoys.
///
/// # Errors
/// When it cannot be built.
pub fn client(clients: &Clients) -> Result<Client, reqwest::Error> {
    clients.builder().timeout(TIME_LIMIT).no_proxy().build()
}

impl Envoy {
    /// The Envoy with this admin address.
    pub const fn new(client: Client, admin: Url) -> Self {
        Self { client, admin }
    }

    /// Asks for the counters of `clusters`.
    ///
    /// # Errors
    /// When the answer is late, too large, or not Envoy's.
    pub async fn read(&self, clusters: &[String], now: Moment) -> Result<Reading, FetchError> {
        let mut url = self.admin.clone();
        url.set_path("/stats");
        // Without `usedonly`: a cluster that is there and idle answers 0, one that is not there
        // answers nothing, and these are two different things.
        url.query_pairs_mut()
            .append_pair("format", "json")
            .append_pair("histogram_buckets", "detailed")
            .append_pair("filter", &filter(clusters));
        let response = self.client.get(url).send().await;
        let response = response.and_then(Response::error_for_status);
        let body = body(response.map_err(BodyError::from)?, SIZE_LIMIT).await?;
        parse(&body, now)
    }
}

/// The name that a cluster has in statistics.
pub fn stat_name(cluster: &str) -> String {
    cluster.replace(':', "_")
}

fn filter(clusters: &[String]) -> String {
    let mut names = String::new();
    for cluster in clusters {
        if !names.is_empty() {
            names.push('|');
        }
        for sign in stat_name(cluster).chars() {
            if sign.is_ascii_punctuation() && sign != '_' {
                names.push('\\');
            }
            names.push(sign);
        }
    }
    if names.len() > LONGEST_FILTER {
        ".+".clone_into(&mut names);
    }
    let grpc = GRPC_ERRORS.join("|");
    format!(
        "^(cluster\\.({names})\\.({REQUESTS}|{ERRORS}|{LATENCY}|{GRPC}\\.({grpc}))|server\\.uptime)$"
    )
}

/// What an answer says.
///
/// # Errors
/// When it is not Envoy's, or a number in it is not a count.
pub fn parse(body: &[u8], at: Moment) -> Result<Reading, FetchError> {
    let answer: Answer = serde_json::from_slice(body)?;
    let mut reading = Reading {
        at,
        age: Millis::ZERO,
        uptime: None,
        clusters: Default::default(),
    };
    let mut failed_calls: HashMap<String, u64> = HashMap::new();
    for stat in answer.stats {
        for detail in stat.histograms.details {
            if let Some((cluster, LATENCY)) = place(&detail.name) {
                let entry = reading.clusters.entry(cluster.to_owned()).or_default();
                entry.latency = histogram(&detail)?;
            }
        }
        if stat.name == UPTIME {
            reading.uptime = stat.value.as_u64();
        }
        let Some((cluster, which)) = place(&stat.name) else {
            continue;
        };
        let value = stat.value.as_u64();
        let value = value.ok_or_else(|| FetchError::Malformed(stat.name.clone()));
        if GRPC_ERRORS.contains(&which)
            && let Some((cluster, GRPC)) = cluster.rsplit_once('.')
        {
            let failed = failed_calls.entry(cluster.to_owned()).or_default();
            *failed = failed.saturating_add(value?);
            continue;
        }
        let entry = reading.clusters.entry(cluster.to_owned()).or_default();
        match which {
            REQUESTS => entry.requests = value?,
            ERRORS => entry.errors = value?,
            _ => {}
        }
    }
    let mut contradictory = reading.clusters.iter();
    if let Some((cluster, _)) = contradictory.find(|(_, totals)| totals.errors > totals.requests) {
        return Err(FetchError::Malformed(format!("cluster.{cluster}.{ERRORS}")));
    }
    for (cluster, failed) in failed_calls {
        if let Some(totals) = reading.clusters.get_mut(&cluster) {
            // Not the sum: a call that Envoy itself had to answer is a 5xx and has a status. Not
            // more than there were requests: other filters may answer calls before one is made.
            totals.errors = totals.errors.max(failed).min(totals.requests);
        }
    }
    Ok(reading)
}

/// `cluster.<name>.<what>`; the name may have dots.
fn place(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("cluster.")?.rsplit_once('.')
}

fn histogram(detail: &Detail) -> Result<Histogram, FetchError> {
    let bins = detail.totals.iter().map(|bucket| {
        let bin = micros(bucket.lower_bound).zip(micros(bucket.width));
        let bin = bin.map(|(lower, width)| (Bin { lower, width }, bucket.count));
        bin.ok_or_else(|| FetchError::Malformed(detail.name.clone()))
    });
    bins.collect()
}

/// Whole microseconds; none for what cannot be a latency.
fn micros(millis: f64) -> Option<u64> {
    let micros = (millis * 1000.0).round();
    (0.0..1e15).contains(&micros).then_some(micros as u64)
}

#[cfg(test)]
mod tests;
