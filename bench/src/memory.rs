//! The resident memory of a process.

use std::fs;

use anyhow::{Context, Result};

/// In bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn of(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("`{path}` cannot be read"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.context("no VmRSS")?.parse::<f64>()? * 1024.0)
}
