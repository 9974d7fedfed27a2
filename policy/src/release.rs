//! The release loop's pure half: evidence in, decisions out, nothing performed here.
//! The controller collects, stores and publishes; see `docs/release.md` for the states.

pub mod breaker;
pub mod evidence;
pub mod fleet;
pub mod judge;
pub mod machine;
pub mod settings;
pub mod share;
pub mod triggers;
pub mod wilson;
