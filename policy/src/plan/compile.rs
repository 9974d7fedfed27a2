//! Policy to plan: names become numbers, weights become slot ranges, texts become headers.

use super::compile_paths::PathsBuilder;
use super::table::build::count;
use super::{
    ExperimentPlan, GroupPlan, LayerPlan, Plan, RewritePart, Rewrites, RolloutPlan, RoutePlan,
    ServicePlan, VerificationPlan, VersionPlan,
};
use crate::hash::{Purpose, Seed};
use crate::policy::features;
use crate::policy::rewrite::{Part, Rewrite};
use crate::policy::service::MAX_METADATA_BYTES;
use crate::policy::{
    Experiment, Group, Layer, Policy, Route, Service, SlotTables, Verification, Version,
};
use crate::slots::SlotRange;
use crate::template::{Segment, Template};
use crate::terms::Metadata;

impl Plan {
    /// Compiles a policy. `slots` must come from [`Policy::slots`] of the same policy.
    pub fn compile(policy: &Policy, slots: &SlotTables) -> Self {
        let mut paths = PathsBuilder::new();
        let mut routes = Vec::new();
        for (service, written) in policy.services.iter().enumerate() {
            for route in &written.routes {
                paths.add(route, count(routes.len()));
                routes.push(RoutePlan {
                    name: paths.text.add(&route.name),
                    service: count(service),
                    version_segment: position(&route.template, "version"),
                    rewrites: rewrites(route, written),
                });
            }
        }
        let services = policy
            .services
            .iter()
            .map(|written| service(written, slots))
            .collect();
        Self {
            paths: paths.finish(),
            routes,
            services,
        }
    }
}

fn service(written: &Service, slots: &SlotTables) -> ServicePlan {
    let rollout = written.rollout.as_ref().map(|rollout| RolloutPlan {
        candidate: byte(rollout.candidate),
        slots: rollout.weight.slots(),
        seed: Seed::new(Purpose::Rollout, &written.name),
    });
    let verification = match &written.verification {
        Verification::Off => VerificationPlan::Off,
        Verification::Open => VerificationPlan::Open,
        Verification::Token { header, token } => VerificationPlan::Token {
            header: header.clone(),
            token: token.clone(),
        },
    };
    let colors = written
        .colors
        .iter()
        .map(|(color, version)| (color.clone(), byte(*version)));
    let versions = written
        .versions
        .iter()
        .map(|item| version(item, &written.secret));
    ServicePlan {
        name: written.name.clone(),
        versions: versions.collect(),
        default: byte(written.default),
        detect: written.detect.clone(),
        on_unknown: written.on_unknown,
        colors: colors.collect(),
        color_sources: written.color_sources.clone(),
        units: written.units.clone(),
        mint_lifetime: written.mint_lifetime,
        rollout,
        layers: written
            .layers
            .iter()
            .map(|item| layer(item, &written.name, slots))
            .collect(),
        verification,
    }
}

fn version(written: &Version, secret: &[Metadata]) -> VersionPlan {
    let mut left = MAX_METADATA_BYTES;
    let mut truncated = false;
    let number = written.number.to_string();
    let values = [
        (Metadata::Version, Some(number.as_str())),
        (Metadata::Stage, written.stage.as_deref()),
        (Metadata::BuildId, written.build_id.as_deref()),
    ];
    let open = values
        .into_iter()
        .filter(|(name, _)| !secret.contains(name));
    let metadata = open.filter_map(|(name, value)| {
        let value = value?;
        // ASCII was checked, so that every cut is between characters.
        let kept = value.get(..left.min(value.len())).unwrap_or_default();
        truncated |= kept.len() < value.len();
        left = left.saturating_sub(kept.len());
        Some((name, kept.to_owned()))
    });
    VersionPlan {
        name: written.name.clone(),
        number: written.number,
        cluster: written.cluster.clone(),
        metadata: metadata.collect(),
        metadata_truncated: truncated,
    }
}

fn rewrites(route: &Route, service: &Service) -> Option<Box<Rewrites>> {
    let parts = |rewrite: &Rewrite| parts(rewrite, &route.template);
    let versions = service.versions.iter().enumerate();
    let of_versions: Vec<_> = versions
        .filter_map(|(number, version)| Some((byte(number), parts(version.rewrite.as_ref()?))))
        .collect();
    let of_route = route.rewrite.as_ref().map(parts);
    let has_some = of_route.is_some() || !of_versions.is_empty();
    has_some.then(|| {
        Box::new(Rewrites {
            of_route,
            of_versions,
        })
    })
}

fn parts(rewrite: &Rewrite, template: &Template) -> Vec<RewritePart> {
    let parts = rewrite.0.iter().filter_map(|part| match part {
        Part::Literal(text) => Some(RewritePart::Literal(text.clone())),
        Part::Path => Some(RewritePart::Path),
        Part::Param(name) => {
            let at = position(template, name)?;
            Some(match template.segments().get(usize::from(at))? {
                Segment::Rest { .. } => RewritePart::Rest(at),
                _ => RewritePart::Segment(at),
            })
        }
    });
    parts.collect()
}

fn layer(written: &Layer, service: &str, slots: &SlotTables) -> LayerPlan {
    LayerPlan {
        seed: Seed::new(Purpose::Layer, &written.salt),
        units: written.unit.clone(),
        ranges: ranges(slots, &written.table_key()),
        experiments: written
            .experiments
            .iter()
            .map(|item| experiment(item, service, slots))
            .collect(),
    }
}

fn experiment(written: &Experiment, service: &str, slots: &SlotTables) -> ExperimentPlan {
    ExperimentPlan {
        seed: Seed::new(Purpose::Arm, &written.salt),
        ranges: ranges(slots, &written.table_key(service)),
        groups: written
            .groups
            .iter()
            .map(|item| group(item, &written.name))
            .collect(),
    }
}

fn group(written: &Group, experiment: &str) -> GroupPlan {
    GroupPlan {
        label: format!("{experiment}={}", written.name),
        features: features::members(&written.features),
        version: written.version.map(byte),
    }
}

fn ranges(slots: &SlotTables, key: &str) -> Vec<SlotRange> {
    slots
        .get(key)
        .map(|table| table.ranges())
        .unwrap_or_default()
}

fn position(template: &Template, name: &str) -> Option<u8> {
    let at = template
        .segments()
        .iter()
        .position(|segment| segment.name() == Some(name))?;
    Some(byte(at))
}

/// Numbers of versions and segments fit a byte: validation bounds both far below 256.
fn byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
