//! The workers as the poller sees them: who lives, and what they decide by.

use ombre_policy::document::Revision;

use crate::host::{Queues, SharedMemory};
use crate::registry::{self, Entry, Report};

/// Workers show that they live once a second. One that is only slow signs on again.
const SILENT_MS: u64 = 5000;

/// Who was seen when.
#[derive(Clone, Debug, Default)]
pub(super) struct Crew {
    members: Vec<Member>,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    entry: Entry,
    report: Report,
    changed_ms: u64,
}

impl Crew {
    /// Reads all reports anew, and strikes off those whose VM is gone.
    pub(super) fn look<H: SharedMemory>(&mut self, host: &H, now: u64) {
        let before = std::mem::take(&mut self.members);
        for entry in registry::entries(host) {
            let report = registry::report(host, entry.id);
            let known = before.iter().find(|member| member.entry == entry);
            let changed_ms = match known {
                Some(member) if member.report.beat == report.beat => member.changed_ms.min(now),
                _ => now,
            };
            if now.saturating_sub(changed_ms) > SILENT_MS {
                registry::strike_off(host, entry.id);
            } else {
                self.members.push(Member {
                    entry,
                    report,
                    changed_ms,
                });
            }
        }
    }

    /// Wakes everyone on the list, new ones included.
    pub(super) fn wake<H: SharedMemory + Queues>(&self, host: &H) {
        for entry in registry::entries(host) {
            if !host.wake(entry.queue) {
                registry::strike_off(host, entry.id);
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.members.len()
    }

    /// The policy and the decisions that every worker has reached: `<policy>/<decisions>`.
    pub(super) fn applied(&self) -> String {
        let least = |of: fn(&Report) -> Revision| {
            let all = self.members.iter().map(|member| of(&member.report));
            all.min().unwrap_or_default()
        };
        format!(
            "{}/{}",
            least(|report| report.policy),
            least(|report| report.decisions)
        )
    }

    pub(super) fn rejected(&self) -> u64 {
        let each = self.members.iter().map(|member| member.report.rejected);
        each.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::Fake;

    #[test]
    fn a_worker_whose_beat_stands_still_is_struck_off() {
        let fake = Fake::default();
        registry::prepare(&fake);
        let dead = registry::sign_on(&fake).expect("on");
        let alive = registry::sign_on(&fake).expect("on");
        let mut crew = Crew::default();
        for second in 0..=7 {
            registry::publish(
                &fake,
                alive.id,
                Report {
                    beat: second + 1,
                    ..Report::default()
                },
            );
            crew.look(&fake, second * 1000);
            assert_eq!(
                crew.count(),
                if second <= 5 { 2 } else { 1 },
                "second {second}"
            );
        }
        assert_eq!(registry::entries(&fake), [alive]);
        crew.wake(&fake);
        assert_eq!(*fake.woken.borrow(), [alive.queue]);
        assert_ne!(dead.queue, alive.queue);
    }

    #[test]
    fn applied_is_what_the_last_one_has() {
        let fake = Fake::default();
        registry::prepare(&fake);
        let mut crew = Crew::default();
        crew.look(&fake, 0);
        assert_eq!(crew.applied(), "0/0", "nobody there");
        for (policy, decisions) in [(7, 9), (8, 5)] {
            let entry = registry::sign_on(&fake).expect("on");
            let (policy, decisions) = (Revision::new(policy), Revision::new(decisions));
            registry::publish(
                &fake,
                entry.id,
                Report {
                    policy,
                    decisions,
                    beat: 1,
                    rejected: 1,
                },
            );
        }
        crew.look(&fake, 0);
        assert_eq!((crew.applied().as_str(), crew.rejected()), ("7/5", 2));
    }
}
