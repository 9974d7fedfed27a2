//! What must be true of every walk, with a fleet of proxies that lag behind.

use proptest::prelude::*;

use super::*;

const PROXIES: usize = 3;

/// What a walk may do next.
#[derive(Debug, Clone)]
enum Move {
    Judge(Verdict, Permit),
    Wait(u64),
    Restart,
    Order(Command),
    /// One proxy takes the next decision.
    Proxy(usize),
    /// The controller looks whether all proxies froze.
    Confirm(u64),
    /// An answer to a turn that many turns ago.
    Stale(u64),
    Drained(u64),
    DrainFailed,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(UNKNOWN),
        Just(Verdict::Idle),
        Just(Verdict::Quiet(Standing::Open)),
        Just(PASSING),
        Just(CLEAR),
        Just(Verdict::Breached),
        Just(FIRED),
        Just(Verdict::Held(Trigger::Sustained)),
        Just(Verdict::SharedFault(Trigger::Score)),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Promote),
        Just(Command::Pause),
        Just(Command::Resume),
        Just(Command::Rollback { force: false }),
        (0u8..=100).prop_map(|share| Command::SetWeight(percent(share))),
        Just(Command::Unlock),
    ]
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let permit = prop_oneof![4 => Just(Permit::Granted), 1 => Just(Permit::Deferred)];
    let one = prop_oneof![
        6 => (verdict(), permit).prop_map(|(verdict, permit)| Move::Judge(verdict, permit)),
        2 => prop_oneof![0u64..20, 0u64..2000].prop_map(Move::Wait),
        1 => Just(Move::Restart),
        2 => command().prop_map(Move::Order),
        8 => (0..PROXIES).prop_map(Move::Proxy),
        3 => (0u64..9).prop_map(Move::Confirm),
        1 => (1u64..4).prop_map(Move::Stale),
        3 => (0u64..9).prop_map(Move::Drained),
        1 => Just(Move::DrainFailed),
    ];
    prop::collection::vec(one, 1..120)
}

/// A release, its controller's contract, and proxies that apply decisions in order but late.
struct Fleet {
    walk: Walk,
    now: u64,
    published: Vec<Decision>,
    applied: [usize; PROXIES],
}

impl Fleet {
    fn new(sync_log: bool, share: u8) -> Self {
        let walk = Walk::new(sync_log, share);
        let published = vec![walk.release.decision()];
        Self {
            walk,
            now: 0,
            published,
            applied: [0; PROXIES],
        }
    }

    fn play(&mut self, step: &Move) {
        let turn = self.walk.release.turn;
        let event = match step {
            Move::Wait(secs) => {
                self.now += secs;
                Event::Clock
            }
            Move::Proxy(index) => {
                let applied = &mut self.applied[*index];
                *applied = (*applied + 1).min(self.published.len() - 1);
                return;
            }
            Move::Confirm(freeze_seq) if self.all_applied(turn) => Event::Frozen {
                turn,
                freeze_seq: *freeze_seq,
            },
            Move::Confirm(_) => return,
            Move::Stale(age) => {
                let Some(decision) = self.published.iter().rev().nth(*age as usize) else {
                    return;
                };
                let turn = decision.turn;
                self.event(Event::Drained {
                    turn,
                    applied_seq: u64::MAX,
                });
                Event::Frozen {
                    turn,
                    freeze_seq: 0,
                }
            }
            Move::Judge(verdict, permit) => Event::Judged {
                verdict: *verdict,
                permit: *permit,
            },
            Move::Restart => Event::Restarted,
            Move::Order(command) => Event::Operator(Order {
                command: *command,
                actor: "ann".to_owned(),
                reason: String::new(),
            }),
            Move::Drained(applied_seq) => Event::Drained {
                turn,
                applied_seq: *applied_seq,
            },
            Move::DrainFailed => Event::DrainFailed { turn },
        };
        self.event(event);
    }

    fn event(&mut self, event: Event) {
        self.walk.event(self.now, event);
        if let Some(decision) = self.walk.published()
            && self.published.last() != Some(&decision)
        {
            self.published.push(decision);
        }
    }

    fn all_applied(&self, turn: Turn) -> bool {
        self.applied
            .iter()
            .all(|index| self.published[*index].turn >= turn)
    }

    /// Whether some proxy lets the candidate take writes.
    fn candidate_writes(&self) -> bool {
        self.applied.iter().any(|index| {
            let decision = &self.published[*index];
            !decision.frozen && !decision.degraded
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_drained_fail_back_never_has_two_write_owners(share in 1u8..=100, moves in moves()) {
        let mut fleet = Fleet::new(true, share);
        for step in &moves {
            let before = fleet.walk.release.phase.owner();
            fleet.play(step);
            let after = fleet.walk.release.phase.owner();
            let decision = fleet.walk.release.decision();
            prop_assert!(!(decision.frozen && decision.degraded));
            if before != WriteOwner::Fallback && after == WriteOwner::Fallback {
                prop_assert_eq!(before, WriteOwner::Nobody, "the fallback takes over only from a freeze");
                prop_assert!(!fleet.candidate_writes(), "a proxy still lets the candidate write");
            }
        }
    }

    #[test]
    fn turns_only_rise_and_every_change_has_its_own(sync_log: bool, moves in moves()) {
        let mut fleet = Fleet::new(sync_log, 10);
        for step in &moves {
            let before = fleet.walk.release.clone();
            fleet.play(step);
            let after = &fleet.walk.release;
            prop_assert!(after.turn >= before.turn);
            if before.decision().says_otherwise(&after.decision()) {
                prop_assert!(after.turn > before.turn);
                prop_assert_eq!(fleet.published.last(), Some(&after.decision()));
            }
        }
    }

    #[test]
    fn unknown_evidence_moves_nothing(sync_log: bool, moves in moves()) {
        let mut fleet = Fleet::new(sync_log, 10);
        for step in &moves {
            fleet.play(step);
            let before = fleet.walk.release.phase.clone();
            fleet.event(Event::Judged { verdict: UNKNOWN, permit: Permit::Granted });
            prop_assert_eq!(&fleet.walk.release.phase, &before);
        }
    }

    #[test]
    fn a_restart_keeps_the_phase_and_never_shortens_a_cool_down(sync_log: bool, moves in moves(), away in 0u64..4000) {
        let mut fleet = Fleet::new(sync_log, 10);
        for step in &moves {
            fleet.play(step);
        }
        let stored = serde_json::to_string(&fleet.walk.release).unwrap();
        let before = fleet.walk.release.clone();
        fleet.walk.release = serde_json::from_str(&stored).unwrap();
        fleet.now += away;
        fleet.event(Event::Restarted);
        let after = &fleet.walk.release;
        if let (Phase::FailedBack { until: old, .. }, Phase::FailedBack { until: new, .. }) = (&before.phase, &after.phase) {
            prop_assert!(new >= old);
        }
        if !matches!(before.phase, Phase::Freezing { .. } | Phase::Draining { .. }) {
            prop_assert_eq!(&after.phase, &before.phase);
        }
        prop_assert_eq!(&after.trips, &before.trips);
        prop_assert_eq!(&after.locked, &before.locked);
        // While it only observes, evidence moves no traffic.
        let decision = after.decision();
        let fail_back = after.phase.owner() == WriteOwner::Nobody;
        for verdict in [FIRED, CLEAR, PASSING, Verdict::Idle] {
            fleet.event(Event::Judged { verdict, permit: Permit::Granted });
        }
        prop_assert!(fail_back || fleet.walk.release.decision() == decision);
    }

    #[test]
    fn every_state_can_be_left(sync_log: bool, moves in moves()) {
        let mut fleet = Fleet::new(sync_log, 10);
        for step in &moves {
            fleet.play(step);
            let phase = fleet.walk.release.phase.name();
            prop_assert!(leaves(&fleet.walk, fleet.now), "stuck in {phase}");
        }
    }

    #[test]
    fn refused_writes_end_by_time_alone(moves in moves()) {
        let mut fleet = Fleet::new(true, 10);
        for step in &moves {
            fleet.play(step);
            if fleet.walk.release.phase.owner() == WriteOwner::Nobody {
                let mut alone = Walk { release: fleet.walk.release.clone(), terms: terms(true), actions: vec![] };
                alone.event(fleet.now + 30, Event::Clock);
                prop_assert_eq!(alone.name(), PhaseName::Aborted);
            }
        }
    }

    #[test]
    fn cool_downs_stay_between_their_first_and_their_longest(moves in moves(), chance in 0.0..1.0f64) {
        let mut fleet = Fleet::new(false, 10);
        for step in &moves {
            fleet.play(step);
        }
        let terms = terms(false);
        let context = Context { terms: &terms, now: at(fleet.now), jitter: Jitter::new(chance), confirmed: None };
        let order = Order { command: Command::Rollback { force: true }, actor: String::new(), reason: String::new() };
        let (after, _) = step(&fleet.walk.release, &Event::Operator(order), &context);
        if let Phase::FailedBack { since, until, .. } = after.phase {
            let span = until.since(since);
            prop_assert!(span >= Millis::from_secs(300) && span <= Millis::from_secs(4320), "{span}");
        }
    }
}

/// Whether some sequence of a person's orders, time and good evidence leads to another phase.
fn leaves(walk: &Walk, now: u64) -> bool {
    let from = walk.name();
    let mut copy = Walk {
        release: walk.release.clone(),
        terms: walk.terms.clone(),
        actions: vec![],
    };
    let later = now + 10_000;
    let attempts: [&dyn Fn(&mut Walk); 4] = [
        &|walk| {
            walk.event(later, Event::Clock);
        },
        &|walk| {
            walk.order(later, Command::Unlock);
        },
        &|walk| {
            walk.order(later, Command::Resume);
        },
        &|walk| {
            walk.judged(later, CLEAR);
        },
    ];
    for attempt in attempts {
        attempt(&mut copy);
        if copy.name() != from {
            return true;
        }
    }
    copy.order(later, Command::Rollback { force: true });
    copy.name() != from
}
