//! What the filter costs in memory: Envoy's resident memory by its number of workers, each of which has
//! a VM of its own, without a filter, with a no-op one and with ombre.

use anyhow::Result;
use serde_json::{Value, json};

use super::cases::{self, Case};
use super::load::Connections;
use super::stage::{Answers, Stage};
use crate::{memory, report};

const WORKERS: [usize; 3] = [1, 2, 4];
const COMPARED: [&str; 4] = [cases::NONE, cases::SDK, cases::DEMO, cases::LARGE];
/// So many that every worker has served some: connections are spread over the workers.
const REQUESTS: usize = 4000;

/// Measures every filter with every number of workers.
pub(crate) fn measure() -> Result<()> {
    let mut text = "| resident memory of Envoy, MB |".to_owned();
    for workers in WORKERS {
        text.push_str(&format!(" {workers} workers |"));
    }
    text.push_str("\n| --- | --- | --- | --- |\n");
    let mut rows = Vec::new();
    for case in cases::all(&[]) {
        if !COMPARED.contains(&case.name.as_str()) {
            continue;
        }
        let name = case.name.clone();
        let cases = [case];
        let measured: Result<Vec<f64>> = WORKERS
            .map(|workers| one(&cases, workers))
            .into_iter()
            .collect();
        let measured = measured?;
        text.push_str(&format!("| {name} |"));
        for megabytes in &measured {
            text.push_str(&format!(" {megabytes:.1} |"));
        }
        text.push('\n');
        rows.push(json!({ "filter": name, "workers": WORKERS, "megabytes": measured }));
    }
    print!("{text}");
    report::write("memory", &text, &Value::Array(rows))
}

fn one(cases: &[Case], workers: usize) -> Result<f64> {
    let stage = Stage::start(cases, Answers::Nobody, workers)?;
    for address in stage.listeners() {
        // Connections are few and their distribution is the kernel's: opened again and again they reach all.
        for _ in 0..workers * 4 {
            Connections::open(address, stage.answers().status())?
                .burst(REQUESTS / (workers * 4))?;
        }
    }
    Ok(memory::of(stage.envoy())? / 1e6)
}
