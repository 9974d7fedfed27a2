//! How an Envoy comes by what it serves: from a file and its poller, or over xDS and from nothing
//! else. For the latter: the bootstrap, and what a policy says beside its services.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::binaries;

/// How an Envoy comes by what it serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Feed {
    /// A configuration file; the poller fetches policy and decisions.
    #[default]
    File,
    /// xDS that says all there is.
    Sotw,
    /// xDS that says what changed.
    Delta,
}

/// Makes three tests of each function `async fn(Feed) -> Result<()>`, one for each way to feed Envoy.
#[macro_export]
macro_rules! with_every_feed {
    ($($name:ident),+ $(,)?) => {
        $crate::with_feed!(file, File, $($name),+);
        $crate::with_every_xds!($($name),+);
    };
}

/// The same for the two ways of xDS.
#[macro_export]
macro_rules! with_every_xds {
    ($($name:ident),+ $(,)?) => {
        $crate::with_feed!(sotw, Sotw, $($name),+);
        $crate::with_feed!(delta, Delta, $($name),+);
    };
}

/// The same for one way.
#[macro_export]
macro_rules! with_feed {
    ($module:ident, $feed:ident, $($name:ident),+) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() -> anyhow::Result<()> {
                    super::$name($crate::feed::Feed::$feed).await
                }
            )+
        }
    };
}

/// Arguments by which a controller serves xDS at an address.
///
/// # Errors
/// When the filter is not built.
pub fn serving(address: SocketAddr) -> Result<Vec<String>> {
    let wasm = binaries::wasm()?.display().to_string();
    let arguments = ["--xds-listen", &address.to_string(), "--xds-wasm", &wasm];
    Ok(arguments.map(str::to_owned).into())
}

/// What `ombre bootstrap` prints for an Envoy of this name.
///
/// # Errors
/// When it prints none.
pub fn bootstrap(
    feed: Feed,
    node: &str,
    controller: SocketAddr,
    admin: SocketAddr,
    more: &[impl AsRef<str>],
) -> Result<String> {
    let mut command = Command::new(binaries::ombre()?);
    command.args(["bootstrap", "--node", node]);
    let more: Vec<&str> = more.iter().map(AsRef::as_ref).collect();
    if !more.contains(&"--cluster") {
        command.args(["--cluster", "edge"]);
    }
    command.args(["--controller", &controller.to_string()]);
    command.args(["--admin", &admin.to_string()]).args(more);
    if feed == Feed::Delta {
        command.arg("--delta");
    }
    let printed = command.output()?;
    let said = String::from_utf8_lossy(&printed.stderr);
    ensure!(printed.status.success(), "no bootstrap: {said}");
    String::from_utf8(printed.stdout).context("the bootstrap is no text")
}

/// `clusters:` of a policy, each with one host.
pub fn clusters(clusters: &[(&str, SocketAddr)]) -> String {
    let mut text = String::from("clusters:\n");
    for (name, host) in clusters {
        let line = writeln!(text, "  - {{ name: {name}, endpoints: [\"{host}\"] }}");
        line.ok();
    }
    text
}

/// A line of `listeners:` in a policy.
pub fn listener(
    name: &str,
    address: SocketAddr,
    default_cluster: &str,
    timeout: Duration,
) -> String {
    let timeout = timeout.as_millis();
    format!(
        "  - {{ name: {name}, address: \"{address}\", default_cluster: {default_cluster}, timeout: {timeout}ms }}\n"
    )
}
