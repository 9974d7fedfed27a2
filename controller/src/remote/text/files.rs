//! What is wrong with the policy files, for people at a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::{NOTHING, list, word};

/// Why the files as they are now are not in force, and what of the state cannot be kept; nothing
/// where all is well.
pub(in crate::remote) fn refused(status: &Value) -> String {
    let mut text = String::new();
    if let Some(error) = status.get("last_error").filter(|error| !error.is_null()) {
        let since = word(error, "/since");
        let _ = writeln!(
            text,
            "policy refused since {since}, the last good one stays:"
        );
        for problem in list(error, "problems") {
            let places = ["/file", "/line", "/column"].map(|part| word(problem, part));
            let known = places.into_iter().filter(|part| part != NOTHING);
            let place = known.collect::<Vec<_>>().join(":");
            let path = match word(problem, "/path") {
                path if path.is_empty() || path == NOTHING => String::new(),
                path => format!("{path}: "),
            };
            let _ = writeln!(text, "  {place}: {path}{}", word(problem, "/message"));
        }
    }
    if let Some(error) = status.get("state_error").and_then(Value::as_str) {
        let _ = writeln!(text, "the state cannot be kept: {error}");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_problem_has_its_place() {
        let status = json!({
            "last_error": { "since": "noon", "problems": [
                { "file": "a.yaml", "line": 3, "column": 9, "path": "services[0].name", "message": "is empty" },
                { "file": "b.yaml", "line": null, "column": null, "path": "", "message": "is gone" },
            ] },
            "state_error": "no space left",
        });
        let text = refused(&status);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "policy refused since noon, the last good one stays:",
                "  a.yaml:3:9: services[0].name: is empty",
                "  b.yaml: is gone",
                "the state cannot be kept: no space left",
            ]
        );
        let well = json!({ "last_error": null, "state_error": null });
        assert_eq!(refused(&well), "");
        assert_eq!(refused(&json!({})), "");
    }
}
