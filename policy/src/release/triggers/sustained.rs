//! The ratios of §4.3: P99 above the limit, which is too many slow requests, or too many errors.

use serde::Serialize;

use crate::release::evidence::Sum;
use crate::release::settings::Limits;
use crate::release::wilson;

/// One ratio against its limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RatioAccount {
    /// Failed or slow requests in the long window.
    pub hits: u64,
    /// The requests they are among.
    pub trials: u64,
    /// Their ratio; none without requests.
    pub ratio: Option<f64>,
    /// The ratio in the short window; none without requests.
    pub short_ratio: Option<f64>,
    /// The lower Wilson bound of the long window's ratio.
    pub lower: f64,
    /// The limit.
    pub limit: f64,
    /// Whether both windows are over it: the long one beyond chance, the short one at all.
    pub breached: bool,
}

/// Both ratios against their limits.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Breach {
    /// Errors among requests.
    pub errors: RatioAccount,
    /// Slow among timed requests.
    pub slow: RatioAccount,
}

/// Holds the long window's ratios, beyond chance, and the short window's ratios against the limits.
///
/// The long window alone would go on breaching long after the fault ended, the short one alone
/// would breach at every hiccup. Errors are held against the `grown` short window: a healthy version
/// has next to none, so at little traffic their absence in a few seconds means nothing. Slow requests
/// are held against the plain `short` one: a healthy version has half of what the limit allows, and
/// a longer window would hold some of them nearly always.
#[must_use]
pub fn breach(
    limits: &Limits,
    min_requests: u64,
    long: &Sum,
    (grown, short): (&Sum, &Sum),
) -> Breach {
    let enough = long.requests >= min_requests;
    let account = |long: (u64, u64), short: (u64, u64), limit: f64| {
        let lower = wilson::lower(long.0, long.1);
        let short_ratio = wilson::ratio(short.0, short.1);
        RatioAccount {
            hits: long.0,
            trials: long.1,
            ratio: wilson::ratio(long.0, long.1),
            short_ratio,
            lower,
            limit,
            breached: enough && lower > limit && short_ratio.is_some_and(|ratio| ratio > limit),
        }
    };
    Breach {
        errors: account(
            (long.errors, long.requests),
            (grown.errors, grown.requests),
            limits.errors,
        ),
        slow: account(
            (long.slow, long.timed),
            (short.slow, short.timed),
            limits.slow,
        ),
    }
}

impl Breach {
    /// Whether either ratio is breached.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.errors.breached || self.slow.breached
    }

    /// How far the worse ratio surely is over its limit: a burn rate, 1 is just at the limit.
    #[must_use]
    pub fn severity(&self) -> f64 {
        let burn = |account: &RatioAccount| account.lower / account.limit;
        burn(&self.errors).max(burn(&self.slow))
    }
}
