//! What can be asked for.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures ombre with a real Envoy.
#[derive(Parser)]
pub(crate) struct Args {
    /// Fewer rounds, with wider intervals.
    #[arg(long, global = true)]
    pub(crate) quick: bool,
    #[command(subcommand)]
    pub(crate) what: Option<What>,
}

#[derive(Subcommand)]
pub(crate) enum What {
    #[command(flatten)]
    Part(Part),
    /// What `requests` starts: an external processor.
    #[command(hide = true)]
    Processor { listen: SocketAddr },
    /// What `counts` runs: decisions.
    #[command(hide = true)]
    Decide {
        document: PathBuf,
        requests: PathBuf,
        rounds: u64,
        #[arg(long)]
        write: bool,
    },
}

/// What is measured for itself.
#[derive(Subcommand)]
pub(crate) enum Part {
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
    /// Instructions of a decision, by valgrind.
    Counts,
}

fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write it as name=path.wasm")?;
    Ok((name.to_owned(), path.into()))
}
