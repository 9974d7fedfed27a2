//! `make bench`: what ombre costs, measured with a real Envoy and the built programs.

mod changes;
mod cpu;
mod failback;
mod fanout;
mod machine;
mod memory;
mod plans;
mod plot;
mod report;
mod requests;
mod statistics;
mod table;
mod takeover;
mod xds;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ombre_tests::feed::Feed;
use serde_json::Value;

use requests::Effort;
use table::Table;
use xds::pushes::What as Pushed;

/// Clients and the routes of their policy.
const CROWDS: [(usize, usize); 3] = [(1000, 3), (1000, 1000), (100, 10_000)];

/// Measures ombre with a real Envoy.
#[derive(Parser)]
struct Args {
    /// A fifth of the time, with wider intervals.
    #[arg(long, global = true)]
    quick: bool,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// CPU time of Envoy per request, by filter.
    Requests {
        /// Other builds of the filter to compare with, as `name=path.wasm`.
        #[arg(long, value_parser = named_path)]
        build: Vec<(String, PathBuf)>,
        /// Only these cases (a part of their names is enough).
        #[arg(long)]
        only: Vec<String>,
    },
    /// The filter's own time for a request, in Node's V8.
    Node,
    /// Memory of Envoy by workers, with and without the filter.
    Memory,
    /// From a saved policy to the first request decided by it.
    Changes,
    /// How long a decision takes to many waiting filters, and what those cost the controller.
    Fanout,
    /// From a push over xDS, or a file saved, to Envoy's answer and the first request decided by it.
    Xds,
    /// Very many xDS clients of one controller.
    Crowd {
        /// So many of them, and no other crowd.
        #[arg(long)]
        clients: Option<usize>,
        /// Under a policy with so many routes, and no other crowd.
        #[arg(long)]
        routes: Option<usize>,
    },
    /// How long a worker takes for a document, and what it costs the requests under way.
    Takeover,
    /// From a fault of the candidate to the last request that meets it, and where the time goes.
    Failback,
    /// Policies by their number of routes: to load, to take, and to look up.
    Plans,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args { quick, what } = Args::parse();
    let effort = if quick { Effort::Quick } else { Effort::Full };
    match what {
        Some(What::Requests { build, only }) => requests::run(effort, &build, &only)?,
        Some(What::Node) => requests::node::measure(effort)?,
        Some(What::Memory) => requests::memory::measure()?,
        Some(What::Changes) => changes(effort).await?,
        Some(What::Fanout) => fanout::measure(effort.of(20, 5)).await?,
        Some(What::Xds) => xds(effort).await?,
        Some(What::Crowd { clients, routes }) => {
            let [first, ..] = CROWDS;
            match (clients, routes) {
                (None, None) => crowd(effort, &CROWDS).await?,
                _ => {
                    let one = (clients.unwrap_or(first.0), routes.unwrap_or(first.1));
                    crowd(effort, &[one]).await?;
                }
            }
        }
        Some(What::Takeover) => takeover::measure().await?,
        Some(What::Failback) => failback(effort).await?,
        Some(What::Plans) => plans(effort)?,
        None => {
            requests::run(effort, &[], &[])?;
            requests::node::measure(effort)?;
            requests::memory::measure()?;
            changes(effort).await?;
            fanout::measure(effort.of(20, 5)).await?;
            xds(effort).await?;
            crowd(effort, &CROWDS).await?;
            takeover::measure().await?;
            failback(effort).await?;
            plans(effort)?;
        }
    }
    Ok(())
}

async fn changes(effort: Effort) -> Result<()> {
    let mut table = Table::default();
    for routes in [3, 2000] {
        changes::measure(Feed::File, routes, effort.of(300, 60), &mut table).await?;
    }
    print!("{table}");
    report::write("changes", &table.markdown(), &table.json())
}

async fn xds(effort: Effort) -> Result<()> {
    let mut table = Table::default();
    for feed in [Feed::Sotw, Feed::Delta] {
        // Each push is timed in one of two ways.
        let pushes = effort.of(400, 100);
        for what in [
            Pushed::Routes,
            Pushed::Decisions(3),
            Pushed::Decisions(10_000),
        ] {
            xds::pushes::measure(feed, what, pushes, &mut table).await?;
        }
        for routes in [3, 2000] {
            changes::measure(feed, routes, effort.of(200, 40), &mut table).await?;
        }
    }
    print!("{table}");
    report::write("xds", &table.markdown(), &table.json())
}

async fn crowd(effort: Effort, crowds: &[(usize, usize)]) -> Result<()> {
    let (mut markdown, mut json) = (String::new(), Vec::new());
    for (clients, routes) in crowds {
        let measured = xds::crowd::measure(*clients, *routes, effort.of(50, 10)).await?;
        let text = measured.markdown();
        println!("{text}");
        markdown.push_str(&text);
        markdown.push('\n');
        json.push(measured.json());
    }
    report::write("crowd", &markdown, &Value::Array(json))
}

async fn failback(effort: Effort) -> Result<()> {
    let mut table = Table::default();
    failback::measure(effort.of(30, 10) as u64, &mut table).await?;
    print!("{table}");
    report::write("failback", &table.markdown(), &table.json())
}

fn plans(effort: Effort) -> Result<()> {
    let (markdown, json) = plans::run(&[10, 1_000, 100_000], effort.of(1_000_000, 200_000))?;
    print!("{markdown}");
    report::write("plans", &markdown, &json)
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write it as name=path.wasm")?;
    Ok((name.to_owned(), path.into()))
}
