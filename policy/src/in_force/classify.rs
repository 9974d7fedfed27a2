//! The steps that decide a request, in their order: route, color, version wanted, cohorts,
//! choice, health. Section 3 of the design is this file in words.

use subtle::ConstantTimeEq;

use super::Scratch;
use super::cohort::{Bucketing, bucket};
use crate::accept::{Negotiated, may_name, negotiate};
use crate::baggage;
use crate::color::Color;
use crate::decisions::{DecisionTable, ServiceDecision};
use crate::headers::{HeaderMap, Single};
use crate::plan::paths::Segments;
use crate::plan::{Plan, RoutePlan, ServicePlan, VerificationPlan};
use crate::query;
use crate::request::{Field, Request};
use crate::switches::{FeatureSwitch, Switches};
use crate::terms::{ColorSource, Detector, OnUnknown, is_unsafe_method};
use crate::verdict::{
    Asked, BAGGAGE_KEY, Choice, Cohort, ColorSeen, Reason, Refusal, Refused, Routed, Verdict,
};
use crate::version::Wanted;

const COLOR_COOKIE: &[u8] = b"traffic_color";
const COLOR_PARAMETER: &[u8] = b"color";
const VERSION_PARAMETER: &[u8] = b"version";

pub(super) fn classify<'a>(
    plan: &'a Plan,
    decisions: &DecisionTable,
    switches: &'a Switches,
    headers: HeaderMap<'a>,
    scratch: &'a mut Scratch,
    entropy: impl FnOnce() -> [u8; 16],
) -> Verdict<'a> {
    let Scratch {
        path,
        value: buffer,
        cohorts,
    } = scratch;
    let request = Request::read(headers);
    let segments = request.segments(path);
    if switches.disables(&segments) {
        return refuse(Refused::DisabledPath, 404, None);
    }
    let Some(number) = plan.find(
        request.first(Field::Authority),
        &segments,
        request.first(Field::Method),
    ) else {
        return Verdict::Pass;
    };
    let found = plan
        .route(number)
        .and_then(|route| Some((route, plan.service(route.service)?)));
    let Some((route, service)) = found else {
        return Verdict::Pass;
    };
    let decision = decisions.service(route.service);
    if decision.disables(number) {
        return refuse(Refused::DisabledRoute, 404, Some(service));
    }
    let deciding = Deciding {
        request: &request,
        segments: &segments,
        route,
        service,
        decision,
        switches,
    };
    match deciding.choose(cohorts, entropy) {
        Ok(choice) => Verdict::Route(Routed {
            plan,
            switches,
            request,
            cohorts,
            route,
            service,
            choice,
            buffer,
        }),
        Err(refusal) => Verdict::Refuse(refusal),
    }
}

/// Before the first policy only the switches speak: what they close is never open.
pub(super) fn without_plan<'a>(
    switches: &Switches,
    headers: HeaderMap<'a>,
    scratch: &'a mut Scratch,
) -> Verdict<'a> {
    let request = Request::read(headers);
    if switches.disables(&request.segments(&mut scratch.path)) {
        return refuse(Refused::DisabledPath, 404, None);
    }
    Verdict::Pass
}

/// A request on its way to a choice.
struct Deciding<'a, 's> {
    request: &'s Request<'a>,
    segments: &'s Segments<'a>,
    route: &'a RoutePlan,
    service: &'a ServicePlan,
    decision: &'s ServiceDecision,
    switches: &'a Switches,
}

impl<'a> Deciding<'a, '_> {
    fn choose(
        &self,
        cohorts: &mut Vec<Cohort>,
        entropy: impl FnOnce() -> [u8; 16],
    ) -> Result<Choice<'a>, Refusal<'a>> {
        let color = self.color();
        let verified = self.verified();
        let asked = self.asked();
        let pinned = match (verified, asked) {
            (Some(version), _) => Some((version, Reason::Verification)),
            (
                None,
                Some(Asked {
                    found: Some(version),
                    detector,
                    ..
                }),
            ) => Some((version, Reason::Wanted(detector))),
            (
                None,
                Some(Asked {
                    found: None,
                    detector,
                    ..
                }),
            ) => {
                self.unknown(detector)?;
                let (default, _) = self.default_version();
                Some((default, Reason::UnknownVersion))
            }
            (None, None) => self.by_color(color),
        };
        let bucketing = Bucketing {
            request: self.request,
            service: self.service,
            weight: self.decision.weight,
            switches: self.switches,
        };
        let bucketed = bucket(&bucketing, pinned.is_some(), cohorts, entropy);
        let (mut version, reason) = pinned
            .or_else(|| Some((bucketed.group_version?, Reason::Experiment)))
            .or_else(|| Some((bucketed.candidate?, Reason::Rollout)))
            .unwrap_or_else(|| self.default_version());
        let mut degraded = None;
        if reason != Reason::Verification
            && let Some(fallback) = self.decision.fallback(version)
        {
            degraded = self.service.version(version);
            version = fallback;
        }
        if let Some(seconds) = self.decision.frozen(version)
            && self.may_write()
        {
            let frozen = refusal(Refused::FrozenWrites, 503, Some(self.service));
            return Err(Refusal {
                retry_after: Some(seconds),
                ..frozen
            });
        }
        // A number without a version cannot come out of compilation; the default exists always.
        let serving = self
            .service
            .version(version)
            .or_else(|| self.service.versions.first());
        let Some(serving) = serving else {
            return Err(refusal(Refused::UnknownVersion, 404, Some(self.service)));
        };
        let (unit, rollout) = (bucketed.unit, bucketed.rollout);
        Ok(Choice {
            version,
            serving,
            reason,
            degraded,
            color,
            asked,
            unit,
            rollout,
        })
    }

    /// Whether the request may change something: by its method, or through a socket that it opens.
    fn may_write(&self) -> bool {
        is_unsafe_method(self.request.first(Field::Method))
            || self.request.headers.single(b"upgrade") != Single::Absent
    }

    fn color(&self) -> ColorSeen<'a> {
        let mut invalid = 0;
        for source in &self.service.color_sources {
            let Some(value) = self.color_in(*source) else {
                continue;
            };
            match value.value().and_then(Color::parse) {
                Some(color) => {
                    return ColorSeen {
                        color,
                        source: Some(*source),
                        invalid,
                    };
                }
                None => invalid += 1,
            }
        }
        ColorSeen {
            color: Color::DEFAULT,
            source: None,
            invalid,
        }
    }

    fn color_in(&self, source: ColorSource) -> Option<Single<'a>> {
        let found = match source {
            ColorSource::Header => match self.request.single(Field::Color) {
                Single::Absent => None,
                sent => return Some(sent),
            },
            ColorSource::Baggage => self.color_in_baggage(),
            ColorSource::Cookie => self.request.cookie(COLOR_COOKIE),
            ColorSource::Query => query::get(self.request.query, COLOR_PARAMETER),
        };
        found.map(Single::One)
    }

    fn color_in_baggage(&self) -> Option<&'a [u8]> {
        if !self.request.has(Field::Baggage) || !self.switches.has(FeatureSwitch::Baggage) {
            return None;
        }
        let mut all = self.request.all(Field::Baggage);
        all.find_map(|value| baggage::get(value, BAGGAGE_KEY))
    }

    fn by_color(&self, seen: ColorSeen<'_>) -> Option<(u8, Reason)> {
        let color = seen.color.as_str();
        let mapped = self.service.colors.iter().find(|(name, _)| name == color);
        mapped.map(|(_, version)| (*version, Reason::Color))
    }

    /// The version that `X-Stage` names, if the channel is open to this request.
    fn verified(&self) -> Option<u8> {
        let stage = self.request.single(Field::Stage).value()?;
        let open = match &self.service.verification {
            VerificationPlan::Off => false,
            VerificationPlan::Open => true,
            VerificationPlan::Token { header, token } => {
                let sent = self.request.headers.single(header.as_bytes());
                sent.value()
                    .is_some_and(|sent| sent.ct_eq(token.as_bytes()).into())
            }
        };
        if !open || !self.switches.has(FeatureSwitch::Verification) {
            return None;
        }
        self.service.wanted(Wanted::parse(stage)?)
    }

    fn asked(&self) -> Option<Asked> {
        self.service
            .detect
            .iter()
            .find_map(|detector| self.asked_in(*detector))
    }

    fn asked_in(&self, detector: Detector) -> Option<Asked> {
        let service = self.service;
        let text = match detector {
            Detector::Accept => return self.accepted(),
            Detector::Path => {
                let at = usize::from(self.route.version_segment?);
                Single::One(self.segments.get(at)?)
            }
            Detector::Header => self.request.single(Field::Version),
            Detector::Query => match query::get(self.request.query, VERSION_PARAMETER) {
                None => Single::Absent,
                Some(value) => Single::One(value),
            },
        };
        if matches!(text, Single::Absent | Single::One(b"")) {
            return None;
        }
        let wanted = text.value().and_then(Wanted::parse);
        Some(Asked {
            detector,
            wanted,
            found: wanted.and_then(|wanted| service.wanted(wanted)),
        })
    }

    /// Most requests have an `Accept`, and most of those name no version.
    fn accepted(&self) -> Option<Asked> {
        let mut values = self.request.all(Field::Accept);
        values.any(may_name).then(|| self.negotiated())?
    }

    #[inline(never)]
    fn negotiated(&self) -> Option<Asked> {
        let configured = |wanted| self.service.wanted(wanted).is_some();
        let wanted = match negotiate(self.request.all(Field::Accept), configured) {
            Negotiated::NotAsked => return None,
            Negotiated::Version(wanted) | Negotiated::Unknown(wanted) => wanted,
        };
        Some(Asked {
            detector: Detector::Accept,
            wanted: Some(wanted),
            found: self.service.wanted(wanted),
        })
    }

    fn unknown(&self, detector: Detector) -> Result<(), Refusal<'a>> {
        let status = match (self.service.on_unknown, detector) {
            (OnUnknown::Default, _) => return Ok(()),
            (OnUnknown::Reject, Detector::Accept) => 406,
            (OnUnknown::Reject, Detector::Path) => 404,
            (OnUnknown::Reject, Detector::Header | Detector::Query) => 400,
        };
        Err(refusal(Refused::UnknownVersion, status, Some(self.service)))
    }

    fn default_version(&self) -> (u8, Reason) {
        let switched = self
            .switches
            .route_version()
            .and_then(|wanted| self.service.wanted(wanted));
        match switched {
            Some(version) => (version, Reason::RouteVersion),
            None => (self.service.default, Reason::Default),
        }
    }
}

fn refuse<'a>(why: Refused, status: u32, service: Option<&'a ServicePlan>) -> Verdict<'a> {
    Verdict::Refuse(refusal(why, status, service))
}

fn refusal(why: Refused, status: u32, service: Option<&ServicePlan>) -> Refusal<'_> {
    Refusal {
        why,
        status,
        retry_after: None,
        service,
    }
}
