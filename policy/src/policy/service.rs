//! A service: its versions, and how its requests are spread over them.

use super::experiment::{Layer, layers, units};
use super::features;
use super::names::{Known, Unique, check_cluster, check_header_text, check_name, header_name};
use super::rewrite::Rewrite;
use super::rollout::{Degrade, Rollout};
use super::route::{Route, check_params};
use crate::color::Color;
use crate::load::report::{Place, Report};
use crate::raw::{RawExperiment, RawService, RawToken, RawVerification, RawVersion};
use crate::terms::{ColorSource, Detector, Metadata, OnUnknown, UnitSource};
use crate::version::VersionNumber;

/// Each costs every request two hashes.
pub(crate) const MAX_LAYERS: usize = 16;
/// The article's limit for a version's metadata (§2.3), names of headers not counted.
pub(crate) const MAX_METADATA_BYTES: usize = 512;
/// Versions are numbered by one byte.
const MAX_VERSIONS: usize = 64;
const YEAR_SECONDS: u64 = 365 * 24 * 60 * 60;
const TOKEN_HEADER: &str = "x-stage-token";
const MIN_TOKEN: usize = 8;

/// A validated service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) routes: Vec<Route>,
    pub(crate) versions: Vec<Version>,
    pub(crate) default: usize,
    pub(crate) detect: Vec<Detector>,
    pub(crate) on_unknown: OnUnknown,
    pub(crate) colors: Vec<(String, usize)>,
    pub(crate) color_sources: Vec<ColorSource>,
    pub(crate) units: Vec<UnitSource>,
    /// Seconds that browsers keep a minted unit.
    pub(crate) mint_lifetime: u64,
    pub(crate) rollout: Option<Rollout>,
    /// How the candidate is judged and moved; without it nothing moves by itself.
    pub(crate) degrade: Option<Degrade>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) verification: Verification,
    pub(crate) secret: Vec<Metadata>,
}

/// A validated version.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) number: VersionNumber,
    pub(crate) cluster: String,
    pub(crate) cluster_place: Place,
    pub(crate) stage: Option<String>,
    pub(crate) build_id: Option<String>,
    pub(crate) rewrite: Option<Rewrite>,
}

/// Who may choose the version by `X-Stage`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verification {
    Off,
    Open,
    Token { header: String, token: String },
}

/// What `load` has read for a service beside the policy file.
pub(crate) struct Included {
    pub(crate) experiments: Vec<(Place, RawExperiment)>,
    pub(crate) token: Option<String>,
}

impl Service {
    pub(crate) fn validate(
        report: &mut Report,
        place: &Place,
        raw: &RawService,
        included: &Included,
        known: &mut Known,
    ) -> Option<Self> {
        check_name(report, &place.key("name"), &raw.name);
        known.services.check(report, &place.key("name"), &raw.name);
        if raw.routes.is_empty() {
            report.error(
                &place.key("routes"),
                "is empty: a service has at least one route",
            );
        }
        let routes_place = place.key("routes");
        let routes = raw.routes.iter().enumerate().filter_map(|(index, route)| {
            Route::validate(report, &routes_place.item(index), route, known)
        });
        let routes: Vec<Route> = routes.collect();
        let versions = versions(report, &place.key("versions"), &raw.versions, &routes);
        let version = |report: &mut Report, place: &Place, name: &str| {
            find_version(report, place, &raw.versions, name)
        };
        let default = version(report, &place.key("default"), &raw.default);
        let rollout_place = place.key("rollout");
        let rollout = raw.rollout.as_ref().and_then(|rollout| {
            Rollout::validate(report, &rollout_place, rollout, version, default)
        });
        let degrade_place = place.key("degrade");
        let degrade = raw.degrade.as_ref().and_then(|degrade| {
            Degrade::validate(
                report,
                &degrade_place,
                degrade,
                raw.rollout.is_some(),
                version,
            )
        });
        if let (Some(rollout), Some(degrade), Some(default)) = (&rollout, &degrade, default) {
            degrade.check_pair(
                report,
                &degrade_place,
                rollout.candidate,
                default,
                &raw.versions,
            );
        }
        let layers = layers(report, &raw.name, &included.experiments, version);
        if layers.len() > MAX_LAYERS {
            let message = format!(
                "make {} layers: a service has at most {MAX_LAYERS}",
                layers.len()
            );
            report.error(&place.key("experiments"), message);
        }
        features::check_layers(report, &place.key("experiments"), &layers);
        let verification = verification(report, place, &raw.verification, included);
        let units = units(report, &place.key("unit"), &raw.unit);
        let unbucketed = layers.iter().any(|layer| layer.unit.is_empty()) || rollout.is_some();
        if unbucketed && units.is_empty() {
            report.error(
                &place.key("unit"),
                "is missing: say what experiments and the rollout bucket, for instance `[{ header: x-user-id }, mint]`",
            );
        }
        Some(Self {
            name: raw.name.clone(),
            routes,
            versions,
            default: default?,
            detect: order(
                report,
                &place.key("detect"),
                raw.detect.as_deref(),
                &Detector::ORDER,
            ),
            on_unknown: raw.on_unknown,
            colors: colors(report, &place.key("colors"), raw, version),
            color_sources: order(
                report,
                &place.key("color_sources"),
                raw.color_sources.as_deref(),
                &ColorSource::ORDER,
            ),
            units,
            mint_lifetime: mint_lifetime(report, &place.key("mint").key("lifetime"), raw),
            rollout,
            degrade,
            layers,
            verification,
            secret: raw.secret.clone(),
        })
    }
}

fn versions(
    report: &mut Report,
    place: &Place,
    raw: &[RawVersion],
    routes: &[Route],
) -> Vec<Version> {
    if raw.is_empty() {
        report.error(place, "is empty: a service has at least one version");
    } else if raw.len() > MAX_VERSIONS {
        report.error(
            place,
            format!("has {} versions: at most {MAX_VERSIONS}", raw.len()),
        );
    }
    let mut names = Unique::default();
    let versions = raw.iter().enumerate().filter_map(|(index, raw)| {
        let place = place.item(index);
        let number = report.take(&place.key("name"), VersionNumber::parse(&raw.name))?;
        // By number, so that `v2` and `v2.0` are seen to be the same.
        names.check(report, &place.key("name"), &number.to_string());
        let cluster_place = place.key("cluster");
        check_cluster(report, &cluster_place, &raw.cluster);
        for (key, text) in [("stage", &raw.stage), ("build_id", &raw.build_id)] {
            if let Some(text) = text {
                check_header_text(report, &place.key(key), text);
            }
        }
        let texts = [
            Some(&number.to_string()),
            raw.stage.as_ref(),
            raw.build_id.as_ref(),
        ];
        let size: usize = texts.into_iter().flatten().map(String::len).sum();
        if size > MAX_METADATA_BYTES {
            let message =
                format!("the metadata takes {size} bytes: it is cut to {MAX_METADATA_BYTES}");
            report.warning(&place, message);
        }
        let rewrite_place = place.key("rewrite");
        let rewrite = raw.rewrite.as_deref();
        let rewrite = rewrite.and_then(|text| Rewrite::parse(report, &rewrite_place, text));
        if let Some(rewrite) = &rewrite {
            for route in routes {
                check_params(
                    report,
                    &rewrite_place,
                    rewrite,
                    &route.template,
                    &route.name,
                );
            }
        }
        Some(Version {
            name: raw.name.clone(),
            number,
            cluster: raw.cluster.clone(),
            cluster_place,
            stage: raw.stage.clone(),
            build_id: raw.build_id.clone(),
            rewrite,
        })
    });
    versions.collect()
}

fn find_version(
    report: &mut Report,
    place: &Place,
    versions: &[RawVersion],
    name: &str,
) -> Option<usize> {
    let found = versions.iter().position(|version| version.name == name);
    if found.is_none() {
        let known: Vec<_> = versions
            .iter()
            .map(|version| format!("`{}`", version.name))
            .collect();
        let known = known.join(", ");
        report.error(
            place,
            format!("`{name}` is not a version of this service: it has {known}"),
        );
    }
    found
}

fn colors(
    report: &mut Report,
    place: &Place,
    raw: &RawService,
    version: impl Fn(&mut Report, &Place, &str) -> Option<usize>,
) -> Vec<(String, usize)> {
    let pairs = raw.colors.iter().filter_map(|(color, name)| {
        let place = place.key(color);
        if Color::parse(color.as_bytes()).is_none() {
            report.error(
                &place,
                format!("`{color}` is not a color: use 1 to 32 of `a` to `z`, `0` to `9` and `-`"),
            );
        }
        if color.as_bytes() == Color::DEFAULT.as_str().as_bytes() {
            let message = format!("every request without a color has `{color}`: mapped, it would keep all of them from the rollout and the experiments' versions; leave it out");
            report.error(&place, message);
        }
        Some((color.clone(), version(report, &place, name)?))
    });
    pairs.collect()
}

/// A list that may be given once and may not repeat itself, or its default.
fn order<T: Copy + PartialEq>(
    report: &mut Report,
    place: &Place,
    written: Option<&[T]>,
    default: &[T],
) -> Vec<T> {
    let list = written.unwrap_or(default);
    for (index, item) in list.iter().enumerate() {
        if list.iter().take(index).any(|before| before == item) {
            report.error(&place.item(index), "is listed twice");
        }
    }
    list.to_vec()
}

fn mint_lifetime(report: &mut Report, place: &Place, raw: &RawService) -> u64 {
    let Some(lifetime) = raw.mint.lifetime else {
        return YEAR_SECONDS;
    };
    let seconds = lifetime.get() / 1000;
    if seconds == 0 {
        report.error(
            place,
            format!("`{lifetime}` is too short: browsers count whole seconds"),
        );
    }
    seconds
}

fn verification(
    report: &mut Report,
    place: &Place,
    raw: &RawVerification,
    included: &Included,
) -> Verification {
    let place = place.key("verification");
    let raw = match raw {
        RawVerification::Off => return Verification::Off,
        RawVerification::Open => return Verification::Open,
        RawVerification::Token(raw) => raw,
    };
    let RawToken {
        header,
        token,
        token_file,
    } = raw;
    if token.is_some() == token_file.is_some() {
        report.error(&place, "give either `token` or `token_file`");
    }
    let token = token
        .clone()
        .or_else(|| included.token.clone())
        .unwrap_or_default();
    if token.len() < MIN_TOKEN && (raw.token.is_some() || included.token.is_some()) {
        report.error(
            &place,
            format!("the token is too short: use at least {MIN_TOKEN} bytes"),
        );
    }
    let header = header.as_deref().unwrap_or(TOKEN_HEADER);
    let header = header_name(report, &place.key("header"), header);
    Verification::Token { header, token }
}
