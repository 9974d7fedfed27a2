//! What the release loop needs to know of a policy: which service moves between which versions,
//! judged by which numbers.

use super::{Policy, Service, Version};
use crate::release::machine::Terms;
use crate::release::settings::Settings;

/// A service whose candidate is judged and moved.
#[derive(Clone, Debug)]
pub struct Release<'p> {
    /// The service's name.
    pub service: &'p str,
    /// The version that is being released.
    pub candidate: Member<'p>,
    /// The version that takes over when the candidate fails.
    pub stable: Member<'p>,
    /// The service's default version.
    pub default: &'p str,
    /// The candidate's share by the policy, in percent.
    pub weight: f64,
    /// The numbers it is judged by.
    pub settings: &'p Settings,
    /// The terms it is moved by.
    pub terms: Terms,
}

/// A version and what serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'p> {
    /// The version's name.
    pub version: &'p str,
    /// Its Envoy cluster.
    pub cluster: &'p str,
}

impl Policy {
    /// The services with both a rollout and a `degrade` block. The others stay as they are written.
    pub fn releases(&self) -> impl Iterator<Item = Release<'_>> {
        self.services.iter().filter_map(release)
    }

    /// The services with a rollout that no release moves: they have no `degrade` block.
    pub fn unreleased(&self) -> impl Iterator<Item = &str> {
        let services = self.services.iter();
        let unreleased =
            services.filter(|service| service.rollout.is_some() && service.degrade.is_none());
        unreleased.map(|service| service.name.as_str())
    }
}

fn release(service: &Service) -> Option<Release<'_>> {
    let (rollout, degrade) = service.rollout.as_ref().zip(service.degrade.as_ref())?;
    let settings = &degrade.settings;
    let stable = degrade.fallback.unwrap_or(service.default);
    Some(Release {
        service: &service.name,
        candidate: service.versions.get(rollout.candidate).map(member)?,
        stable: service.versions.get(stable).map(member)?,
        default: service.versions.get(service.default).map(member)?.version,
        weight: rollout.weight.percentage(),
        settings,
        terms: Terms {
            guards: settings.guards.clone(),
            verify: settings.verify,
            drain_timeout: settings.drain.timeout,
            sync_log: settings.sync_log.is_some(),
            steps: rollout.steps.clone(),
            hold: rollout.hold,
            reach: rollout.reach,
        },
    })
}

fn member(version: &Version) -> Member<'_> {
    Member {
        version: &version.name,
        cluster: &version.cluster,
    }
}
