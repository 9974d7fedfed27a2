//! The names people give: short, and safe in headers, statistics and URLs.

use std::collections::{HashMap, HashSet};

use crate::load::report::{Place, Report};

const MAX_NAME: usize = 64;
const MAX_CLUSTER: usize = 256;
const MAX_TEXT: usize = 1024;

/// Checks the name of a service, route, experiment, group or feature.
pub(crate) fn check_name(report: &mut Report, place: &Place, name: &str) {
    let sound = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !sound {
        report.error(
            place,
            format!(
                "`{name}` is not a name: use 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`"
            ),
        );
    }
}

/// Checks the name of an Envoy cluster, which may hold more than other names.
pub(crate) fn check_cluster(report: &mut Report, place: &Place, name: &str) {
    if !(1..=MAX_CLUSTER).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
        report.error(
            place,
            format!(
                "`{name}` is not a cluster name: use 1 to {MAX_CLUSTER} visible ASCII characters"
            ),
        );
    }
}

/// Checks a text that is sent as a header value.
pub(crate) fn check_header_text(report: &mut Report, place: &Place, text: &str) {
    if text.len() > MAX_TEXT || !text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        report.error(
            place,
            format!("use at most {MAX_TEXT} printable ASCII characters: it is sent as a header"),
        );
    }
}

/// Checks the name of a request header and returns it in lower case.
pub(crate) fn header_name(report: &mut Report, place: &Place, name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if lower.is_empty() || lower.len() > MAX_NAME || !lower.bytes().all(token) {
        report.error(place, format!("`{name}` is not a header name"));
    } else if lower.starts_with("x-ombre-") {
        report.error(
            place,
            format!("`{name}` belongs to ombre: choose another header"),
        );
    }
    lower
}

/// Finds the second use of a name that must be unique, and says where the first is.
#[derive(Debug, Default)]
pub(crate) struct Unique {
    seen: HashMap<String, Place>,
}

/// What is known from the files and services before.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) services: Unique,
    pub(crate) routes: Unique,
    /// Regexes that compile: thousands of routes share a few, and compiling is slow.
    pub(crate) patterns: HashSet<String>,
}

impl Unique {
    pub(crate) fn check(&mut self, report: &mut Report, place: &Place, name: &str) {
        if let Some(first) = self.seen.get(name) {
            let (file, path) = (first.file(), first.path());
            report.error(
                place,
                format!("`{name}` is already the name of {path} in {file}: names are unique"),
            );
        } else {
            self.seen.insert(name.to_owned(), place.clone());
        }
    }
}
