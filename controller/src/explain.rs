//! `ombre explain`: asks the code that runs in the filter, here or in a running controller,
//! which version would serve a request, and why.

pub mod request;

use std::process::ExitCode;

use anyhow::Context;
use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::Revision;
use ombre_policy::explain::explain;
use ombre_policy::in_force::InForce;
use reqwest::Url;

use crate::args::{ExplainArgs, OutputFormat};
use crate::compiled::Compiled;
use crate::remote::Remote;
use crate::state::StateDir;
use crate::stdout::say;
use request::Request;

/// Explains one request on standard output.
///
/// # Errors
/// When the request makes no sense, or the controller does not answer.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let request = Request::from_args(args)?;
    // Checked here as well, so that the mistake is told without a controller.
    let question = request.question()?;
    if let Some(controller) = args
        .controller
        .as_ref()
        .filter(|_| args.policies.is_empty())
    {
        say(ask(controller, args, &request)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let state = args.state_dir.as_deref().map(StateDir::look).transpose()?;
    let slots = state.unwrap_or_default().slots;
    let compiled = match Compiled::from_files(&args.policies, &slots) {
        Ok(compiled) => compiled,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(ExitCode::FAILURE);
        }
    };
    let mut in_force = InForce::default();
    in_force.put(compiled.plan, Revision::default(), DecisionTable::default());
    let explanation = explain(&mut in_force, &question);
    match args.output {
        OutputFormat::Text => say(explanation)?,
        OutputFormat::Json => say(serde_json::to_string_pretty(&explanation)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(controller: &Url, args: &ExplainArgs, request: &Request) -> anyhow::Result<String> {
    let answer = Remote::new(controller, &args.trust)?.post("/v1/explain", request)?;
    match args.output {
        OutputFormat::Json => {
            let explanation = answer
                .get("explanation")
                .context("no `explanation` in the answer")?;
            Ok(serde_json::to_string_pretty(explanation)?)
        }
        OutputFormat::Text => {
            let text = answer.get("text").and_then(|text| text.as_str());
            Ok(text.context("no `text` in the answer")?.to_owned())
        }
    }
}
