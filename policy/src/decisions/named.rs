//! Decisions by name: what `PUT /v1/decisions` takes and what the store keeps.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{DecisionTable, ServiceDecision};
use crate::policy::{Policy, Service, Share};
use crate::problem::{Problem, Problems};

/// How problems call decisions, which do not come from a file.
const SOURCE: &str = "decisions";
const MAX_RETRY_AFTER: u32 = 3600;

/// Decisions for services by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// A service that is not named is decided by its policy alone.
    #[serde(default)]
    pub services: BTreeMap<String, ServiceDecisions>,
}

/// What is decided for a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceDecisions {
    /// The candidate's share in percent, instead of the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The candidate that the weight is for. Left out, it is that of the policy in force: a later
    /// candidate does not begin with the share that an earlier one had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// Degraded version to the version that takes its requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub degraded: BTreeMap<String, String>,
    /// Versions whose writes are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub frozen: BTreeMap<String, Frozen>,
    /// Routes that answer 404.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub disabled_routes: BTreeSet<String>,
}

/// Refused writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// Seconds after which clients may try again, 1 to 3600.
    pub retry_after: u32,
}

impl Decisions {
    /// Numbers for names, as the plan compiled from `policy` counts them.
    ///
    /// # Errors
    /// Every name that the policy does not have, and every value that makes no sense.
    pub fn compile(&self, policy: &Policy) -> Result<DecisionTable, Problems> {
        let mut check = Check::default();
        let mut table = DecisionTable::default();
        let mut first_route = 0;
        for service in &policy.services {
            let decided = self.services.get(&service.name);
            let compiled = decided.map(|decided| check.service(service, decided, first_route));
            table.services.push(compiled.unwrap_or_default());
            first_route += service.routes.len();
        }
        for name in self.services.keys() {
            if !policy.services.iter().any(|service| service.name == *name) {
                check.error(
                    format!("services.{name}"),
                    "is not a service of the policy in force",
                );
            }
        }
        Problems::none_of(check.problems)?;
        Ok(table)
    }

    /// The same decisions, each weight with the candidate that it is for.
    #[must_use]
    pub fn completed(mut self, policy: &Policy) -> Self {
        for service in &policy.services {
            if let Some(decided) = self.services.get_mut(&service.name)
                && decided.weight.is_some()
                && decided.candidate.is_none()
            {
                decided.candidate = candidate(service).map(str::to_owned);
            }
        }
        self
    }

    /// The same decisions without what a new policy no longer has: whatever still can be meant
    /// stays in force over a change of the policy.
    #[must_use]
    pub fn kept_by(&self, policy: &Policy) -> Self {
        let kept = policy.services.iter().filter_map(|service| {
            let mut kept = self.services.get(&service.name)?.clone();
            let has = |name: &str| service.versions.iter().any(|version| version.name == name);
            let meant = |of: &Option<String>| of.is_none() || of.as_deref() == candidate(service);
            kept.weight = kept
                .weight
                .filter(|_| service.rollout.is_some() && meant(&kept.candidate));
            kept.degraded
                .retain(|version, fallback| has(version) && has(fallback));
            // Two who decide may together send a version to one that is degraded.
            let degraded = kept.degraded.clone();
            kept.degraded
                .retain(|_, fallback| !degraded.contains_key(fallback));
            kept.frozen.retain(|version, _| has(version));
            kept.disabled_routes
                .retain(|name| service.routes.iter().any(|route| route.name == *name));
            Some((service.name.clone(), kept))
        });
        Self {
            services: kept.collect(),
        }
    }
}

/// The version that a service's rollout releases.
fn candidate(service: &Service) -> Option<&str> {
    let rollout = service.rollout.as_ref()?;
    let version = service.versions.get(rollout.candidate)?;
    Some(&version.name)
}

#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn error(&mut self, path: String, message: impl Into<String>) {
        let problem = Problem::of_file(SOURCE, message);
        self.problems.push(Problem { path, ..problem });
    }

    fn service(
        &mut self,
        service: &Service,
        decided: &ServiceDecisions,
        first_route: usize,
    ) -> ServiceDecision {
        let path = format!("services.{}", service.name);
        let mut compiled = ServiceDecision::default();
        if let Some(percent) = decided.weight {
            let path = format!("{path}.weight");
            if service.rollout.is_none() {
                self.error(path.clone(), "the service has no rollout in its policy");
            } else if let Some(meant) = &decided.candidate
                && let Some(released) = candidate(service)
                && meant != released
            {
                let message =
                    format!("is for the candidate `{meant}`, and the policy releases `{released}`");
                self.error(path.clone(), message);
            }
            match Share::percent(percent) {
                Ok(share) => compiled.weight = Some(share.slots()),
                Err(error) => self.error(path, error.to_string()),
            }
        }
        for (name, fallback) in &decided.degraded {
            let path = format!("{path}.degraded.{name}");
            if decided.degraded.contains_key(fallback) {
                self.error(
                    path.clone(),
                    format!("the fallback `{fallback}` is degraded itself"),
                );
            }
            let version = self.version(service, &path, name);
            let fallback = self.version(service, &path, fallback);
            compiled.degraded.extend(version.zip(fallback));
        }
        for (name, Frozen { retry_after }) in &decided.frozen {
            let path = format!("{path}.frozen.{name}");
            if !(1..=MAX_RETRY_AFTER).contains(retry_after) {
                let message =
                    format!("retry_after {retry_after} is not 1 to {MAX_RETRY_AFTER} seconds");
                self.error(path.clone(), message);
            }
            let version = self.version(service, &path, name);
            compiled
                .frozen
                .extend(version.map(|version| (version, *retry_after)));
        }
        for name in &decided.disabled_routes {
            let at = service.routes.iter().position(|route| route.name == *name);
            match at.and_then(|at| u32::try_from(first_route + at).ok()) {
                Some(number) => compiled.disabled_routes.push(number),
                None => self.error(
                    format!("{path}.disabled_routes"),
                    format!("`{name}` is not a route of this service"),
                ),
            }
        }
        compiled.disabled_routes.sort_unstable();
        compiled
    }

    fn version(&mut self, service: &Service, path: &str, name: &str) -> Option<u8> {
        let at = service
            .versions
            .iter()
            .position(|version| version.name == name);
        if at.is_none() {
            self.error(
                path.to_owned(),
                format!("`{name}` is not a version of this service"),
            );
        }
        at.and_then(|at| u8::try_from(at).ok())
    }
}
