//! What a request costs Envoy, by filter: CPU time of the process per request, one Envoy with a
//! listener per case, in short bursts one case after the other (A B C A B C ...), so that whatever
//! else the machine does disturbs all of them alike. The generator is this program: its time is not
//! counted. Where code and memory of a case come to lie is decided when Envoy starts and moves its cost
//! by some percent, so Envoy is started several times.

mod agreement;
mod cases;
pub(crate) mod delivery;
mod load;
pub(crate) mod memory;
mod mix;
pub(crate) mod node;
pub(crate) mod policies;
pub(crate) mod processor;
mod stage;
mod upstream;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::statistics::{Estimate, median};
use crate::{cpu, machine, plot, report};
use cases::Case;
use load::Connections;
use stage::{Answers, Stage};

/// Requests of one burst.
const BURST: usize = 1000;
/// Requests of a case before the first burst, so that all code is compiled and all is allocated.
const WARM_UP: usize = 2400;

/// How much time may be spent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effort {
    Quick,
    Full,
}

/// What one case cost, in microseconds per request.
struct Measured<'a> {
    case: &'a Case,
    /// Envoy, for each start of it round by round.
    starts: Vec<Vec<f64>>,
    /// The server that Envoy asks, if it does.
    asked: Vec<f64>,
}

impl<'a> Measured<'a> {
    const fn nothing(case: &'a Case) -> Self {
        Self {
            case,
            starts: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn rounds(&self) -> Vec<f64> {
        self.starts.concat()
    }
}

impl Effort {
    /// One of two counts.
    pub(crate) fn of(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// Measures every case, or those that are named, with a local upstream and without any.
pub(crate) fn run(effort: Effort, builds: &[(String, PathBuf)], only: &[String]) -> Result<()> {
    let wanted = |case: &Case| only.is_empty() || only.iter().any(|part| case.name.contains(part));
    let cases: Vec<Case> = cases::all(builds).into_iter().filter(wanted).collect();
    let (mut text, mut all) = (String::new(), serde_json::Map::new());
    for answers in [Answers::Nobody, Answers::Upstream] {
        let load_before = machine::load();
        let mut measured: Vec<Measured<'_>> = cases.iter().map(Measured::nothing).collect();
        for start in 0..effort.of(10, 2) {
            let stage = Stage::start(&cases, answers, 1)?;
            if start == 0 && answers == Answers::Upstream {
                text.push_str(&agreement::check(&stage, &cases)?);
            }
            bursts(&stage, &mut measured, effort.of(20, 12))?;
        }
        let load_after = machine::load();
        let table = table(&measured, answers, &load_before, &load_after);
        println!("{table}");
        text.push_str(&table);
        all.insert(
            answers.key().to_owned(),
            json_of(&measured, &load_before, &load_after),
        );
        let bars: Vec<_> = measured
            .iter()
            .map(|row| (row.case.name.as_str(), Estimate::of(&row.rounds())))
            .collect();
        let title = format!("CPU time of Envoy per request, {}", answers.title());
        report::file(
            &format!("requests-{}.svg", answers.key()),
            &plot::bars(&title, "µs", &bars),
        )?;
    }
    report::write("requests", &text, &Value::Object(all))
}

fn bursts(stage: &Stage, measured: &mut [Measured<'_>], rounds: usize) -> Result<()> {
    let mut connections = Vec::new();
    for (row, address) in measured.iter_mut().zip(stage.listeners()) {
        let mut opened = Connections::open(address, stage.answers().status())?;
        let warmed = opened.burst(WARM_UP);
        warmed.with_context(|| format!("case `{}`", row.case.name))?;
        connections.push(opened);
        row.starts.push(Vec::new());
    }
    for _ in 0..rounds {
        for (row, connections) in measured.iter_mut().zip(&mut connections) {
            // The first few requests find cold caches, which is the price of the turn, not of the case.
            connections.burst(BURST / 10)?;
            let asked = stage.asked(row.case);
            let before = (cpu::of(stage.envoy())?, asked.map(cpu::of).transpose()?);
            connections.burst(BURST)?;
            let after = (cpu::of(stage.envoy())?, asked.map(cpu::of).transpose()?);
            let each = |before: Duration, after: Duration| {
                after.saturating_sub(before).as_secs_f64() * 1e6 / BURST as f64
            };
            if let Some(rounds) = row.starts.last_mut() {
                rounds.push(each(before.0, after.0));
            }
            let asked = before.1.zip(after.1);
            row.asked
                .extend(asked.map(|(before, after)| each(before, after)));
        }
    }
    Ok(())
}

/// Round by round, one case against another, and the lowest and highest median of one start.
fn paired(
    of: &Measured<'_>,
    to: &Measured<'_>,
    compare: impl Fn(f64, f64) -> f64,
) -> (Estimate, [f64; 2]) {
    let pairs = of.starts.iter().zip(&to.starts);
    let starts: Vec<Vec<f64>> = pairs
        .map(|(of, to)| {
            of.iter()
                .zip(to)
                .map(|(of, to)| compare(*of, *to))
                .collect()
        })
        .collect();
    let mut medians: Vec<f64> = starts.iter().cloned().map(median).collect();
    medians.sort_unstable_by(f64::total_cmp);
    let ends = [medians.first(), medians.last()].map(|end| end.copied().unwrap_or_default());
    (Estimate::of(&starts.concat()), ends)
}

/// The comparisons that are printed: the fixed ones, and other builds with this one.
fn compared<'m>(measured: &'m [Measured<'_>]) -> Vec<(&'m str, &'m str)> {
    let names = measured.iter().map(|row| row.case.name.as_str());
    let builds = names.filter(|name| name.starts_with(cases::BUILD));
    let builds = builds.map(|build| (build, cases::DEMO));
    cases::COMPARED.into_iter().chain(builds).collect()
}

fn find<'m, 'a>(measured: &'m [Measured<'a>], name: &str) -> Option<&'m Measured<'a>> {
    measured.iter().find(|row| row.case.name == name)
}

fn table(measured: &[Measured<'_>], answers: Answers, before: &str, after: &str) -> String {
    let starts = measured.first().map_or(0, |row| row.starts.len());
    let rounds = measured.first().map_or(0, |row| row.rounds().len());
    let mut text = format!(
        "### {}\n\n{starts} starts of Envoy, together {rounds} bursts of {BURST} requests per case, interleaved; load of the machine {before} before, {after} after. \
         Medians, in brackets their 95 % intervals.\n\n\
         | filter | µs per request | more than no filter, µs |\n| --- | --- | --- |\n",
        answers.title()
    );
    for row in measured {
        let cost = bracketed(Estimate::of(&row.rounds()));
        let more = find(measured, cases::NONE)
            .map(|none| bracketed(paired(row, none, |of, to| of - to).0));
        text.push_str(&format!(
            "| {} | {cost} | {} |\n",
            row.case.name,
            more.unwrap_or_default()
        ));
    }
    for row in measured.iter().filter(|row| !row.asked.is_empty()) {
        text.push_str(&format!(
            "\n`{}`: the server that Envoy asks took another {} µs per request, in its own process.\n",
            row.case.name,
            bracketed(Estimate::of(&row.asked))
        ));
    }
    text.push_str(
        "\n| compared, round by round | ratio | the same in each start | difference, µs |\n| --- | --- | --- | --- |\n",
    );
    for (of, to) in compared(measured) {
        if let (Some(of_row), Some(to_row)) = (find(measured, of), find(measured, to)) {
            let (ratio, [lowest, highest]) = paired(of_row, to_row, |of, to| of / to);
            let (difference, _) = paired(of_row, to_row, |of, to| of - to);
            text.push_str(&format!(
                "| {of} / {to} | {:.3} [{:.3}, {:.3}] | {lowest:.3} to {highest:.3} | {} |\n",
                ratio.median,
                ratio.low,
                ratio.high,
                bracketed(difference)
            ));
        }
    }
    text.push('\n');
    text
}

fn bracketed(estimate: Estimate) -> String {
    let Estimate { median, low, high } = estimate;
    format!("{median:.1} [{low:.1}, {high:.1}]")
}

fn json_of(measured: &[Measured<'_>], before: &str, after: &str) -> Value {
    let cases: Vec<Value> = measured
        .iter()
        .map(|row| {
            let asked = (!row.asked.is_empty()).then(|| Estimate::of(&row.asked));
            json!({ "name": row.case.name, "cost_us": Estimate::of(&row.rounds()), "asked_us": asked, "rounds_us": row.starts })
        })
        .collect();
    let compared: Vec<Value> = compared(measured)
        .into_iter()
        .filter_map(|(of, to)| {
            let (of_row, to_row) = (find(measured, of)?, find(measured, to)?);
            Some(json!({
                "of": of,
                "to": to,
                "ratio": paired(of_row, to_row, |of, to| of / to).0,
                "difference_us": paired(of_row, to_row, |of, to| of - to).0,
            }))
        })
        .collect();
    json!({ "load_before": before, "load_after": after, "burst": BURST, "cases": cases, "compared": compared })
}
