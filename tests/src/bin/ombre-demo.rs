//! The demo of `make run`.

use anyhow::Result;
use clap::Parser;

#[tokio::main]
async fn main() -> Result<()> {
    ombre_tests::demo::run(ombre_tests::demo::Args::parse()).await
}
