//! The demo of `make run`.

use std::process::ExitCode;

use clap::Parser;
use ombre_tests::demo::{Args, run};

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without the backtrace that anyhow would add: this is read by users.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
