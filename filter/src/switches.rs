//! The switches of this build and of this Envoy: what was compiled in, by Cargo features and the
//! build's environment, and what `vm_config.environment_variables` say over it.

use std::env;

use ombre_policy::switches::{Compiled, FeatureSwitch, Features, Switches};

/// What was compiled in.
const COMPILED: Compiled = Compiled {
    route_version: option_env!("ROUTE_VERSION"),
    features: features(),
};

/// The switches in force; what in them was not understood goes to the log.
pub fn in_force() -> Switches {
    let (switches, warnings) = Switches::resolve(COMPILED, |name| env::var(name).ok());
    for warning in warnings {
        log::warn!("{warning}");
    }
    switches
}

const fn features() -> Features {
    let mut features = Features::NONE;
    if cfg!(feature = "experiments") {
        features = features.with(FeatureSwitch::Experiments);
    }
    if cfg!(feature = "rollout") {
        features = features.with(FeatureSwitch::Rollout);
    }
    if cfg!(feature = "metadata") {
        features = features.with(FeatureSwitch::Metadata);
    }
    if cfg!(feature = "baggage") {
        features = features.with(FeatureSwitch::Baggage);
    }
    if cfg!(feature = "verification") {
        features = features.with(FeatureSwitch::Verification);
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_choices_has_every_feature() {
        for feature in FeatureSwitch::ALL {
            assert!(COMPILED.features.has(feature), "{}", feature.name());
        }
    }
}
