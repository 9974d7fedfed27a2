//! What users write: the policy file and the article's experiment file, field by field.
//! Nothing is checked here but spelling and types; `policy` does the rest.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::duration::Millis;
use crate::release::settings::RawDegrade;
use crate::release::share::Percent;
use crate::terms::{ColorSource, Detector, Metadata, OnUnknown, UnitSource};

/// A policy file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    /// Must be `ombre/v1`.
    #[serde(rename = "apiVersion")]
    pub api_version: String,
    /// What is released.
    pub services: Vec<RawService>,
}

/// A service: its routes, versions and how requests are spread over them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawService {
    /// Unique over all policy files.
    pub name: String,
    /// Which requests belong to the service.
    pub routes: Vec<RawRoute>,
    /// What can serve them.
    pub versions: Vec<RawVersion>,
    /// The version for requests that nothing else decides.
    pub default: String,
    /// Where requests say which version they want; the first that answers wins.
    #[serde(default)]
    pub detect: Option<Vec<Detector>>,
    /// What happens when the wanted version is not configured.
    #[serde(default)]
    pub on_unknown: OnUnknown,
    /// Color to version.
    #[serde(default)]
    pub colors: BTreeMap<String, String>,
    /// Where colors are read from; a source that is not listed is switched off.
    #[serde(default)]
    pub color_sources: Option<Vec<ColorSource>>,
    /// What is bucketed; the first source that answers wins.
    #[serde(default)]
    pub unit: Vec<UnitSource>,
    /// The minted unit's cookie.
    #[serde(default)]
    pub mint: RawMint,
    /// The share of unpinned traffic for the candidate.
    #[serde(default)]
    pub rollout: Option<RawRollout>,
    /// One experiment.
    #[serde(default)]
    pub experiment: Option<RawExperimentSource>,
    /// Several experiments.
    #[serde(default)]
    pub experiments: Vec<RawExperimentSource>,
    /// How the candidate is judged and moved; automation is off without it.
    #[serde(default)]
    pub degrade: Option<RawDegrade>,
    /// Whether `X-Stage` may choose the version (§4.3).
    #[serde(default)]
    pub verification: RawVerification,
    /// Metadata that must never leave Envoy.
    #[serde(default)]
    pub secret: Vec<Metadata>,
}

/// Requests that belong to a service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRoute {
    /// Unique over all policy files.
    pub name: String,
    /// Exact names or `*.example.com`; none: any.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// None: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// A path template.
    pub path: String,
    /// What the upstream gets instead of the path.
    #[serde(default)]
    pub rewrite: Option<String>,
}

/// What serves requests.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawVersion {
    /// `v2` or `v2.3`.
    pub name: String,
    /// An Envoy cluster.
    pub cluster: String,
    /// `prod`, `canary`, ...
    #[serde(default)]
    pub stage: Option<String>,
    /// What was built.
    #[serde(default)]
    pub build_id: Option<String>,
    /// What this version gets instead of the path; wins over the route's.
    #[serde(default)]
    pub rewrite: Option<String>,
}

/// The cookie of a minted unit.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMint {
    /// How long browsers keep it; a year unless given.
    #[serde(default)]
    pub lifetime: Option<Millis>,
}

/// The candidate's share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRollout {
    /// The version that is being released.
    pub candidate: String,
    /// Percent, up to three decimals.
    pub weight: f64,
    /// Whole percents of the ramp, rising to 100.
    #[serde(default)]
    pub steps: Option<Vec<Percent>>,
    /// The least time at each step.
    #[serde(default)]
    pub hold: Option<Millis>,
    /// The share of the live proxies, in whole percent, that must run a step before the next one.
    #[serde(default)]
    pub min_acked: Option<Percent>,
    /// How long a step may stay below that share before somebody is told.
    #[serde(default)]
    pub ack_timeout: Option<Millis>,
}

/// An experiment: in a file of its own, as the article prints it, or in place.
#[derive(Clone, Debug)]
pub enum RawExperimentSource {
    /// Relative to the policy file.
    File(String),
    /// The same fields in place. Boxed: it is far larger than a path.
    Inline(Box<RawExperiment>),
}

/// The article's `ab-strategy.yaml` (§3.2) and its optional additions.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawExperiment {
    /// `v1`.
    #[serde(default)]
    pub version: Option<String>,
    /// The experiment's name.
    pub experiment: String,
    /// At least one; the first is the default group.
    pub groups: Vec<RawGroup>,
    /// What makes its buckets its own; service and name unless given.
    #[serde(default)]
    pub salt: Option<String>,
    /// What is bucketed, instead of the service's.
    #[serde(default)]
    pub unit: Option<Vec<UnitSource>>,
    /// Experiments of one layer exclude each other; a layer of its own unless given.
    #[serde(default)]
    pub layer: Option<String>,
    /// Percent of the layer's units; 100 unless given.
    #[serde(default)]
    pub share: Option<f64>,
}

/// A group of an experiment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGroup {
    /// Unique in the experiment.
    pub name: String,
    /// Percent, an integer.
    pub weight: u32,
    /// What the group's requests tell the service.
    #[serde(default)]
    pub features: BTreeMap<String, Feature>,
    /// The version that serves the group.
    #[serde(default)]
    pub version: Option<String>,
}

/// A feature's value: string, boolean or null, as the article has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a feature is a string, true, false or null")]
pub enum Feature {
    /// `true` or `false`.
    Flag(bool),
    /// Any text.
    Text(String),
    /// Explicitly nothing.
    Null,
}

/// Who may choose the version by `X-Stage`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RawVerification {
    /// Nobody.
    #[default]
    Off,
    /// Everybody; for meshes whose edge removes `X-Stage`.
    Open,
    /// Who sends the token.
    Token(RawToken),
}

/// The header that opens the verification channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawToken {
    /// `x-stage-token` unless given.
    #[serde(default)]
    pub header: Option<String>,
    /// The header's value.
    #[serde(default)]
    pub token: Option<String>,
    /// A file that holds it, such as a mounted secret; relative to the policy file.
    #[serde(default)]
    pub token_file: Option<String>,
}

// Both are written by hand and not `untagged`: that would hide the place and the cause of a
// mistake inside the map.
impl<'de> Deserialize<'de> for RawExperimentSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Source;
        impl<'de> Visitor<'de> for Source {
            type Value = RawExperimentSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of an experiment file, or an experiment")
            }

            fn visit_str<E>(self, path: &str) -> Result<Self::Value, E> {
                Ok(RawExperimentSource::File(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                RawExperiment::deserialize(MapAccessDeserializer::new(map))
                    .map(|inline| RawExperimentSource::Inline(Box::new(inline)))
            }
        }
        deserializer.deserialize_any(Source)
    }
}

impl<'de> Deserialize<'de> for RawVerification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Verification;
        impl<'de> Visitor<'de> for Verification {
            type Value = RawVerification;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, `open`, or a map with `token` or `token_file`")
            }

            // Some YAML writers turn a bare `off` into false.
            fn visit_bool<E: de::Error>(self, open: bool) -> Result<Self::Value, E> {
                if open {
                    return Err(E::invalid_value(de::Unexpected::Bool(open), &self));
                }
                Ok(RawVerification::Off)
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Self::Value, E> {
                match word {
                    "off" => Ok(RawVerification::Off),
                    "open" => Ok(RawVerification::Open),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                RawToken::deserialize(MapAccessDeserializer::new(map)).map(RawVerification::Token)
            }
        }
        deserializer.deserialize_any(Verification)
    }
}
