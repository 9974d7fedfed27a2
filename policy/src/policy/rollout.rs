//! The rollout: which version is the candidate, and which share of unpinned traffic it gets.

use super::Share;
use crate::load::report::{Place, Report};
use crate::raw::RawRollout;

/// A candidate and its share.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    pub(crate) candidate: usize,
    pub(crate) weight: Share,
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
            report.error(
                &candidate_place,
                format!(
                    "`{}` is the default version: name the one that is released",
                    raw.candidate
                ),
            );
        }
        let weight = report.take(&place.key("weight"), Share::percent(raw.weight))?;
        Some(Self {
            candidate: candidate?,
            weight,
        })
    }
}
