//! The program `ombre`: reads its arguments, starts its log and hands over.

use std::process::ExitCode;

use clap::Parser;
use ombre_controller::args::{Args, Command};
use ombre_controller::complaint::complaint;
use ombre_controller::{bootstrap, explain, logging, remote, serve, simulate, validate};
use ombre_policy::release::machine::Command as Order;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{}", complaint(&error));
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    match Args::parse().command {
        Command::Validate(args) => Ok(validate::run(&args)),
        Command::Explain(args) => explain::run(&args),
        Command::Status(args) => remote::status(&args),
        Command::Promote(args) => remote::order(&args, Order::Promote),
        Command::Pause(args) => remote::order(&args, Order::Pause),
        Command::Resume(args) => remote::order(&args, Order::Resume),
        Command::Unlock(args) => remote::order(&args, Order::Unlock),
        Command::Rollback(args) => remote::rollback(&args),
        Command::SetWeight(args) => remote::set_weight(&args),
        Command::History(args) => remote::history(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Record(args) => simulate::record(&args),
        Command::Bootstrap(args) => bootstrap::run(&args),
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
