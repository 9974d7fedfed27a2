//! ombre beside Envoy: watches the policy files, keeps the last good policy, and delivers it and
//! the decisions in force to the filters. It classifies no request itself; whoever asks why a
//! request went where it went is answered by the code that runs in the filter.

pub mod app;
pub mod args;
pub mod bootstrap;
pub mod clients;
pub mod clock;
pub mod clusters;
pub mod compiled;
pub mod complaint;
pub mod documents;
pub mod engine;
pub mod error;
pub mod evidence;
pub mod explain;
pub mod loader;
pub mod logging;
pub mod metrics;
pub mod nodes;
pub mod notify;
pub mod publish;
pub mod remote;
#[cfg(test)]
mod sample;
pub mod serve;
pub mod server;
pub mod simulate;
pub mod source;
pub mod state;
pub mod stdout;
pub mod store;
pub mod timestamp;
pub mod validate;
pub mod watch;
pub mod xds;
