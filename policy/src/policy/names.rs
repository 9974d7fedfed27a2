//! The names people give: short, and safe in headers, statistics and URLs.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use crate::duration::Millis;
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
    pub(crate) clusters: Unique,
    pub(crate) listeners: Unique,
    /// Regexes that compile: thousands of routes share a few, and compiling is slow.
    pub(crate) patterns: HashSet<String>,
}

impl Unique {
    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.seen.contains_key(name)
    }

    /// All names, in the order of the alphabet.
    pub(crate) fn sorted(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.seen.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

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

/// Why a text is no address of a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an IP address and a port.
    #[error("`{0}` is not an IP address and a port: write it like `10.0.0.1:8080` or `[::1]:8080`")]
    Socket(String),
    /// Not a name and a port.
    #[error("`{0}` is not a host name and a port: write it like `checkout.internal:8080`")]
    Host(String),
    /// An address where a name belongs.
    #[error("`{0}` is an address: list it in `endpoints`")]
    Ip(String),
}

/// An IP address and a port that is not 0.
///
/// # Errors
/// When the text is something else.
pub fn socket_address(text: &str) -> Result<SocketAddr, AddressError> {
    let address = text.parse::<SocketAddr>().ok();
    // Envoy knows no zones of IPv6.
    let is_plain = |address: &SocketAddr| match address {
        SocketAddr::V4(_) => true,
        SocketAddr::V6(address) => address.scope_id() == 0,
    };
    address
        .filter(|address| address.port() != 0 && is_plain(address))
        .ok_or_else(|| AddressError::Socket(text.to_owned()))
}

/// A DNS name and a port that is not 0.
///
/// # Errors
/// When the text is something else, or an address.
pub fn host_and_port(text: &str) -> Result<(String, u16), AddressError> {
    if text.parse::<SocketAddr>().is_ok() {
        return Err(AddressError::Ip(text.to_owned()));
    }
    let error = || AddressError::Host(text.to_owned());
    let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0);
    let label = |label: &str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(word)
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 255 || !name.split('.').all(label) {
        return Err(error());
    }
    Ok((host.to_owned(), port.ok_or_else(error)?))
}

/// Checks the path of a file on Envoy's machine.
pub(crate) fn check_file(report: &mut Report, place: &Place, path: &str) {
    if !(1..=4096).contains(&path.len()) || path.chars().any(char::is_control) {
        report.error(
            place,
            "is not the path of a file: use 1 to 4096 bytes without control characters",
        );
    }
}

/// Checks what an Envoy says of itself in its bootstrap.
pub(crate) fn check_node_text(report: &mut Report, place: &Place, text: &str) {
    if !(1..=256).contains(&text.len()) || text.chars().any(char::is_control) {
        report.error(
            place,
            "cannot be said by a node: use 1 to 256 bytes without control characters",
        );
    }
}

/// Checks a span that Envoy counts: not zero, and not so long that it overflows there.
pub(crate) fn check_span(report: &mut Report, place: &Place, span: Millis, longest: Millis) {
    if span == Millis::ZERO || span > longest {
        report.error(
            place,
            format!("`{span}` is not between `1ms` and `{longest}`"),
        );
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    #[test]
    fn addresses_have_an_ip_and_a_port() {
        for (text, sound) in [
            ("10.0.0.1:8080", true),
            ("[::1]:8080", true),
            ("[fe80::1%2]:8080", false),
            ("10.0.0.1", false),
            ("10.0.0.1:0", false),
            ("10.0.0.1:65536", false),
            ("::1:8080", false),
            ("localhost:8080", false),
            ("", false),
        ] {
            assert_eq!(socket_address(text).is_ok(), sound, "{text}");
        }
    }

    #[test]
    fn hosts_have_a_name_and_a_port() {
        for (text, expected) in [
            ("checkout.internal:8080", Some(("checkout.internal", 8080))),
            ("localhost:1", Some(("localhost", 1))),
            ("_http.a-b.c.:80", Some(("_http.a-b.c.", 80))),
            ("checkout", None),
            ("checkout:", None),
            ("checkout:0", None),
            ("checkout:70000", None),
            (":80", None),
            (".:80", None),
            ("a..b:80", None),
            ("a b:80", None),
            ("a/b:80", None),
            ("10.0.0.1:80", None),
            ("[::1]:80", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text).ok(), expected, "{text}");
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn any_text_is_an_address_or_refused(text in ".{0,40}") {
                if let Ok(address) = socket_address(&text) {
                    prop_assert_eq!(address.to_string().parse(), Ok(address));
                }
                let _ = host_and_port(&text);
            }

            #[test]
            fn no_address_is_a_host(ip in any::<std::net::IpAddr>(), port in any::<u16>()) {
                prop_assert!(host_and_port(&SocketAddr::new(ip, port).to_string()).is_err());
            }
        }
    }
}
