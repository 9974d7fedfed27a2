//! How many services may move at once. Many failing together is more likely one thing they share
//! than many candidates gone bad, and moving all of them would make it worse.

use super::machine::{Permit, Phase, Release};
use super::share::Percent;
use crate::duration::{Millis, Moment};

/// Moves are counted over this long, which allows one a minute in the long run.
const PACE: Millis = Millis::from_secs(180);
/// That many moves may follow each other at once.
const BURST: usize = 3;
/// Breaches count as simultaneous within this long.
const TOGETHER: Millis = Millis::from_secs(60);

/// One service at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// Whether a trigger fired and its state lets it move.
    pub wants: bool,
    /// How urgent that is, see [`super::judge::Judgement::severity`], times its share of traffic.
    pub severity: f64,
    /// Whether it is between freeze and switch.
    pub moving: bool,
    /// When it last tripped.
    pub tripped: Option<Moment>,
    /// When it last began to breach.
    pub breached: Option<Moment>,
    /// The share of the services that its settings let move at once.
    pub max_concurrent: Percent,
}

impl Standing {
    /// Where a release stands. `wants` is whether a trigger fired for it.
    #[must_use]
    pub fn of(
        release: &Release,
        fired: bool,
        severity: f64,
        max_concurrent: Percent,
        now: Moment,
    ) -> Self {
        Self {
            wants: fired && release.may_move(now),
            severity,
            moving: matches!(
                release.phase,
                Phase::Freezing { .. } | Phase::Draining { .. }
            ),
            tripped: release.trips.last().copied(),
            breached: match release.phase {
                Phase::Suspect { since, .. } => Some(since),
                _ => fired.then_some(now),
            },
            max_concurrent,
        }
    }
}

/// Who may move now, in the order of `services`. Those that do not want to are deferred.
///
/// At once move at most one service or a tenth (its `max_concurrent`) of all, one a minute with a
/// burst of three, the most urgent first. When more than three and more than a tenth began to breach
/// within a minute, nobody moves.
#[must_use]
pub fn admit(services: &[Standing], now: Moment) -> Vec<Permit> {
    let within = |span: Millis| move |at: &Moment| now.since(*at) < span;
    let together = services
        .iter()
        .filter(|service| {
            service.breached.is_some_and(|at| within(TOGETHER)(&at))
                || service.tripped.is_some_and(|at| within(TOGETHER)(&at))
        })
        .count();
    if together > BURST && together * 10 > services.len() {
        return vec![Permit::PanicHold; services.len()];
    }
    let mut moving = services.iter().filter(|service| service.moving).count();
    let mut recent = services
        .iter()
        .filter(|service| service.tripped.is_some_and(|at| within(PACE)(&at)))
        .count();
    let mut permits = vec![Permit::Deferred; services.len()];
    let mut queue: Vec<_> = services.iter().zip(permits.iter_mut()).collect();
    queue.retain(|(service, _)| service.wants);
    queue.sort_by(|(a, _), (b, _)| b.severity.total_cmp(&a.severity));
    for (service, permit) in queue {
        let share = services.len() * usize::from(service.max_concurrent.get()) / 100;
        if moving < share.max(1) && recent < BURST {
            *permit = Permit::Granted;
            moving += 1;
            recent += 1;
        }
    }
    permits
}

#[cfg(test)]
mod tests {
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    const NOW: Moment = Moment::from_unix_millis(10_000_000);

    fn quiet() -> Standing {
        Standing {
            wants: false,
            severity: 0.0,
            moving: false,
            tripped: None,
            breached: None,
            max_concurrent: Percent::new(10).unwrap(),
        }
    }

    fn wanting(severity: f64) -> Standing {
        Standing {
            wants: true,
            severity,
            breached: Some(NOW),
            ..quiet()
        }
    }

    fn ago(secs: u64) -> Option<Moment> {
        Some(NOW.before(Millis::from_secs(secs)))
    }

    fn granted(services: &[Standing]) -> Vec<usize> {
        let permits = admit(services, NOW);
        (0..services.len())
            .filter(|i| permits[*i] == Permit::Granted)
            .collect()
    }

    #[test]
    fn who_may_move() {
        let moving = Standing {
            moving: true,
            ..quiet()
        };
        let tripped = |secs| Standing {
            tripped: ago(secs),
            ..quiet()
        };
        let cases = [
            ("alone", vec![wanting(1.0)], vec![0]),
            (
                "most urgent first",
                vec![wanting(1.0), wanting(3.0), quiet()],
                vec![1],
            ),
            ("one is moving", vec![wanting(1.0), moving], vec![]),
            (
                "three moved lately",
                vec![wanting(1.0), tripped(170), tripped(100), tripped(61)],
                vec![],
            ),
            (
                "they moved long ago",
                vec![wanting(1.0), tripped(180), tripped(100), tripped(61)],
                vec![0],
            ),
            ("a number that is none", vec![wanting(f64::NAN)], vec![0]),
        ];
        for (name, services, expected) in cases {
            assert_eq!(granted(&services), expected, "{name}");
        }
    }

    #[test]
    fn a_tenth_of_many_but_no_more_than_the_burst() {
        let mut services = vec![quiet(); 97];
        services.extend([wanting(1.0), wanting(2.0), wanting(3.0)]);
        assert_eq!(granted(&services).len(), 3);
    }

    #[test]
    fn many_at_once_are_nobody_s_candidate() {
        let services = vec![wanting(1.0); 500];
        assert_eq!(admit(&services, NOW), vec![Permit::PanicHold; 500]);
        let mut few = vec![quiet(); 96];
        few.extend(vec![wanting(1.0); 4]);
        assert_eq!(granted(&few).len(), 3, "four of a hundred are not a panic");
    }
}
