//! `ombre bootstrap`.

use std::net::SocketAddr;
use std::str::FromStr;

use ombre_policy::policy::{AddressError, host_and_port, socket_address};

/// `ombre bootstrap`.
#[derive(Clone, Debug, clap::Args)]
pub struct BootstrapArgs {
    /// Under this name the controller lists the Envoy; no two have the same.
    #[arg(long = "node", value_name = "ID", value_parser = said)]
    pub id: String,
    /// What Envoys of one kind have in common; `nodes` of a listener may ask for it.
    #[arg(long, value_name = "NAME", value_parser = said)]
    pub cluster: String,
    /// What else `nodes` of a listener may ask for; repeat it for several.
    #[arg(long = "metadata", value_name = "KEY=TEXT", value_parser = metadata)]
    pub metadata: Vec<(String, String)>,
    /// Where the controller serves xDS (`ombre serve --xds-listen`).
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:18000")]
    pub controller: Upstream,
    /// Have only changes sent.
    #[arg(long)]
    pub delta: bool,
    /// Envoy's admin interface. Whoever reaches it can stop Envoy: keep it on the loopback.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// Connections of clients at a time; more are closed at once. Envoy needs an open file for each, and
    /// one for each connection to an upstream.
    #[arg(long, value_name = "NUMBER", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
    /// Use TLS, and take only a controller whose certificate this file's signers have signed. This
    /// and the files below are on Envoy's machine.
    #[arg(long, value_name = "FILE", value_parser = said)]
    pub ca: Option<String>,
    /// Envoy's own certificate.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"], value_parser = said)]
    pub cert: Option<String>,
    /// Its key.
    #[arg(long, value_name = "FILE", requires_all = ["ca", "cert"], value_parser = said)]
    pub key: Option<String>,
    /// The name that the controller's certificate must hold, if it is not that of `--controller`.
    #[arg(long, value_name = "NAME", requires = "ca", value_parser = said)]
    pub san: Option<String>,
}

/// Where the controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// At an address.
    Address(SocketAddr),
    /// Where DNS says.
    Name(String, u16),
}

impl FromStr for Upstream {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.parse::<SocketAddr>().is_ok() {
            return socket_address(text).map(Self::Address);
        }
        host_and_port(text).map(|(host, port)| Self::Name(host, port))
    }
}

/// Why a text cannot stand in the bootstrap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum TextError {
    #[error("use 1 to 256 bytes without control characters")]
    Characters,
    #[error("write it like `zone=a`")]
    Pair,
}

fn said(text: &str) -> Result<String, TextError> {
    if !(1..=256).contains(&text.len()) || text.chars().any(char::is_control) {
        return Err(TextError::Characters);
    }
    Ok(text.to_owned())
}

fn metadata(text: &str) -> Result<(String, String), TextError> {
    let (key, text) = text.split_once('=').ok_or(TextError::Pair)?;
    Ok((said(key)?, said(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_have_an_address_or_a_name_and_a_port() {
        let address = |text: &str| Some(Upstream::Address(text.parse().unwrap()));
        for (text, expected) in [
            ("127.0.0.1:18000", address("127.0.0.1:18000")),
            ("[::1]:18000", address("[::1]:18000")),
            (
                "ombre.internal:18000",
                Some(Upstream::Name("ombre.internal".to_owned(), 18000)),
            ),
            ("127.0.0.1:0", None),
            ("127.0.0.1", None),
            ("http://ombre:18000", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn metadata_is_a_key_and_a_text() {
        for (text, expected) in [
            ("zone=a", Some(("zone", "a"))),
            ("zone=a=b", Some(("zone", "a=b"))),
            ("zone", None),
            ("zone=", None),
            ("=a", None),
            ("zone=a\nb", None),
        ] {
            let expected = expected.map(|(key, text)| (key.to_owned(), text.to_owned()));
            assert_eq!(metadata(text).ok(), expected, "{text}");
        }
    }
}
