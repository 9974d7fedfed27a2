//! The curl lines that the demo prints, and what each of them shows. The README has the same.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A curl line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// What curl is given before the URL.
    options: &'static str,
    /// Path and query.
    path: &'static str,
    /// The version that answers.
    version: &'static str,
    /// Why, as `x-ombre-decision` says it.
    reason: &'static str,
    /// What it shows.
    shows: &'static str,
}

/// All of them.
pub(super) const LINES: [Line; 5] = [
    Line {
        options: "-H 'accept: application/vnd.shop.v2+json'",
        path: "/shop/cart",
        version: "v2",
        reason: "accept",
        shows: "the media type asks for v2",
    },
    Line {
        options: "",
        path: "/api/v2/users/7",
        version: "v2",
        reason: "path",
        shows: "the path asks for v2",
    },
    Line {
        options: "-H 'x-envoy-traffic-color: canary-v2'",
        path: "/shop/cart",
        version: "v2",
        reason: "color",
        shows: "traffic of the color canary-v2 goes to v2",
    },
    Line {
        options: "-H 'x-user-id: dave'",
        path: "/shop/cart",
        version: "v2",
        reason: "rollout",
        shows: "dave is among the 20 % who get the candidate",
    },
    Line {
        options: "-H 'x-ombre-cluster: demo_v2' -H 'x-user-id: bob'",
        path: "/shop/cart",
        version: "v1",
        reason: "default",
        shows: "nobody chooses a cluster by a forged header: bob stays on v1",
    },
];

impl Line {
    /// What is typed into a shell.
    pub(super) fn command(&self, address: &str) -> String {
        let Self { options, path, .. } = self;
        let space = if options.is_empty() { "" } else { " " };
        format!("curl -si {options}{space}{address}{path}")
    }

    /// What comes of it.
    pub(super) fn effect(&self) -> String {
        let Self {
            version,
            reason,
            shows,
            ..
        } = self;
        format!("{version} ({reason}): {shows}")
    }

    /// Runs the line in a shell, as it is printed.
    ///
    /// # Errors
    /// When something else comes of it than is printed.
    pub(super) fn check(&self, address: SocketAddr) -> Result<()> {
        let command = self.command(&address.to_string());
        let output = Command::new("sh")
            .args(["-c", &command])
            .output()
            .context("`sh` cannot be run")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (version, reason) = (self.version, self.reason);
        ensure!(
            output.status.success()
                && text.contains(&format!("\"version\":\"{version}\""))
                && text.contains(&format!("version={version};reason={reason}")),
            "`{command}` did not show `{}`: {}, {text}{}",
            self.effect(),
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::LINES;
    use crate::binaries::workspace;

    #[test]
    fn the_readme_has_the_same_lines() {
        let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
        for line in &LINES {
            let (version, reason) = (line.version, line.reason);
            let row = readme
                .lines()
                .find(|row| row.contains(&line.command("localhost:8080")));
            let row =
                row.unwrap_or_else(|| panic!("`{}` is not there", line.command("localhost:8080")));
            let answer = format!("version={version};reason={reason}");
            assert!(row.contains(&answer), "{row} has no {answer}");
        }
    }
}
