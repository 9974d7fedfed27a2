//! The release loop over days of simulated traffic: no false trips, detection no slower than the
//! table, square waves locked out. Prints what it finds. One simulated day by default:
//! `OMBRE_SIMULATED_DAYS=7 OMBRE_SIMULATED_SEEDS=11 cargo test --release -p ombre-policy --test release_simulation -- --nocapture`
#![cfg(not(target_arch = "wasm32"))]

use ombre_policy::duration::{Millis, Moment};
use ombre_policy::release::evidence::{Bin, Counts, Gap, Histogram, Sample};
use ombre_policy::release::judge::{Judge, Judgement, Verdict};
use ombre_policy::release::machine::{
    Action, Alert, Circuits, Context, Event, Jitter, Permit, Phase, PhaseName, Release, Terms, step,
};
use ombre_policy::release::settings::Settings;
use ombre_policy::release::share::Percent;

/// SplitMix64 (Steele, Lea, Flood 2014): a test needs repeatable draws, not good secrets.
struct Chance(u64);

/// How a version answers.
#[derive(Clone, Copy)]
struct Health {
    errors: f64,
    slow: f64,
}

/// A judge, a release and the traffic of two versions, one second at a time.
struct Service {
    judge: Judge,
    release: Release,
    terms: Terms,
    chance: Chance,
    now: u64,
}

const WELL: Health = Health {
    errors: 0.001,
    slow: 0.005,
};

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Successes among `n`, by jumping from one to the next: as many draws as successes.
    fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if p >= 1.0 {
            return n;
        }
        if p <= 0.0 {
            return 0;
        }
        let scale = (1.0 - p).ln();
        let (mut hits, mut at) = (0, 0.0);
        loop {
            at += (self.fraction().ln() / scale).floor() + 1.0;
            if at > n as f64 {
                return hits;
            }
            hits += 1;
        }
    }

    /// Arrivals in a second: Poisson below 50, by its normal likeness above.
    fn arrivals(&mut self, rate: f64) -> u64 {
        if rate >= 50.0 {
            let normal = (-2.0 * self.fraction().ln()).sqrt()
                * (std::f64::consts::TAU * self.fraction()).cos();
            return (rate + rate.sqrt() * normal).round().max(0.0) as u64;
        }
        let (mut count, mut at) = (0, -self.fraction().ln());
        while at < rate {
            count += 1;
            at -= self.fraction().ln();
        }
        count
    }

    /// One version's second.
    fn second(&mut self, rate: f64, health: Health) -> Sample {
        let requests = self.arrivals(rate);
        let errors = self.binomial(requests, health.errors);
        let slow = self.binomial(requests, health.slow);
        let middling = self.binomial(requests - slow, 0.1);
        let bin = |lower, width| Bin { lower, width };
        let latency: Histogram = [
            (bin(20_000, 80_000), requests - slow - middling),
            (bin(100_000, 300_000), middling),
            (bin(1_000_000, 100_000), slow),
        ]
        .into_iter()
        .collect();
        Counts::new(requests, errors, (slow, requests), latency)
            .map_or(Sample::Unknown(Gap::Malformed), Sample::fresh)
    }
}

impl Service {
    fn new(seed: u64, share: Percent) -> Self {
        let settings = Settings::article();
        let steps = [1, 5, 10, 25, 50, 100]
            .into_iter()
            .filter_map(|step| Percent::new(step).ok())
            .collect();
        Self {
            terms: Terms::new(&settings, steps, Millis::from_secs(300)),
            judge: Judge::new(settings),
            release: Release::begin(share, Percent::FULL, Moment::from_unix_millis(0)),
            chance: Chance(seed),
            now: 0,
        }
    }

    fn at(&self) -> Moment {
        Moment::from_unix_millis(self.now * 1000)
    }

    /// Judges one second without stepping the machine.
    fn judge(&mut self, rates: (f64, f64), candidate: Health) -> Option<Judgement> {
        self.now += 1;
        let at = self.at();
        let bad = self.chance.second(rates.0, candidate);
        let good = self.chance.second(rates.1, WELL);
        let trial = self.release.trial(at, &self.terms);
        self.judge.observe(at, bad, good, trial)
    }

    /// One second of the whole loop: traffic by the release's share, and one request a second
    /// through the verification channel.
    fn run(&mut self, rate: f64, candidate: Health) -> Vec<Action> {
        let share = self.release.decision().share.fraction();
        let rates = (rate * share + 1.0, rate * (1.0 - share));
        let event = self
            .judge(rates, candidate)
            .map_or(Event::Clock, |judgement| Event::Judged {
                verdict: judgement.verdict,
                permit: Permit::Granted,
            });
        let context = Context {
            terms: &self.terms,
            now: self.at(),
            jitter: Jitter::new(self.chance.fraction()),
            confirmed: None,
            circuits: Circuits::default(),
        };
        let (release, actions) = step(&self.release, &event, &context);
        self.release = release;
        if actions.contains(&Action::ForgetEvidence) {
            self.judge.forget();
        }
        actions
    }
}

fn fired(judgement: Option<&Judgement>) -> bool {
    judgement.is_some_and(|judgement| matches!(judgement.verdict, Verdict::Fired(_)))
}

/// Seconds from the fault to the trigger, at most `patience`.
fn detect(seed: u64, rate: f64, fault: Health, patience: u64) -> Option<u64> {
    let mut service = Service::new(seed, Percent::FULL);
    // Starts at an arbitrary place between two judgements.
    for _ in 0..400 + seed % 5 {
        service.judge((rate, rate), WELL);
    }
    (1..=patience).find(|_| fired(service.judge((rate, rate), fault).as_ref()))
}

fn median(mut found: Vec<Option<u64>>) -> Option<u64> {
    found.sort_by_key(|seconds| seconds.unwrap_or(u64::MAX));
    found.get(found.len() / 2).copied().flatten()
}

#[test]
fn a_healthy_version_is_never_tripped() {
    let asked = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let days = asked("OMBRE_SIMULATED_DAYS").unwrap_or(1);
    let seeds = asked("OMBRE_SIMULATED_SEEDS").unwrap_or(1);
    println!("healthy (0.1 % errors, 0.5 % slow), {days} simulated days per rate, {seeds} seeds");
    println!("{:>6} {:>10} {:>10}", "rps", "trips", "suspicions");
    let mut tripped = Vec::new();
    for rate in [1.0, 5.0, 20.0, 100.0, 1000.0] {
        let (mut trips, mut suspicions) = (0u64, 0u64);
        for seed in 0..seeds {
            let mut service = Service::new(rate as u64 + 7 + seed * 7919, Percent::FULL);
            for second in 0..days * 86_400 {
                let Some(judgement) = service.judge((rate, rate), WELL) else {
                    continue;
                };
                suspicions += u64::from(judgement.verdict == Verdict::Breached);
                if fired(Some(&judgement)) {
                    trips += 1;
                    tripped.push((rate, seed, second, judgement.fired, judgement.candidate));
                }
            }
        }
        println!("{rate:>6} {trips:>10} {suspicions:>10}");
    }
    assert!(tripped.is_empty(), "{tripped:#?}");
}

#[test]
fn faults_are_found_no_slower_than_the_table() {
    let errors = |errors| Health { errors, ..WELL };
    let slow = Health { slow: 0.2, ..WELL };
    let rows = [
        ("2% errors", errors(0.02), [85, 40, 35, 30]),
        ("5% errors", errors(0.05), [45, 30, 25, 25]),
        ("100% errors", errors(1.0), [20, 15, 10, 10]),
        ("20% slow", slow, [30, 25, 25, 25]),
    ];
    println!("median seconds to detection (limit), 61 runs per cell");
    println!(
        "{:>12} {:>9} {:>9} {:>9} {:>9}",
        "", "5 rps", "20", "100", "1000"
    );
    let mut late = Vec::new();
    for (name, fault, limits) in rows {
        print!("{name:>12}");
        for (rate, limit) in [5.0, 20.0, 100.0, 1000.0].into_iter().zip(limits) {
            let runs = (0..61).map(|seed| detect(seed * 977 + 1, rate, fault, 600));
            let found = median(runs.collect());
            let shown = found.map_or_else(|| "never".to_owned(), |seconds| seconds.to_string());
            print!(" {:>9}", format!("{shown} ({})", limit + 10));
            if found.is_none_or(|seconds| seconds > limit + 10) {
                late.push(format!("{name} at {rate}: {shown}"));
            }
        }
        println!();
    }
    for (name, fault) in [("100% errors", errors(1.0)), ("5% errors", errors(0.05))] {
        let runs: Vec<_> = (0..60)
            .map(|seed| detect(seed * 31 + 5, 1.0, fault, 600))
            .collect();
        let found = runs.iter().flatten().count();
        println!(
            "1 rps, {name}: {found} of 60 within 600 s, median {:?}",
            median(runs)
        );
    }
    assert!(late.is_empty(), "{late:?}");
}

#[test]
fn a_square_wave_is_failed_back_once_per_cool_down_and_locked() {
    for rate in [20.0, 1000.0] {
        let mut service = Service::new(11, Percent::FULL);
        let dead = Health {
            errors: 1.0,
            ..WELL
        };
        let (mut moves, mut locked_at) = (Vec::new(), None);
        for second in 0..3600 {
            let health = if (second / 20) % 2 == 0 { WELL } else { dead };
            let before = service.release.phase.name();
            let actions = service.run(rate, health);
            let after = service.release.phase.clone();
            if let Phase::FailedBack { since, until, .. } = after
                && before != PhaseName::FailedBack
            {
                moves.push((since, until));
            }
            if actions.contains(&Action::Alert(Alert::Locked)) {
                locked_at = Some(moves.len());
            }
        }
        println!(
            "square wave at {rate} rps: {} fail-backs, locked at {locked_at:?}",
            moves.len()
        );
        let apart = moves
            .iter()
            .zip(moves.iter().skip(1))
            .all(|(a, b)| b.0 >= a.1);
        assert!(apart, "one fail-back per cool-down: {moves:?}");
        assert_eq!((moves.len(), locked_at), (3, Some(3)));
        assert_eq!(service.release.phase.name(), PhaseName::FailedBack);
    }
}

#[test]
fn a_healed_candidate_is_verified_and_ramps_back() {
    let mut service = Service::new(5, Percent::FULL);
    let dead = Health {
        errors: 1.0,
        ..WELL
    };
    let mut shares = Vec::new();
    for second in 0..3 * 3600 {
        let health = if (60..120).contains(&second) {
            dead
        } else {
            WELL
        };
        service.run(1000.0, health);
        let share = service.release.decision().share.get();
        if shares.last() != Some(&share) {
            println!(
                "{second:>6} s: {} at {share} %",
                service.release.phase.name()
            );
            shares.push(share);
        }
    }
    assert_eq!(shares, [100, 0, 1, 5, 10, 25, 50, 100]);
    assert_eq!(service.release.phase.name(), PhaseName::Stable);
}
