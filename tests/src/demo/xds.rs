//! The demo with an Envoy that gets everything from the controller: `make run XDS=1`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binaries;
use crate::ports::Port;

/// Where the controller and Envoy meet.
pub(super) struct Xds {
    port: Port,
    policy: PathBuf,
}

impl Xds {
    /// Puts the clusters and the listener into the directory, with the demo's own addresses.
    pub(super) fn prepare(
        dir: &Path,
        traffic: SocketAddr,
        [v1, v2]: [SocketAddr; 2],
    ) -> Result<Self> {
        let example = binaries::workspace().join("envoy/demo-xds.yaml");
        let mut text = std::fs::read_to_string(&example)
            .with_context(|| format!("`{}` cannot be read", example.display()))?;
        for (mark, address) in [
            ("\"127.0.0.1:8080\"", traffic),
            ("\"127.0.0.1:9001\"", v1),
            ("\"127.0.0.1:9002\"", v2),
        ] {
            ensure!(text.contains(mark), "`{}` has no {mark}", example.display());
            // Unquoted, so that no later mark finds it.
            text = text.replace(mark, &format!("'{address}'"));
        }
        let policy = dir.join("xds.yaml");
        std::fs::write(&policy, text)
            .with_context(|| format!("`{}` cannot be written", policy.display()))?;
        let port = Port::free()?;
        Ok(Self { port, policy })
    }

    /// The file with the clusters and the listener.
    pub(super) fn policy(&self) -> &Path {
        &self.policy
    }

    /// What the controller is started with for it.
    pub(super) fn arguments(&self) -> Result<Vec<String>> {
        let arguments = [
            ("--policy", self.policy.display().to_string()),
            ("--xds-listen", self.port.address().to_string()),
            ("--xds-wasm", binaries::wasm()?.display().to_string()),
        ];
        let arguments = arguments.map(|(flag, value)| [flag.to_owned(), value]);
        Ok(arguments.concat())
    }

    /// What Envoy starts with.
    pub(super) fn bootstrap(&self, admin: SocketAddr) -> Result<String> {
        let printed = Command::new(binaries::ombre()?)
            .args(["bootstrap", "--node", "envoy-1", "--cluster", "ombre-demo"])
            .args(["--controller", &self.port.address().to_string()])
            .args(["--admin", &admin.to_string()])
            .output()?;
        let complaint = String::from_utf8_lossy(&printed.stderr);
        ensure!(
            printed.status.success(),
            "`ombre bootstrap` fails: {complaint}"
        );
        Ok(String::from_utf8(printed.stdout)?)
    }
}
