//! The resident memory of a process.

use std::fs;

use anyhow::{Context, Result};

/// Now, in bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn of(pid: u32) -> Result<f64> {
    read(pid, "VmRSS:")
}

/// The most that it ever was, in bytes.
///
/// # Errors
/// When the process is gone.
pub(crate) fn most(pid: u32) -> Result<f64> {
    read(pid, "VmHWM:")
}

fn read(pid: u32, field: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("`{path}` cannot be read"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes = kilobytes.with_context(|| format!("no {field}"))?;
    Ok(kilobytes.parse::<f64>()? * 1024.0)
}
