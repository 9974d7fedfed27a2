//! The rollout: which version is the candidate, which share of unpinned traffic it gets, how it
//! ramps, and by what it is judged.

use super::Share;
use crate::duration::Millis;
use crate::load::report::{Place, Report};
use crate::raw::{RawRollout, RawVersion};
use crate::release::machine::Reach;
use crate::release::settings::{RawDegrade, Settings};
use crate::release::share::Percent;

/// The ramp of the design, in percent.
const STEPS: [u8; 6] = [1, 5, 10, 25, 50, 100];
const HOLD: Millis = Millis::from_secs(300);
const ACK_TIMEOUT: Millis = Millis::from_secs(30);

/// A candidate and its share.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    pub(crate) candidate: usize,
    pub(crate) weight: Share,
    /// Rising to 100.
    pub(crate) steps: Vec<Percent>,
    pub(crate) hold: Millis,
    pub(crate) reach: Option<Reach>,
}

/// By what the candidate is judged, and who takes over.
#[derive(Clone, Debug)]
pub(crate) struct Degrade {
    pub(crate) settings: Settings,
    /// `None` for the default version.
    pub(crate) fallback: Option<usize>,
}

impl Rollout {
    pub(crate) fn validate(
        report: &mut Report,
        place: &Place,
        raw: &RawRollout,
        version: impl Fn(&mut Report, &Place, &str) -> Option<usize>,
        default: Option<usize>,
    ) -> Option<Self> {
        let candidate_place = place.key("candidate");
        let candidate = version(report, &candidate_place, &raw.candidate);
        if candidate.is_some() && candidate == default {
            let message = format!(
                "`{}` is the default version: name the one that is released",
                raw.candidate
            );
            report.error(&candidate_place, message);
        }
        let steps = match &raw.steps {
            Some(steps) => steps.clone(),
            None => STEPS
                .into_iter()
                .filter_map(|step| Percent::new(step).ok())
                .collect(),
        };
        check_steps(report, &place.key("steps"), &steps);
        let weight = report.take(&place.key("weight"), Share::percent(raw.weight))?;
        let hold = raw.hold.unwrap_or(HOLD);
        Some(Self {
            candidate: candidate?,
            weight,
            steps,
            hold,
            reach: reach(report, place, raw),
        })
    }
}

impl Degrade {
    pub(crate) fn validate(
        report: &mut Report,
        place: &Place,
        raw: &RawDegrade,
        has_rollout: bool,
        version: impl Fn(&mut Report, &Place, &str) -> Option<usize>,
    ) -> Option<Self> {
        if !has_rollout {
            report.error(
                place,
                "judges the candidate of a rollout: add `rollout` to the service",
            );
        }
        let fallback_place = place.key("fallback");
        let fallback = raw.fallback.as_deref();
        let fallback = fallback.map(|name| version(report, &fallback_place, name));
        match Settings::from_raw(raw) {
            Ok(settings) => Some(Self {
                settings,
                fallback: fallback.flatten(),
            }),
            Err(problems) => {
                for (path, message) in problems {
                    report.error(&place.key(&path), message);
                }
                None
            }
        }
    }
}

impl Degrade {
    /// The candidate and whoever takes over for it have to be two, also for the evidence, which is
    /// counted by cluster.
    pub(crate) fn check_pair(
        &self,
        report: &mut Report,
        place: &Place,
        candidate: usize,
        default: usize,
        versions: &[RawVersion],
    ) {
        let stable = self.fallback.unwrap_or(default);
        let pair = versions.get(candidate).zip(versions.get(stable));
        let Some((candidate, stable)) = pair else {
            return;
        };
        if candidate.name == stable.name {
            let message = format!(
                "`{}` is the candidate: name the version that takes over when it fails",
                stable.name
            );
            report.error(&place.key("fallback"), message);
        } else if candidate.cluster == stable.cluster {
            let message = format!(
                "cannot tell `{}` from `{}`, both are served by the cluster `{}`: give each its own",
                candidate.name, stable.name, stable.cluster
            );
            report.error(place, message);
        }
    }
}

/// How many proxies must run a step.
fn reach(report: &mut Report, place: &Place, raw: &RawRollout) -> Option<Reach> {
    let Some(least) = raw.min_acked else {
        if raw.ack_timeout.is_some() {
            let message = "says how long to wait for `min_acked`: add that, or leave this out";
            report.error(&place.key("ack_timeout"), message);
        }
        return None;
    };
    if least == Percent::ZERO {
        let message = "every share is enough: leave it out, or ask for 1 to 100";
        report.error(&place.key("min_acked"), message);
    }
    Some(Reach {
        least,
        timeout: raw.ack_timeout.unwrap_or(ACK_TIMEOUT),
    })
}

fn check_steps(report: &mut Report, place: &Place, steps: &[Percent]) {
    let rising = steps.is_sorted_by(|one, next| one < next) && !steps.contains(&Percent::ZERO);
    if !rising || steps.last() != Some(&Percent::FULL) {
        report.error(
            place,
            "must rise to 100, for instance `[1, 5, 10, 25, 50, 100]`",
        );
    }
}
