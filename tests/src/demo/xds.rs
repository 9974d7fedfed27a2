//! The demo with an Envoy that gets everything from the controller: `make run XDS=1`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::binaries;
use crate::feed::{self, Feed};
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
        let policy = ["--policy".to_owned(), self.policy.display().to_string()];
        let serving = feed::serving(self.port.address())?;
        Ok(policy.into_iter().chain(serving).collect())
    }

    /// What Envoy starts with.
    pub(super) fn bootstrap(&self, admin: SocketAddr) -> Result<String> {
        let cluster = ["--cluster", "ombre-demo"];
        feed::bootstrap(Feed::Sotw, "envoy-1", self.port.address(), admin, &cluster)
    }
}
