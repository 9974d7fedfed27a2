//! What the numbers were taken on: without it they cannot be compared with anybody's.

use std::fs;
use std::process::Command;

use anyhow::Result;
use ombre_tests::binaries;
use serde::Serialize;

/// The machine and the versions of one run.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) envoy: String,
    pub(crate) ombre: String,
    pub(crate) rustc: String,
    /// Running programs, the average of the last minute.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn look() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let cpu = model.and_then(|line| line.split_once(": "));
        let envoy = output(&binaries::envoy()?.to_string_lossy(), &["--version"]);
        Ok(Self {
            cpu: cpu.map_or("unknown", |(_, cpu)| cpu).to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            kernel: output("uname", &["-sr"]),
            envoy: envoy
                .split("version: ")
                .last()
                .unwrap_or_default()
                .to_owned(),
            ombre: output("git", &["describe", "--always", "--dirty"]),
            rustc: output("rustc", &["--version"]),
            load: load(),
        })
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        format!(
            "{}, {} cores, {}; Envoy {}; ombre {}; {}; load {}",
            self.cpu, self.cores, self.kernel, self.envoy, self.ombre, self.rustc, self.load
        )
    }
}

/// The load average over one minute, as text.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What a program prints, in one line; empty when it is not there.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.unwrap_or_default().replace('\n', " ")
}
