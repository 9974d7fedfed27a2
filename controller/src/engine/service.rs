//! One release in the loop: what is kept of it, and what a restart begins anew.

use ombre_policy::document::Revision;
use ombre_policy::duration::Moment;
use ombre_policy::release::evidence::Sample;
use ombre_policy::release::judge::{Judge, Judgement};
use ombre_policy::release::machine::Terms;
use ombre_policy::release::settings::Settings;

use super::drain::Drain;
use super::measured::Measured;
use crate::evidence::Readings;
use crate::evidence::ledger::Ledger;
use crate::store::{NewEntry, Record};

/// One release.
pub(super) struct Service {
    /// What is kept.
    pub(super) record: Record,
    /// What serves its candidate.
    pub(super) candidate_cluster: String,
    /// What serves its stable version.
    pub(super) stable_cluster: String,
    /// The default version of its service.
    pub(super) default: String,
    /// The numbers it is judged by.
    pub(super) settings: Settings,
    /// The terms it is moved by.
    pub(super) terms: Terms,
    /// Its windows.
    pub(super) judge: Judge,
    candidate: Ledger,
    stable: Ledger,
    /// When it is looked at next.
    pub(super) due: Moment,
    /// The last whole judgement.
    pub(super) judgement: Option<Judgement>,
    /// The revision under which the filters were told of it last.
    pub(super) published: Option<Revision>,
    /// What happened and could not be kept, although it was done and told.
    pub(super) unwritten: Vec<NewEntry>,
    /// Since when every proxy has confirmed the freeze under way.
    pub(super) confirmed: Option<Moment>,
    /// The last drain, under way or ended.
    pub(super) drain: Option<Drain>,
    /// What the metrics say of it.
    pub(super) measured: Measured,
}

/// Both versions' samples of one tick.
pub(super) struct Tick {
    pub(super) candidate: Sample,
    pub(super) stable: Sample,
}

impl Service {
    pub(super) fn new(
        record: Record,
        (candidate_cluster, stable_cluster): (String, String),
        default: String,
        settings: Settings,
        terms: Terms,
        moved: Moment,
    ) -> Self {
        Self {
            record,
            candidate_cluster,
            stable_cluster,
            default,
            judge: Judge::new(settings.clone()),
            settings,
            terms,
            candidate: Ledger::default(),
            stable: Ledger::default(),
            due: Moment::from_unix_millis(0),
            judgement: None,
            published: None,
            unwritten: Vec::new(),
            confirmed: None,
            drain: None,
            measured: Measured::since(moved),
        }
    }

    /// Takes over what a new policy says. Evidence is begun anew when it is judged otherwise now.
    pub(super) fn adopt(
        &mut self,
        clusters: (String, String),
        default: String,
        settings: Settings,
        terms: Terms,
    ) {
        let before = (&self.candidate_cluster, &self.stable_cluster);
        if settings != self.settings || before != (&clusters.0, &clusters.1) {
            self.judge = Judge::new(settings.clone());
            (self.candidate, self.stable) = Default::default();
        }
        (self.candidate_cluster, self.stable_cluster) = clusters;
        (self.default, self.settings, self.terms) = (default, settings, terms);
    }

    /// What happened to both versions since the last tick.
    pub(super) fn samples(&mut self, readings: &Readings) -> Tick {
        let settings = &self.settings;
        Tick {
            candidate: self
                .candidate
                .tick(&self.candidate_cluster, readings, settings),
            stable: self.stable.tick(&self.stable_cluster, readings, settings),
        }
    }

    /// What the judge says of the time since the last tick, if it says something; kept as the last
    /// judgement then. The books are left as they are.
    pub(super) fn look(&mut self, readings: &Readings, now: Moment) -> Option<Judgement> {
        if !self.judge.suspects_outage() {
            return None;
        }
        let settings = &self.settings;
        let since = |ledger: &Ledger, cluster| ledger.clone().tick(cluster, readings, settings);
        let candidate = since(&self.candidate, &self.candidate_cluster);
        let stable = since(&self.stable, &self.stable_cluster);
        let last = self.due.before(settings.evidence.interval);
        let elapsed = now.since(last);
        let judgement = self.judge.look(now, &candidate, &stable, elapsed)?;
        self.judgement = Some(judgement.clone());
        Some(judgement)
    }

    /// Stops a drain and waits until no entry is in flight.
    pub(super) async fn stop_drain(&mut self) {
        if let Some(drain) = self.drain.take() {
            drain.stop().await;
        }
    }
}
