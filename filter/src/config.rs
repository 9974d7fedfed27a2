//! The plugin configuration of both roles: JSON, as Envoy hands it over. Unknown fields are refused,
//! because a misspelt one would otherwise be ignored in silence.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A worker's configuration: nothing to set so far, `{}` or absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerConfig {}

/// The poller's configuration: `{"cluster": "ombre_controller"}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollerConfig {
    /// The Envoy cluster in which the controller is found.
    pub cluster: String,
}

/// Why a plugin configuration is not taken. Envoy refuses to start with it.
#[derive(Debug, thiserror::Error)]
#[error("plugin configuration of root_id `{root_id}`: {source}; {fix}")]
pub struct ConfigError {
    root_id: &'static str,
    fix: &'static str,
    source: serde_json::Error,
}

impl WorkerConfig {
    /// Reads a worker's configuration.
    ///
    /// # Errors
    /// When it is neither empty nor an object without fields.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        parse(
            bytes,
            "worker",
            "it takes no fields: leave `configuration` out",
        )
    }
}

impl PollerConfig {
    /// Reads the poller's configuration.
    ///
    /// # Errors
    /// When it is not an object with `cluster` and nothing else.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        parse(
            bytes,
            "poller",
            "write {\"cluster\": \"<the controller's Envoy cluster>\"}",
        )
    }
}

fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    root_id: &'static str,
    fix: &'static str,
) -> Result<T, ConfigError> {
    serde_json::from_slice(bytes).map_err(|source| ConfigError {
        root_id,
        fix,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_takes_no_fields() {
        for (name, text, fine) in [
            ("absent", "", true),
            ("empty", "{}", true),
            ("unknown field", r#"{"cluster": "c"}"#, false),
            ("not json", "{", false),
        ] {
            assert_eq!(WorkerConfig::parse(text.as_bytes()).is_ok(), fine, "{name}");
        }
    }

    #[test]
    fn a_poller_needs_its_cluster_and_nothing_else() {
        let parsed = PollerConfig::parse(br#"{"cluster": "c"}"#).expect("valid");
        assert_eq!(parsed.cluster, "c");
        for (name, text, message) in [
            ("absent", "", "EOF"),
            ("no cluster", "{}", "missing field `cluster`"),
            ("misspelt", r#"{"clutser": "c"}"#, "unknown field `clutser`"),
            ("number", r#"{"cluster": 1}"#, "invalid type"),
        ] {
            let error = PollerConfig::parse(text.as_bytes()).expect_err(name);
            assert!(error.to_string().contains(message), "{name}: {error}");
        }
    }
}
