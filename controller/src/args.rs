//! What the command line and the environment say. The help texts here are the reference.

mod bootstrap;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use reqwest::Url;

pub use bootstrap::{BootstrapArgs, Upstream};

/// Gray release behind Envoy.
#[derive(Debug, Parser)]
#[command(name = "ombre", version, about, propagate_version = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the policy files and deliver them to the filters in Envoy.
    Serve(ServeArgs),
    /// Check policy files and exit with 0 when they are fine, else with 1.
    Validate(ValidateArgs),
    /// Say which version would serve a request, and why.
    Explain(ExplainArgs),
    /// Show how the releases stand, or one of them in full.
    Status(StatusArgs),
    /// Take a release one step forward.
    Promote(OrderArgs),
    /// Hold a release: automation moves it no more.
    Pause(OrderArgs),
    /// Let automation go on; after an aborted fail-back, return to what went before.
    Resume(OrderArgs),
    /// Fail a release back now; it stays so until it is resumed.
    Rollback(RollbackArgs),
    /// Give the candidate this share of the traffic and keep it.
    SetWeight(SetWeightArgs),
    /// Lift the lock that too many trips have put on a release.
    Unlock(OrderArgs),
    /// Show what happened, newest first.
    History(HistoryArgs),
    /// Say what releases would have done over recorded or written evidence, and why.
    Simulate(SimulateArgs),
    /// Write down the evidence of a running controller, for `simulate`, until it is ended.
    Record(RecordArgs),
    /// Print the configuration that an Envoy starts with to get all else by xDS.
    Bootstrap(BootstrapArgs),
}

/// `ombre serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// A policy file; repeat it for several, which together make one policy.
    #[arg(
        long = "policy",
        value_name = "FILE",
        required = true,
        env = "OMBRE_POLICY",
        value_delimiter = ','
    )]
    pub policies: Vec<PathBuf>,
    /// Where the API listens. It has no authentication of its own: keep it on the loopback or
    /// behind something that has.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8600",
        env = "OMBRE_LISTEN"
    )]
    pub listen: SocketAddr,
    /// Where revisions, slot tables and decisions are kept, so that no restart moves a user.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "ombre-state",
        env = "OMBRE_STATE_DIR"
    )]
    pub state_dir: PathBuf,
    /// Admin address of an Envoy, such as <http://127.0.0.1:9901>: a policy that names a cluster
    /// this Envoy does not have is refused. Repeat it for several.
    #[arg(
        long = "envoy-admin",
        value_name = "URL",
        env = "OMBRE_ENVOY_ADMIN",
        value_delimiter = ','
    )]
    pub envoy_admins: Vec<Url>,
    /// Take the evidence from this Prometheus, or another store with its query API, and not from
    /// the Envoys' admin addresses: <http://127.0.0.1:9090>.
    #[arg(long, value_name = "URL", env = "OMBRE_EVIDENCE_PROMQL")]
    pub evidence_promql: Option<Url>,
    /// Label matchers that leave the Envoys in question: `job="edge",zone=~"a|b"`.
    #[arg(
        long,
        value_name = "MATCHERS",
        default_value = "",
        requires = "evidence_promql",
        env = "OMBRE_PROMQL_SELECTOR"
    )]
    pub promql_selector: String,
    /// xDS, for Envoys that get all else from here.
    #[command(flatten)]
    pub xds: XdsArgs,
    /// Told of every transition, alert and order, as JSON; repeat it for several.
    #[arg(
        long = "webhook",
        value_name = "URL",
        env = "OMBRE_WEBHOOK",
        value_delimiter = ','
    )]
    pub webhooks: Vec<Url>,
    /// The file with the secret that webhooks are signed with (HMAC-SHA256).
    #[arg(long, value_name = "FILE", env = "OMBRE_WEBHOOK_SECRET_FILE")]
    pub webhook_secret_file: Option<PathBuf>,
    /// What others are trusted by.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// How the log is written; `RUST_LOG` filters it.
    #[arg(
        long,
        value_enum,
        default_value_t = LogFormat::Text,
        env = "OMBRE_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
}

/// xDS of `ombre serve`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct XdsArgs {
    /// Serve xDS here, to Envoys that `ombre bootstrap` prints the configuration of. The policy has to
    /// have `clusters:` and `listeners:`.
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "xds_wasm",
        env = "OMBRE_XDS_LISTEN"
    )]
    pub xds_listen: Option<SocketAddr>,
    /// Where ombre.wasm lies on the machines of these Envoys.
    #[arg(
        long,
        value_name = "FILE",
        requires = "xds_listen",
        env = "OMBRE_XDS_WASM"
    )]
    pub xds_wasm: Option<String>,
    /// The certificate that xDS is served with, in PEM. It is read again when it changes, as are the key
    /// and the authority.
    #[arg(
        long,
        value_name = "FILE",
        requires = "xds_tls_key",
        requires = "xds_tls_client_ca",
        requires = "xds_listen",
        env = "OMBRE_XDS_TLS_CERT"
    )]
    pub xds_tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires = "xds_tls_cert",
        env = "OMBRE_XDS_TLS_KEY"
    )]
    pub xds_tls_key: Option<PathBuf>,
    /// The authorities whose clients are let in, in PEM. An Envoy's `node.id` has to be one of the DNS
    /// names or URIs in its certificate, or what comes after the last slash of a SPIFFE URI there.
    #[arg(
        long,
        value_name = "FILE",
        requires = "xds_tls_cert",
        env = "OMBRE_XDS_TLS_CLIENT_CA"
    )]
    pub xds_tls_client_ca: Option<PathBuf>,
    /// Serve xDS without TLS to other machines too. Whoever reaches the address then gets the whole
    /// policy, keys of the verification channel included, under any name.
    #[arg(long, conflicts_with = "xds_tls_cert", env = "OMBRE_XDS_INSECURE")]
    pub xds_insecure: bool,
}

/// Whom TLS trusts.
#[derive(Clone, Debug, clap::Args)]
pub struct TrustArgs {
    /// A file with certificates in PEM: authorities that are trusted beside those of the system,
    /// wherever an address begins with <https://>.
    #[arg(long, value_name = "FILE", env = "OMBRE_CA_FILE")]
    pub ca_file: Option<PathBuf>,
}

/// `ombre validate`.
#[derive(Clone, Debug, clap::Args)]
pub struct ValidateArgs {
    /// The policy files, which together make one policy.
    #[arg(value_name = "FILE", required = true)]
    pub policies: Vec<PathBuf>,
}

/// `ombre explain`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// Ask about this policy file, with no decisions in force; repeat it for several.
    #[arg(
        long = "policy",
        value_name = "FILE",
        required_unless_present = "controller"
    )]
    pub policies: Vec<PathBuf>,
    /// Where a controller keeps its state: with `--policy`, units are in the groups that they would
    /// have after its next load. Without it they are in those of a first load.
    #[arg(long, value_name = "DIR", requires = "policies")]
    pub state_dir: Option<PathBuf>,
    /// Ask a running controller, about the policy and the decisions that are in force there. Not
    /// asked when there is a `--policy`: the variable may be set for other commands.
    #[arg(long, value_name = "URL", env = "OMBRE_CONTROLLER")]
    pub controller: Option<Url>,
    /// What the controller is trusted by.
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The request's method.
    #[arg(short = 'X', long = "method", default_value = "GET")]
    pub method: String,
    /// A header of the request, `name: value`; repeat it for several.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// How to answer.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
    /// What is asked for: <http://shop.example.com/checkout?color=blue>, or only a path.
    pub url: String,
}

/// Which controller is asked.
#[derive(Clone, Debug, clap::Args)]
pub struct ControllerArgs {
    /// The controller to ask.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8600",
        env = "OMBRE_CONTROLLER"
    )]
    pub controller: Url,
    /// What it is trusted by.
    #[command(flatten)]
    pub trust: TrustArgs,
}

/// `ombre status`.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// The controller.
    #[command(flatten)]
    pub at: ControllerArgs,
    /// One service in full.
    pub service: Option<String>,
    /// Show it anew every second.
    #[arg(long)]
    pub watch: bool,
    /// How to answer.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// An order to a release.
#[derive(Clone, Debug, clap::Args)]
pub struct OrderArgs {
    /// The controller.
    #[command(flatten)]
    pub at: ControllerArgs,
    /// The service.
    pub service: String,
    /// Why; it is kept.
    #[arg(long)]
    pub reason: String,
    /// Who says so; it is kept.
    #[arg(long, env = "USER")]
    pub actor: String,
}

/// `ombre rollback`.
#[derive(Clone, Debug, clap::Args)]
pub struct RollbackArgs {
    /// The order.
    #[command(flatten)]
    pub order: OrderArgs,
    /// Switch without freeze and drain: the candidate's writes that were not applied to the stable
    /// version are given up. How many that are is said first.
    #[arg(long)]
    pub force: bool,
}

/// `ombre set-weight`.
#[derive(Clone, Debug, clap::Args)]
pub struct SetWeightArgs {
    /// The order.
    #[command(flatten)]
    pub order: OrderArgs,
    /// Whole percent.
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub weight: u8,
}

/// `ombre history`.
#[derive(Clone, Debug, clap::Args)]
pub struct HistoryArgs {
    /// The controller.
    #[command(flatten)]
    pub at: ControllerArgs,
    /// Of this service alone.
    pub service: Option<String>,
    /// So many entries at most.
    #[arg(long, default_value_t = 30)]
    pub limit: u32,
    /// How to answer.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// `ombre simulate`.
#[derive(Clone, Debug, clap::Args)]
pub struct SimulateArgs {
    /// A policy file; repeat it for several, which together make one policy.
    #[arg(long = "policy", value_name = "FILE", required = true)]
    pub policies: Vec<PathBuf>,
    /// The evidence: one JSON object a line, in the order of time, as `record` writes it.
    #[arg(long, value_name = "FILE")]
    pub evidence: PathBuf,
    /// How to answer.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub output: OutputFormat,
}

/// `ombre record`.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordArgs {
    /// The controller.
    #[command(flatten)]
    pub at: ControllerArgs,
    /// The file that it is added to.
    #[arg(long, value_name = "FILE")]
    pub evidence: PathBuf,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// JSON.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn explain_wants_a_policy_or_a_controller() {
        let parse = |args: &[&str]| Args::try_parse_from([&["ombre", "explain"], args].concat());
        assert!(parse(&["/a"]).is_err());
        assert!(parse(&["--policy", "p.yaml", "/a"]).is_ok());
        assert!(parse(&["--controller", "http://127.0.0.1:8600", "/a"]).is_ok());
        assert!(parse(&["--controller", "http://h", "--policy", "p", "/a"]).is_err());
    }
}
