//! The design's section 3 said once more, the slowest way: every route is tried, every slot range
//! is walked, nothing is compiled.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde_json::Value;
use xxhash_rust::xxh64::xxh64;

use crate::model::{
    Decision, Experiment, Model, PATTERNS, Request, Route, Segment, Service, TOKEN, Unit,
    Verification,
};

/// What becomes of a request, as far as the two are compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pass,
    Refuse {
        status: u32,
        why: &'static str,
    },
    Route {
        /// The value of `x-ombre-decision`.
        decision: String,
        cluster: String,
        color: String,
        groups: String,
        features: BTreeMap<String, Value>,
        minted: Option<String>,
    },
}

/// The entropy of every request, and the unit it makes.
pub(crate) const ENTROPY: [u8; 16] = [0xa7; 16];
const MINTED: &str = "a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7";

pub(crate) fn decide(model: &Model, request: &Request) -> Outcome {
    let path: Vec<&str> = request.path.iter().map(|word| word.meant).collect();
    if model
        .switches
        .disabled
        .is_some_and(|prefix| path.first() == Some(&prefix))
    {
        return Outcome::Refuse {
            status: 404,
            why: "disabled_path",
        };
    }
    let Some((service, at)) = route(model, request, &path) else {
        return Outcome::Pass;
    };
    if service.decision.disabled.contains(&at) {
        return Outcome::Refuse {
            status: 404,
            why: "disabled_route",
        };
    }
    let on = |feature: &str| {
        model
            .switches
            .features
            .as_ref()
            .is_none_or(|on| on.contains(&feature))
    };
    let switched = model
        .switches
        .route_version
        .and_then(parse)
        .and_then(|wanted| highest(service, wanted));
    let color = color(service, request, on("baggage"));
    let pinned = if let Some(version) = verified(service, request).filter(|_| on("verification")) {
        Some((version, "verification"))
    } else if let Some((detector, wanted)) = wanted(service, request, &service.routes[at], &path) {
        match wanted {
            Some(version) => Some((version, detector)),
            None if service.rejects_unknown => {
                let status = match detector {
                    "accept" => 406,
                    "path" => 404,
                    _ => 400,
                };
                return Outcome::Refuse {
                    status,
                    why: "unknown_version",
                };
            }
            None => Some((switched.unwrap_or(service.default), "unknown_version")),
        }
    } else {
        service
            .colors
            .get(color.as_str())
            .map(|version| (*version, "color"))
    };

    let mut minted = false;
    let mut groups = Vec::new();
    let mut features = BTreeMap::new();
    let mut by_group = None;
    if on("experiments") {
        for layer in layers(service) {
            let sources = if layer[0].unit.is_empty() {
                &service.unit
            } else {
                &layer[0].unit
            };
            let unit = unit(sources, request, &mut minted);
            let Some((experiment, group)) = group(service, &layer, unit.as_deref()) else {
                continue;
            };
            let group = &experiment.groups[group];
            if unit.is_some() {
                groups.push(format!("{}={}", experiment.name, group.name));
            }
            if let Some(value) = group.feature {
                let value = serde_json::from_str(value).expect("JSON");
                features.insert(experiment.feature(), value);
            }
            by_group = by_group.or(group.version);
        }
    }
    let mut by_rollout = None;
    if pinned.is_none()
        && on("rollout")
        && let Some((candidate, share)) = service.rollout
        && let Some(unit) = unit(&service.unit, request, &mut minted)
        && slot("rollout", &service.name, &unit) < service.decision.weight.unwrap_or(share)
    {
        by_rollout = Some(candidate);
    }
    let (chosen, reason) = pinned
        .or(by_group.map(|version| (version, "experiment")))
        .or(by_rollout.map(|version| (version, "rollout")))
        .or(switched.map(|version| (version, "route_version")))
        .unwrap_or((service.default, "default"));

    let Decision {
        degraded, frozen, ..
    } = &service.decision;
    let fallback = degraded.get(&chosen).filter(|_| reason != "verification");
    let version = *fallback.unwrap_or(&chosen);
    if frozen.contains(&version) && !["GET", "HEAD", "OPTIONS", "TRACE"].contains(&request.method) {
        return Outcome::Refuse {
            status: 503,
            why: "frozen_writes",
        };
    }
    let (name, route) = (service.versions[version], &service.routes[at].name);
    let mut decision = format!("route={route};version={name};reason={reason}");
    if fallback.is_some() {
        decision.push_str(&format!(";degraded={}", service.versions[chosen]));
    }
    Outcome::Route {
        decision,
        cluster: format!("{}:{name}", service.name),
        color,
        groups: groups.join(","),
        features,
        minted: minted.then(|| MINTED.to_owned()),
    }
}

/// The most specific of the routes that match.
fn route<'m>(model: &'m Model, request: &Request, path: &[&str]) -> Option<(&'m Service, usize)> {
    let mut best = None;
    for service in &model.services {
        for (at, route) in service.routes.iter().enumerate() {
            let methods = &route.methods;
            if !(methods.is_empty() || methods.contains(&request.method))
                || !matches(&route.path, path)
            {
                continue;
            }
            let hosts = if route.hosts.is_empty() {
                &["*"][..]
            } else {
                &route.hosts
            };
            for host in hosts {
                let Some(host_rank) = host_rank(host, request.host) else {
                    continue;
                };
                let rank = (
                    host_rank,
                    path_rank(model, host, &route.path),
                    methods.is_empty(),
                );
                if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                    best = Some((rank, (service, at)));
                }
            }
        }
    }
    best.map(|(_, found)| found)
}

fn matches(template: &[Segment], path: &[&str]) -> bool {
    match (template, path) {
        ([Segment::Rest], _) | ([], []) => true,
        ([segment, template @ ..], [text, path @ ..]) => {
            let fits = match segment {
                Segment::Static(label) => label == text,
                Segment::Param(_) => !text.is_empty(),
                Segment::Pattern(_, pattern) => PATTERNS[*pattern].1(text),
                Segment::Rest => false,
            };
            fits && matches(template, path)
        }
        _ => false,
    }
}

/// An exact name before the longest `*.` before any.
fn host_rank(host: &str, sent: &str) -> Option<(u8, Reverse<usize>)> {
    let sent = sent.split(':').next().unwrap_or_default().to_lowercase();
    match host.strip_prefix('*') {
        Some("") => Some((2, Reverse(0))),
        Some(suffix) => sent.ends_with(suffix).then_some((1, Reverse(suffix.len()))),
        None => (host.to_lowercase() == sent).then_some((0, Reverse(0))),
    }
}

/// Segment by segment static text before patterns before parameters before the rest; of patterns
/// the one that the files name first at this place.
fn path_rank(model: &Model, host: &str, path: &[Segment]) -> Vec<(u8, usize)> {
    let rank = |(at, segment): (usize, &Segment)| match segment {
        Segment::Static(_) => (0, 0),
        Segment::Pattern(..) => {
            let all = model.services.iter().flat_map(|service| &service.routes);
            let here = |route: &Route| {
                let on_host = if host == "*" {
                    route.hosts.is_empty()
                } else {
                    route.hosts.contains(&host)
                };
                on_host
                    && route.path.len() > at
                    && (0..=at).all(|index| same(route.path[index], path[index]))
            };
            (1, all.into_iter().position(here).unwrap_or(usize::MAX))
        }
        Segment::Param(_) => (2, 0),
        Segment::Rest => (3, 0),
    };
    path.iter().enumerate().map(rank).collect()
}

/// Whether two segments match the same, whatever their parameters are called.
pub(crate) fn same(one: Segment, other: Segment) -> bool {
    match (one, other) {
        (Segment::Param(_), Segment::Param(_)) => true,
        (Segment::Pattern(_, one), Segment::Pattern(_, other)) => one == other,
        (one, other) => one == other,
    }
}

fn color(service: &Service, request: &Request, with_baggage: bool) -> String {
    let order = ["header", "baggage", "cookie", "query"];
    let sources = service.color_sources.as_deref().unwrap_or(&order);
    let found = sources.iter().find_map(|source| {
        let value = match *source {
            "header" => only(&request.color),
            "baggage" => request.baggage.first().copied().filter(|_| with_baggage),
            "cookie" => first(&request.cookies, "traffic_color"),
            _ => first(&request.query, "color"),
        };
        let allowed =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        value.filter(|value| (1..=32).contains(&value.len()) && value.chars().all(allowed))
    });
    found.unwrap_or("prod").to_owned()
}

fn verified(service: &Service, request: &Request) -> Option<usize> {
    let open = match service.verification {
        Verification::Off => false,
        Verification::Open => true,
        Verification::Token => only(&request.token) == Some(TOKEN),
    };
    only(&request.stage)
        .filter(|_| open)
        .and_then(parse)
        .and_then(|wanted| highest(service, wanted))
}

/// Who answers first, and the version that is meant, if it is configured.
fn wanted(
    service: &Service,
    request: &Request,
    route: &Route,
    path: &[&str],
) -> Option<(&'static str, Option<usize>)> {
    let order = ["accept", "path", "header", "query"];
    let detectors = service.detect.as_deref().unwrap_or(&order);
    detectors.iter().find_map(|detector| {
        let text = match *detector {
            "accept" => return accepted(service, request).map(|found| (*detector, found)),
            "path" => {
                let named = |segment: &Segment| {
                    matches!(
                        segment,
                        Segment::Param("version") | Segment::Pattern("version", _)
                    )
                };
                let at = route.path.iter().position(named)?;
                Some(path[at])
            }
            "header" if request.api_version.is_empty() => None,
            // Two that differ are an answer that nobody can read.
            "header" => Some(only(&request.api_version).unwrap_or("?")),
            _ => first(&request.query, "version"),
        };
        let text = text.filter(|text| !text.is_empty())?;
        Some((
            *detector,
            parse(text).and_then(|wanted| highest(service, wanted)),
        ))
    })
}

/// `None`: no range names a version. `Some(None)`: none of them is configured.
fn accepted(service: &Service, request: &Request) -> Option<Option<usize>> {
    let mut ranges: Vec<(u32, (u32, Option<u32>))> = Vec::new();
    for range in &request.accept {
        let weight = range.weight.unwrap_or(1000);
        if let Some(version) = range.version.filter(|_| (1..=1000).contains(&weight)) {
            ranges.push((weight, version));
        }
    }
    // A stable sort: among equals the first stays first.
    ranges.sort_by_key(|(weight, _)| Reverse(*weight));
    let found = ranges
        .iter()
        .find_map(|(_, version)| highest(service, *version));
    (!ranges.is_empty()).then_some(found)
}

fn parse(text: &str) -> Option<(u32, Option<u32>)> {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    match text.split_once('.') {
        None => Some((text.parse().ok()?, None)),
        Some((major, minor)) => Some((major.parse().ok()?, Some(minor.parse().ok()?))),
    }
}

fn highest(service: &Service, (major, minor): (u32, Option<u32>)) -> Option<usize> {
    let mut found: Option<(u32, usize)> = None;
    for (at, name) in service.versions.iter().enumerate() {
        let (own_major, own_minor) = parse(name)?;
        let own_minor = own_minor.unwrap_or(0);
        let fits = own_major == major && minor.is_none_or(|minor| minor == own_minor);
        if fits && found.is_none_or(|(best, _)| own_minor > best) {
            found = Some((own_minor, at));
        }
    }
    found.map(|(_, at)| at)
}

/// The experiments that share a layer, in the order of the layers' first ones.
fn layers(service: &Service) -> Vec<Vec<&Experiment>> {
    let mut layers: Vec<(&str, Vec<&Experiment>)> = Vec::new();
    for experiment in &service.experiments {
        let name = experiment.layer.as_ref().unwrap_or(&experiment.name);
        match layers.iter_mut().find(|(known, _)| known == name) {
            Some((_, layer)) => layer.push(experiment),
            None => layers.push((name, vec![experiment])),
        }
    }
    layers.into_iter().map(|(_, layer)| layer).collect()
}

fn group<'m>(
    service: &Service,
    layer: &[&'m Experiment],
    unit: Option<&str>,
) -> Option<(&'m Experiment, usize)> {
    let Some(unit) = unit else {
        return Some((layer[0], 0));
    };
    let name = layer[0].layer.as_ref().unwrap_or(&layer[0].name);
    let shares = layer.iter().map(|experiment| experiment.share);
    let experiment = layer[walk(
        shares,
        slot("layer", &format!("{}/{name}", service.name), unit),
    )?];
    let own = format!("{}/{}", service.name, experiment.name);
    let salt = experiment.salt.unwrap_or(&own);
    let weights = experiment.groups.iter().map(|group| group.weight * 1000);
    Some((experiment, walk(weights, slot("arm", salt, unit))?))
}

/// Who owns a slot when each gets its slots behind those of the one before.
fn walk(sizes: impl Iterator<Item = u32>, slot: u32) -> Option<usize> {
    let mut behind = 0;
    for (at, size) in sizes.enumerate() {
        behind += size;
        if slot < behind {
            return Some(at);
        }
    }
    None
}

fn slot(purpose: &str, salt: &str, unit: &str) -> u32 {
    let seed = xxh64(format!("{purpose}\u{1f}{salt}").as_bytes(), 0);
    let upper = xxh64(unit.as_bytes(), seed) >> 32;
    u32::try_from((upper * 100_000) >> 32).expect("below 100,000")
}

fn unit(sources: &[Unit], request: &Request, minted: &mut bool) -> Option<String> {
    let users: Vec<&str> = request.user.iter().map(String::as_str).collect();
    sources.iter().find_map(|source| {
        let value = match source {
            Unit::User => only(&users),
            Unit::Cookie(name) => first(&request.cookies, name),
            Unit::Mint => {
                let known = first(&request.cookies, "ombre_uid").filter(|value| !value.is_empty());
                *minted |= known.is_none();
                known.or(Some(MINTED))
            }
        };
        value
            .filter(|value| (1..=256).contains(&value.len()))
            .map(str::to_owned)
    })
}

/// The value of a header, unless it was sent with several.
fn only<'r>(values: &[&'r str]) -> Option<&'r str> {
    let first = *values.first()?;
    values.iter().all(|value| *value == first).then_some(first)
}

fn first(pairs: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    pairs
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}
