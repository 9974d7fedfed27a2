//! Follows the policy in force: new releases begin, those that are kept go on, a changed weight is an
//! order, a changed candidate is a new release. A fail-back under way is brought to its end first.

use std::collections::BTreeMap;
use std::sync::Arc;

use ombre_policy::decisions::Decisions;
use ombre_policy::duration::Moment;
use ombre_policy::release::machine::{Command, Event, Order, Phase, Refusal, Release, Terms};
use ombre_policy::release::settings::Settings;
use ombre_policy::release::share::Percent;
use serde_json::json;
use tracing::{info, warn};

use super::service::Service;
use super::{Engine, perform};
use crate::compiled::Compiled;
use crate::store::{Entry, Kind, NewEntry, Record};

/// The policy that the releases follow.
pub(super) struct Followed {
    compiled: Arc<Compiled>,
    /// Whether something has to be tried again: it could not be kept, or a fail-back has to end first.
    again: bool,
}

/// What a policy says of one release.
#[derive(Clone)]
struct Wanted {
    service: String,
    candidate: String,
    stable: String,
    clusters: (String, String),
    default: String,
    weight: f64,
    settings: Settings,
    terms: Terms,
    /// When its policy was loaded.
    loaded_at: Moment,
}

impl Engine {
    pub(super) async fn follow(&mut self) {
        let Some(in_force) = self.publisher.view().in_force else {
            return;
        };
        let compiled = Arc::clone(&in_force.compiled);
        if let Some(followed) = &self.followed
            && Arc::ptr_eq(&followed.compiled, &compiled)
            && !followed.again
        {
            return;
        }
        let loaded_at = self.clock.when(in_force.loaded_at);
        let wanted = compiled.policy.releases();
        let wanted: Vec<Wanted> = wanted
            .map(|release| Wanted::of(release, loaded_at))
            .collect();
        let mut done = true;
        let gone: Vec<String> = self
            .services
            .keys()
            .filter(|name| !wanted.iter().any(|wanted| wanted.service == **name))
            .cloned()
            .collect();
        for name in gone {
            let Some(service) = self.services.get(&name) else {
                continue;
            };
            if failing_back(&service.record.release) {
                info!(service = %name, "no longer released automatically once the fail-back has ended");
                done = false;
            } else if let Some(mut service) = self.services.remove(&name) {
                info!(service = %name, "no longer released automatically");
                service.stop_drain().await;
                self.dormant.insert(name, service.record);
            }
        }
        done &= self.forget_edited(&compiled, &in_force.released()).await;
        self.resume(&wanted).await;
        for wanted in wanted {
            done &= self.take_up(wanted).await;
        }
        let purposes = |compiled: &Compiled| {
            let mut purposes: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (service, version, cluster) in compiled.policy.serving() {
                let serves = format!("{service} {version}");
                purposes.entry(cluster.to_owned()).or_default().push(serves);
            }
            purposes
        };
        let before = self.followed.as_ref();
        let before = before.map(|followed| purposes(&followed.compiled));
        let after = purposes(&compiled);
        self.breakers
            .follow(&before.unwrap_or_default(), &after, in_force.revision);
        self.clusters = Arc::new(after.into_keys().collect());
        self.followed = Some(Followed {
            compiled,
            again: !done,
        });
        let told = self.publish().await;
        // The share that a release begins with stands in the policy, and is no step that is told apart.
        for service in self.services.values_mut() {
            service.published = service.published.or(told);
        }
    }

    /// Forgets the releases that people took over: their block is gone, and what they decided last is
    /// in force no more. A block that comes back begins a new one. Whether that could be kept.
    async fn forget_edited(&mut self, compiled: &Compiled, released: &Decisions) -> bool {
        let unreleased = compiled.policy.unreleased();
        let over = unreleased.filter(|name| !released.services.contains_key(*name));
        let over: Vec<String> = over
            .filter(|name| self.dormant.contains_key(*name))
            .map(str::to_owned)
            .collect();
        for name in over {
            let service = name.clone();
            if let Err(error) = self.stored(move |store| store.forget(&service)).await {
                self.note_store(Some(error));
                return false;
            }
            info!(service = %name, "release over: its rollout was edited without a `degrade` block");
            self.dormant.remove(&name);
        }
        true
    }

    /// Goes on with the releases that were kept. All of them are there before the first one is
    /// stepped: what is published is published of all.
    async fn resume(&mut self, wanted: &[Wanted]) {
        let mut resumed = Vec::new();
        for wanted in wanted {
            let name = &wanted.service;
            let Some(record) = self.dormant.remove(name) else {
                continue;
            };
            if !wanted.is_of(&record) {
                self.dormant.insert(name.clone(), record);
                continue;
            }
            info!(service = %name, phase = %record.release.phase.name(), "release resumes");
            let service = name.clone();
            let moved = self.stored(move |store| store.last_move(&service)).await;
            let moved = moved.ok().flatten().unwrap_or_else(|| self.now());
            self.services
                .insert(name.clone(), wanted.clone().service(record, moved));
            resumed.push(name);
        }
        for name in resumed {
            self.step(name, Event::Restarted).await;
        }
    }

    /// Whether the release now follows what is wanted of it.
    async fn take_up(&mut self, wanted: Wanted) -> bool {
        let name = &wanted.service;
        match self.services.get(name).map(|service| &service.record) {
            Some(record) if wanted.is_of(record) => self.go_on(wanted).await,
            // INVARIANT: a freeze ends by itself, in time; until then its versions stay.
            Some(record) if failing_back(&record.release) => {
                warn!(service = %name, "the new candidate waits for the end of the fail-back");
                false
            }
            _ => self.begin(wanted).await,
        }
    }

    async fn begin(&mut self, wanted: Wanted) -> bool {
        self.end_log(&wanted.service).await;
        let at = self.now();
        let record = Record {
            service: wanted.service.clone(),
            candidate: wanted.candidate.clone(),
            stable: wanted.stable.clone(),
            weight: wanted.weight,
            awaited: Vec::new(),
            release: Release::begin(whole(wanted.weight), Percent::FULL, at),
        };
        let entry = NewEntry {
            at,
            kind: Kind::Begun,
            order: None,
            detail: json!({ "candidate": record.candidate, "stable": record.stable, "state": record.release }),
        };
        let Some(entries) = self.keep(&record, vec![entry]).await else {
            return false;
        };
        self.tell(entries);
        info!(service = %record.service, candidate = %record.candidate, "release begins");
        self.dormant.remove(&record.service);
        self.services
            .insert(record.service.clone(), wanted.service(record, at));
        true
    }

    async fn go_on(&mut self, wanted: Wanted) -> bool {
        let Wanted {
            service: name,
            clusters,
            default,
            weight,
            settings,
            terms,
            loaded_at,
            ..
        } = wanted;
        let Some(service) = self.services.get_mut(&name) else {
            return true;
        };
        service.adopt(clusters, default, settings, terms);
        if service.record.weight == weight {
            return true;
        }
        let before = std::mem::replace(&mut service.record.weight, weight);
        let order = Order {
            command: Command::SetWeight(whole(weight)),
            actor: "policy".to_owned(),
            reason: format!("`rollout.weight` was changed from {before} to {weight}"),
        };
        let outcome = if ended_since(&service.record.release, loaded_at) {
            self.refuse(&name, &order, Refusal::FailingBack).await
        } else {
            self.step(&name, Event::Operator(order)).await
        };
        match outcome {
            perform::Outcome::Stepped(None) => true,
            perform::Outcome::Stepped(Some(refusal)) => {
                warn!(service = %name, weight, %refusal, "the policy's weight is not followed");
                true
            }
            perform::Outcome::NotKept(_) => {
                if let Some(service) = self.services.get_mut(&name) {
                    service.record.weight = before;
                }
                false
            }
        }
    }

    /// Keeps a release and what happened; none when it could not be kept.
    pub(super) async fn keep(
        &mut self,
        record: &Record,
        news: Vec<NewEntry>,
    ) -> Option<Vec<Entry>> {
        let kept = record.clone();
        match self.stored(move |store| store.save(&kept, &news)).await {
            Ok(entries) => {
                self.note_store(None);
                Some(entries)
            }
            Err(error) => {
                self.note_store(Some(error));
                None
            }
        }
    }
}

impl Wanted {
    fn of(release: ombre_policy::policy::Release<'_>, loaded_at: Moment) -> Self {
        Self {
            service: release.service.to_owned(),
            candidate: release.candidate.version.to_owned(),
            stable: release.stable.version.to_owned(),
            clusters: (
                release.candidate.cluster.to_owned(),
                release.stable.cluster.to_owned(),
            ),
            default: release.default.to_owned(),
            weight: release.weight,
            settings: release.settings.clone(),
            terms: release.terms,
            loaded_at,
        }
    }

    /// Whether this is of the same release.
    fn is_of(&self, record: &Record) -> bool {
        (&record.candidate, &record.stable) == (&self.candidate, &self.stable)
    }

    fn service(self, record: Record, moved: Moment) -> Service {
        let Self {
            clusters,
            default,
            settings,
            terms,
            ..
        } = self;
        Service::new(record, clusters, default, settings, terms, moved)
    }
}

const fn failing_back(release: &Release) -> bool {
    matches!(
        release.phase,
        Phase::Freezing { .. } | Phase::Draining { .. }
    )
}

/// Whether a fail-back that was under way when the policy was loaded has ended meanwhile.
fn ended_since(release: &Release, loaded_at: Moment) -> bool {
    match release.phase {
        Phase::FailedBack { since, .. } | Phase::Aborted { since, .. } => since >= loaded_at,
        _ => false,
    }
}

/// A policy's weight in whole percent, rounded up: some traffic is not none.
pub(crate) fn whole(weight: f64) -> Percent {
    let percent = weight.ceil().clamp(0.0, 100.0) as u8;
    Percent::new(percent).unwrap_or(Percent::FULL)
}
