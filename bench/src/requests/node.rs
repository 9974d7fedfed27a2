//! The filter's own time: `target/ombre.wasm` as Envoy loads it, run in Node's V8 over the same mix
//! with a host that answers at once. Here the code is hot; in Envoy it runs on cold caches.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ombre_policy::headers::HeaderMap;
use ombre_tests::binaries;
use serde_json::{Value, json};

use super::{Effort, delivery, mix, policies};
use crate::report;

/// What Envoy adds to every request of the mix before the filter sees it.
const ADDED: [(&str, &str); 4] = [
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-proto", "http"),
    ("x-envoy-internal", "true"),
    ("x-ombre-cluster", "demo_v1"),
];

/// Measures both policies; without Node it says so and measures nothing.
pub(crate) fn measure(effort: Effort) -> Result<()> {
    if Command::new("node").arg("--version").output().is_err() {
        println!("there is no `node`: the filter's own time is not measured");
        return Ok(());
    }
    let dir = tempfile::Builder::new().prefix("ombre-bench-").tempdir()?;
    let requests = dir.path().join("requests");
    fs::write(&requests, serialized(&mix()))?;
    let mut text =
        "| the filter alone, in Node | ns per request | host calls |\n| --- | --- | --- |\n"
            .to_owned();
    let mut rows = Vec::new();
    for (name, policy) in [
        ("demo policy", policies::demo()?),
        ("10,000 routes", policies::large()?),
    ] {
        let sealed = dir.path().join("policy");
        fs::write(&sealed, delivery::sealed(policy)?)?;
        let script = binaries::workspace().join("bench/cases/filter.mjs");
        // As in Envoy: everything is optimised from the start.
        let mut node = Command::new("node");
        node.arg("--no-liftoff").arg(script).arg(binaries::wasm()?);
        node.args([&sealed, &requests])
            .arg(effort.of(15, 5).to_string());
        let output = node.output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let measured: Value =
            serde_json::from_slice(&output.stdout).context("what the script printed")?;
        let number = |field: &str| {
            measured
                .get(field)
                .and_then(Value::as_f64)
                .unwrap_or_default()
        };
        text.push_str(&format!(
            "| {name} | {:.0} | {:.2} |\n",
            number("nanoseconds"),
            number("calls")
        ));
        rows.push(json!({ "policy": name, "measured": measured }));
    }
    print!("{text}");
    report::write("node", &text, &Value::Array(rows))
}

/// The mix as the host hands requests over.
pub(crate) fn mix() -> Vec<Vec<u8>> {
    mix::all()
        .iter()
        .map(|request| handed_over(request))
        .collect()
}

/// Requests in one file, each with its length before it.
pub(crate) fn serialized(requests: &[Vec<u8>]) -> Vec<u8> {
    let mut all = Vec::new();
    for request in requests {
        let length = u32::try_from(request.len()).unwrap_or_default();
        all.extend(length.to_le_bytes());
        all.extend(request);
    }
    all
}

fn handed_over(request: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(request).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let mut headers = vec![
        (":method", first.next().unwrap_or_default()),
        (":path", first.next().unwrap_or_default()),
    ];
    let sent = lines.filter_map(|line| line.split_once(": "));
    headers.extend(sent.map(|(name, value)| {
        if name == "host" {
            (":authority", value)
        } else {
            (name, value)
        }
    }));
    headers.extend(ADDED);
    HeaderMap::encode(&headers)
}
