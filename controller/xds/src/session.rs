//! One stream from its first request to its end, as a pure state machine: no socket, no clock.
//! It keeps the order that loses no request: clusters and endpoints are added and accepted, then
//! listeners, routes and the filter are switched and accepted, and only then is removed what nothing
//! refers to any more. A newer target takes the place of an older one at any moment. While clusters are
//! being added, decisions go on: the client gets the filter of the policy that it has under new ones.

mod channel;
mod subscription;

use std::sync::Arc;

use ombre_policy::document::Revision;

use crate::message::{Flavor, Request, Response};
use crate::snapshot::{Resource, Resources, Snapshot, Type, Version};
use channel::Channel;

/// What is there before anything refers to it.
const ADDED: [Type; 2] = [Type::Cluster, Type::Endpoint];

/// What changes between adding and removing.
const SWITCHED: [Type; 3] = [Type::Extension, Type::Listener, Type::Route];

/// One stream.
#[derive(Debug)]
pub struct Session {
    channels: Channels,
    target: Option<Arc<Snapshot>>,
    stage: Stage,
    /// The snapshot that the client runs: the last one whose switch it accepted.
    applied: Option<Arc<Snapshot>>,
    nonces: u64,
    most_names: usize,
}

/// How far the client is on its way to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Clusters and endpoints are added. Everything else is still served from an older snapshot.
    Adding {
        /// That older snapshot; none on a new stream.
        serving: Option<Arc<Snapshot>>,
        /// In place of its filter: the same policy under newer decisions.
        filter: Option<Arc<Snapshot>>,
    },
    /// Listeners, routes and the filter change to the target.
    Switching,
    /// What the target does not have is removed.
    Removing,
    /// The client has the target and nothing else.
    Settled,
}

/// What a request turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It only says what is wanted.
    Asked,
    /// It answers a response that is not the last one.
    Stale,
    /// It accepts a response (ACK).
    Accepted {
        /// Of this type.
        kind: Type,
        /// What was new in it.
        changed: Vec<Arc<Resource>>,
    },
    /// It refuses a response (NACK).
    Rejected {
        /// Of this type.
        kind: Type,
        /// The version of the refused state.
        version: Version,
        /// Why.
        text: String,
    },
}

/// How one type stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether the client asked for it.
    pub subscribed: bool,
    /// The state that it accepted last.
    pub accepted: Option<Version>,
    /// The state that it was told and has not answered.
    pub under_way: Option<Version>,
    /// The state that it refused, and why.
    pub rejected: Option<(Version, String)>,
}

/// Why a stream has to end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// More than one Envoy can need.
    #[error("more than {most} names of {} in one stream", kind.short())]
    TooManyNames {
        /// Of this type.
        kind: Type,
        /// The limit.
        most: usize,
    },
}

#[derive(Debug)]
struct Channels {
    cluster: Channel,
    endpoint: Channel,
    extension: Channel,
    listener: Channel,
    route: Channel,
}

impl Session {
    /// A stream on which nothing was said yet. `most_names` bounds the names of each type.
    pub fn new(flavor: Flavor, most_names: usize) -> Self {
        Self {
            channels: Channels {
                cluster: Channel::new(Type::Cluster, flavor),
                endpoint: Channel::new(Type::Endpoint, flavor),
                extension: Channel::new(Type::Extension, flavor),
                listener: Channel::new(Type::Listener, flavor),
                route: Channel::new(Type::Route, flavor),
            },
            target: None,
            stage: Stage::Settled,
            applied: None,
            nonces: 0,
            most_names,
        }
    }

    /// The clusters that the client has from an earlier stream, where its first request cannot say so.
    pub fn remember(&mut self, clusters: Resources) {
        self.channels.cluster.remember(clusters);
    }

    /// Takes a request.
    ///
    /// # Errors
    /// When the stream has to be ended.
    pub fn request(&mut self, request: Request) -> Result<Event, Refused> {
        let channel = self.channels.of(request.kind);
        channel.request(request, self.most_names)
    }

    /// From now on the client is to get this. What it was on its way to is given up.
    pub fn aim(&mut self, target: Arc<Snapshot>) {
        let before = self.target.replace(target);
        // What is added already goes on as it is, the newer decisions included.
        if !matches!(self.stage, Stage::Adding { .. }) {
            self.stage = Stage::Adding {
                serving: before,
                filter: None,
            };
        }
        for kind in Type::ALL {
            self.channels.of(kind).aim();
        }
    }

    /// The policy by which the client goes on while clusters of the target are being added.
    pub fn waits_with(&self) -> Option<Revision> {
        match &self.stage {
            Stage::Adding { serving, .. } => {
                serving.as_ref().map(|serving| serving.revisions().policy)
            }
            Stage::Switching | Stage::Removing | Stage::Settled => None,
        }
    }

    /// Until the clusters are there, the client gets this filter: that of the policy it
    /// [waits with](Self::waits_with), which refers to no other clusters, under newer decisions.
    pub fn meanwhile(&mut self, newer: Arc<Snapshot>) {
        if let Stage::Adding { filter, .. } = &mut self.stage {
            *filter = Some(newer);
        }
    }

    /// What is to be sent now, in this order. To be called after every request and every new aim.
    pub fn responses(&mut self) -> Vec<Response> {
        let mut responses = Vec::new();
        loop {
            // If nothing has to be waited for, the switch comes at once and not after one to what was.
            let is_adding = matches!(self.stage, Stage::Adding { .. });
            if is_adding {
                self.say(&ADDED, &mut responses);
            } else {
                self.say(&Type::ALL, &mut responses);
            }
            if !self.advance() {
                if is_adding {
                    self.say(&SWITCHED, &mut responses);
                }
                break;
            }
        }
        if self.runs_target() {
            self.applied.clone_from(&self.target);
        }
        responses
    }

    /// How far the client is.
    pub const fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The snapshot that the client runs, once it accepted one.
    pub const fn applied(&self) -> Option<&Arc<Snapshot>> {
        self.applied.as_ref()
    }

    /// How a type stands.
    pub fn standing(&self, kind: Type) -> Standing {
        self.channels.at(kind).standing()
    }

    fn say(&mut self, kinds: &[Type], responses: &mut Vec<Response>) {
        for kind in kinds.iter().copied() {
            let Some((snapshot, keep)) = self.source(kind) else {
                continue;
            };
            let available: &Resources = snapshot.of(kind);
            let nonces = &mut self.nonces;
            let nonce = || {
                *nonces += 1;
                nonces.to_string()
            };
            let Some(response) = self.channels.of(kind).next(available, keep, nonce) else {
                continue;
            };
            if kind == Type::Cluster {
                let changed = self.channels.cluster.under_way();
                self.channels.endpoint.send_again(changed);
            }
            responses.push(response);
        }
    }

    /// Where a type is served from at this stage, and whether what is not there is kept.
    fn source(&self, kind: Type) -> Option<(Arc<Snapshot>, bool)> {
        let target = self.target.clone();
        let (snapshot, keep) = match (&self.stage, kind) {
            (Stage::Adding { .. }, Type::Cluster | Type::Endpoint) => (target, true),
            (Stage::Adding { serving, filter }, Type::Extension) => {
                (filter.as_ref().or(serving.as_ref()).cloned(), true)
            }
            (Stage::Adding { serving, .. }, _) => (serving.clone(), true),
            // A listener may go while the routes and the filter that it uses are still there.
            (Stage::Switching, Type::Listener) => (target, false),
            (Stage::Switching, _) => (target, true),
            (Stage::Removing | Stage::Settled, _) => (target, false),
        };
        snapshot.map(|snapshot| (snapshot, keep))
    }

    /// Whether the client accepted everything that requests are decided by.
    fn runs_target(&self) -> bool {
        matches!(self.stage, Stage::Removing | Stage::Settled)
            && self.channels.extension.has_begun()
            && self.are_done(&SWITCHED)
    }

    fn are_done(&self, kinds: &[Type]) -> bool {
        kinds.iter().all(|kind| self.channels.at(*kind).is_done())
    }

    /// Whether the next stage began.
    fn advance(&mut self) -> bool {
        let begun = |kind: &Type| self.channels.at(*kind).has_begun();
        if !Type::ALL.iter().any(begun) {
            return false;
        }
        let next = match self.stage {
            Stage::Adding { .. }
                if self.channels.cluster.can_be_referred_to()
                    && self.channels.endpoint.can_be_referred_to() =>
            {
                Stage::Switching
            }
            Stage::Switching if self.are_done(&SWITCHED) => Stage::Removing,
            Stage::Removing if self.are_done(&Type::ALL) => Stage::Settled,
            Stage::Adding { .. } | Stage::Switching | Stage::Removing | Stage::Settled => {
                return false;
            }
        };
        self.stage = next;
        true
    }
}

impl Channels {
    const fn of(&mut self, kind: Type) -> &mut Channel {
        match kind {
            Type::Cluster => &mut self.cluster,
            Type::Endpoint => &mut self.endpoint,
            Type::Extension => &mut self.extension,
            Type::Listener => &mut self.listener,
            Type::Route => &mut self.route,
        }
    }

    const fn at(&self, kind: Type) -> &Channel {
        match kind {
            Type::Cluster => &self.cluster,
            Type::Endpoint => &self.endpoint,
            Type::Extension => &self.extension,
            Type::Listener => &self.listener,
            Type::Route => &self.route,
        }
    }
}

#[cfg(test)]
mod tests;
