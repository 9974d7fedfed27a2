//! How many requests a stream may send: a bucket of tokens that fills with time. Time comes in as an
//! argument.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of tokens.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        Self {
            tokens: f64::from(burst),
            burst: f64::from(burst),
            per_second: f64::from(per_second),
            filled: now,
        }
    }

    /// Whether there was a token left to take.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let since: Duration = now.saturating_duration_since(self.filled);
        self.filled = now;
        let tokens = self.tokens + since.as_secs_f64() * self.per_second;
        self.tokens = tokens.min(self.burst);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_only_the_rate_does() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut bucket = Bucket::new(3, 10, start);
        let burst: Vec<bool> = (0..5).map(|_| bucket.take(at(0))).collect();
        assert_eq!(burst, [true, true, true, false, false]);
        assert!(!bucket.take(at(90)));
        assert!(bucket.take(at(110)));
        assert!(!bucket.take(at(110)));
        let later: usize = (0..10).filter(|_| bucket.take(at(60_000))).count();
        assert_eq!(later, 3, "it never holds more than the burst");
    }
}
