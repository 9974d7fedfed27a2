//! The CPU time of a process in nanoseconds, from the scheduler's own account of each of its
//! threads: `utime` in `/proc/<pid>/stat` counts in ticks of 10 ms.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// What all living threads of the process have used.
///
/// # Errors
/// When the process is gone, or the kernel keeps no account.
pub(crate) fn of(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut sum = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("`{tasks}` cannot be read"))? {
        let account = task?.path().join("schedstat");
        // A thread may end while its process is read.
        let Ok(text) = fs::read_to_string(&account) else {
            continue;
        };
        let used = text.split_whitespace().next();
        sum += used
            .context("an empty schedstat: the kernel keeps no account of threads")?
            .parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}
