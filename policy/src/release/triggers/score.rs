//! The article's weighted score (§4.1).

use serde::Serialize;

use crate::release::settings::{Part, Score};

/// How a score came about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ScoreAccount {
    /// Requests per second.
    pub qps: f64,
    /// The 95th percentile of the latency in milliseconds.
    pub p95_ms: f64,
    /// Errors as a fraction of requests.
    pub error_rate: f64,
    /// What the requests per second gave.
    pub qps_part: f64,
    /// What the latency gave.
    pub p95_part: f64,
    /// What the errors gave.
    pub error_part: f64,
    /// The sum of the three.
    pub score: f64,
    /// The threshold it is held against.
    pub threshold: f64,
    /// Whether it is above.
    pub above: bool,
}

/// `0.3*min(qps/1000,1) + 0.4*min(p95/800,1) + 0.3*min(errors/0.05,1) > 0.75`, with the settings'
/// numbers in place of these.
#[must_use]
pub fn score(settings: &Score, qps: f64, p95_ms: f64, error_rate: f64) -> ScoreAccount {
    let qps_part = part(settings.qps, qps);
    let p95_part = part(settings.p95, p95_ms);
    let error_part = part(settings.errors, error_rate);
    let score = qps_part + p95_part + error_part;
    ScoreAccount {
        qps,
        p95_ms,
        error_rate,
        qps_part,
        p95_part,
        error_part,
        score,
        threshold: settings.threshold,
        above: score > settings.threshold,
    }
}

fn part(part: Part, value: f64) -> f64 {
    (value / part.full).min(1.0) * part.weight
}
