//! `ombre validate`: says of each problem where it is, and of a good policy what is in it.

use std::process::ExitCode;

use ombre_policy::policy::SlotTables;

use crate::args::ValidateArgs;
use crate::compiled::Compiled;
use crate::stdout::say;

/// Checks the files as `serve` would. Problems and warnings go to standard error, one a line.
pub fn run(args: &ValidateArgs) -> ExitCode {
    // Compiled as well: what cannot be compiled is not valid.
    match Compiled::from_files(&args.policies, &SlotTables::default()) {
        Ok(compiled) => {
            for warning in &compiled.warnings {
                eprintln!("warning: {warning}");
            }
            // The exit code is the answer; the summary is a courtesy.
            let _ = say(summary(&compiled));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in problems.iter() {
                eprintln!("{problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn summary(compiled: &Compiled) -> String {
    let (services, versions, routes) = compiled.policy.size();
    let count = |number: usize, one: &str| {
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {one}{plural}")
    };
    format!(
        "fine: {}, {}, {}",
        count(services, "service"),
        count(routes, "route"),
        count(versions, "version")
    )
}
