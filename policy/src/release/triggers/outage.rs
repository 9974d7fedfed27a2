//! The fast total failure: when most of a version's requests fail, no window need fill first.

use serde::Serialize;

use crate::release::evidence::Sum;
use crate::release::settings::Outage;
use crate::release::wilson;

/// How an outage is seen or not seen in one span.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct OutageAccount {
    /// Requests in the span.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Their ratio; none without requests.
    pub ratio: Option<f64>,
    /// Whether this is an outage.
    pub out: bool,
}

/// Whether one collected tick alone shows an outage: enough requests, most of them failed.
#[must_use]
pub fn in_tick(settings: &Outage, tick: &Sum) -> OutageAccount {
    account(tick, |ratio| {
        tick.requests >= settings.requests && ratio >= settings.errors
    })
}

/// Whether a window shows an outage: fewer requests, or very few that failed without exception.
#[must_use]
pub fn in_window(settings: &Outage, window: &Sum) -> OutageAccount {
    account(window, |ratio| {
        (window.requests >= settings.window_requests && ratio >= settings.errors)
            || (window.requests >= settings.all_failed && window.errors == window.requests)
    })
}

fn account(sum: &Sum, out: impl Fn(f64) -> bool) -> OutageAccount {
    let ratio = wilson::ratio(sum.errors, sum.requests);
    OutageAccount {
        requests: sum.requests,
        errors: sum.errors,
        ratio,
        out: ratio.is_some_and(out),
    }
}
