//! The program `ombre`: reads its arguments, starts its log and hands over.

use std::process::ExitCode;

use clap::Parser;
use ombre_controller::args::{Args, Command};
use ombre_controller::{explain, logging, serve, validate};

fn main() -> anyhow::Result<ExitCode> {
    match Args::parse().command {
        Command::Validate(args) => Ok(validate::run(&args)),
        Command::Explain(args) => explain::run(&args),
        Command::Serve(args) => {
            logging::start(args.log_format);
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?;
            runtime.block_on(serve::run(args))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
