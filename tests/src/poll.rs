//! Waiting for something to become true, with a deadline instead of a guess.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How long to wait for what takes milliseconds on an idle machine. Generous, because two cores
/// may be shared with a build.
pub const SOON: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(5);

/// Calls `attempt` until it succeeds and returns what it returned.
///
/// # Errors
/// After `deadline`: the last error of `attempt`, under `what`.
pub async fn eventually<T>(
    deadline: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= deadline => {
                return Err(error)
                    .with_context(|| format!("not within {} s: {what}", deadline.as_secs()));
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
