//! How all releases stand, for whoever asks: replaced whole after every change, read at any time.

use std::sync::Arc;

use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::breaker::Circuit;
use ombre_policy::release::judge::Judgement;
use ombre_policy::release::machine::{Circuits, Phase, PhaseName, Release, WriteOwner};
use ombre_policy::release::share::Percent;
use serde::Serialize;
use utoipa::ToSchema;

use super::Engine;
use super::breakers::ClusterView;
use super::measured::Measured;
use super::perform::weight;
use super::service::Service;
use crate::app::openapi::shapes;
use crate::evidence::SourceStatus;

/// All releases.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Board {
    /// By service.
    pub services: Vec<ServiceView>,
    /// The breakers of all clusters.
    pub clusters: Vec<ClusterView>,
    /// Where the evidence comes from.
    pub sources: Vec<SourceStatus>,
    /// Why releases cannot be kept, and so do not move.
    pub store_error: Option<String>,
}

/// One release.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ServiceView {
    /// The service.
    pub service: String,
    /// The version that is being released.
    pub candidate: String,
    /// The version that takes over when it fails.
    pub stable: String,
    /// Where it stands.
    #[schema(value_type = shapes::Phase)]
    pub phase: PhaseName,
    /// The candidate's share of unpinned traffic.
    #[schema(value_type = u8)]
    pub share: Percent,
    /// Who takes the writes of that share.
    #[schema(value_type = shapes::WriteOwner)]
    pub writes: WriteOwner,
    /// What holds it, if something does.
    #[schema(value_type = Vec<String>)]
    pub held_by: Vec<&'static str>,
    /// What comes next, and what it waits for.
    pub next: String,
    /// The proxies that have yet to confirm a freeze, or a step of the ramp that waits for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub unconfirmed: Vec<String>,
    /// The last judgement: windows, triggers' values, verdict.
    #[schema(value_type = Option<Object>)]
    pub judgement: Option<Judgement>,
    /// Everything that is kept of it.
    #[schema(value_type = Object)]
    pub state: Release,
    /// What the metrics say of it beside the rest.
    #[serde(skip)]
    pub measured: Measured,
}

/// Everything that can hold a release.
pub const HOLDS: [&str; 8] = [
    "locked",
    "paused",
    "observing",
    "shared fault",
    "unknown evidence",
    "candidate's breaker",
    "fallback's breaker",
    "too few proxies",
];

impl Engine {
    /// Replaces the board.
    pub(super) fn show(&self) {
        let at = self.now();
        let view = |(name, service): (&String, &Service)| {
            let record = &service.record;
            let release = &record.release;
            let circuits = self
                .breakers
                .circuits(&service.candidate_cluster, &service.stable_cluster);
            let freezing = matches!(release.phase, Phase::Freezing { .. });
            let waits = freezing || release.unconfirmed.is_some();
            ServiceView {
                service: name.clone(),
                candidate: record.candidate.clone(),
                stable: record.stable.clone(),
                phase: release.phase.name(),
                share: release.phase.share(),
                writes: release.phase.owner(),
                held_by: held_by(release, circuits, at),
                next: next(service, at),
                unconfirmed: if waits {
                    self.unconfirmed(service)
                } else {
                    Vec::new()
                },
                judgement: service.judgement.clone(),
                state: release.clone(),
                measured: Measured {
                    share: weight(record) / 100.0,
                    ..service.measured.clone()
                },
            }
        };
        self.board.send_replace(Arc::new(Board {
            services: self.services.iter().map(view).collect(),
            clusters: self.breakers.views(),
            sources: self.collector.status(),
            store_error: self.store_error.clone(),
        }));
    }
}

fn held_by(release: &Release, circuits: Circuits, now: Moment) -> Vec<&'static str> {
    let climbs = matches!(
        release.phase.name(),
        PhaseName::Verifying | PhaseName::Ramping
    );
    let holds = [
        release.locked.is_some(),
        release.paused.is_some(),
        release.observe_until.is_some_and(|until| now < until),
        release.shared_fault.is_some(),
        release.unknown.is_some(),
        climbs && circuits.candidate != Circuit::Closed,
        circuits.stable == Circuit::Open,
        release.unconfirmed.is_some_and(|waiting| waiting.told),
    ];
    let held = HOLDS.into_iter().zip(holds).filter(|(_, holds)| *holds);
    held.map(|(name, _)| name).collect()
}

/// One sentence on what comes next.
fn next(service: &Service, now: Moment) -> String {
    let release = &service.record.release;
    let left = |since: Moment, span: Millis| rest(now, since.after(span));
    match &release.phase {
        Phase::Stable { share } if *share < Percent::FULL => {
            "keeps its share until somebody promotes it".to_owned()
        }
        Phase::Stable { .. } => "done".to_owned(),
        Phase::Suspect { .. } => {
            "fails back if a trigger fires, goes on after 30s of quiet".to_owned()
        }
        Phase::Freezing { fail_back } => {
            let left = rest(now, fail_back.deadline);
            match service.confirmed {
                Some(since) => {
                    let settled = rest(now, since.after(service.settings.drain.settle));
                    format!("drains {settled}, when writes under way have ended, aborted {left}")
                }
                None => format!("drains when every proxy refuses writes, aborted {left}"),
            }
        }
        Phase::Draining { fail_back, .. } => {
            let left = rest(now, fail_back.deadline);
            format!("fails back when the sync log is applied, aborted {left}")
        }
        Phase::FailedBack { until, .. } => {
            let rest = rest(now, *until);
            match (&release.locked, &release.paused) {
                (None, None) => format!("verifies {rest}"),
                (Some(_), _) => format!("verifies when it is unlocked, {rest} at the earliest"),
                (None, Some(_)) => format!("verifies when it is resumed, {rest} at the earliest"),
            }
        }
        Phase::Verifying { since, .. } => {
            let verify = service.terms.verify;
            let left = left(*since, verify.hold);
            format!(
                "ramps with {} good verification requests, {left} at the earliest",
                verify.requests
            )
        }
        Phase::Ramping { share, .. } if release.unconfirmed.is_some() => {
            let least = service
                .terms
                .reach
                .map_or(Percent::ZERO, |reach| reach.least);
            format!("goes on when {least} of the proxies run the step of {share}")
        }
        Phase::Ramping { share, since, .. } => {
            let left = left(*since, service.terms.hold);
            match service.terms.step_after(*share, release.target) {
                Some(step) => format!("{step} when the evidence is clear, {left} at the earliest"),
                None => format!("stable when the evidence is clear, {left} at the earliest"),
            }
        }
        Phase::Aborted { .. } => "waits for a person: resume, rollback or set-weight".to_owned(),
    }
}

fn rest(now: Moment, until: Moment) -> String {
    match until.since(now) {
        Millis::ZERO => "now".to_owned(),
        left => format!("in {}", Millis::from_secs(left.get().div_ceil(1000))),
    }
}
