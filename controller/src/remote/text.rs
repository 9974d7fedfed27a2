//! What the controller answered, for people at a terminal.

mod discovery;
mod files;

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::Value;

pub(super) use self::discovery::discovered;
pub(super) use self::files::refused;
use crate::timestamp;

/// A table of all releases.
pub(super) fn releases(board: &Value) -> String {
    let mut rows = vec![
        [
            "SERVICE",
            "CANDIDATE",
            "PHASE",
            "SHARE",
            "HELD BY",
            "VERDICT",
            "NEXT",
        ]
        .map(str::to_owned),
    ];
    for release in list(board, "services") {
        rows.push([
            word(release, "/service"),
            word(release, "/candidate"),
            word(release, "/phase"),
            format!("{}%", word(release, "/share")),
            held_by(release),
            word(release, "/judgement/verdict"),
            word(release, "/next"),
        ]);
    }
    let store_error = board.get("store_error").and_then(Value::as_str);
    let mut text = match rows.len() {
        1 if store_error.is_none() => {
            "no service has a `rollout` with `degrade`, so nothing moves by itself\n".to_owned()
        }
        _ => table(&rows),
    };
    for cluster in list(board, "clusters") {
        let state = word(cluster, "/state");
        if state != "closed" {
            let failed = cluster.get("failure_rate").and_then(Value::as_f64);
            let failed = failed.unwrap_or_default() / 10_000.0;
            let name = word(cluster, "/cluster_name");
            let _ = writeln!(text, "breaker of {name}: {state}, {failed:.1}% failed");
        }
    }
    for source in list(board, "sources") {
        if let Some(error) = source.get("error").and_then(Value::as_str) {
            let _ = writeln!(text, "no evidence from {}: {error}", word(source, "/url"));
        }
    }
    if let Some(error) = store_error {
        let _ = writeln!(text, "nothing moves: {error}");
    }
    text.trim_end().to_owned()
}

/// One release: its state, windows and triggers' values.
pub(super) fn release(release: &Value) -> String {
    let at = |path: &str| word(release, path);
    let mut rows = vec![
        ["service".to_owned(), at("/service")],
        [
            "versions".to_owned(),
            format!("{} over {}", at("/candidate"), at("/stable")),
        ],
        [
            "phase".to_owned(),
            format!(
                "{}, {}%, writes: {}",
                at("/phase"),
                at("/share"),
                at("/writes")
            ),
        ],
        ["held by".to_owned(), held_by(release)],
        ["next".to_owned(), at("/next")],
    ];
    let mut row = |name: &str, value: String| rows.push([name.to_owned(), value]);
    if let Some(open) = release.get("unconfirmed") {
        row("unconfirmed", plain(open));
    }
    if release.get("sync_log").is_some() {
        let waiting = at("/sync_log/waiting");
        row(
            "sync log",
            format!("{waiting} of {} wait", at("/sync_log/top")),
        );
    }
    if release.pointer("/judgement/verdict").is_some() {
        row("verdict", at("/judgement/verdict"));
        for side in ["candidate", "stable"] {
            let sum = |field: &str| at(&format!("/judgement/{side}/{field}"));
            let counts = format!(
                "{} requests, {} errors, {} of {} slow in {}",
                sum("requests"),
                sum("errors"),
                sum("slow"),
                sum("timed"),
                at("/judgement/span")
            );
            row(side, counts);
        }
        for part in [
            "score",
            "breach",
            "votes",
            "outage_tick",
            "outage_window",
            "trial",
        ] {
            let value = release.pointer(&format!("/judgement/{part}"));
            if let Some(value) = value.filter(|value| !value.is_null()) {
                row(part, plain(value));
            }
        }
    }
    table(&rows).trim_end().to_owned()
}

/// What happened, one line each.
pub(super) fn history(answer: &Value) -> String {
    let mut rows = vec![["TIME", "SERVICE", "WHAT", "DETAIL", "WHO"].map(str::to_owned)];
    for entry in list(answer, "entries") {
        let detail = entry.get("detail").unwrap_or(&Value::Null);
        let told = match entry.get("kind").and_then(Value::as_str) {
            Some("transition") => {
                let of = |field: &str| word(detail, &format!("/transition/{field}"));
                let (from, to) = (of("from"), of("to"));
                let why = match word(detail, "/event/judged/verdict") {
                    why if why == NOTHING => String::new(),
                    why => format!(", {why}"),
                };
                format!(
                    "{from} {}% -> {to} {}%{why}",
                    of("from_share"),
                    of("to_share")
                )
            }
            Some("alert") => word(detail, "/alert"),
            Some("refused") => format!("{}: {}", word(detail, "/command"), word(detail, "/text")),
            Some("order") => word(detail, "/command"),
            _ => word(detail, "/candidate"),
        };
        let who = match entry.get("actor") {
            Some(_) => format!("{}: {}", word(entry, "/actor"), word(entry, "/reason")),
            None => String::new(),
        };
        rows.push([
            time(entry),
            word(entry, "/service"),
            word(entry, "/kind"),
            told,
            who,
        ]);
    }
    table(&rows).trim_end().to_owned()
}

const NOTHING: &str = "-";

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn word(value: &Value, path: &str) -> String {
    value
        .pointer(path)
        .map_or_else(|| NOTHING.to_owned(), plain)
}

/// `fired: outage` for `{"fired":"outage"}`.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => NOTHING.to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if !number.is_u64() => format!("{float:.4}"),
            _ => number.to_string(),
        },
        Value::Bool(yes) => yes.to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pairs = fields
                .iter()
                .map(|(name, value)| format!("{name}: {}", plain(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
    }
}

fn held_by(release: &Value) -> String {
    let held = release.get("held_by").map(plain);
    held.filter(|held| !held.is_empty())
        .unwrap_or_else(|| NOTHING.to_owned())
}

fn time(entry: &Value) -> String {
    let millis = entry.get("at").and_then(Value::as_u64).unwrap_or_default();
    timestamp::text(UNIX_EPOCH + Duration::from_millis(millis))
}

/// Columns as wide as their widest field.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, field) in widths.iter_mut().zip(row) {
            *width = (*width).max(field.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, field) in widths.iter().zip(row) {
            let _ = write!(line, "{field:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_become_tables() {
        let board = json!({
            "services": [{ "service": "shop", "candidate": "v2", "phase": "ramping", "share": 5,
                "held_by": ["paused"], "judgement": { "verdict": { "fired": "outage" } }, "next": "10%" }],
            "sources": [{ "url": "http://e", "error": "no answer" }],
            "store_error": null,
        });
        let text = releases(&board);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "SERVICE  CANDIDATE  PHASE    SHARE  HELD BY  VERDICT        NEXT",
                "shop     v2         ramping  5%     paused   fired: outage  10%",
                "no evidence from http://e: no answer",
            ]
        );
        let entries = json!({ "entries": [{ "id": 1, "at": 1000, "service": "shop", "kind": "transition",
            "detail": { "transition": { "from": "ramping", "to": "failed_back", "from_share": 5, "to_share": 0 },
                "event": { "judged": { "verdict": { "fired": "outage" }, "permit": "granted" } } } }] });
        let text = history(&entries);
        assert!(
            text.contains("ramping 5% -> failed_back 0%, fired: outage"),
            "{text}"
        );
        assert!(text.contains("1970-01-01T00:00:01.000Z"), "{text}");
        assert!(!release(&json!({})).is_empty(), "whatever the answer");
        let none = releases(&json!({ "services": [] }));
        assert!(none.starts_with("no service has a `rollout`"), "{none}");
        let unknown = releases(&json!({ "services": [], "store_error": "no space" }));
        assert!(!unknown.contains("no service has"), "{unknown}");
    }

    #[test]
    fn one_release_is_shown_with_its_windows() {
        let sum = |requests| json!({ "requests": requests, "errors": 1, "timed": 9, "slow": 2 });
        let shown = release(
            &json!({ "service": "shop", "judgement": { "verdict": "breached",
            "span": "30s", "candidate": sum(10), "stable": sum(90) } }),
        );
        for line in [
            "candidate  10 requests, 1 errors, 2 of 9 slow in 30s",
            "stable     90 requests, 1 errors, 2 of 9 slow in 30s",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{shown}");
        }
    }
}
