//! What versions and listeners ask of the clusters that ombre delivers: each name must be one of
//! them, and no Envoy may get two listeners for one address.

use super::report::{Place, Report};
use crate::policy::Policy;
use crate::policy::names::Unique;

/// So many names help to find a mistake; a thousand do not.
const MAX_NAMES: usize = 10;

/// `names` holds also clusters that are wrong themselves, and reported as such.
pub(super) fn check(report: &mut Report, policy: &Policy, names: &Unique) {
    if names.is_empty() {
        if let Some(listener) = policy.listeners.first() {
            report.error(
                &listener.place,
                "needs `clusters`: say there what serves the versions and the default",
            );
        }
        return;
    }
    for version in policy.services.iter().flat_map(|service| &service.versions) {
        check_name(report, names, &version.cluster_place, &version.cluster);
    }
    for (index, listener) in policy.listeners.iter().enumerate() {
        let place = listener.place.key("default_cluster");
        check_name(report, names, &place, &listener.default_cluster);
        let before = policy.listeners.iter().take(index);
        let clash = before
            .filter(|other| other.address == listener.address)
            .find(|other| other.nodes.overlap(&listener.nodes));
        if let Some(other) = clash {
            let (address, name) = (listener.address, &other.name);
            report.error(
                &listener.place.key("address"),
                format!("`{address}` is also the address of listener `{name}`: give another, or other `nodes`"),
            );
        }
    }
}

fn check_name(report: &mut Report, names: &Unique, place: &Place, name: &str) {
    if names.contains(name) {
        return;
    }
    let known = names.sorted();
    let first = known.iter().take(MAX_NAMES);
    let first: Vec<_> = first.map(|name| format!("`{name}`")).collect();
    let more = if known.len() > MAX_NAMES { ", ..." } else { "" };
    let first = first.join(", ");
    report.error(
        place,
        format!("`{name}` is not among `clusters`, which has {first}{more}: add it there, or correct the name"),
    );
}
