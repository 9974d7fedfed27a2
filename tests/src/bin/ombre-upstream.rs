//! The demo upstream as a program: `ombre-upstream --version v1 --listen 127.0.0.1:9001`.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use ombre_tests::process::Interrupt;
use ombre_tests::upstream::Upstream;

/// Answers every request with its version and what it received.
/// `POST /control {"fail": 0.05, "delay_ms": 900, "hang": 0.1}` makes it misbehave; `GET /counts` counts.
#[derive(Parser)]
#[command(disable_version_flag = true)]
struct Args {
    /// What it answers as its version
    #[arg(long, default_value = "v1")]
    version: String,
    /// Where it listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Args { version, listen } = Args::parse();
    let mut interrupt = Interrupt::listen()?;
    let upstream = Upstream::start(&version, listen).await?;
    println!("{version} listens on http://{}", upstream.address());
    interrupt.received().await;
    upstream.stop().await;
    Ok(())
}
