//! What is measured, part by part, each with its effort.

use std::time::{Duration, Instant};

use anyhow::Result;
use ombre_tests::feed::Feed;
use serde_json::Value;

use crate::args::Part;
use crate::requests::{self, Effort};
use crate::table::Table;
use crate::xds::pushes::What as Pushed;
use crate::{changes, counts, failback, fanout, plans, report, takeover, xds};

/// Clients and the routes of their policy.
const CROWDS: [(usize, usize); 3] = [(1000, 3), (1000, 1000), (100, 10_000)];

/// Measures everything, and says how long each part took.
pub(crate) async fn all(effort: Effort) -> Result<()> {
    let mut spent = Vec::new();
    for (name, part) in Part::all() {
        let start = Instant::now();
        part.measure(effort).await?;
        spent.push((name, start.elapsed()));
    }
    println!();
    let all: Duration = spent.iter().map(|(_, time)| *time).sum();
    for (name, time) in spent.into_iter().chain([("all", all)]) {
        println!("{name:<10} {:>6.1} s", time.as_secs_f64());
    }
    Ok(())
}

impl Part {
    /// All of them, each by its name.
    fn all() -> [(&'static str, Self); 11] {
        let (build, only) = (Vec::new(), Vec::new());
        let (clients, routes) = (None, None);
        [
            ("requests", Self::Requests { build, only }),
            ("node", Self::Node),
            ("counts", Self::Counts),
            ("memory", Self::Memory),
            ("changes", Self::Changes),
            ("fanout", Self::Fanout),
            ("xds", Self::Xds),
            ("crowd", Self::Crowd { clients, routes }),
            ("takeover", Self::Takeover),
            ("failback", Self::Failback),
            ("plans", Self::Plans),
        ]
    }

    pub(crate) async fn measure(self, effort: Effort) -> Result<()> {
        match self {
            Self::Requests { build, only } => requests::run(effort, &build, &only),
            Self::Node => requests::node::measure(effort),
            Self::Memory => requests::memory::measure(),
            Self::Changes => changes(effort).await,
            Self::Fanout => fanout::measure(effort.of(20, 5)).await,
            Self::Xds => xds(effort).await,
            Self::Crowd { clients, routes } => {
                let [first, ..] = CROWDS;
                match (clients, routes) {
                    (None, None) => crowd(effort, &CROWDS).await,
                    _ => {
                        let one = (clients.unwrap_or(first.0), routes.unwrap_or(first.1));
                        crowd(effort, &[one]).await
                    }
                }
            }
            Self::Takeover => takeover::measure(effort.of(20, 5) as u64).await,
            Self::Failback => failback(effort).await,
            Self::Plans => plans(effort),
            Self::Counts => counts::measure(),
        }
    }
}

async fn changes(effort: Effort) -> Result<()> {
    let mut table = Table::default();
    for routes in [3, 2000] {
        changes::measure(Feed::File, routes, effort.of(300, 40), &mut table).await?;
    }
    print!("{table}");
    report::write("changes", &table.markdown(), &table.json())
}

async fn xds(effort: Effort) -> Result<()> {
    let mut table = Table::default();
    for feed in [Feed::Sotw, Feed::Delta] {
        // Each push is timed in one of two ways.
        let pushes = effort.of(300, 60);
        for what in [
            Pushed::Routes,
            Pushed::Decisions(3),
            Pushed::Decisions(10_000),
        ] {
            xds::pushes::measure(feed, what, pushes, &mut table).await?;
        }
        for routes in [3, 2000] {
            changes::measure(feed, routes, effort.of(120, 20), &mut table).await?;
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
    failback::measure(effort.of(32, 8) as u64, &mut table).await?;
    print!("{table}");
    report::write("failback", &table.markdown(), &table.json())
}

fn plans(effort: Effort) -> Result<()> {
    let (markdown, json) = plans::run(&[10, 1_000, 100_000], effort.of(1_000_000, 200_000))?;
    print!("{markdown}");
    report::write("plans", &markdown, &json)
}
