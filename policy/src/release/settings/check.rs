//! From the raw block to checked settings: defaults filled in, every problem found at once.

use super::{
    Drain, Evidence, Guards, Limits, Outage, Part, RawDegrade, RawDrain, RawEvidence, RawGuards,
    RawOutage, RawRelative, RawScore, RawSustained, RawSyncLog, RawVerify, Relative, Score,
    Settings, Sustained, SyncLog, Verify,
};
use crate::duration::Millis;
use crate::release::share::Percent;

const DAY: Millis = Millis::from_secs(86_400);

/// What is wrong, each with its path inside the `degrade:` block.
#[derive(Default)]
struct Problems(Vec<(String, String)>);

impl Settings {
    /// Fills in the article's defaults and checks every number.
    ///
    /// # Errors
    /// All problems as `(path, message)`, the path relative to the block, like `score.threshold`.
    pub fn from_raw(raw: &RawDegrade) -> Result<Self, Vec<(String, String)>> {
        let mut problems = Problems::default();
        let evidence = evidence(&raw.evidence.clone().unwrap_or_default(), &mut problems);
        let (sustained, limits) = sustained(
            &raw.sustained.clone().unwrap_or_default(),
            &evidence,
            &mut problems,
        );
        let settings = Self {
            fallback: raw.fallback.clone(),
            score: score(&raw.score.clone().unwrap_or_default(), &mut problems),
            sustained,
            outage: outage(&raw.outage.clone().unwrap_or_default(), &mut problems),
            limits,
            guards: guards(&raw.guards.clone().unwrap_or_default(), &mut problems),
            evidence,
            verify: verify(&raw.verify.clone().unwrap_or_default(), &mut problems),
            drain: drain(&raw.drain.clone().unwrap_or_default(), &mut problems),
            sync_log: raw
                .sync_log
                .as_ref()
                .map(|log| sync_log(log, &mut problems)),
        };
        if problems.0.is_empty() {
            Ok(settings)
        } else {
            Err(problems.0)
        }
    }
}

fn score(raw: &RawScore, problems: &mut Problems) -> Option<Score> {
    let fill = Score::default();
    let qps = raw.qps.clone().unwrap_or_default();
    let p95 = raw.p95.clone().unwrap_or_default();
    let errors = raw.errors.clone().unwrap_or_default();
    let p95_full = p95.full.map(|full| full.get() as f64);
    let score = Score {
        threshold: problems.fraction("score.threshold", raw.threshold, fill.threshold),
        qps: problems.part("score.qps", (qps.full, qps.weight), fill.qps),
        p95: problems.part("score.p95", (p95_full, p95.weight), fill.p95),
        errors: problems.part("score.errors", (errors.full, errors.weight), fill.errors),
        ticks: problems.at_least_one("score.ticks", raw.ticks, fill.ticks),
    };
    let sum = score.qps.weight + score.p95.weight + score.errors.weight;
    if (sum - 1.0).abs() > 1e-9 {
        problems.add("score", format!("the weights sum to {sum}, not to 1"));
    }
    raw.enabled.unwrap_or(true).then_some(score)
}

fn sustained(
    raw: &RawSustained,
    evidence: &Evidence,
    problems: &mut Problems,
) -> (Option<Sustained>, Limits) {
    let fill = Limits::default();
    let lasting = problems.span("sustained.for", raw.lasting, Millis::from_secs(30));
    if lasting < evidence.judge {
        problems.add(
            "sustained.for",
            format!(
                "{lasting} is shorter than one judgement, `evidence.judge` is {}",
                evidence.judge
            ),
        );
    }
    let limits = Limits {
        latency: problems.span("sustained.latency", raw.latency, fill.latency),
        slow: problems.fraction("sustained.slow", raw.slow, fill.slow),
        errors: problems.fraction("sustained.errors", raw.errors, fill.errors),
    };
    let on = raw.enabled.unwrap_or(true);
    (on.then(|| Sustained::over(lasting, evidence.judge)), limits)
}

fn outage(raw: &RawOutage, problems: &mut Problems) -> Option<Outage> {
    let fill = Outage::default();
    let outage = Outage {
        errors: problems.fraction("outage.errors", raw.errors, fill.errors),
        requests: problems.at_least_one("outage.requests", raw.requests, fill.requests),
        window_requests: problems.at_least_one(
            "outage.window_requests",
            raw.window_requests,
            fill.window_requests,
        ),
        all_failed: problems.at_least_one("outage.all_failed", raw.all_failed, fill.all_failed),
        ticks: problems.at_least_one("outage.ticks", raw.ticks, fill.ticks),
    };
    raw.enabled.unwrap_or(true).then_some(outage)
}

fn guards(raw: &RawGuards, problems: &mut Problems) -> Guards {
    let fill = Guards::default();
    let guards = Guards {
        min_requests: raw.min_requests.unwrap_or(fill.min_requests),
        relative: relative(&raw.relative.clone().unwrap_or_default(), problems),
        idle_stable: raw.idle_stable.unwrap_or(fill.idle_stable),
        cooldown: problems.span("guards.cooldown", raw.cooldown, fill.cooldown),
        max_cooldown: problems.span("guards.max_cooldown", raw.max_cooldown, fill.max_cooldown),
        trips_per_day: problems.at_least_one(
            "guards.trips_per_day",
            raw.trips_per_day,
            fill.trips_per_day,
        ),
        max_concurrent: problems.percent(
            "guards.max_concurrent",
            raw.max_concurrent,
            fill.max_concurrent,
        ),
        ask_after: problems.span("guards.ask_after", raw.ask_after, fill.ask_after),
    };
    if guards.max_cooldown < guards.cooldown {
        problems.add(
            "guards.max_cooldown",
            format!(
                "{} is shorter than `guards.cooldown`, {}",
                guards.max_cooldown, guards.cooldown
            ),
        );
    }
    guards
}

fn relative(raw: &RawRelative, problems: &mut Problems) -> Relative {
    let fill = Relative::default();
    let times = raw.times.unwrap_or(fill.times);
    if !(1.0..=1000.0).contains(&times) {
        problems.add(
            "guards.relative.times",
            format!("{times} is not between 1 and 1000"),
        );
    }
    Relative {
        times,
        errors: problems.fraction("guards.relative.errors", raw.errors, fill.errors),
        slow: problems.fraction("guards.relative.slow", raw.slow, fill.slow),
    }
}

fn evidence(raw: &RawEvidence, problems: &mut Problems) -> Evidence {
    let fill = Evidence::default();
    let found = Evidence {
        interval: problems.span("evidence.interval", raw.interval, fill.interval),
        judge: problems.span("evidence.judge", raw.judge, fill.judge),
        window: problems.span("evidence.window", raw.window, fill.window),
        longest: problems.span("evidence.longest", raw.longest, fill.longest),
        enough: problems.at_least_one("evidence.enough", raw.enough, fill.enough),
        short: problems.span("evidence.short", raw.short, fill.short),
        stale: problems.span("evidence.stale", raw.stale, fill.stale),
        coverage: problems.percent("evidence.coverage", raw.coverage, fill.coverage),
    };
    let ordered = [
        ("judge", found.judge, "interval", found.interval),
        ("short", found.short, "interval", found.interval),
        ("window", found.window, "short", found.short),
        ("longest", found.longest, "window", found.window),
        ("stale", found.stale, "interval", found.interval),
    ];
    for (name, span, least_name, least) in ordered {
        if span < least {
            problems.add(
                &format!("evidence.{name}"),
                format!("{span} is shorter than `evidence.{least_name}`, {least}"),
            );
        }
    }
    found
}

fn verify(raw: &RawVerify, problems: &mut Problems) -> Verify {
    let fill = Verify::default();
    Verify {
        hold: problems.span("verify.hold", raw.hold, fill.hold),
        requests: problems.at_least_one("verify.requests", raw.requests, fill.requests),
    }
}

fn drain(raw: &RawDrain, problems: &mut Problems) -> Drain {
    let timeout = problems.span("drain.timeout", raw.timeout, Drain::default().timeout);
    let fill = Drain::within(timeout);
    let settle = raw.settle.unwrap_or(fill.settle);
    if raw.settle.is_some() && settle >= timeout {
        let message = format!("{settle} is not shorter than `drain.timeout`, {timeout}");
        problems.add("drain.settle", message);
    }
    Drain { timeout, settle }
}

fn sync_log(raw: &RawSyncLog, problems: &mut Problems) -> SyncLog {
    let apply_url = raw.apply_url.clone().unwrap_or_default();
    let host = apply_url
        .strip_prefix("http://")
        .or_else(|| apply_url.strip_prefix("https://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/')) {
        problems.add(
            "sync_log.apply_url",
            format!("`{apply_url}` is not an `http://` or `https://` address"),
        );
    }
    SyncLog { apply_url }
}

impl Problems {
    fn add(&mut self, path: &str, message: String) {
        self.0.push((path.to_owned(), message));
    }

    /// A span above zero and at most a day.
    fn span(&mut self, path: &str, given: Option<Millis>, fill: Millis) -> Millis {
        let span = given.unwrap_or(fill);
        if span == Millis::ZERO || span > DAY {
            self.add(path, format!("{span} is not between 1ms and 24h"));
        }
        span
    }

    /// A fraction above 0 and below 1; not a number is neither.
    fn fraction(&mut self, path: &str, given: Option<f64>, fill: f64) -> f64 {
        let fraction = given.unwrap_or(fill);
        if !(fraction > 0.0 && fraction < 1.0) {
            self.add(
                path,
                format!("{fraction} is not a fraction between 0 and 1"),
            );
        }
        fraction
    }

    fn part(&mut self, path: &str, given: (Option<f64>, Option<f64>), fill: Part) -> Part {
        let full = given.0.unwrap_or(fill.full);
        if !(full.is_finite() && full > 0.0) {
            self.add(&format!("{path}.full"), format!("{full} is not above 0"));
        }
        let weight = given.1.unwrap_or(fill.weight);
        if !(0.0..=1.0).contains(&weight) {
            self.add(
                &format!("{path}.weight"),
                format!("{weight} is not between 0 and 1"),
            );
        }
        Part { full, weight }
    }

    fn percent(&mut self, path: &str, given: Option<u8>, fill: Percent) -> Percent {
        match given.map_or(Ok(fill), Percent::new) {
            Ok(Percent::ZERO) => self.add(path, "0 is not between 1 and 100".to_owned()),
            Ok(percent) => return percent,
            Err(error) => self.add(path, error.to_string()),
        }
        fill
    }

    fn at_least_one<N: Copy + Default + PartialEq>(
        &mut self,
        path: &str,
        given: Option<N>,
        fill: N,
    ) -> N {
        let number = given.unwrap_or(fill);
        if number == N::default() {
            self.add(path, "0 is not at least 1".to_owned());
        }
        number
    }
}
