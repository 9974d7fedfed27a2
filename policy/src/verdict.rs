//! What becomes of a request, and why.

mod refusal;
mod write;

use crate::color::Color;
use crate::plan::{Plan, RoutePlan, ServicePlan, VersionPlan};
use crate::request::Request;
use crate::switches::Switches;
use crate::terms::{ColorSource, Detector};
use crate::version::Wanted;
pub use refusal::{Refusal, Refused};
pub use write::Edit;
pub(crate) use write::{BAGGAGE_KEY, MINT_COOKIE};

/// A minted unit: 128 bits in hexadecimal.
pub(crate) const MINTED_LENGTH: usize = 32;

/// What becomes of a request.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for one request; a box would allocate for each"
)]
pub enum Verdict<'a> {
    /// No route matches: the request passes untouched to the default.
    Pass,
    /// It goes to a version.
    Route(Routed<'a>),
    /// It is answered here.
    Refuse(Refusal<'a>),
}

/// A request that goes to a version.
#[derive(Debug)]
pub struct Routed<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) switches: &'a Switches,
    pub(crate) request: Request<'a>,
    /// In the order of the layers.
    pub(crate) cohorts: &'a [Cohort],
    pub(crate) route: &'a RoutePlan,
    pub(crate) service: &'a ServicePlan,
    pub(crate) choice: Choice<'a>,
    /// Where values are put together.
    pub(crate) buffer: &'a mut Vec<u8>,
}

/// Everything that was found out about a request and the version it goes to.
#[derive(Clone, Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) version: u8,
    pub(crate) serving: &'a VersionPlan,
    pub(crate) reason: Reason,
    /// The version that would have served it, had it not been degraded.
    pub(crate) degraded: Option<&'a VersionPlan>,
    pub(crate) color: ColorSeen<'a>,
    #[cfg_attr(
        not(feature = "load"),
        expect(dead_code, reason = "explanations read it")
    )]
    pub(crate) asked: Option<Asked>,
    pub(crate) unit: UnitSeen<'a>,
    #[cfg_attr(
        not(feature = "load"),
        expect(dead_code, reason = "explanations read it")
    )]
    pub(crate) rollout: Option<RolloutSeen>,
}

/// Why a version serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `X-Stage` through the verification channel.
    Verification,
    /// The request asked for it.
    Wanted(Detector),
    /// The request asked for a version that is not configured.
    UnknownVersion,
    /// The color is mapped to it.
    Color,
    /// The experiment group has it.
    Experiment,
    /// The unit is in the candidate's share.
    Rollout,
    /// `ROUTE_VERSION` made it the default.
    RouteVersion,
    /// Nothing else decided.
    Default,
}

/// The color of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColorSeen<'a> {
    pub(crate) color: Color<'a>,
    /// `None` for the default color.
    pub(crate) source: Option<ColorSource>,
    /// Sources that held something that is no color.
    pub(crate) invalid: u32,
}

/// The version a request asks for; `wanted` is `None` when it cannot be read as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) detector: Detector,
    pub(crate) wanted: Option<Wanted>,
    pub(crate) found: Option<u8>,
}

/// The unit that is bucketed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnitSeen<'a> {
    /// Nothing asked for one.
    Unneeded,
    /// Asked for, and not there.
    Missing,
    Header(&'a str, &'a [u8]),
    Cookie(&'a str, &'a [u8]),
    Minted([u8; MINTED_LENGTH]),
}

/// The group of one experiment, by its numbers in the service's plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cohort {
    pub(crate) layer: usize,
    pub(crate) experiment: usize,
    pub(crate) group: usize,
    /// `None` for the default group of a request without a unit.
    pub(crate) slot: Option<u32>,
}

/// Where the unit stands in the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RolloutSeen {
    pub(crate) slot: u32,
    pub(crate) below: u32,
}

/// Something rare that happened to a request and that operators count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A color that is none was dropped.
    InvalidColor,
    /// A version was asked for that is not configured.
    UnknownVersion,
    /// The version's metadata is longer than 512 bytes and was cut.
    MetadataTruncated,
    /// A unit was minted.
    Minted,
    /// There was no unit to bucket.
    NoUnit,
    /// A degraded version's request went to its fallback.
    Degraded,
    /// The request was answered here.
    Refused,
}

impl Verdict<'_> {
    /// The rare events of this request: most have none.
    pub fn counts(&self) -> impl Iterator<Item = Count> + use<> {
        let set = match self {
            Self::Pass => 0,
            Self::Route(routed) => routed.choice.counts(),
            Self::Refuse(refusal) => {
                Count::Refused.bit(true)
                    | Count::UnknownVersion.bit(refusal.why == Refused::UnknownVersion)
            }
        };
        let all = if set == 0 { &[][..] } else { &Count::ALL };
        all.iter()
            .copied()
            .filter(move |count| set & count.bit(true) != 0)
    }
}

impl Choice<'_> {
    /// A bit for each [`Count`].
    fn counts(&self) -> u8 {
        Count::InvalidColor.bit(self.color.invalid > 0)
            | Count::UnknownVersion.bit(self.reason == Reason::UnknownVersion)
            | Count::MetadataTruncated.bit(self.serving.metadata_truncated)
            | Count::Minted.bit(matches!(self.unit, UnitSeen::Minted(_)))
            | Count::NoUnit.bit(matches!(self.unit, UnitSeen::Missing))
            | Count::Degraded.bit(self.degraded.is_some())
    }
}

impl Reason {
    /// The word in `x-ombre-decision`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::Wanted(detector) => detector.name(),
            Self::UnknownVersion => "unknown_version",
            Self::Color => "color",
            Self::Experiment => "experiment",
            Self::Rollout => "rollout",
            Self::RouteVersion => "route_version",
            Self::Default => "default",
        }
    }
}

impl UnitSeen<'_> {
    /// What is hashed.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Unneeded | Self::Missing => None,
            Self::Header(_, bytes) | Self::Cookie(_, bytes) => Some(bytes),
            Self::Minted(bytes) => Some(bytes),
        }
    }
}

impl Count {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::InvalidColor,
        Self::UnknownVersion,
        Self::MetadataTruncated,
        Self::Minted,
        Self::NoUnit,
        Self::Degraded,
        Self::Refused,
    ];

    const fn bit(self, happened: bool) -> u8 {
        (happened as u8) << self as u8
    }

    /// The word in the metric `ombre_<name>_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidColor => "invalid_color",
            Self::UnknownVersion => "unknown_version",
            Self::MetadataTruncated => "metadata_truncated",
            Self::Minted => "minted",
            Self::NoUnit => "no_unit",
            Self::Degraded => "degraded",
            Self::Refused => "refused",
        }
    }
}
