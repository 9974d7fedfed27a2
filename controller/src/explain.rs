//! `ombre explain`: asks the code that runs in the filter, here or in a running controller,
//! which version would serve a request, and why.

pub mod request;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::Revision;
use ombre_policy::explain::explain;
use ombre_policy::in_force::InForce;
use ombre_policy::policy::SlotTables;
use reqwest::Url;

use crate::args::{ExplainArgs, OutputFormat};
use crate::compiled::Compiled;
use crate::source::Reader;
use request::Request;

/// How long a controller has to answer.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Explains one request on standard output.
///
/// # Errors
/// When the request makes no sense, or the controller does not answer.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let request = Request::from_args(args)?;
    // Checked here as well, so that the mistake is told without a controller.
    let question = request.question()?;
    if let Some(controller) = &args.controller {
        println!("{}", ask(controller, &request, args.output)?);
        return Ok(ExitCode::SUCCESS);
    }
    let reader = Reader::default();
    let compiled = reader
        .policies(&args.policies)
        .and_then(|sources| Compiled::new(sources, &reader, &SlotTables::default()));
    let compiled = match compiled {
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
        OutputFormat::Text => println!("{explanation}"),
        OutputFormat::Json => println!("{}", serde_json::to_string_pretty(&explanation)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn ask(controller: &Url, request: &Request, output: OutputFormat) -> anyhow::Result<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(post(controller, request))?;
    match output {
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

async fn post(controller: &Url, request: &Request) -> anyhow::Result<serde_json::Value> {
    let url = controller.join("/v1/explain")?;
    let client = reqwest::Client::builder()
        .timeout(TIME_LIMIT)
        .no_proxy()
        .build()?;
    let response = client.post(url).json(request).send().await;
    let response = response.with_context(|| format!("no answer from {controller}"))?;
    let status = response.status();
    let answer: serde_json::Value = response
        .json()
        .await
        .with_context(|| format!("{controller} answered {status}, and not in JSON"))?;
    if !status.is_success() {
        let detail = answer.get("detail").and_then(|detail| detail.as_str());
        bail!("{}", detail.unwrap_or("the controller refused to answer"));
    }
    Ok(answer)
}
