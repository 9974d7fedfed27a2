//! One long poll: when it is due, and how long it waits after a failure.

use std::fmt;

use ombre_policy::document::{Kind, Revision};

const FIRST_WAIT_MS: u64 = 50;
const LONGEST_WAIT_MS: u64 = 2000;
/// An empty answer that comes sooner than this did not wait: polling again at once would be a busy loop.
const HASTY_MS: u64 = 100;
/// Envoy drops calls without a word when a configuration is replaced; its own timeout is 45 s.
pub(super) const LOST_MS: u64 = 60_000;

/// One of the two polls.
#[derive(Clone, Debug)]
pub(super) struct Poll {
    /// What it is for.
    pub(super) kind: Kind,
    /// The newest revision that is known.
    pub(super) after: Revision,
    phase: Phase,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Due { at: u64 },
    Waiting { token: u32, since: u64 },
}

impl Poll {
    pub(super) fn new(kind: Kind, after: Revision) -> Self {
        Self {
            kind,
            after,
            phase: Phase::Due { at: 0 },
            failures: 0,
        }
    }

    pub(super) fn waits_for(&self, answered: u32) -> bool {
        matches!(self.phase, Phase::Waiting { token, .. } if token == answered)
    }

    /// Whether the controller holds it now, as far as is known.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// What to ask for, if it is time to.
    pub(super) fn due(&self, now: u64) -> Option<(Kind, Revision)> {
        (self.wait(now) == 0).then_some((self.kind, self.after))
    }

    /// Milliseconds until there is something to do.
    pub(super) fn wait(&self, now: u64) -> u64 {
        match self.phase {
            // A clock set back must not put a poll off beyond the longest wait.
            Phase::Due { at } if at > now.saturating_add(LONGEST_WAIT_MS) => 0,
            Phase::Due { at } => at.saturating_sub(now),
            Phase::Waiting { since, .. } => LOST_MS.saturating_sub(now.abs_diff(since)),
        }
    }

    pub(super) fn sent(&mut self, token: u32, now: u64) {
        self.phase = Phase::Waiting { token, since: now };
    }

    pub(super) fn again(&mut self, now: u64) {
        self.failures = 0;
        self.phase = Phase::Due { at: now };
    }

    pub(super) fn again_unless_hasty(&mut self, now: u64) {
        let hasty =
            matches!(self.phase, Phase::Waiting { since, .. } if now.abs_diff(since) < HASTY_MS);
        self.failures = 0;
        self.phase = Phase::Due {
            at: if hasty {
                now.saturating_add(HASTY_MS)
            } else {
                now
            },
        };
    }

    /// Says once what is wrong with the answers, until one is right.
    pub(super) fn complain(&self, why: fmt::Arguments<'_>) {
        if self.failures == 0 {
            let (kind, after) = (self.kind.name(), self.after);
            log::warn!("the answer to the poll for {kind} after {after} is not taken: {why}");
        }
    }

    /// Waits longer after each failure, and not all Envoys equally long. True: it is the first one.
    pub(super) fn failed(&mut self, now: u64, entropy: [u8; 16]) -> bool {
        let full = FIRST_WAIT_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST_WAIT_MS);
        let [dice, ..] = entropy;
        let wait = full / 2 + full / 2 * u64::from(dice) / 255;
        self.failures = self.failures.saturating_add(1);
        self.phase = Phase::Due {
            at: now.saturating_add(wait),
        };
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll() -> Poll {
        Poll::new(Kind::Policy, Revision::new(3))
    }

    #[test]
    fn waits_double_up_to_two_seconds_and_start_over_after_an_answer() {
        let mut poll = poll();
        let mut waits = Vec::new();
        for _ in 0..8 {
            poll.failed(1000, [255; 16]);
            waits.push(poll.wait(1000));
        }
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        poll.again(1000);
        assert!(poll.failed(1000, [0; 16]), "the first failure again");
        assert_eq!(poll.wait(1000), 25, "the dice take off up to half");
    }

    #[test]
    fn an_empty_answer_that_did_not_wait_is_not_asked_for_again_at_once() {
        let mut poll = poll();
        poll.sent(1, 1000);
        poll.again_unless_hasty(1001);
        assert_eq!(poll.wait(1001), HASTY_MS);
        poll.sent(2, 2000);
        poll.again_unless_hasty(32_000);
        assert_eq!(poll.wait(32_000), 0);
    }

    #[test]
    fn a_lost_call_is_made_again() {
        let mut poll = poll();
        poll.sent(1, 1000);
        assert_eq!(poll.due(1000 + LOST_MS - 1), None);
        assert!(poll.due(1000 + LOST_MS).is_some());
    }

    #[test]
    fn a_clock_set_back_holds_nothing_up() {
        let mut poll = poll();
        poll.failed(1_000_000, [255; 16]);
        assert!(poll.due(1000).is_some());
    }
}
