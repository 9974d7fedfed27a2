//! Experiments: groups with weights, features and perhaps a version, in layers that exclude.

use std::collections::BTreeMap;

use super::Share;
use super::features;
use super::names::{Unique, check_name, header_name};
use crate::load::report::{Place, Report};
use crate::raw::{Feature, RawExperiment, RawGroup};
use crate::terms::UnitSource;

const MAX_SALT: usize = 256;

/// Experiments that exclude each other: a unit is in at most one of them.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) salt: String,
    /// What is bucketed; empty: what the service buckets.
    pub(crate) unit: Vec<UnitSource>,
    pub(crate) experiments: Vec<Experiment>,
}

/// A validated experiment. Its first group is the default group.
#[derive(Clone, Debug)]
pub(crate) struct Experiment {
    pub(crate) name: String,
    pub(crate) salt: String,
    pub(crate) share: Share,
    pub(crate) groups: Vec<Group>,
}

/// A group. The weights of an experiment's groups sum to the whole.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) weight: Share,
    pub(crate) version: Option<usize>,
    pub(crate) features: BTreeMap<String, Feature>,
}

impl Layer {
    /// Where this layer's slot table is kept.
    pub(crate) fn table_key(&self) -> String {
        format!("layer:{}", self.salt)
    }
}

impl Experiment {
    /// Where this experiment's slot table is kept. Experiments of two services may share a salt,
    /// but not a table: their weights need not be the same.
    pub(crate) fn table_key(&self, service: &str) -> String {
        format!("arm:{service}/{}", self.salt)
    }
}

/// Validates a service's experiments and sorts them into layers.
pub(crate) fn layers(
    report: &mut Report,
    service: &str,
    written: &[(Place, RawExperiment)],
    mut version: impl FnMut(&mut Report, &Place, &str) -> Option<usize>,
) -> Vec<Layer> {
    let mut names = Unique::default();
    let mut salts = Unique::default();
    let mut layers: Vec<(String, Layer)> = Vec::new();
    let mut features: BTreeMap<&str, (String, &str)> = BTreeMap::new();
    for (place, raw) in written {
        let name_place = place.key("experiment");
        check_name(report, &name_place, &raw.experiment);
        names.check(report, &name_place, &raw.experiment);
        let layer_name = raw.layer.as_ref().unwrap_or(&raw.experiment);
        check_name(report, &place.key("layer"), layer_name);
        for feature in raw.groups.iter().flat_map(|group| group.features.keys()) {
            let first = features
                .entry(feature)
                .or_insert_with(|| (layer_name.clone(), &raw.experiment));
            if first.0 != *layer_name {
                let other = first.1;
                report.error(
                    place,
                    format!("feature `{feature}` is also set by experiment `{other}` of another layer: one request could get both"),
                );
            }
        }
        let Some(experiment) = experiment(report, service, place, raw, &mut version) else {
            continue;
        };
        salts.check(report, &place.key("salt"), &experiment.salt);
        let unit = units(
            report,
            &place.key("unit"),
            raw.unit.as_deref().unwrap_or_default(),
        );
        match layers.iter_mut().find(|(name, _)| name == layer_name) {
            None => {
                let salt = format!("{service}/{layer_name}");
                let experiments = vec![experiment];
                layers.push((
                    layer_name.clone(),
                    Layer {
                        salt,
                        unit,
                        experiments,
                    },
                ));
            }
            Some((_, layer)) => {
                if layer.unit != unit {
                    report.error(
                        &place.key("unit"),
                        format!("the experiments of layer `{layer_name}` must have one unit: otherwise they would not exclude each other"),
                    );
                }
                layer.experiments.push(experiment);
                let sum: u32 = layer.experiments.iter().map(|e| e.share.slots()).sum();
                if sum > Share::ALL.slots() {
                    report.error(
                        &place.key("share"),
                        format!("the shares of layer `{layer_name}` make more than 100: lower one"),
                    );
                }
            }
        }
    }
    layers.into_iter().map(|(_, layer)| layer).collect()
}

/// Checks unit sources and brings header names to lower case.
pub(crate) fn units(report: &mut Report, place: &Place, raw: &[UnitSource]) -> Vec<UnitSource> {
    let check = |(index, source): (usize, &UnitSource)| match source {
        UnitSource::Header(name) => {
            UnitSource::Header(header_name(report, &place.item(index).key("header"), name))
        }
        UnitSource::Cookie(name) => {
            check_name(report, &place.item(index).key("cookie"), name);
            UnitSource::Cookie(name.clone())
        }
        UnitSource::Mint => UnitSource::Mint,
    };
    raw.iter().enumerate().map(check).collect()
}

fn experiment(
    report: &mut Report,
    service: &str,
    place: &Place,
    raw: &RawExperiment,
    version: &mut impl FnMut(&mut Report, &Place, &str) -> Option<usize>,
) -> Option<Experiment> {
    if let Some(other) = raw.version.as_deref().filter(|version| *version != "v1") {
        report.error(
            &place.key("version"),
            format!("`{other}` is not the version of an experiment file that this build reads: write `v1`"),
        );
    }
    let salt = raw
        .salt
        .clone()
        .unwrap_or_else(|| format!("{service}/{}", raw.experiment));
    if !(1..=MAX_SALT).contains(&salt.len()) {
        report.error(&place.key("salt"), format!("use 1 to {MAX_SALT} bytes"));
    }
    let share = match raw.share {
        None => Some(Share::ALL),
        Some(percent) => report.take(&place.key("share"), Share::percent(percent)),
    };
    let groups_place = place.key("groups");
    if raw.groups.is_empty() {
        report.error(
            &groups_place,
            "is empty: an experiment has at least one group",
        );
    }
    check_weights(report, &groups_place, &raw.groups);
    check_feature_types(report, &groups_place, &raw.groups);
    let mut names = Unique::default();
    let groups = raw.groups.iter().enumerate().filter_map(|(index, raw)| {
        let place = groups_place.item(index);
        check_name(report, &place.key("name"), &raw.name);
        names.check(report, &place.key("name"), &raw.name);
        features::check_group(report, &place.key("features"), &raw.features);
        let chosen = raw.version.as_deref();
        let version = chosen.map(|name| version(report, &place.key("version"), name));
        Some(Group {
            name: raw.name.clone(),
            weight: Share::percent(f64::from(raw.weight)).ok()?,
            version: version.flatten(),
            features: raw.features.clone(),
        })
    });
    let groups = groups.collect();
    Some(Experiment {
        name: raw.experiment.clone(),
        salt,
        share: share?,
        groups,
    })
}

/// The place of the error is the weight with which the sum first goes past 100, or the last one.
fn check_weights(report: &mut Report, place: &Place, groups: &[RawGroup]) {
    let mut sum = 0_u32;
    let mut named = None;
    for (index, group) in groups.iter().enumerate() {
        sum = sum.saturating_add(group.weight);
        if sum > 100 && named.is_none() {
            named = Some((index, group.weight));
        }
    }
    if sum == 100 {
        return;
    }
    let last = groups
        .len()
        .checked_sub(1)
        .and_then(|at| Some((at, groups.get(at)?.weight)));
    if let Some((index, weight)) = named.or(last) {
        let place = place.item(index).key("weight");
        report.error(&place, format!("{weight} makes the sum {sum}, not 100"));
    }
}

fn check_feature_types(report: &mut Report, place: &Place, groups: &[RawGroup]) {
    let mut kinds: BTreeMap<&str, (&'static str, &str)> = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        for (feature, value) in &group.features {
            let kind = match value {
                Feature::Flag(_) => "a boolean",
                Feature::Text(_) => "a string",
                Feature::Null => continue,
            };
            let (first, in_group) = *kinds.entry(feature).or_insert((kind, &group.name));
            if first != kind {
                let place = place.item(index).key("features").key(feature);
                report.error(
                    &place,
                    format!("is {kind} here, but {first} in group `{in_group}`"),
                );
            }
        }
    }
}
