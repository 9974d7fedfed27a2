//! Points in time as the API writes them: RFC 3339, UTC, milliseconds.

use std::time::SystemTime;

use serde::Serializer;

/// The text of a point in time.
pub fn text(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// For `#[serde(serialize_with)]`.
///
/// # Errors
/// When the serializer fails.
pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*time))
}
