//! The `degrade:` block as people write it. Every field may be left out.

use serde::{Deserialize, Serialize};

use super::IdleStable;
use crate::duration::Millis;

macro_rules! block {
    ($(#[$note:meta])* $name:ident { $($(#[$field_note:meta])* $(@$serde:literal)? $field:ident: $kind:ty,)* }) => {
        $(#[$note])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $(
                $(#[$field_note])*
                $(#[serde(rename = $serde)])?
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$kind>,
            )*
        }
    };
}

block! {
    /// `degrade:`
    RawDegrade {
        /// The version that takes over; the service's default version if left out.
        fallback: String,
        /// `score:`
        score: RawScore,
        /// `sustained:`
        sustained: RawSustained,
        /// `outage:`
        outage: RawOutage,
        /// `guards:`
        guards: RawGuards,
        /// `evidence:`
        evidence: RawEvidence,
        /// `verify:`
        verify: RawVerify,
        /// `drain:`
        drain: RawDrain,
        /// `sync_log:`; the versions share their data if left out.
        sync_log: RawSyncLog,
    }
}

block! {
    /// `score:` (§4.1)
    RawScore {
        /// Whether the score may degrade.
        enabled: bool,
        /// Above it the score degrades, 0 to 1.
        threshold: f64,
        /// Requests per second.
        qps: RawScorePart,
        /// 95th percentile of the latency.
        p95: RawScoreTime,
        /// Errors as a fraction of requests.
        errors: RawScorePart,
        /// Judgements in a row.
        ticks: u32,
    }
}

block! {
    /// A part of the score that is a number.
    RawScorePart {
        /// The value that gives the whole weight.
        full: f64,
        /// The share of the score.
        weight: f64,
    }
}

block! {
    /// A part of the score that is a time.
    RawScoreTime {
        /// The value that gives the whole weight.
        full: Millis,
        /// The share of the score.
        weight: f64,
    }
}

block! {
    /// `sustained:` (§4.3)
    RawSustained {
        /// Whether a sustained breach may degrade.
        enabled: bool,
        /// The latency above which a request is slow.
        latency: Millis,
        /// The fraction of slow requests that is too many.
        slow: f64,
        /// The fraction of errors that is too many.
        errors: f64,
        /// How long the breach must last.
        @"for" lasting: Millis,
    }
}

block! {
    /// `outage:`
    RawOutage {
        /// Whether an outage may degrade.
        enabled: bool,
        /// The fraction of errors that is an outage.
        errors: f64,
        /// Requests that one tick needs.
        requests: u64,
        /// Requests that the window needs.
        window_requests: u64,
        /// Requests in the window that, all failed, are an outage too.
        all_failed: u64,
        /// Ticks in a row.
        ticks: u32,
    }
}

block! {
    /// `guards:`
    RawGuards {
        /// Requests that score and sustained need.
        min_requests: u64,
        /// `relative:`
        relative: RawRelative,
        /// `move` or `hold`.
        idle_stable: IdleStable,
        /// The first cool-down.
        cooldown: Millis,
        /// The longest cool-down.
        max_cooldown: Millis,
        /// Trips in a day that lock automation.
        trips_per_day: u32,
        /// Percent of the services that may move at once.
        max_concurrent: u8,
        /// How long a step may stay undecided.
        ask_after: Millis,
    }
}

block! {
    /// `relative:`
    RawRelative {
        /// A multiple of the stable version's ratio.
        times: f64,
        /// A difference of error fractions.
        errors: f64,
        /// A difference of slow fractions.
        slow: f64,
    }
}

block! {
    /// `evidence:`
    RawEvidence {
        /// How often counters are read.
        interval: Millis,
        /// How often they are judged.
        judge: Millis,
        /// The window.
        window: Millis,
        /// What it may grow to.
        longest: Millis,
        /// Requests at which it stops growing.
        enough: u64,
        /// The short window.
        short: Millis,
        /// The age from which evidence is none.
        stale: Millis,
        /// Percent of the traffic that must be covered.
        coverage: u8,
    }
}

block! {
    /// `verify:`
    RawVerify {
        /// The shortest verification.
        hold: Millis,
        /// The requests it needs.
        requests: u64,
    }
}

block! {
    /// `drain:`
    RawDrain {
        /// From the freeze to the switch.
        timeout: Millis,
        /// For writes that were under way when the freeze was confirmed.
        settle: Millis,
    }
}

block! {
    /// `sync_log:`
    RawSyncLog {
        /// The address that applies one entry to the fallback version.
        apply_url: String,
    }
}
