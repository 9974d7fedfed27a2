//! What an answer of the query API says: the newest scrape of each Envoy. Whatever is missing,
//! contradictory or no number makes that Envoy unknown, with the reason, and is never a zero.

use std::collections::BTreeMap;

use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::evidence::{Bin, Histogram};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::evidence::{Answer, ClusterTotals, Reading};

/// Requests.
pub(super) const REQUESTS: &str = "envoy_cluster_upstream_rq_completed";
/// Requests by the first digit of their answers' status.
pub(super) const CLASSES: &str = "envoy_cluster_upstream_rq_xx";
/// Latencies.
pub(super) const BUCKETS: &str = "envoy_cluster_upstream_rq_time_bucket";
/// Seconds since Envoy's start: with less than before, it has restarted.
pub(super) const UPTIME: &str = "envoy_server_uptime";

const CLUSTER: &str = "envoy_cluster_name";
const CLASS: &str = "envoy_response_code_class";
const EDGE: &str = "le";
/// Clocks that differ by more cannot tell what is stale.
const AHEAD: Millis = Millis::from_secs(5);
/// Whole numbers above this are not exact in the API's floating point.
const LARGEST: f64 = 9_007_199_254_740_992.0;

/// Why an answer cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// Not the API, or something in between.
    #[error("the store answered {status}, and not as a query API does: {source}")]
    Json {
        /// The status.
        status: StatusCode,
        /// Why not.
        source: serde_json::Error,
    },
    /// The store says so.
    #[error("the store answered {status}: {error}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its words.
        error: String,
    },
    /// Some of it may be missing.
    #[error("the store warns: {0}")]
    Warned(String),
    /// Not the samples that were asked for.
    #[error("the store answered with a `{0}` and not with a `matrix`")]
    Kind(String),
    /// Nothing.
    #[error("no sample of `{REQUESTS}` in time: is Envoy scraped, and does the selector fit?")]
    Empty,
}

/// What an answer says.
#[derive(Debug, PartialEq)]
pub(super) struct Samples {
    /// Each Envoy by its labels.
    pub(super) proxies: Vec<(String, Option<Reading>)>,
    /// Why some of them are unknown.
    pub(super) complaint: Option<String>,
    /// The longest time between the last two scrapes of an Envoy.
    pub(super) apart: Option<Millis>,
}

#[derive(Deserialize)]
struct Body {
    status: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

/// One Envoy's samples: by cluster, what they count.
#[derive(Default)]
struct Proxy {
    uptime: Vec<(f64, String)>,
    clusters: BTreeMap<String, Cluster>,
}

#[derive(Default)]
struct Cluster {
    requests: Vec<(f64, String)>,
    classes: BTreeMap<String, Vec<(f64, String)>>,
    buckets: Vec<(String, Vec<(f64, String)>)>,
}

/// Why one Envoy is unknown.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("`{0}` has a value that is not a count")]
    NoCount(&'static str),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`{BUCKETS}` has edges or counts that do not rise")]
    Buckets,
    #[error("its samples are {0} ahead of this clock")]
    Ahead(Millis),
}

impl From<Samples> for Answer {
    fn from(samples: Samples) -> Self {
        Self {
            proxies: samples.proxies,
            complaint: samples.complaint,
        }
    }
}

/// Reads an answer.
///
/// # Errors
/// When none of it can be used.
pub(super) fn parse(body: &[u8], status: StatusCode, now: Moment) -> Result<Samples, AnswerError> {
    let json = |source| AnswerError::Json { status, source };
    let body: Body = serde_json::from_slice(body).map_err(json)?;
    let data = match body.data {
        Some(data) if body.status == "success" && status.is_success() => data,
        _ => {
            let error = body.error.chars().take(300).collect();
            return Err(AnswerError::Refused { status, error });
        }
    };
    if let Some(warning) = body.warnings.into_iter().next() {
        return Err(AnswerError::Warned(warning));
    }
    if data.result_type != "matrix" {
        return Err(AnswerError::Kind(data.result_type));
    }
    let series: Vec<Series> = serde_json::from_value(data.result).map_err(json)?;
    let mut proxies: BTreeMap<String, Proxy> = BTreeMap::new();
    for series in series {
        sort(series, &mut proxies);
    }
    if proxies.values().all(|proxy| proxy.clusters.is_empty()) {
        return Err(AnswerError::Empty);
    }
    let mut samples = Samples {
        proxies: Vec::with_capacity(proxies.len()),
        complaint: None,
        apart: None,
    };
    for (name, proxy) in proxies {
        samples.apart = samples.apart.max(proxy.apart());
        let reading = proxy.reading(now);
        if let Err(fault) = &reading {
            samples.complaint = Some(format!("{name}: {fault}"));
        }
        samples.proxies.push((name, reading.ok()));
    }
    Ok(samples)
}

/// Puts a series where it belongs. What tells Envoys apart is every label but those of the counter.
fn sort(series: Series, proxies: &mut BTreeMap<String, Proxy>) {
    let Series { mut metric, values } = series;
    let mut label = |name: &str| metric.remove(name).unwrap_or_default();
    let (name, cluster) = (label("__name__"), label(CLUSTER));
    let (class, edge) = (label(CLASS), label(EDGE));
    let labels: Vec<String> = metric
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let proxy = proxies.entry(labels.join(",")).or_default();
    if name == UPTIME {
        proxy.uptime = values;
        return;
    }
    let cluster = proxy.clusters.entry(cluster).or_default();
    match name.as_str() {
        REQUESTS => cluster.requests = values,
        CLASSES => {
            cluster.classes.insert(class, values);
        }
        BUCKETS => cluster.buckets.push((edge, values)),
        _ => {}
    }
}

impl Proxy {
    /// The newest scrape: all samples of one scrape have one time.
    fn scraped(&self) -> Option<f64> {
        let clusters = self.clusters.values();
        let last = clusters.filter_map(|cluster| cluster.requests.last());
        // An Envoy that has none of the clusters has answered as well.
        let last = last.chain(self.uptime.last());
        last.map(|(at, _)| *at).max_by(f64::total_cmp)
    }

    fn apart(&self) -> Option<Millis> {
        let clusters = self.clusters.values();
        let apart = clusters.filter_map(|cluster| match cluster.requests.as_slice() {
            [.., (before, _), (last, _)] => Some(Millis::new(millis(last - before))),
            _ => None,
        });
        apart.max()
    }

    fn reading(&self, now: Moment) -> Result<Reading, Fault> {
        let scraped = self.scraped().ok_or(Fault::Missing(REQUESTS))?;
        let uptime = at(&self.uptime, scraped).and_then(count);
        let at = Moment::from_unix_millis(millis(scraped));
        let ahead = at.since(now);
        if ahead > AHEAD {
            return Err(Fault::Ahead(ahead));
        }
        let mut clusters = BTreeMap::new();
        for (name, cluster) in &self.clusters {
            // A cluster that was removed has samples, and none of the newest scrape.
            if let Some(totals) = cluster.totals(scraped)? {
                clusters.insert(name.clone(), totals);
            }
        }
        Ok(Reading {
            at,
            age: now.since(at),
            uptime,
            clusters,
        })
    }
}

impl Cluster {
    /// What was counted up to a scrape; none when the cluster was not part of it.
    fn totals(&self, scraped: f64) -> Result<Option<ClusterTotals>, Fault> {
        let Some(requests) = at(&self.requests, scraped) else {
            let others = self.classes.values();
            let mut others = others.chain(self.buckets.iter().map(|(_, values)| values));
            return match others.find(|values| at(values, scraped).is_some()) {
                Some(_) => Err(Fault::Missing(REQUESTS)),
                None => Ok(None),
            };
        };
        let requests = count(requests).ok_or(Fault::NoCount(REQUESTS))?;
        let mut classes = BTreeMap::new();
        for (class, values) in &self.classes {
            if let Some(value) = at(values, scraped) {
                let counted = count(value).ok_or(Fault::NoCount(CLASSES))?;
                classes.insert(class.as_str(), counted);
            }
        }
        // Envoy makes a class with its first answer: without any request none is missing.
        if requests > 0 && classes.is_empty() {
            return Err(Fault::Missing(CLASSES));
        }
        let of = |class: &str| classes.get(class).copied().unwrap_or(0);
        let latency = self.latency(scraped)?;
        if latency.is_none() && of("2") + of("3") > 0 {
            return Err(Fault::Missing(BUCKETS));
        }
        Ok(Some(ClusterTotals {
            requests,
            // Envoy writes the requests first: an error in between is one of the next scrape.
            errors: of("5").min(requests),
            latency: latency.unwrap_or_default(),
        }))
    }

    /// The bins between the buckets' edges; none without buckets.
    fn latency(&self, scraped: f64) -> Result<Option<Histogram>, Fault> {
        let mut buckets = Vec::with_capacity(self.buckets.len());
        for (edge, values) in &self.buckets {
            let Some(value) = at(values, scraped) else {
                continue;
            };
            let upper = match edge.as_str() {
                "+Inf" => u64::MAX,
                edge => micros(edge).ok_or(Fault::Buckets)?,
            };
            buckets.push((upper, count(value).ok_or(Fault::NoCount(BUCKETS))?));
        }
        buckets.sort_unstable();
        match buckets.last() {
            None => return Ok(None),
            Some((u64::MAX, _)) => {}
            Some(_) => return Err(Fault::Buckets),
        }
        let mut histogram = Histogram::new();
        let (mut lower, mut below) = (0, 0);
        for (upper, count) in buckets {
            let inside = count.checked_sub(below).ok_or(Fault::Buckets)?;
            let width = if upper == u64::MAX { 0 } else { upper - lower };
            histogram.add(Bin { lower, width }, inside);
            (lower, below) = (upper, count);
        }
        Ok(Some(histogram))
    }
}

/// The value of one scrape.
fn at(values: &[(f64, String)], scraped: f64) -> Option<&str> {
    let found = values.iter().rev().find(|(at, _)| *at == scraped);
    found.map(|(_, value)| value.as_str())
}

/// A count; none for what cannot be one.
fn count(text: &str) -> Option<u64> {
    let value: f64 = text.parse().ok()?;
    ((0.0..=LARGEST).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

/// Whole microseconds of an edge in milliseconds.
fn micros(edge: &str) -> Option<u64> {
    let micros = (edge.parse::<f64>().ok()? * 1000.0).round();
    (0.0..1e15).contains(&micros).then_some(micros as u64)
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
