//! The switches of this build and of this Envoy: what was compiled in, and what
//! `vm_config.environment_variables` say over it.

use std::env;

use crate::in_force::{Compiled, Switches};

/// What was compiled in.
const COMPILED: Compiled = Compiled {
    route_version: option_env!("ROUTE_VERSION"),
};

/// The switches in force; what in them was not understood goes to the log.
pub fn in_force() -> Switches {
    let (switches, warnings) = Switches::resolve(COMPILED, |name| env::var(name).ok());
    for warning in warnings {
        log::warn!("{warning}");
    }
    switches
}
