//! The plugin configuration of both roles, as Envoy hands it over: JSON, or for a worker over xDS the
//! documents. Unknown fields are refused, because a misspelt one would otherwise be ignored in silence.

use ombre_policy::in_force::NotTaken;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A worker's configuration, by which it knows where its documents come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerConfig<'a> {
    /// From the poller. There is nothing to set so far: `{}` or absent.
    Poller,
    /// These: over xDS every change of them is a new configuration.
    Documents(&'a [u8]),
}

/// What the documents begin with, and no JSON does.
const DOCUMENTS: &[u8] = b"OMB";

/// The poller's configuration: `{"cluster": "ombre_controller"}`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PollerConfig {
    /// The Envoy cluster in which the controller is found.
    pub cluster: String,
}

/// Why a plugin configuration is not taken. Envoy refuses to start with it; over xDS it refuses the
/// update, and what was configured before stays.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not the JSON that its role takes.
    #[error("plugin configuration of root_id `{root_id}`: {source}; {fix}")]
    Json {
        /// The role.
        root_id: &'static str,
        /// What to write.
        fix: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is documents, and they could not be put in force.
    #[error(
        "plugin configuration of root_id `worker`: {0}; let the controller and the filter be of one release"
    )]
    Documents(#[from] NotTaken),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl<'a> WorkerConfig<'a> {
    /// Reads a worker's configuration. Documents are looked at when they are taken.
    ///
    /// # Errors
    /// When it is neither empty, nor an object without fields, nor begins as documents do.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ConfigError> {
        if bytes.starts_with(DOCUMENTS) {
            return Ok(Self::Documents(bytes));
        }
        if bytes.is_empty() {
            return Ok(Self::Poller);
        }
        let fix = "it takes no fields: leave `configuration` out";
        parse(bytes, "worker", fix).map(|Nothing {}| Self::Poller)
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
    serde_json::from_slice(bytes).map_err(|source| ConfigError::Json {
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
    fn what_begins_as_documents_do_is_for_the_worker_to_take() {
        let joined = ombre_policy::document::join(b"policy", b"decisions");
        let parsed = WorkerConfig::parse(&joined).expect("begins as documents do");
        assert_eq!(parsed, WorkerConfig::Documents(&joined));
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
