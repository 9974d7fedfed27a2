//! How many Envoys there are, and how many of them do not run what they should.

use std::time::{Duration, SystemTime};

use ombre_policy::document::{Kind, Revision};

use super::{Discovery, FORGOTTEN_AFTER, Node};

/// All Envoys, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Those that may serve: they are connected, or were not long ago.
    pub live: usize,
    /// Those that fell silent within the last hour, have been so for a minute, and did not say that they end.
    pub silent: usize,
    /// Those of the live ones that refuse what they are sent over xDS.
    pub refusing: usize,
    /// Those of the live ones that run an older policy.
    pub policy: Behind,
    /// Those of the live ones that run older decisions.
    pub decisions: Behind,
}

/// Those that run something older than the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// How many.
    pub nodes: usize,
    /// For how long the one that has been so longest.
    pub longest: Duration,
}

impl Census {
    /// Counts `nodes`. `newer_since` says since when there has been a newer document than a revision.
    pub fn of(
        nodes: &[Node],
        now: SystemTime,
        newer_since: impl Fn(Kind, Option<Revision>) -> Option<SystemTime>,
    ) -> Self {
        let mut census = Self::default();
        for node in nodes {
            if !node.may_serve(now) {
                census.silent += usize::from(node.is_missed(now));
                continue;
            }
            census.live += 1;
            let refuses = node.xds.as_ref().is_some_and(Discovery::refuses);
            census.refusing += usize::from(refuses);
            for (behind, kind, run) in [
                (&mut census.policy, Kind::Policy, node.applied.policy),
                (
                    &mut census.decisions,
                    Kind::Decisions,
                    node.applied.decisions,
                ),
            ] {
                if let Some(since) = newer_since(kind, run) {
                    // One that has just come cannot have been behind before.
                    let since = since.max(node.applied_since);
                    let time = now.duration_since(since).unwrap_or_default();
                    behind.nodes += 1;
                    behind.longest = behind.longest.max(time);
                }
            }
        }
        census
    }
}

impl Node {
    /// Whether it fell silent. Its machine died, or the network to it is cut and it serves what it had.
    fn is_missed(&self, now: SystemTime) -> bool {
        !self.left && !self.may_serve(now) && self.away(now) < FORGOTTEN_AFTER
    }
}
