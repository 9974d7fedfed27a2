//! The demo of `make run`, as a user starts and ends it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ombre_tests::binaries;
use rustix::process::{Pid, Signal, kill_process};

fn demo(dir: &tempfile::TempDir) -> Result<Command> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ombre-demo"));
    command
        .arg("--dir")
        .arg(dir.path())
        .env("ENVOY_PATH", binaries::envoy()?)
        .env("OMBRE_BIN", binaries::ombre()?)
        .env("OMBRE_WASM", binaries::wasm()?);
    Ok(command)
}

#[test]
fn every_printed_line_gives_what_is_said_beside_it() -> Result<()> {
    checked(&[])
}

#[test]
fn so_it_does_with_all_of_envoy_by_xds() -> Result<()> {
    checked(&["--xds"])
}

fn checked(more: &[&str]) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let output = demo(&dir)?
        .args(["--check", "--seconds", "3"])
        .args(more)
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{printed}{complaints}");
    ensure!(printed.matches("curl -si ").count() == 5, "{printed}");
    let seconds: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains(" s   v1 "))
        .collect();
    ensure!(seconds.len() == 3, "{printed}");
    ensure!(
        seconds.iter().all(|line| line.ends_with("errors     0")),
        "{printed}"
    );
    Ok(())
}

#[test]
fn sigterm_ends_it_and_all_that_it_started() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut child = demo(&dir)?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut addresses = Vec::new();
    for line in lines.by_ref() {
        let line = line?;
        addresses.extend(
            line.split_once("  http://")
                .map(|(_, address)| address.to_owned()),
        );
        if line.contains(" s   v1 ") {
            break;
        }
    }
    ensure!(addresses.len() == 5, "{addresses:?}");
    let policy = dir.path().join("policy.yaml");
    let good = std::fs::read_to_string(&policy)?;
    for (text, told) in [
        (
            good.replace("default: v1", "default: v7"),
            "services[0].default: `v7`",
        ),
        (good, "the policy is in force again"),
    ] {
        std::fs::write(&policy, text)?;
        // One line a second, so at most so many seconds.
        let said = lines.by_ref().take(10).collect::<Result<Vec<_>, _>>()?;
        ensure!(said.iter().any(|line| line.contains(told)), "{said:?}");
    }
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("no pid")?;
    kill_process(pid, Signal::TERM)?;
    let status = child.wait()?;
    ensure!(status.success(), "{status}");
    for address in addresses {
        let refused = std::net::TcpStream::connect(&address).is_err();
        ensure!(refused, "{address} still listens");
    }
    Ok(())
}
