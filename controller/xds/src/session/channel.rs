//! One type on one stream: what the client wants, what it has, what is on its way to it and what it
//! refused. At most one response is on its way, so that a slow client is told the latest state next
//! and never a queue of states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::subscription::Subscription;
use super::{Event, Refused, Standing};
use crate::message::{Asks, Flavor, Request, Response};
use crate::snapshot::{Resource, Resources, Type, Version};

#[derive(Debug)]
pub(super) struct Channel {
    kind: Type,
    flavor: Flavor,
    subscription: Subscription,
    has: BTreeMap<String, Has>,
    /// What a client that resumes may have, for streams on which it cannot say.
    past: Resources,
    /// To be sent even if the client has it.
    asked: BTreeSet<String>,
    /// To be sent again once it is wanted.
    again: BTreeSet<String>,
    /// Everything was asked for: to be answered even if there is nothing.
    everything_asked: bool,
    /// Was in a refused response, of which Envoy may have taken a part.
    doubtful: BTreeSet<String>,
    under_way: Option<UnderWay>,
    answered: Option<String>,
    rejection: Option<Rejection>,
    accepted: Option<Version>,
}

/// What the client has under a name.
#[derive(Debug)]
enum Has {
    /// From an earlier stream, by its own account.
    Told(Option<Version>),
    Accepted(Arc<Resource>),
}

#[derive(Debug)]
struct UnderWay {
    nonce: String,
    version: Version,
    changed: Vec<Arc<Resource>>,
    gone: Vec<String>,
}

/// A refused response, as names and versions; none: it was to be deleted. It stays refused as a whole
/// until any part of it changes, since the text that came with it need not say which part was bad.
#[derive(Debug)]
struct Rejection {
    text: String,
    version: Version,
    parts: BTreeMap<String, Option<Version>>,
}

impl Has {
    fn version(&self) -> Option<Version> {
        match self {
            Self::Told(version) => *version,
            Self::Accepted(resource) => Some(resource.version()),
        }
    }
}

impl Channel {
    pub(super) fn new(kind: Type, flavor: Flavor) -> Self {
        Self {
            kind,
            flavor,
            subscription: Subscription::default(),
            has: BTreeMap::new(),
            past: Resources::new(),
            asked: BTreeSet::new(),
            again: BTreeSet::new(),
            everything_asked: false,
            doubtful: BTreeSet::new(),
            under_way: None,
            answered: None,
            rejection: None,
            accepted: None,
        }
    }

    pub(super) fn request(
        &mut self,
        request: Request,
        most_names: usize,
    ) -> Result<Event, Refused> {
        let event = self.answer(&request);
        let stale = matches!(event, Event::Stale);
        // A state-of-the-world request that answers an older response was overtaken by a newer one,
        // whose answer will say what is wanted. Changes are said only once, and count at any time.
        if !(stale && self.flavor == Flavor::Sotw) {
            self.subscribe(&request.asks);
        }
        let names = self.subscription.count().max(self.has.len());
        if names > most_names {
            return Err(Refused::TooManyNames {
                kind: self.kind,
                most: most_names,
            });
        }
        Ok(event)
    }

    /// Makes sure that these are sent again. Envoy holds a changed cluster back until it has heard of
    /// its endpoints once more.
    pub(super) fn send_again(&mut self, names: Vec<String>) {
        self.again.extend(names);
    }

    /// What a client that resumes may have from before. A state-of-the-world response that leaves it
    /// out deletes it, so it stays in until nothing refers to it.
    pub(super) fn remember(&mut self, past: Resources) {
        self.past = past;
    }

    /// What is new in the response that is on its way.
    pub(super) fn under_way(&self) -> Vec<String> {
        let changed = self.under_way.iter().flat_map(|sent| &sent.changed);
        changed.map(|resource| resource.name().to_owned()).collect()
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.subscription.has_begun()
    }

    /// There is a new aim. A deletion that was refused is tried again: it has no content that could
    /// change, and must not hold up what is to be added.
    pub(super) fn aim(&mut self) {
        if let Some(rejection) = &mut self.rejection {
            rejection.parts.retain(|_, version| version.is_some());
        }
        self.rejection
            .take_if(|rejection| rejection.parts.is_empty());
    }

    /// What is to be said now that `available` is there. With `keep` nothing is deleted yet.
    pub(super) fn next(
        &mut self,
        available: &Resources,
        keep: bool,
        nonce: impl FnOnce() -> String,
    ) -> Option<Response> {
        if self.under_way.is_some() || !self.subscription.has_begun() {
            return None;
        }
        self.reconsider(available);
        self.again.retain(|name| available.contains_key(name));
        let changed = self.changed(available);
        let mut gone = self.gone(available, keep);
        let says_all = self.flavor == Flavor::Sotw && self.kind.is_whole();
        if self.flavor == Flavor::Sotw && !says_all {
            // Their deletion follows from that of what refers to them.
            for name in gone.drain(..) {
                self.has.remove(&name);
            }
        }
        if changed.is_empty() && gone.is_empty() && !self.everything_asked {
            return None;
        }
        let target = self.target(available, keep);
        let version = Version::of_all(target.iter().map(AsRef::as_ref));
        let nonce = nonce();
        let response = Response {
            kind: self.kind,
            nonce: nonce.clone(),
            version,
            resources: if says_all { target } else { changed.clone() },
            removed: match self.flavor {
                Flavor::Sotw => Vec::new(),
                Flavor::Delta => gone.clone(),
            },
        };
        for resource in &changed {
            self.asked.remove(resource.name());
            self.again.remove(resource.name());
        }
        for name in &gone {
            self.asked.remove(name);
        }
        self.everything_asked = false;
        self.under_way = Some(UnderWay {
            nonce,
            version,
            changed,
            gone,
        });
        Some(response)
    }

    /// Whether the client accepted everything that there was to say. Right after `next` said nothing.
    pub(super) const fn is_done(&self) -> bool {
        self.under_way.is_none() && self.rejection.is_none()
    }

    /// Whether the client has all that may be referred to, be it in an older version: a refused change
    /// of a cluster must not hold up a decision to leave it. A refused new one must.
    pub(super) fn can_be_referred_to(&self) -> bool {
        let mut refused = self.rejection.iter().flat_map(|rejection| &rejection.parts);
        self.under_way.is_none()
            && refused.all(|(name, version)| version.is_none() || self.has.contains_key(name))
    }

    pub(super) fn standing(&self) -> Standing {
        Standing {
            subscribed: self.subscription.has_begun(),
            accepted: self.accepted,
            under_way: self.under_way.as_ref().map(|sent| sent.version),
            rejected: self
                .rejection
                .as_ref()
                .map(|rejection| (rejection.version, rejection.text.clone())),
        }
    }

    fn answer(&mut self, request: &Request) -> Event {
        if request.nonce.is_empty() {
            return Event::Asked;
        }
        let Some(sent) = self.under_way.take_if(|sent| sent.nonce == request.nonce) else {
            let repeated = self.answered.as_ref() == Some(&request.nonce);
            return if repeated { Event::Asked } else { Event::Stale };
        };
        self.answered = Some(sent.nonce);
        match &request.error {
            None => {
                self.accepted = Some(sent.version);
                for name in &sent.gone {
                    self.has.remove(name);
                    self.doubtful.remove(name);
                }
                for resource in &sent.changed {
                    self.doubtful.remove(resource.name());
                    let has = Has::Accepted(Arc::clone(resource));
                    self.has.insert(resource.name().to_owned(), has);
                }
                Event::Accepted {
                    kind: self.kind,
                    changed: sent.changed,
                }
            }
            Some(text) => {
                let changed = sent.changed.iter();
                let parts = changed
                    .map(|resource| (resource.name().to_owned(), Some(resource.version())))
                    .chain(sent.gone.into_iter().map(|name| (name, None)))
                    .collect::<BTreeMap<_, _>>();
                self.doubtful.extend(parts.keys().cloned());
                self.rejection = Some(Rejection {
                    text: text.clone(),
                    version: sent.version,
                    parts,
                });
                Event::Rejected {
                    kind: self.kind,
                    version: sent.version,
                    text: text.clone(),
                }
            }
        }
    }

    fn subscribe(&mut self, asks: &Asks) {
        let first = !self.subscription.has_begun();
        let mut changed = self.subscription.apply(self.kind, asks);
        let past = std::mem::take(&mut self.past);
        match asks {
            Asks::Changes { known, .. } if first => {
                for (name, version) in known {
                    let told = Has::Told(version.parse().ok());
                    self.has.insert(name.clone(), told);
                }
                // What the client has is not asked for: it is only named again.
                changed.asked.retain(|name| !self.has.contains_key(name));
            }
            Asks::Names { resumes: true, .. } if first => {
                let past = past.into_iter();
                let past = past.map(|(name, resource)| (name, Has::Accepted(resource)));
                self.has.extend(past);
            }
            Asks::Names { .. } | Asks::Changes { .. } => {}
        }
        self.everything_asked |= changed.everything;
        self.asked.extend(changed.asked);
        self.asked.extend(changed.uncovered);
        let subscription = &self.subscription;
        self.asked.retain(|name| subscription.wants(name));
        self.has.retain(|name, _| subscription.wants(name));
        self.doubtful.retain(|name| subscription.wants(name));
    }

    /// Forgets a rejection once any part of it is no longer what was refused.
    fn reconsider(&mut self, available: &Resources) {
        let differs = |(name, version): (&String, &Option<Version>)| {
            available.get(name).map(|resource| resource.version()) != *version
        };
        self.rejection
            .take_if(|rejection| rejection.parts.iter().any(differs));
    }

    fn is_rejected(&self, name: &str, version: Option<Version>) -> bool {
        let rejection = self.rejection.as_ref();
        rejection.is_some_and(|rejection| rejection.parts.get(name) == Some(&version))
    }

    fn changed(&self, available: &Resources) -> Vec<Arc<Resource>> {
        let is_new = |resource: &&Arc<Resource>| {
            let name = resource.name();
            let version = Some(resource.version());
            self.subscription.wants(name)
                && !self.is_rejected(name, version)
                && (self.asked.contains(name)
                    || self.again.contains(name)
                    || self.doubtful.contains(name)
                    || self
                        .has
                        .get(name)
                        .is_none_or(|has| has.version() != version))
        };
        available.values().filter(is_new).cloned().collect()
    }

    fn gone(&self, available: &Resources, keep: bool) -> Vec<String> {
        let lost = self.has.keys().filter(|_| !keep);
        // Asked for and not there. Only said of types that can be said to be complete: an Envoy that
        // is told that endpoints are gone stops waiting for them.
        let missing = self.asked.iter().filter(|name| {
            self.flavor == Flavor::Delta
                && self.kind.is_whole()
                && self.subscription.wants(name)
                && !self.has.contains_key(*name)
        });
        lost.chain(missing)
            .filter(|name| !available.contains_key(*name) && !self.is_rejected(name, None))
            .cloned()
            .collect()
    }

    /// Everything that the client is to have once it has accepted what is said now, by name. In place
    /// of what it refused stands what it had before.
    fn target(&self, available: &Resources, keep: bool) -> Vec<Arc<Resource>> {
        let had = |name: &str| match self.has.get(name) {
            Some(Has::Accepted(resource)) => Some(Arc::clone(resource)),
            Some(Has::Told(_)) | None => None,
        };
        let mut target: BTreeMap<&str, Arc<Resource>> = BTreeMap::new();
        for (name, resource) in available {
            let refused = self.is_rejected(name, Some(resource.version()));
            let resource = match refused {
                true => had(name),
                false => Some(Arc::clone(resource)),
            };
            if let Some(resource) = resource.filter(|_| self.subscription.wants(name)) {
                target.insert(name, resource);
            }
        }
        for name in self.has.keys() {
            let stays = keep || self.is_rejected(name, None);
            if stays
                && !available.contains_key(name)
                && let Some(resource) = had(name)
            {
                target.insert(name, resource);
            }
        }
        target.into_values().collect()
    }
}
