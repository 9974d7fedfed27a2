//! The Envoys that are served over xDS, for people at a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::{NOTHING, list, table, word};

/// A table of them, and what each refused; nothing where there are none.
pub(in crate::remote) fn discovered(answer: &Value) -> String {
    let mut rows = vec![["NODE", "XDS", "POLICY", "DECISIONS"].map(str::to_owned)];
    let mut refused = String::new();
    for node in list(answer, "nodes") {
        let Some(xds) = node.get("xds") else {
            continue;
        };
        let name = word(node, "/name");
        let mut stage = NOTHING.to_owned();
        for stream in list(xds, "streams") {
            stage = word(stream, "/stage");
            let types = stream.get("types").and_then(Value::as_object);
            for (kind, standing) in types.into_iter().flatten() {
                if let Some(text) = standing.pointer("/refused/text").and_then(Value::as_str) {
                    let text = text.trim();
                    let since = word(standing, "/refused/since");
                    let _ = writeln!(refused, "{name} refuses {kind} since {since}: {text}");
                }
            }
        }
        let applied = |field: &str| word(node, &format!("/applied/{field}"));
        rows.push([name, stage, applied("policy"), applied("decisions")]);
    }
    match rows.len() {
        1 => String::new(),
        _ => format!("{}{refused}", table(&rows)).trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn those_over_xds_are_listed_with_what_they_refuse() {
        let standing =
            json!({ "refused": { "text": "no such\n", "since": "noon", "version": "1" } });
        let answer = json!({ "nodes": [
            { "name": "polls", "applied": { "policy": 5 } },
            { "name": "e1", "applied": { "policy": 5, "decisions": 6 },
                "xds": { "streams": [{ "stage": "held", "types": { "lds": standing, "cds": {} } }] } },
            { "name": "gone", "applied": {}, "xds": { "streams": [] } },
        ] });
        let text = discovered(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "NODE  XDS   POLICY  DECISIONS",
                "e1    held  5       6",
                "gone  -     -       -",
                "e1 refuses lds since noon: no such",
            ]
        );
        assert_eq!(discovered(&json!({ "nodes": [{ "name": "polls" }] })), "");
        assert_eq!(discovered(&json!({})), "");
    }
}
