//! The last ticks of one version as a ring, and sums over its newest part.

use std::collections::VecDeque;

use serde::Serialize;

use super::{Counts, Histogram, Sample};
use crate::duration::{Millis, Moment};

/// The newest ticks of one version. Starts empty, also after a restart.
#[derive(Debug, Clone)]
pub struct Window {
    interval: Millis,
    keep: Millis,
    ticks: VecDeque<(Moment, Sample)>,
}

/// Counts summed over a span, without the histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Requests that ended.
    pub requests: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Requests whose latency is known.
    pub timed: u64,
    /// Timed requests above the limit.
    pub slow: u64,
    /// Estimated requests at proxies that did not answer.
    pub absent: u64,
    /// The time really observed: known ticks times the interval.
    pub observed: Millis,
}

impl Window {
    /// An empty ring of ticks `interval` apart that reaches back over `keep`.
    #[must_use]
    pub const fn new(interval: Millis, keep: Millis) -> Self {
        Self {
            interval,
            keep,
            ticks: VecDeque::new(),
        }
    }

    /// Adds the tick that ended at `at`. A tick not later than the last one is a duplicate or comes
    /// from a clock set back, and is dropped; returns whether it was taken.
    pub fn push(&mut self, at: Moment, sample: Sample) -> bool {
        if self.ticks.back().is_some_and(|(last, _)| at <= *last) {
            return false;
        }
        self.ticks.push_back((at, sample));
        let oldest = at.before(self.keep);
        while self
            .ticks
            .front()
            .is_some_and(|(first, _)| *first <= oldest)
        {
            self.ticks.pop_front();
        }
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ticks.clear();
    }

    /// The newest tick.
    #[must_use]
    pub fn newest(&self) -> Option<&(Moment, Sample)> {
        self.ticks.back()
    }

    /// The sum of the ticks that ended within `span` before `now`.
    #[must_use]
    pub fn sum(&self, now: Moment, span: Millis) -> Sum {
        let mut sum = Sum::default();
        for (_, sample) in self.within(now, span) {
            sum.add(sample, self.interval);
        }
        sum
    }

    /// The shortest span from `base` to `longest` that holds `enough` requests, and its sum; with
    /// fewer requests than that, `longest`.
    #[must_use]
    pub fn grown(&self, now: Moment, base: Millis, longest: Millis, enough: u64) -> (Millis, Sum) {
        let mut sum = Sum::default();
        for (at, sample) in self.within(now, longest) {
            let age = now.since(*at);
            if age >= base && sum.requests >= enough {
                return (age.max(base), sum);
            }
            sum.add(sample, self.interval);
        }
        let span = if sum.requests >= enough {
            base
        } else {
            longest
        };
        (span, sum)
    }

    /// The latencies of the ticks that ended within `span` before `now`.
    #[must_use]
    pub fn latency(&self, now: Moment, span: Millis) -> Histogram {
        let mut merged = Histogram::new();
        for (_, sample) in self.within(now, span) {
            if let Sample::Counted(counts) = sample {
                merged.merge(counts.latency());
            }
        }
        merged
    }

    /// Ticks newest first. A tick belongs to the span if any part of it does: it ended less than
    /// `span` ago.
    fn within(&self, now: Moment, span: Millis) -> impl Iterator<Item = &(Moment, Sample)> {
        self.ticks
            .iter()
            .rev()
            .take_while(move |(at, _)| now.since(*at) < span)
    }
}

impl Sum {
    /// Adds a tick of length `interval`; an unknown one adds nothing, not even time.
    pub fn add(&mut self, sample: &Sample, interval: Millis) {
        match sample {
            Sample::Unknown(_) => return,
            Sample::Idle => {}
            Sample::Counted(counts) => self.count(counts),
        }
        self.observed = self.observed.saturating_add(interval);
    }

    /// Adds another sum.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.timed = self.timed.saturating_add(other.timed);
        self.slow = self.slow.saturating_add(other.slow);
        self.absent = self.absent.saturating_add(other.absent);
        self.observed = self.observed.saturating_add(other.observed);
    }

    fn count(&mut self, counts: &Counts) {
        self.requests = self.requests.saturating_add(counts.requests());
        self.errors = self.errors.saturating_add(counts.errors());
        self.timed = self.timed.saturating_add(counts.timed());
        self.slow = self.slow.saturating_add(counts.slow());
        self.absent = self.absent.saturating_add(counts.absent());
    }
}
