//! What the command line and the environment say. The help texts here are the reference.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use reqwest::Url;

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
    /// How the log is written; `RUST_LOG` filters it.
    #[arg(
        long,
        value_enum,
        default_value_t = LogFormat::Text,
        env = "OMBRE_LOG_FORMAT"
    )]
    pub log_format: LogFormat,
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
    /// Ask a running controller, about the policy and the decisions that are in force there.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "policies",
        env = "OMBRE_CONTROLLER"
    )]
    pub controller: Option<Url>,
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
