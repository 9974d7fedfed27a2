//! A child process with its own log file. It is stopped by its own pid (or by the process group
//! made for it), and by nothing broader.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, kill_process_group, prlimit};
use tokio::signal::unix::{self, SignalKind, signal};

use crate::poll::eventually;

const LOG_TAIL: usize = 40;

/// A started program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    group: Group,
}

/// Whether the child leads a process group of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// The child stays in the group of the test, so that a runner that ends the test ends it too.
    Shared,
    /// The child leads a group: Ctrl-C at the terminal does not reach it, and what it starts
    /// itself ends with it.
    Own,
}

/// Ctrl-C and SIGTERM.
#[derive(Debug)]
pub struct Interrupt {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Process {
    /// Starts `command`; what it prints is appended to `log`.
    ///
    /// # Errors
    /// When the program cannot be started or the log cannot be written.
    pub fn start(
        name: &'static str,
        mut command: Command,
        log: &Path,
        group: Group,
    ) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("the log `{}` cannot be written", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        if group == Group::Own {
            command.process_group(0);
        }
        let program = command.get_program().to_owned();
        let child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started: `{}`", program.display()))?;
        Ok(Self {
            name,
            child,
            log: log.to_path_buf(),
            group,
        })
    }

    /// What the program is called in messages.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the program ended, if it did.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// An error if the program ended.
    ///
    /// # Errors
    /// Then; with the end of its log.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(anyhow::anyhow!(
                "{}{} ended by itself ({status}); the end of its log is above",
                self.log_tail(),
                self.name
            )),
        }
    }

    /// Bytes of memory that it holds now.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn memory(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: u64 = number.context("no VmRSS")?.parse()?;
        Ok(kib * 1024)
    }

    /// Lets no file of the program grow beyond so many bytes, as if the disk were full; `None` lifts
    /// the limit.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(Some(self.pid()?), Resource::Fsize, limit)?;
        Ok(())
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM; SIGKILL if it has not ended after `patience`. Returns how it ended.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let child = &mut self.child;
        let ended = eventually(patience, "the program ended after SIGTERM", async || {
            child.try_wait()?.context("it runs")
        })
        .await;
        if let Ok(status) = ended {
            return Ok(status);
        }
        self.signal(Signal::KILL)?;
        Ok(self.child.wait()?)
    }

    /// All that the program printed so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The last lines of the log, under the program's name.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LOG_TAIL);
        let tail = lines.get(from..).unwrap_or_default().join("\n");
        format!("--- {} ({}) ---\n{tail}\n", self.name, self.log.display())
    }

    fn pid(&self) -> Result<Pid> {
        let raw = i32::try_from(self.child.id()).context("the pid is out of range")?;
        Pid::from_raw(raw).context("the pid is zero")
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // A child that has been waited for has no pid any more: the number may be another's.
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = self.pid()?;
        match self.group {
            Group::Shared => kill_process(pid, signal)?,
            Group::Own => kill_process_group(pid, signal)?,
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
        if let Err(error) = self.kill() {
            eprintln!("{} (pid {}) was not ended: {error}", self.name, self.id());
        }
    }
}

impl Interrupt {
    /// Listens from now on: neither signal ends the program by itself any more.
    ///
    /// # Errors
    /// When the system gives no signals.
    pub fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Ends at the first of them.
    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
