//! The compiled policy: flat tables that classify requests. The controller compiles it, the
//! filter only decodes it, so that a worker takes a policy without parsing or building anything.

#[cfg(feature = "load")]
mod compile;
#[cfg(feature = "load")]
mod compile_paths;
pub(crate) mod paths;
mod records;
mod table;

use serde::{Deserialize, Serialize};

use crate::decisions::DecisionTable;
use crate::document::DocumentError;
use crate::hash::Seed;
use crate::slots::SlotRange;
use crate::terms::{ColorSource, Detector, Metadata, OnUnknown, UnitSource};
use crate::verdict::Cohort;
use crate::version::{VersionNumber, Wanted};
use paths::Paths;
use table::Span;

/// A policy that is ready to classify requests.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    paths: Paths,
    routes: Vec<RoutePlan>,
    services: Vec<ServicePlan>,
}

/// What a matched route means.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoutePlan {
    name: Span,
    pub(crate) service: u32,
    /// The segment that is `{version}`.
    pub(crate) version_segment: Option<u8>,
    /// Few routes have any; the others stay small.
    pub(crate) rewrites: Option<Box<Rewrites>>,
}

/// What the path becomes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rewrites {
    pub(crate) of_route: Option<Vec<RewritePart>>,
    /// Those of single versions, which win over the route's.
    pub(crate) of_versions: Vec<(u8, Vec<RewritePart>)>,
}

/// A part of a rewritten path.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RewritePart {
    /// Text as it stands.
    Literal(String),
    /// The segment with this number.
    Segment(u8),
    /// The segments from this number on.
    Rest(u8),
    /// The whole path.
    Path,
}

/// A service as requests need it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServicePlan {
    pub(crate) name: String,
    pub(crate) versions: Vec<VersionPlan>,
    pub(crate) default: u8,
    pub(crate) detect: Vec<Detector>,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) colors: Vec<(String, u8)>,
    pub(crate) color_sources: Vec<ColorSource>,
    pub(crate) units: Vec<UnitSource>,
    /// Seconds.
    pub(crate) mint_lifetime: u64,
    pub(crate) rollout: Option<RolloutPlan>,
    pub(crate) layers: Vec<LayerPlan>,
    pub(crate) verification: VerificationPlan,
}

/// A version as requests need it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VersionPlan {
    pub(crate) name: String,
    pub(crate) number: VersionNumber,
    pub(crate) cluster: String,
    /// What is sent on, already cut to its limit.
    pub(crate) metadata: Vec<(Metadata, String)>,
    pub(crate) metadata_truncated: bool,
}

/// The candidate's share.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RolloutPlan {
    pub(crate) candidate: u8,
    /// Slots below this number go to the candidate, unless a decision says otherwise.
    pub(crate) slots: u32,
    pub(crate) seed: Seed,
}

/// A layer: which experiment a unit is in, if any.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerPlan {
    pub(crate) seed: Seed,
    /// Empty: the service's.
    pub(crate) units: Vec<UnitSource>,
    pub(crate) ranges: Vec<SlotRange>,
    pub(crate) experiments: Vec<ExperimentPlan>,
}

/// An experiment: which group a unit is in.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExperimentPlan {
    pub(crate) seed: Seed,
    pub(crate) ranges: Vec<SlotRange>,
    pub(crate) groups: Vec<GroupPlan>,
}

/// A group: what its requests are told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupPlan {
    /// `experiment=group`.
    pub(crate) label: String,
    /// The members of a JSON object, without its braces.
    pub(crate) features: String,
    pub(crate) version: Option<u8>,
}

/// Who may choose the version by `X-Stage`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VerificationPlan {
    Off,
    Open,
    Token { header: String, token: String },
}

impl Plan {
    /// The body of a policy document: the plan and the decisions that hold when it is published.
    pub fn encode(&self, decisions: &DecisionTable) -> Vec<u8> {
        // Writing plain data to memory cannot fail.
        postcard::to_allocvec(&(self, decisions)).unwrap_or_default()
    }

    /// Reads the body of a policy document.
    ///
    /// # Errors
    /// When the bytes are not a plan of this build.
    pub fn decode(body: &[u8]) -> Result<(Self, DecisionTable), DocumentError> {
        postcard::from_bytes(body).map_err(|_| DocumentError::Body)
    }

    /// The number of the most specific route for a request.
    pub(crate) fn find(&self, host: &[u8], path: &[&[u8]], method: &[u8]) -> Option<u32> {
        self.paths.find(host, path, method)
    }

    pub(crate) fn route(&self, number: u32) -> Option<&RoutePlan> {
        self.routes.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn route_name(&self, route: &RoutePlan) -> &str {
        route.name.of(&self.paths.text).unwrap_or_default()
    }

    pub(crate) fn service(&self, number: u32) -> Option<&ServicePlan> {
        self.services.get(usize::try_from(number).ok()?)
    }
}

impl RoutePlan {
    /// What the path becomes when this version serves the request.
    pub(crate) fn rewrite_for(&self, version: u8) -> Option<&[RewritePart]> {
        let rewrites = self.rewrites.as_ref()?;
        let own = rewrites.of_versions.iter().find(|(of, _)| *of == version);
        own.map(|(_, parts)| parts)
            .or(rewrites.of_route.as_ref())
            .map(Vec::as_slice)
    }
}

impl ServicePlan {
    pub(crate) fn version(&self, number: u8) -> Option<&VersionPlan> {
        self.versions.get(usize::from(number))
    }

    /// The group of a cohort.
    pub(crate) fn group(&self, cohort: &Cohort) -> Option<&GroupPlan> {
        let layer = self.layers.get(cohort.layer)?;
        let experiment = layer.experiments.get(cohort.experiment)?;
        experiment.groups.get(cohort.group)
    }

    /// The version that is wanted: the highest minor of a major, or the exact one.
    pub(crate) fn wanted(&self, wanted: Wanted) -> Option<u8> {
        let versions = self.versions.iter().enumerate();
        let accepted = versions.filter(|(_, version)| wanted.accepts(version.number));
        let (at, _) = accepted.max_by_key(|(_, version)| version.number)?;
        u8::try_from(at).ok()
    }
}
