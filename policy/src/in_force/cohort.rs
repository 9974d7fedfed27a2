//! Cohorts: the unit of a request, its group in each layer's experiment, and its place in the
//! rollout. Each is bucketed with a seed of its own, so that all are independent.

use crate::hash::Unit;
use crate::plan::{LayerPlan, ServicePlan};
use crate::request::Request;
use crate::slots::lookup;
use crate::switches::{FeatureSwitch, Switches};
use crate::terms::UnitSource;
use crate::verdict::{Cohort, MINT_COOKIE, MINTED_LENGTH, RolloutSeen, UnitSeen};

/// What bucketing looks at.
pub(super) struct Bucketing<'a, 's> {
    pub(super) request: &'s Request<'a>,
    pub(super) service: &'a ServicePlan,
    /// The rollout's slots by decision.
    pub(super) weight: Option<u32>,
    pub(super) switches: &'s Switches,
}

/// Where the request's unit stands.
pub(super) struct Bucketed<'a> {
    pub(super) unit: UnitSeen<'a>,
    /// The version of the first group that has one.
    pub(super) group_version: Option<u8>,
    pub(super) rollout: Option<RolloutSeen>,
    /// The candidate, when the unit is in its share.
    pub(super) candidate: Option<u8>,
}

/// Buckets a request. A version that is pinned already leaves the rollout out, but not the
/// experiments: their features are sent whatever version serves.
pub(super) fn bucket<'a>(
    bucketing: &Bucketing<'a, '_>,
    is_pinned: bool,
    cohorts: &mut Vec<Cohort>,
    entropy: impl FnOnce() -> [u8; 16],
) -> Bucketed<'a> {
    cohorts.clear();
    let service = bucketing.service;
    let mut units = Units {
        request: bucketing.request,
        minted: None,
        entropy: Some(entropy),
    };
    let mut bucketed = Bucketed {
        unit: UnitSeen::Unneeded,
        group_version: None,
        rollout: None,
        candidate: None,
    };
    if !service.layers.is_empty() && bucketing.switches.has(FeatureSwitch::Experiments) {
        bucket_layers(service, &mut units, cohorts, &mut bucketed);
    }
    let rollout = service.rollout.as_ref();
    let rollout = rollout.filter(|_| !is_pinned && bucketing.switches.has(FeatureSwitch::Rollout));
    if let Some(rollout) = rollout {
        let unit = units.find(&service.units);
        bucketed.see(unit);
        let below = bucketing.weight.unwrap_or(rollout.slots);
        if let Some(bytes) = unit.bytes() {
            let slot = rollout.seed.slot(bytes).get();
            bucketed.rollout = Some(RolloutSeen { slot, below });
            bucketed.candidate = (slot < below).then_some(rollout.candidate);
        }
    }
    bucketed
}

#[inline(never)]
fn bucket_layers<'a, E: FnOnce() -> [u8; 16]>(
    service: &'a ServicePlan,
    units: &mut Units<'a, '_, E>,
    cohorts: &mut Vec<Cohort>,
    bucketed: &mut Bucketed<'a>,
) {
    for (number, layer) in service.layers.iter().enumerate() {
        let sources = if layer.units.is_empty() {
            &service.units
        } else {
            &layer.units
        };
        let unit = units.find(sources);
        bucketed.see(unit);
        if let Some(cohort) = cohort(number, layer, unit) {
            let version = || service.group(&cohort)?.version;
            bucketed.group_version = bucketed.group_version.or_else(version);
            cohorts.push(cohort);
        }
    }
}

impl<'a> Bucketed<'a> {
    /// A minted unit must be told to the client, whatever else was found.
    fn see(&mut self, unit: UnitSeen<'a>) {
        if !matches!(self.unit, UnitSeen::Minted(_)) {
            self.unit = unit;
        }
    }
}

fn cohort(number: usize, layer: &LayerPlan, unit: UnitSeen<'_>) -> Option<Cohort> {
    let Some(bytes) = unit.bytes() else {
        // Without a unit: the default group of the layer's first experiment.
        layer.experiments.first()?.groups.first()?;
        return Some(Cohort {
            layer: number,
            experiment: 0,
            group: 0,
            slot: None,
        });
    };
    let experiment = usize::try_from(lookup(&layer.ranges, layer.seed.slot(bytes))?).ok()?;
    let arms = layer.experiments.get(experiment)?;
    let slot = arms.seed.slot(bytes);
    let group = usize::try_from(lookup(&arms.ranges, slot)?).ok()?;
    arms.groups.get(group)?;
    Some(Cohort {
        layer: number,
        experiment,
        group,
        slot: Some(slot.get()),
    })
}

/// Finds units; mints at most one for a request.
struct Units<'a, 's, E> {
    request: &'s Request<'a>,
    minted: Option<[u8; MINTED_LENGTH]>,
    entropy: Option<E>,
}

impl<'a, E: FnOnce() -> [u8; 16]> Units<'a, '_, E> {
    fn find(&mut self, sources: &'a [UnitSource]) -> UnitSeen<'a> {
        for source in sources {
            let seen = match source {
                UnitSource::Header(name) => {
                    let value = self.request.headers.single(name.as_bytes()).value();
                    valid(value).map(|value| UnitSeen::Header(name, value))
                }
                UnitSource::Cookie(name) => {
                    let value = self.request.cookie(name.as_bytes());
                    valid(value).map(|value| UnitSeen::Cookie(name, value))
                }
                UnitSource::Mint => Some(self.mint()),
            };
            if let Some(seen) = seen {
                return seen;
            }
        }
        UnitSeen::Missing
    }

    #[inline(never)]
    fn mint(&mut self) -> UnitSeen<'a> {
        if let Some(unit) = valid(self.request.cookie(MINT_COOKIE.as_bytes())) {
            return UnitSeen::Cookie(MINT_COOKIE, unit);
        }
        if let Some(entropy) = self.entropy.take() {
            self.minted = Some(hexadecimal(entropy()));
        }
        self.minted.map_or(UnitSeen::Missing, UnitSeen::Minted)
    }
}

fn valid(value: Option<&[u8]>) -> Option<&[u8]> {
    value.filter(|value| Unit::new(value).is_some())
}

fn hexadecimal(bytes: [u8; 16]) -> [u8; MINTED_LENGTH] {
    let mut digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    std::array::from_fn(|_| match digits.next() {
        Some(digit @ 0..=9) => b'0' + digit,
        Some(digit) => b'a' + digit - 10,
        None => b'0',
    })
}
