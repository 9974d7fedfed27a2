//! The numbers by which a service is judged and moved: the article's (§4.1, §4.3) where it names
//! them, else those simulated for `tests/release_simulation.rs`. Valid once built.

#[cfg(feature = "load")]
mod check;
#[cfg(feature = "load")]
mod raw;

use serde::Serialize;

use super::share::Percent;
use crate::duration::Millis;

#[cfg(feature = "load")]
pub use raw::{
    RawDegrade, RawDrain, RawEvidence, RawGuards, RawOutage, RawRelative, RawScore, RawScorePart,
    RawScoreTime, RawSustained, RawSyncLog, RawVerify,
};

/// Everything a policy's `degrade:` block decides, complete and checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Settings {
    /// The version that takes over; none means the service's default version.
    pub fallback: Option<String>,
    /// The weighted score; none if switched off.
    pub score: Option<Score>,
    /// The sustained breach; none if switched off.
    pub sustained: Option<Sustained>,
    /// The fast total failure; none if switched off.
    pub outage: Option<Outage>,
    /// The ratios that a version must stay below to be called well.
    pub limits: Limits,
    /// What must hold before anything moves.
    pub guards: Guards,
    /// How evidence is gathered into windows.
    pub evidence: Evidence,
    /// What the verification channel must show before the ramp.
    pub verify: Verify,
    /// How long writes may stay refused.
    pub drain: Drain,
    /// Where the candidate's writes are replayed; none if the versions share their data.
    pub sync_log: Option<SyncLog>,
}

/// The article's score (§4.1): each part is `min(value / full, 1) * weight`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Score {
    /// The sum above which the score asks for a degrade, 0 to 1.
    pub threshold: f64,
    /// Requests per second.
    pub qps: Part,
    /// The 95th percentile of the latency in milliseconds.
    pub p95: Part,
    /// Errors as a fraction of requests.
    pub errors: Part,
    /// How many judgements in a row must be above.
    pub ticks: u32,
}

/// One part of the score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Part {
    /// The value from which the part gives all of its weight.
    pub full: f64,
    /// The part's share of the score, 0 to 1; all weights together are 1.
    pub weight: f64,
}

/// The ratios of §4.3. P99 above `latency` is the same as more than 1 % of requests above it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// The latency above which a request is slow.
    pub latency: Millis,
    /// The fraction of slow requests that is too many.
    pub slow: f64,
    /// The fraction of failed requests that is too many.
    pub errors: f64,
}

/// The sustained breach of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sustained {
    /// How many of the last `of` judgements must breach.
    pub need: u32,
    /// The judgements that `for` spans.
    pub of: u32,
}

/// The fast total failure, which the score cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outage {
    /// The fraction of errors that is an outage.
    pub errors: f64,
    /// The requests one collected tick needs to count.
    pub requests: u64,
    /// The requests the whole window needs to count.
    pub window_requests: u64,
    /// That many requests in the window, all of them failed, are an outage too.
    pub all_failed: u64,
    /// How many ticks in a row must say so.
    pub ticks: u32,
}

/// What must hold before anything moves, and what follows a move.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Guards {
    /// The requests in its window below which score and sustained say nothing.
    pub min_requests: u64,
    /// By how much the candidate must be worse than the live stable version.
    pub relative: Relative,
    /// What to do when the stable version has too little traffic to compare with.
    pub idle_stable: IdleStable,
    /// The first cool-down; it doubles with each trip of the last day.
    pub cooldown: Millis,
    /// The longest cool-down, before jitter.
    pub max_cooldown: Millis,
    /// That many trips within a day lock automation.
    pub trips_per_day: u32,
    /// The share of all services that may be on the move at once; always at least one service.
    pub max_concurrent: Percent,
    /// How long a step may stay undecided before somebody is asked.
    pub ask_after: Millis,
}

/// By how much the candidate must be worse than the stable version, in ratio, in difference and
/// beyond chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Relative {
    /// The candidate's ratio as a multiple of the stable version's.
    pub times: f64,
    /// The difference of the error fractions.
    pub errors: f64,
    /// The difference of the slow fractions.
    pub slow: f64,
}

/// Whether a stable version without traffic is trusted to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "load", derive(serde::Deserialize))]
#[serde(rename_all = "snake_case")]
pub enum IdleStable {
    /// Move to it: nothing fresh speaks against it and the candidate is known to fail.
    Move,
    /// Hold and alert: a person decides.
    Hold,
}

/// How evidence is gathered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evidence {
    /// How often counters are read.
    pub interval: Millis,
    /// How often score and sustained are judged; the outage is judged every interval.
    pub judge: Millis,
    /// The window of a judgement.
    pub window: Millis,
    /// What that window may grow to at little traffic.
    pub longest: Millis,
    /// The requests at which it stops growing.
    pub enough: u64,
    /// The short window, which must agree with the long one.
    pub short: Millis,
    /// The age from which the newest evidence is no evidence.
    pub stale: Millis,
    /// The traffic that the proxies which answered must carry.
    pub coverage: Percent,
}

/// What the verification channel must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verify {
    /// The shortest verification.
    pub hold: Millis,
    /// The requests it needs.
    pub requests: u64,
}

/// How long a fail-back may refuse writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// From the freeze to the switch; then the fail-back is aborted.
    pub timeout: Millis,
    /// From the freeze's confirmation to the reading of the log's end: writes that were under way
    /// have ended by then. Shorter than `timeout`, part of it.
    pub settle: Millis,
}

/// Where drained writes go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SyncLog {
    /// The `http` or `https` address that applies one entry to the fallback version.
    pub apply_url: String,
}

impl Settings {
    /// The article's defaults: every trigger on, no sync log.
    #[must_use]
    pub fn article() -> Self {
        Self {
            score: Some(Score::default()),
            sustained: Some(Sustained::default()),
            outage: Some(Outage::default()),
            ..Self::default()
        }
    }
}

impl Default for Score {
    fn default() -> Self {
        let part = |full, weight| Part { full, weight };
        Self {
            threshold: 0.75,
            qps: part(1000.0, 0.3),
            p95: part(800.0, 0.4),
            errors: part(0.05, 0.3),
            ticks: 2,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            latency: Millis::new(800),
            slow: 0.01,
            errors: 0.005,
        }
    }
}

impl Sustained {
    /// Five sixths of the judgements that a span `over` holds, so that one disagreeing judgement in
    /// the article's 30 s does not start the count anew.
    #[must_use]
    pub fn over(over: Millis, judge: Millis) -> Self {
        let of = over
            .get()
            .checked_div(judge.get())
            .unwrap_or(1)
            .clamp(1, 720);
        let of = u32::try_from(of).unwrap_or(720);
        Self {
            need: (of * 5).div_ceil(6),
            of,
        }
    }
}

impl Default for Sustained {
    fn default() -> Self {
        Self::over(Millis::from_secs(30), Evidence::default().judge)
    }
}

impl Default for Outage {
    fn default() -> Self {
        Self {
            errors: 0.5,
            requests: 50,
            window_requests: 20,
            all_failed: 7,
            ticks: 2,
        }
    }
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            min_requests: 50,
            relative: Relative::default(),
            idle_stable: IdleStable::Move,
            cooldown: Millis::from_secs(300),
            max_cooldown: Millis::from_secs(3600),
            trips_per_day: 3,
            max_concurrent: Percent::new(10).unwrap_or(Percent::FULL),
            ask_after: Millis::from_secs(1800),
        }
    }
}

impl Default for Relative {
    fn default() -> Self {
        Self {
            times: 1.5,
            errors: 0.0025,
            slow: 0.005,
        }
    }
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            interval: Millis::from_secs(1),
            judge: Millis::from_secs(5),
            window: Millis::from_secs(30),
            longest: Millis::from_secs(300),
            enough: 300,
            short: Millis::from_secs(10),
            stale: Millis::from_secs(15),
            coverage: Percent::new(80).unwrap_or(Percent::FULL),
        }
    }
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            hold: Millis::from_secs(60),
            requests: 20,
        }
    }
}

impl Drain {
    /// With the usual share of the time for writes that are under way: a sixth.
    #[must_use]
    pub const fn within(timeout: Millis) -> Self {
        Self {
            timeout,
            settle: Millis::new(timeout.get() / 6),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::within(Millis::from_secs(30))
    }
}

#[cfg(test)]
mod tests;
