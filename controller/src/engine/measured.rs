//! What the metrics say of one release beside what everybody is told of it. It is counted since the
//! controller was started, and gone with the release.

use std::collections::BTreeMap;

use ombre_policy::duration::Moment;
use ombre_policy::release::machine::{Alert, Cause, Phase, PhaseName, Transition};
use ombre_policy::release::triggers::Trigger;

/// What is measured of one release.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The candidate's share of unpinned traffic that the filters are told, 0 to 1.
    pub share: f64,
    /// When its phase or share changed last.
    pub moved: Moment,
    /// How often it came into a phase, or to another share in it.
    pub transitions: BTreeMap<PhaseName, u64>,
    /// How often a trigger took the candidate's traffic away.
    pub trips: BTreeMap<Trigger, u64>,
    /// How often somebody was called.
    pub alerts: BTreeMap<&'static str, u64>,
}

/// The kinds of alerts, as the history has them.
pub const ALERTS: [&str; 9] = [
    "evidence_unknown",
    "shared_fault",
    "stable_idle",
    "withheld",
    "undecided",
    "unconfirmed",
    "locked",
    "aborted",
    "forced_switch",
];

impl Measured {
    /// Nothing happened yet.
    pub(crate) const fn since(moved: Moment) -> Self {
        Self {
            share: 0.0,
            moved,
            transitions: BTreeMap::new(),
            trips: BTreeMap::new(),
            alerts: BTreeMap::new(),
        }
    }

    /// Counts a transition, which led to `phase`.
    pub(crate) fn transition(&mut self, transition: &Transition, phase: &Phase) {
        self.moved = transition.at;
        *self.transitions.entry(transition.to).or_default() += 1;
        let under_way = [PhaseName::Freezing, PhaseName::Draining];
        let cause = match phase {
            _ if under_way.contains(&transition.from) => None,
            Phase::Freezing { fail_back } => Some(fail_back.cause),
            Phase::FailedBack { cause, .. } => Some(*cause),
            _ => None,
        };
        if let Some(Cause::Trigger(trigger)) = cause {
            *self.trips.entry(trigger).or_default() += 1;
        }
    }

    /// Counts that somebody was called.
    pub(crate) fn alert(&mut self, alert: Alert) {
        *self.alerts.entry(word(alert)).or_default() += 1;
    }
}

/// The kind of an alert, as the history has it.
const fn word(alert: Alert) -> &'static str {
    match alert {
        Alert::EvidenceUnknown => "evidence_unknown",
        Alert::SharedFault(_) => "shared_fault",
        Alert::StableIdle(_) => "stable_idle",
        Alert::Withheld(_) => "withheld",
        Alert::Undecided => "undecided",
        Alert::Unconfirmed => "unconfirmed",
        Alert::Locked => "locked",
        Alert::Aborted(_) => "aborted",
        Alert::ForcedSwitch => "forced_switch",
    }
}

#[cfg(test)]
mod tests {
    use ombre_policy::release::machine::AbortReason;

    use super::*;

    #[test]
    fn the_words_are_those_of_the_history_and_all_of_them_are_listed() {
        let trigger = Trigger::Outage;
        let all = [
            Alert::EvidenceUnknown,
            Alert::SharedFault(trigger),
            Alert::StableIdle(trigger),
            Alert::Withheld(trigger),
            Alert::Undecided,
            Alert::Unconfirmed,
            Alert::Locked,
            Alert::Aborted(AbortReason::DrainFailed),
            Alert::ForcedSwitch,
        ];
        assert_eq!(all.map(word), ALERTS);
        for alert in all {
            let kept = serde_json::to_string(&alert).unwrap();
            assert!(kept.contains(&format!("\"{}\"", word(alert))), "{kept}");
        }
    }
}
