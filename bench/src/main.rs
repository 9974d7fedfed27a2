//! `make bench`: what ombre costs, measured with a real Envoy and the built programs.

mod args;
mod changes;
mod counts;
mod cpu;
mod failback;
mod fanout;
mod machine;
mod memory;
mod parts;
mod plans;
mod plot;
mod report;
mod requests;
mod statistics;
mod table;
mod takeover;
mod xds;

use anyhow::Result;
use clap::Parser;
use tokio::runtime::Runtime;

use args::{Args, What};
use requests::Effort;

fn main() -> Result<()> {
    let Args { quick, what } = Args::parse();
    let effort = if quick { Effort::Quick } else { Effort::Full };
    match what {
        None => Runtime::new()?.block_on(parts::all(effort)),
        Some(What::Part(part)) => Runtime::new()?.block_on(part.measure(effort)),
        Some(What::Processor { listen }) => requests::processor::serve(listen),
        Some(What::Decide {
            document,
            requests,
            rounds,
            write,
        }) => counts::decide(&document, &requests, rounds, write),
    }
}
