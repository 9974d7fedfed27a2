//! What a policy costs by its number of routes: to load, compile and take, and for a request to
//! find its route. In this process and in its CPU time, so that a busy machine counts less.
//!
//! Requests are asked twice: ten routes again and again, which is how hot routes are, and many
//! routes by turns, where a large plan also costs what has to be fetched from memory.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::Revision;
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;
use ombre_policy::policy::SlotTables;
use ombre_policy::verdict::Verdict;
use serde_json::{Value, json};

use crate::cpu;

/// Routes of each service but the last.
const PER_SERVICE: usize = 100;
const HOT: usize = 10;
/// More than fit the first two caches, few enough that their own bytes do not matter.
const MIXED: usize = 4096;
const REPEATS: usize = 5;

/// What was measured of one policy.
struct Row {
    routes: usize,
    load: Duration,
    compile: Duration,
    bytes: usize,
    decode: Duration,
    /// Nanoseconds for each request.
    hot: f64,
    mixed: f64,
}

/// Measures policies of these numbers of routes, the first of which the others are compared with.
pub(crate) fn run(numbers: &[usize], requests: usize) -> Result<(String, Value)> {
    let rows = numbers.iter().map(|routes| measure(*routes, requests));
    let rows = rows.collect::<Result<Vec<Row>>>()?;
    let first = rows.first().context("no policy to measure")?;
    let mut text = "| routes | load ms | compile ms | plan KB | take ms | hot ns | ratio | mixed ns | ratio |\n\
        | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    for row in &rows {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.2} | {:.0} | {:.2} |",
            row.routes,
            ms(row.load),
            ms(row.compile),
            row.bytes as f64 / 1e3,
            ms(row.decode),
            row.hot,
            row.hot / first.hot,
            row.mixed,
            row.mixed / first.mixed,
        )?;
    }
    let values = rows.iter().map(|row| {
        json!({
            "routes": row.routes, "load_s": row.load.as_secs_f64(), "compile_s": row.compile.as_secs_f64(),
            "plan_bytes": row.bytes, "take_s": row.decode.as_secs_f64(), "hot_ns": row.hot, "mixed_ns": row.mixed,
        })
    });
    Ok((text, values.collect()))
}

fn measure(routes: usize, requests: usize) -> Result<Row> {
    let text = policy(routes);
    let (load, loaded) = timed(|| load_text(&text))?;
    let loaded = loaded.map_err(|problems| anyhow!("{problems}"))?;
    let slots = loaded.policy.slots(&SlotTables::default());
    let (compile, body) =
        timed(|| Plan::compile(&loaded.policy, &slots).encode(&DecisionTable::default()))?;
    let (decode, read) = timed(|| Plan::decode(&body))?;
    let (plan, decisions) = read?;
    let mut worker = InForce::default();
    worker.put(plan, Revision::new(1), decisions);
    Ok(Row {
        routes,
        load,
        compile,
        bytes: body.len(),
        decode,
        hot: decide(&mut worker, routes, HOT, requests)?,
        mixed: decide(&mut worker, routes, MIXED, requests)?,
    })
}

/// Nanoseconds for a request, the best of a few rounds.
fn decide(worker: &mut InForce, routes: usize, distinct: usize, requests: usize) -> Result<f64> {
    // A prime stride: neighbours in time are no neighbours in the plan.
    let all: Vec<Vec<u8>> = (0..distinct).map(|n| request(n * 7919 % routes)).collect();
    let rounds = requests.div_ceil(distinct);
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let (time, routed) = timed(|| {
            let mut routed = 0;
            for headers in (0..rounds).flat_map(|_| &all) {
                let verdict = worker.decide(HeaderMap::new(black_box(headers)), || [0; 16]);
                routed += usize::from(matches!(verdict, Verdict::Route(_)));
            }
            routed
        })?;
        ensure!(
            routed == rounds * distinct,
            "{routed} requests found a route"
        );
        best = best.min(time.as_secs_f64() * 1e9 / routed as f64);
    }
    Ok(best)
}

fn timed<T>(run: impl FnOnce() -> T) -> Result<(Duration, T)> {
    let before = cpu::of(std::process::id())?;
    let out = run();
    Ok((cpu::of(std::process::id())?.saturating_sub(before), out))
}

pub(crate) fn policy(routes: usize) -> String {
    let mut out = String::from("apiVersion: ombre/v1\nservices:\n");
    for number in 0..routes {
        let service = number / PER_SERVICE;
        if number % PER_SERVICE == 0 {
            let versions = format!(
                "[{{ name: v1, cluster: s{service}_v1 }}, {{ name: v2, cluster: s{service}_v2 }}]"
            );
            write!(
                out,
                "  - name: s{service}\n    versions: {versions}\n    default: v1\n    routes:\n"
            )
            .ok();
        }
        let path = path(number, "{id:[0-9]+}", "{*rest}");
        writeln!(out, "      - {{ name: r{number}, path: '{path}' }}").ok();
    }
    out
}

/// Static text, patterns and rests in turn.
fn path(number: usize, id: &str, rest: &str) -> String {
    let service = number / PER_SERVICE;
    match number % 3 {
        0 => format!("/api/s{service}/things{number}"),
        1 => format!("/api/s{service}/items{number}/{id}/detail"),
        _ => format!("/s{service}/files{number}/{rest}"),
    }
}

/// The headers of a request as Envoy has them.
pub(crate) fn request(number: usize) -> Vec<u8> {
    HeaderMap::encode(&[
        (":method", "GET".to_owned()),
        (":authority", "shop.example.com".to_owned()),
        (":path", path(number, "7", "x/y")),
        ("user-agent", "curl/8.5.0".to_owned()),
        ("accept", "*/*".to_owned()),
        (
            "x-request-id",
            "5a9b1d4c-0f5e-4c52-9d3e-2f9f4be0a5a1".to_owned(),
        ),
    ])
}
