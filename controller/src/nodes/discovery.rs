//! An Envoy that is served over xDS, as the API shows it.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ombre_xds::message::Flavor;
use ombre_xds::registry::{Entry, StreamStatus};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Identity, Node, Revisions};
use crate::timestamp;

/// How an Envoy stands over xDS.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Discovery {
    /// What it says of itself: `node.cluster`.
    pub cluster: String,
    /// Its streams; none when it is gone.
    pub streams: Vec<Stream>,
}

/// One stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Stream {
    /// `sotw` or `delta`.
    pub flavor: &'static str,
    /// When it was opened.
    pub since: String,
    /// `adding`, `switching`, `removing`, `settled`, or `held` by something that was refused.
    pub stage: &'static str,
    /// Since when.
    pub stage_since: String,
    /// How each type of resources stands, by its short name.
    pub types: BTreeMap<&'static str, Standing>,
}

/// How one type stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Standing {
    /// The version that was accepted last.
    pub accepted: Option<String>,
    /// The version that was sent and is not answered yet.
    pub sent: Option<String>,
    /// What was refused, until something else can be sent.
    pub refused: Option<Refused>,
}

/// A version that was refused.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Refused {
    /// Which.
    pub version: String,
    /// Why.
    pub text: String,
    /// Since when.
    pub since: Option<String>,
}

impl Node {
    /// An Envoy of the xDS server's. One that is connected is seen now: a connection that is dead does
    /// not outlive a few keepalives.
    pub(super) fn discovered(entry: Entry, now: SystemTime) -> Self {
        let applied = entry.applied.map(|applied| Revisions {
            policy: Some(applied.policy),
            decisions: Some(applied.decisions),
        });
        let gone = entry.streams.is_empty();
        Self {
            identity: Identity {
                name: entry.node.id().to_owned(),
                instance: None,
            },
            workers: None,
            received: Revisions::default(),
            applied: applied.unwrap_or_default(),
            applied_since: entry.applied_since,
            switches: None,
            rejected: None,
            first_seen: entry.first_seen,
            last_seen: if gone { entry.last_seen } else { now },
            left: entry.left,
            replaced: false,
            xds: Some(Discovery {
                cluster: entry.node.cluster().to_owned(),
                streams: entry.streams.iter().map(Stream::of).collect(),
            }),
        }
    }

    /// This one polls, and may have streams for other things than the filter.
    pub(super) fn put_beside(&mut self, found: &Self) {
        self.first_seen = self.first_seen.min(found.first_seen);
        if found.xds.as_ref().is_some_and(Discovery::is_connected) {
            (self.last_seen, self.left, self.replaced) = (found.last_seen, false, false);
            self.xds.clone_from(&found.xds);
        }
    }
}

impl Discovery {
    const fn is_connected(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Whether it refused what it was sent last.
    pub(super) fn refuses(&self) -> bool {
        let mut types = self.streams.iter().flat_map(|stream| stream.types.values());
        types.any(|standing| standing.refused.is_some())
    }
}

impl Stream {
    fn of(status: &StreamStatus) -> Self {
        let types = status.types.iter().map(|(kind, (standing, since))| {
            let standing = Standing {
                accepted: standing.accepted.map(|version| version.to_string()),
                sent: standing.under_way.map(|version| version.to_string()),
                refused: standing.rejected.as_ref().map(|(version, text)| Refused {
                    version: version.to_string(),
                    text: text.clone(),
                    since: since.map(timestamp::text),
                }),
            };
            (kind.short(), standing)
        });
        Self {
            flavor: match status.flavor {
                Flavor::Sotw => "sotw",
                Flavor::Delta => "delta",
            },
            since: timestamp::text(status.opened),
            stage: status.stage.name(),
            stage_since: timestamp::text(status.stage_since),
            types: types.collect(),
        }
    }
}
