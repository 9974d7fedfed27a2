//! How things stand, put together when somebody asks: nothing of it is kept twice, and what is gone
//! from the policy is gone from the metrics.

use std::fmt;
use std::sync::Arc;

use ombre_policy::duration::Moment;
use ombre_policy::release::breaker::Circuit;
use ombre_policy::release::machine::PhaseName;
use ombre_policy::release::triggers::Trigger;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

use super::page::Page;
use crate::engine::{ALERTS, Board, HOLDS, ServiceView};
use crate::nodes::Census;

/// How things stand.
#[derive(Debug)]
pub struct Now {
    /// The time by which releases are moved.
    pub at: Moment,
    /// Whether `/readyz` says so.
    pub ready: bool,
    /// Whether the newest policy files are not in force.
    pub refused: bool,
    /// How many long polls wait.
    pub polls_waiting: usize,
    /// The Envoys.
    pub census: Census,
    /// All releases.
    pub board: Arc<Board>,
}

const PHASES: [(PhaseName, &str); 8] = [
    (PhaseName::Stable, "stable"),
    (PhaseName::Suspect, "suspect"),
    (PhaseName::Freezing, "freezing"),
    (PhaseName::Draining, "draining"),
    (PhaseName::FailedBack, "failed_back"),
    (PhaseName::Verifying, "verifying"),
    (PhaseName::Ramping, "ramping"),
    (PhaseName::Aborted, "aborted"),
];
const TRIGGERS: [(Trigger, &str); 3] = [
    (Trigger::Outage, "outage"),
    (Trigger::Sustained, "sustained"),
    (Trigger::Score, "score"),
];

impl Now {
    /// Where nothing is.
    #[cfg(test)]
    pub(crate) fn nothing() -> Self {
        Self {
            at: Moment::from_unix_millis(0),
            ready: false,
            refused: false,
            polls_waiting: 0,
            census: Census::default(),
            board: Arc::default(),
        }
    }

    /// A registry with nothing else in it.
    pub(super) fn registry(self) -> Registry {
        let mut registry = Registry::with_prefix("ombre");
        registry.register_collector(Box::new(self));
        registry
    }

    fn write_envoys(&self, page: &mut Page<'_>) -> fmt::Result {
        let census = &self.census;
        page.gauge(
            (
                "nodes",
                "Envoys that may serve: connected, or so within the last minute",
            ),
            census.live,
        )?;
        page.gauge(
            (
                "nodes_silent",
                "Envoys that fell silent within the last hour and have been so for a minute, and did not end",
            ),
            census.silent,
        )?;
        page.gauge(
            (
                "nodes_refusing",
                "Envoys that refuse now what they are sent over xDS",
            ),
            census.refusing,
        )?;
        let behind = [("policy", census.policy), ("decisions", census.decisions)];
        let nodes = behind.map(|(kind, behind)| ([("kind", kind)], behind.nodes));
        page.gauges(
            (
                "nodes_behind",
                "Envoys that may serve and do not run the newest document",
            ),
            nodes,
        )?;
        let longest = behind.map(|(kind, behind)| ([("kind", kind)], behind.longest.as_secs_f64()));
        page.gauges(
            (
                "nodes_behind_seconds",
                "For how long the Envoy that is behind longest has been so, 0 when none is",
            ),
            longest,
        )
    }

    fn write_evidence(&self, page: &mut Page<'_>) -> fmt::Result {
        let sources = &self.board.sources;
        let up = sources.iter().map(|source| {
            let up = source.error.is_none() && source.answered.is_some();
            ([("source", source.url.as_str())], truth(up))
        });
        page.gauges(
            (
                "evidence_up",
                "1 when the source's last answer could be used, all of it",
            ),
            up,
        )?;
        let ages = sources.iter().filter_map(|source| {
            let age = self.at.since(source.answered?).get() as f64 / 1e3;
            Some(([("source", source.url.as_str())], age))
        });
        page.gauges(
            (
                "evidence_age_seconds",
                "Time since the source was asked for its last answer that could be used",
            ),
            ages,
        )
    }

    fn write_releases(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = &self.board.services;
        let states = all.iter().flat_map(|release| {
            PHASES.map(|(phase, state)| {
                let labels = [("service", release.service.as_str()), ("state", state)];
                (labels, truth(release.phase == phase))
            })
        });
        page.gauges(
            ("release_state", "1 for the state that the release is in"),
            states,
        )?;
        let held = all.iter().flat_map(|release| {
            HOLDS.map(|by| {
                let labels = [("service", release.service.as_str()), ("by", by)];
                (labels, truth(release.held_by.contains(&by)))
            })
        });
        page.gauges(
            ("release_held", "1 for each thing that holds the release"),
            held,
        )?;
        let share = all.iter().map(|release| {
            let (service, version) = (release.service.as_str(), release.candidate.as_str());
            let labels = [("service", service), ("version", version)];
            (labels, release.measured.share)
        });
        page.gauges(
            (
                "release_share_ratio",
                "The candidate's share of unpinned traffic, 0 to 1",
            ),
            share,
        )?;
        let ages = all.iter().map(|release| {
            let age = self.at.since(release.measured.moved).get() as f64 / 1e3;
            ([("service", release.service.as_str())], age)
        });
        page.gauges(
            (
                "release_state_age_seconds",
                "Time since the release's state or share changed last",
            ),
            ages,
        )?;
        self.count_releases(page)
    }

    fn count_releases(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = &self.board.services;
        let moves = |release: &'_ ServiceView, to| release.measured.transitions.get(&to).copied();
        let transitions = all.iter().flat_map(|release| {
            PHASES.map(|(phase, to)| {
                let labels = [("service", release.service.as_str()), ("to", to)];
                (labels, moves(release, phase).unwrap_or(0))
            })
        });
        page.counters(
            (
                "release_transitions",
                "How often the release came to this state, or to another share in it",
            ),
            transitions,
        )?;
        let trips = all.iter().flat_map(|release| {
            TRIGGERS.map(|(trigger, name)| {
                let labels = [("service", release.service.as_str()), ("trigger", name)];
                let count = release.measured.trips.get(&trigger).copied();
                (labels, count.unwrap_or(0))
            })
        });
        page.counters(
            (
                "release_trips",
                "How often this trigger took the candidate's traffic away",
            ),
            trips,
        )?;
        let alerts = all.iter().flat_map(|release| {
            ALERTS.map(|alert| {
                let labels = [("service", release.service.as_str()), ("alert", alert)];
                let count = release.measured.alerts.get(alert).copied();
                (labels, count.unwrap_or(0))
            })
        });
        page.counters(
            (
                "release_alerts",
                "How often somebody was called to the release, as webhooks are told of it",
            ),
            alerts,
        )
    }

    fn write_breakers(&self, page: &mut Page<'_>) -> fmt::Result {
        let all = &self.board.clusters;
        let failed = all.iter().map(|view| {
            let failed = view.breaker.failure_rate.get() as f64 / 1e6;
            ([("cluster", view.breaker.cluster_name.as_str())], failed)
        });
        page.gauges(
            (
                "breaker_failed_ratios",
                "Failed share of a cluster's requests over the last 10 s",
            ),
            failed,
        )?;
        let open = all.iter().map(|view| {
            let open = match view.state {
                Circuit::Closed => 0.0,
                Circuit::HalfOpen => 0.5,
                Circuit::Open => 1.0,
            };
            ([("cluster", view.breaker.cluster_name.as_str())], open)
        });
        page.gauges(
            (
                "breaker_open",
                "1 when the cluster's breaker is open, 0.5 when half open, 0 when closed",
            ),
            open,
        )
    }
}

impl Collector for Now {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page::new(encoder);
        page.gauge(
            ("ready", "1 when /readyz answers with 200"),
            truth(self.ready),
        )?;
        page.gauge(
            (
                "policy_refused",
                "1 when the newest policy files are refused and those before are in force",
            ),
            truth(self.refused),
        )?;
        page.gauge(
            (
                "store_saved",
                "1 when releases can be kept in ombre.db, so that they move",
            ),
            truth(self.board.store_error.is_none()),
        )?;
        page.gauge(
            ("polls_waiting", "Long polls that wait now"),
            self.polls_waiting,
        )?;
        self.write_envoys(&mut page)?;
        self.write_evidence(&mut page)?;
        self.write_releases(&mut page)?;
        self.write_breakers(&mut page)
    }
}

fn truth(truth: bool) -> usize {
    usize::from(truth)
}
