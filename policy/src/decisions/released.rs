//! What releases decided, each with the policy that it was decided for: under another one it would
//! move traffic that nobody meant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Decisions, ServiceDecisions};
use crate::policy::{Policy, Service, Share};

/// What all releases decided, by service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// A service that is not named is decided by its policy alone.
    #[serde(default)]
    pub services: BTreeMap<String, ReleasedService>,
}

/// What a release decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasedService {
    /// What it was decided for.
    pub made_for: MadeFor,
    /// The share, also where it is the policy's, and what is refused or taken over.
    pub decided: ServiceDecisions,
}

/// What of a policy a release decides about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeFor {
    /// The version that is released.
    pub candidate: String,
    /// The version that takes over when it fails.
    pub stable: String,
    /// The service's default version.
    pub default: String,
    /// The candidate's share by the policy that the release acted on last, in percent.
    pub weight: f64,
}

/// Who decides about a service under a policy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decider {
    /// A release.
    Release,
    /// Nobody any more: it has a rollout and no `degrade` block.
    Nobody,
    /// There is nothing to decide: it has no rollout, or is not there.
    Nothing,
}

impl Released {
    /// What of it holds under `policy`. No weight where the policy says the same.
    ///
    /// With a `degrade` block a decision holds for the versions it was made for, whatever the policy's
    /// weight: that one is the release's to follow. Without one it holds until the rollout is edited.
    #[must_use]
    pub fn under(&self, policy: &Policy) -> Decisions {
        let held = policy.services.iter().filter_map(|service| {
            let released = self.services.get(&service.name)?;
            let rollout = service.rollout.as_ref()?;
            if !released.made_for.is(service) {
                return None;
            }
            let mut decided = released.decided.clone();
            decided.weight = decided.weight.filter(|it| !same(*it, rollout.weight));
            // The fallback of a block that is gone may be gone with it.
            decided
                .degraded
                .retain(|_, fallback| service.versions.iter().any(|v| v.name == *fallback));
            Some((service.name.clone(), decided))
        });
        Decisions {
            services: held.collect(),
        }
    }

    /// Takes what the releases that run decide now, and keeps what nobody decides about any more.
    pub fn take(&mut self, decided: Self, policy: &Policy) {
        for (name, before) in &mut self.services {
            // Who would let writes in again is gone.
            if decider(policy, name) != Decider::Release {
                before.decided.frozen.clear();
            }
        }
        self.services.extend(decided.services);
        self.forget_edited(policy);
    }

    /// Forgets what no release decides about any more once its rollout is edited: a later edit back
    /// is no reason to go by it again.
    pub fn forget_edited(&mut self, policy: &Policy) {
        self.services.retain(|name, released| {
            let mut services = policy.services.iter();
            let service = services.find(|service| service.name == *name);
            decider(policy, name) != Decider::Nobody
                || service.is_some_and(|service| released.made_for.is(service))
        });
    }
}

impl MadeFor {
    fn is(&self, service: &Service) -> bool {
        let named = |at: usize, name: &str| {
            let version = service.versions.get(at);
            version.is_some_and(|version| version.name == name)
        };
        let Some(rollout) = &service.rollout else {
            return false;
        };
        let rest = match &service.degrade {
            Some(degrade) => named(degrade.fallback.unwrap_or(service.default), &self.stable),
            None => named(service.default, &self.default) && same(self.weight, rollout.weight),
        };
        rest && named(rollout.candidate, &self.candidate)
    }
}

/// Compared in slots: what was read back from JSON may differ in its last bit.
fn same(percent: f64, share: Share) -> bool {
    Share::percent(percent) == Ok(share)
}

fn decider(policy: &Policy, name: &str) -> Decider {
    let service = policy.services.iter().find(|service| service.name == name);
    match service.map(|service| (&service.rollout, &service.degrade)) {
        Some((Some(_), Some(_))) => Decider::Release,
        Some((Some(_), None)) => Decider::Nobody,
        _ => Decider::Nothing,
    }
}

#[cfg(test)]
mod tests;
