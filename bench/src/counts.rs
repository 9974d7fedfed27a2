//! How many instructions a decision takes, natively: this program decides under valgrind, once N and once
//! 2N rounds of the same requests; the difference, divided by N, is free of everything but the decisions.
//! Nothing is timed, so that a busy machine counts for nothing, and two runs agree to the instruction.

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::verdict::Verdict;
use serde_json::{Value, json};

use crate::requests::{delivery, node, policies};
use crate::{plans, report};

/// How this program is told to decide.
const COMMAND: &str = "decide";
const ROUNDS: u64 = 20;
/// Routes of a policy, so many of which are asked for in turn.
const ASKED: usize = 1000;

/// What is decided.
struct Case {
    name: &'static str,
    policy: String,
    requests: Vec<Vec<u8>>,
}

/// Instructions for a request.
struct Counted {
    decide: f64,
    /// To decide, and to put together the headers that are written.
    write: f64,
}

/// Counts every case; where there is no valgrind that can, it says so and counts nothing.
pub(crate) fn measure() -> Result<()> {
    let version = match version() {
        Ok(version) => version,
        Err(error) => {
            println!("the instructions of a decision are not counted: {error:#}");
            return Ok(());
        }
    };
    let mut text = "| natively, by valgrind | instructions to decide | and to write the headers |\n| --- | --- | --- |\n".to_owned();
    let mut rows = Vec::new();
    for case in cases()? {
        // A valgrind that does not know an instruction of this machine's libraries is not ombre's fault.
        let Counted { decide, write } = match count(&case) {
            Ok(counted) => counted,
            Err(error) => {
                println!("the instructions of a decision are not counted: {error:#}");
                return Ok(());
            }
        };
        text.push_str(&format!("| {} | {decide:.1} | {write:.1} |\n", case.name));
        rows.push(json!({ "case": case.name, "decide": decide, "write": write }));
    }
    text.push_str(&format!("\nBy {version}.\n"));
    print!("{text}");
    report::write("counts", &text, &Value::Array(rows))
}

/// What the child does: takes the document and decides all requests, so many times over.
pub(crate) fn decide(document: &Path, requests: &Path, rounds: u64, write: bool) -> Result<()> {
    let mut in_force = InForce::default();
    in_force.take(&fs::read(document)?)?;
    let bytes = fs::read(requests)?;
    let mut requests = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        let (request, behind) = behind.split_at_checked(length).context("a cut request")?;
        requests.push(request);
        rest = behind;
    }
    for request in (0..rounds).flat_map(|_| &requests) {
        let verdict = in_force.decide(HeaderMap::new(black_box(request)), || [0; 16]);
        match verdict {
            Verdict::Route(mut routed) if write => routed.write(|edit| {
                black_box(edit);
            }),
            verdict => drop(black_box(verdict)),
        }
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>> {
    let mix = node::mix();
    let of_routes = |name, routes: usize| {
        // A prime stride: neighbours in time are no neighbours in the plan.
        let asked = (0..ASKED).map(|n| plans::request(n * 7919 % routes));
        Case {
            name,
            policy: plans::policy(routes),
            requests: asked.collect(),
        }
    };
    Ok(vec![
        Case {
            name: "demo policy, the mix of requests",
            policy: policies::demo()?,
            requests: mix.clone(),
        },
        Case {
            name: "10,000 routes and 20 experiments, the same mix",
            policy: policies::large()?,
            requests: mix,
        },
        of_routes("10 routes, each in turn", 10),
        of_routes("100,000 routes, 1,000 of them in turn", 100_000),
    ])
}

fn count(case: &Case) -> Result<Counted> {
    let dir = tempfile::Builder::new().prefix("ombre-bench-").tempdir()?;
    let [document, requests] = ["document", "requests"].map(|name| dir.path().join(name));
    fs::write(&document, delivery::sealed(case.policy.clone())?)?;
    fs::write(&requests, node::serialized(&case.requests))?;
    let decided = ROUNDS * u64::try_from(case.requests.len())?;
    let each = |write: bool| -> Result<f64> {
        // Both at once: nothing is timed.
        let children = [ROUNDS, 2 * ROUNDS].map(|rounds| {
            let mut valgrind = Command::new("valgrind");
            valgrind.args(["--tool=cachegrind", "--cache-sim=no", "--branch-sim=no"]);
            valgrind.arg("--cachegrind-out-file=/dev/null");
            valgrind.arg(std::env::current_exe()?).arg(COMMAND);
            valgrind
                .args([&document, &requests])
                .arg(rounds.to_string());
            valgrind.args(write.then_some("--write"));
            valgrind.stdin(Stdio::null()).stdout(Stdio::null());
            Ok(valgrind.stderr(Stdio::piped()).spawn()?)
        });
        let counts = children.map(|child: Result<_>| {
            let output = child?.wait_with_output()?;
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(output.status.success(), "{log}");
            instructions(&log).with_context(|| format!("no count in\n{log}"))
        });
        let [once, twice] = counts;
        Ok(twice?.saturating_sub(once?) as f64 / decided as f64)
    };
    Ok(Counted {
        decide: each(false)?,
        write: each(true)?,
    })
}

/// From the line `==123== I   refs:      1,234,567`.
fn instructions(log: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| {
        let (_, line) = line.split_once("== I ")?;
        line.trim_start().strip_prefix("refs:")
    })?;
    line.trim().replace(',', "").parse().ok()
}

fn version() -> Result<String> {
    let output = Command::new("valgrind").arg("--version").output();
    let output = output.context("`valgrind` cannot be run")?;
    if !output.status.success() {
        bail!("`valgrind --version` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::instructions;

    #[test]
    fn the_count_is_read_from_the_log() {
        let log = "==7== Cachegrind\n==7== Command: x\n==7== \n==7== I   refs:      1,234,567\n";
        let others = "==7== D   refs:      1,234\n==7== I1  misses:  5\n";
        for (name, log, due) in [
            ("3.19", log.to_owned(), Some(1_234_567)),
            ("3.22", log.replace("I   refs", "I refs"), Some(1_234_567)),
            ("others before", others.to_owned() + log, Some(1_234_567)),
            ("others alone", others.to_owned(), None),
            ("no number", "==7== I   refs:      many\n".to_owned(), None),
        ] {
            assert_eq!(instructions(&log), due, "{name}");
        }
    }
}
