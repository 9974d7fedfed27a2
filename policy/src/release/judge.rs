//! Turns ticks of evidence into judgements: windows, votes and triggers in, one verdict out.
//! Never stored: after a restart the windows start empty.

mod fired;
mod judgement;
mod look;
mod trial;
mod votes;

use super::evidence::{Sample, Sum, Window};
use super::settings::Settings;
use super::triggers::outage::{self, OutageAccount};
use super::triggers::score::{self, ScoreAccount};
use super::triggers::sustained::{self, Breach};
use crate::duration::{Millis, Moment};

pub use judgement::{Judgement, Standing, Verdict};
use trial::Trial;
pub use trial::{Span, TrialAccount};
pub use votes::Tally;
use votes::Votes;

/// The windows and votes of one service.
#[derive(Debug, Clone)]
pub struct Judge {
    settings: Settings,
    candidate: Window,
    stable: Window,
    trial: Trial,
    votes: Votes,
    runs: Runs,
    /// The outage in the newest known tick.
    out: Option<OutageAccount>,
    judged: Option<Moment>,
}

/// Judgements or ticks in a row that agreed. Unknown ones neither add nor reset.
#[derive(Debug, Clone, Copy, Default)]
struct Runs {
    score: u32,
    outage_tick: u32,
    outage_window: u32,
}

impl Judge {
    /// Empty windows under `settings`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let evidence = settings.evidence;
        let window = || Window::new(evidence.interval, evidence.longest);
        Self {
            candidate: window(),
            stable: window(),
            trial: Trial::new(settings.guards.ask_after),
            votes: Votes::new(evidence.longest, evidence.judge),
            runs: Runs::default(),
            out: None,
            judged: None,
            settings,
        }
    }

    /// Forgets all evidence, as when a candidate gets a new chance.
    pub fn forget(&mut self) {
        *self = Self::new(self.settings.clone());
    }

    /// Takes one collected tick of both versions. Call it every interval, with
    /// [`super::evidence::Gap::Missing`] when nothing came.
    ///
    /// Answers at every judging tick, at once when the outage fires, and at every unknown tick; in
    /// between there is nothing new to say. `trial` is [`super::machine::Release::trial`].
    pub fn observe(
        &mut self,
        at: Moment,
        candidate: Sample,
        stable: Sample,
        trial: Span,
    ) -> Option<Judgement> {
        let gap = [&candidate, &stable]
            .into_iter()
            .find_map(|sample| match sample {
                Sample::Unknown(gap) => Some(*gap),
                Sample::Idle | Sample::Counted(_) => None,
            });
        let mut tick = Sum::default();
        tick.add(&candidate, self.settings.evidence.interval);
        if !self.candidate.push(at, candidate) {
            return None;
        }
        self.stable.push(at, stable);
        if let Some(gap) = gap {
            return Some(self.account(at, Verdict::Unknown(gap)));
        }
        self.trial.add(&tick);
        let out = self
            .settings
            .outage
            .as_ref()
            .map(|o| outage::in_tick(o, &tick));
        count(
            &mut self.runs.outage_tick,
            out.is_some_and(|account| account.out),
        );
        self.out = out;
        let due = self
            .judged
            .is_none_or(|last| at.since(last) >= self.settings.evidence.judge);
        if due {
            self.judged = Some(at);
            self.trial.close(at);
            return Some(self.judge(at, out, trial));
        }
        self.outage_between(at, out)
    }

    /// The outage alone, between two judging ticks.
    fn outage_between(&self, at: Moment, out: Option<OutageAccount>) -> Option<Judgement> {
        let mut judgement = self.account(at, Verdict::Idle);
        judgement.outage_tick = out;
        judgement.fired = self.outage_by_tick(at);
        judgement.verdict = self.verdict_of(judgement.fired)?;
        Some(judgement)
    }

    fn judge(&mut self, at: Moment, out: Option<OutageAccount>, trial: Span) -> Judgement {
        let mut judgement = self.account(at, Verdict::Idle);
        let breach = sustained::breach(
            &self.settings.limits,
            self.settings.guards.min_requests,
            &judgement.candidate,
            (
                &self.short(at),
                &self.candidate.sum(at, self.settings.evidence.short),
            ),
        );
        judgement.score = self.score(at);
        judgement.outage_tick = out;
        judgement.outage_window = self.settings.outage.as_ref().map(|settings| {
            let base = self.candidate.sum(at, self.settings.evidence.window);
            outage::in_window(settings, &base)
        });
        self.count(&breach, &judgement);
        judgement.votes = self.tally(judgement.span, &breach);
        judgement.breach = Some(breach);
        let account = self.trial.account(at, trial, &self.settings);
        judgement.trial = Some(account);
        judgement.fired = self.fired(at, &judgement);
        judgement.verdict = self.verdict_of(judgement.fired).unwrap_or_else(|| {
            let suspicious = breach.any()
                || judgement.score.is_some_and(|account| account.above)
                || judgement.outage_tick.is_some_and(|account| account.out)
                || judgement.outage_window.is_some_and(|account| account.out);
            if suspicious {
                Verdict::Breached
            } else if judgement.candidate.requests == 0 {
                Verdict::Idle
            } else {
                Verdict::Quiet(account.standing)
            }
        });
        judgement
    }

    /// A judgement with the windows' counts and nothing concluded from them.
    fn account(&self, at: Moment, verdict: Verdict) -> Judgement {
        let evidence = &self.settings.evidence;
        let (span, candidate) =
            self.candidate
                .grown(at, evidence.window, evidence.longest, evidence.enough);
        Judgement {
            at,
            verdict,
            span,
            candidate,
            stable: self.stable.sum(at, span),
            score: None,
            breach: None,
            votes: None,
            outage_tick: None,
            outage_window: None,
            fired: None,
            trial: None,
        }
    }

    /// The short window of an error breach. It grows as the long one does, in the same proportion: at little
    /// traffic ten seconds without an error say nothing.
    fn short(&self, at: Moment) -> Sum {
        let evidence = &self.settings.evidence;
        let part = |whole: u64| {
            let product = u128::from(whole) * u128::from(evidence.short.get());
            let part = product.checked_div(u128::from(evidence.window.get()));
            part.and_then(|part| u64::try_from(part).ok())
                .unwrap_or(whole)
        };
        let longest = Millis::new(part(evidence.longest.get()));
        let enough = part(evidence.enough);
        self.candidate.grown(at, evidence.short, longest, enough).1
    }

    fn score(&self, at: Moment) -> Option<ScoreAccount> {
        let settings = self.settings.score.as_ref()?;
        let short = self.candidate.sum(at, self.settings.evidence.short);
        if short.requests < self.settings.guards.min_requests {
            return None;
        }
        let secs = short.observed.as_secs_f64();
        let requests = short.requests as f64;
        let p95 = self
            .candidate
            .latency(at, self.settings.evidence.short)
            .quantile(0.95)?;
        (secs > 0.0).then(|| {
            let errors = short.errors as f64 / requests;
            score::score(settings, requests / secs, p95, errors)
        })
    }

    fn tally(&self, span: Millis, breach: &Breach) -> Option<Tally> {
        let settings = self.settings.sustained.as_ref()?;
        let spanned = span.get().checked_div(self.settings.evidence.judge.get());
        Some(self.votes.tally(settings, spanned.unwrap_or(0), breach))
    }

    fn count(&mut self, breach: &Breach, judgement: &Judgement) {
        count(
            &mut self.runs.score,
            judgement.score.is_some_and(|account| account.above),
        );
        let out = judgement.outage_window.is_some_and(|account| account.out);
        count(&mut self.runs.outage_window, out);
        if self.settings.sustained.is_some() {
            self.votes.cast(breach);
        }
    }
}

fn count(run: &mut u32, agreed: bool) {
    *run = if agreed { run.saturating_add(1) } else { 0 };
}

#[cfg(test)]
mod tests;
