//! A group's features as they are sent: members of a JSON object in ASCII, so that they can be the
//! value of a header, and no longer than upstreams take.

use std::collections::BTreeMap;

use super::experiment::Layer;
use super::names::check_name;
use crate::load::report::{Place, Report};
use crate::raw::Feature;

/// What a group's features may add to a request, as they are sent.
const MAX_GROUP_BYTES: usize = 1024;
/// What all layers of a service may add together: many upstreams take 8 KB of headers in all.
const MAX_SERVICE_BYTES: usize = 4096;

/// The members, without the braces: those of all layers go into one object.
pub(crate) fn members(features: &BTreeMap<String, Feature>) -> String {
    let members = features.iter().map(|(name, value)| {
        let value = match value {
            Feature::Flag(flag) => flag.to_string(),
            Feature::Text(text) => json_text(text),
            Feature::Null => "null".to_owned(),
        };
        format!("{}:{value}", json_text(name))
    });
    members.collect::<Vec<_>>().join(",")
}

/// Checks the names and the size of one group's features.
pub(crate) fn check_group(
    report: &mut Report,
    place: &Place,
    features: &BTreeMap<String, Feature>,
) {
    for name in features.keys() {
        check_name(report, &place.key(name), name);
    }
    let size = members(features).len();
    if size > MAX_GROUP_BYTES {
        let message = format!(
            "take {size} bytes as they are sent: a group's features may take {MAX_GROUP_BYTES}, because they go with every request"
        );
        report.error(place, message);
    }
}

/// Checks what a request gets at most: the largest group of each layer.
pub(crate) fn check_layers(report: &mut Report, place: &Place, layers: &[Layer]) {
    let largest = layers.iter().map(|layer| {
        let groups = layer.experiments.iter().flat_map(|each| &each.groups);
        groups.map(|group| members(&group.features).len()).max()
    });
    let size: usize = largest.flatten().sum();
    if size > MAX_SERVICE_BYTES {
        let message = format!(
            "a request may get {size} bytes of features, from each layer the largest group: a service may send {MAX_SERVICE_BYTES}"
        );
        report.error(place, message);
    }
}

fn json_text(text: &str) -> String {
    let mut out = String::from("\"");
    for unit in text.encode_utf16() {
        match char::from_u32(u32::from(unit)) {
            Some(plain @ (' '..='!' | '#'..='[' | ']'..='~')) => out.push(plain),
            _ => out.push_str(&format!("\\u{unit:04x}")),
        }
    }
    out.push('"');
    out
}
