//! The commands that ask a running controller: `status`, `history` and the orders to releases. They
//! go through the same API as everybody else.

mod text;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ombre_policy::release::machine::Command;
use ombre_policy::release::share::Percent;
use reqwest::{Client, RequestBuilder, Url};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::app::services::OrderBody;
use crate::args::{
    HistoryArgs, OrderArgs, OutputFormat, RollbackArgs, SetWeightArgs, StatusArgs, TrustArgs,
};
use crate::clients::Clients;
use crate::stdout::say;

/// How long a controller has to answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(1);
/// Clears the terminal and begins at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// A controller.
pub struct Remote {
    controller: Url,
    client: Client,
    runtime: Runtime,
}

impl Remote {
    /// The controller at this address.
    ///
    /// # Errors
    /// When the HTTP client cannot be built.
    pub fn new(controller: &Url, trust: &TrustArgs) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let clients = Clients::new(trust.ca_file.as_deref())?;
        let client = clients.builder().timeout(TIME_LIMIT).no_proxy().build()?;
        Ok(Self {
            controller: controller.clone(),
            client,
            runtime,
        })
    }

    /// What `path` answers.
    ///
    /// # Errors
    /// When there is no answer, or the answer is an error: then what it says.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.client.get(self.controller.join(path)?))
    }

    /// What `path` answers to `body`.
    ///
    /// # Errors
    /// As [`Remote::get`].
    pub fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Value> {
        self.answer(self.client.post(self.controller.join(path)?).json(body))
    }

    fn answer(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let controller = &self.controller;
        self.runtime.block_on(async {
            let response = request.send().await;
            let response = response.with_context(|| format!("no answer from {controller}"))?;
            let status = response.status();
            let answer = response.json().await;
            let answer: Value = answer
                .with_context(|| format!("{controller} answered {status}, and not in JSON"))?;
            if !status.is_success() {
                let detail = answer.get("detail").and_then(|detail| detail.as_str());
                bail!(
                    "{}",
                    detail
                        .unwrap_or("the controller refused to answer")
                        .to_owned()
                );
            }
            Ok(answer)
        })
    }
}

/// `ombre status`: a table of all releases with what is refused, or one in full.
///
/// # Errors
/// When the controller does not answer.
pub fn status(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::new(&args.at.controller, &args.at.trust)?;
    loop {
        let text = match &args.service {
            Some(service) => {
                let answer = remote.get(&path(service, "")?)?;
                shown(&answer, args.output, text::release)?
            }
            None => {
                let releases = shown(&remote.get("/v1/services")?, args.output, text::releases)?;
                match args.output {
                    OutputFormat::Text => over(releases, &remote.get("/v1/status")?),
                    OutputFormat::Json => releases,
                }
            }
        };
        if !args.watch {
            say(text)?;
            return Ok(ExitCode::SUCCESS);
        }
        say(format_args!("{CLEAR}{text}"))?;
        io::stdout().flush()?;
        std::thread::sleep(WATCH);
    }
}

/// `ombre history`.
///
/// # Errors
/// When the controller does not answer.
pub fn history(args: &HistoryArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::new(&args.at.controller, &args.at.trust)?;
    let mut path = format!("/v1/history?limit={}", args.limit);
    if let Some(service) = &args.service {
        path.push_str("&service=");
        path.push_str(name(service)?);
    }
    say(shown(&remote.get(&path)?, args.output, text::history)?)?;
    Ok(ExitCode::SUCCESS)
}

/// `ombre promote`, `pause`, `resume` and `unlock`.
///
/// # Errors
/// When the order is not followed: then why.
pub fn order(args: &OrderArgs, command: Command) -> anyhow::Result<ExitCode> {
    let remote = Remote::new(&args.at.controller, &args.at.trust)?;
    let body = OrderBody {
        command,
        actor: args.actor.clone(),
        reason: args.reason.clone(),
    };
    let answer = remote.post(&path(&args.service, "/orders")?, &body)?;
    say(text::release(&answer))?;
    Ok(ExitCode::SUCCESS)
}

/// `ombre rollback`: before it forces, it says what is given up.
///
/// # Errors
/// As [`order`].
pub fn rollback(args: &RollbackArgs) -> anyhow::Result<ExitCode> {
    let force = args.force;
    if force {
        let order = &args.order;
        let remote = Remote::new(&order.at.controller, &order.at.trust)?;
        let backlog = remote.get(&path(&order.service, "/sync-log")?)?;
        let waiting = backlog.get("waiting").and_then(Value::as_u64).unwrap_or(0);
        eprintln!(
            "given up: {waiting} changes of the sync log that the stable version has not seen"
        );
    }
    order(&args.order, Command::Rollback { force })
}

/// `ombre set-weight`.
///
/// # Errors
/// As [`order`].
pub fn set_weight(args: &SetWeightArgs) -> anyhow::Result<ExitCode> {
    order(&args.order, Command::SetWeight(Percent::new(args.weight)?))
}

/// What goes over xDS stands below the releases, if anything does.
fn over(releases: String, status: &Value) -> String {
    let parts = [releases, text::discovered(status), text::refused(status)];
    let told = parts.into_iter().filter(|part| !part.is_empty());
    told.collect::<Vec<_>>().join("\n\n")
}

fn shown(
    answer: &Value,
    output: OutputFormat,
    text: fn(&Value) -> String,
) -> anyhow::Result<String> {
    Ok(match output {
        OutputFormat::Text => text(answer),
        OutputFormat::Json => serde_json::to_string_pretty(answer)?,
    })
}

fn path(service: &str, rest: &str) -> anyhow::Result<String> {
    Ok(format!("/v1/services/{}{rest}", name(service)?))
}

/// A service's name, which needs no escaping in a URL.
fn name(service: &str) -> anyhow::Result<&str> {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "-_.".contains(sign);
    if service.is_empty() || !service.chars().all(plain) {
        bail!("`{service}` is not the name of a service");
    }
    Ok(service)
}
