//! What the two ends of a stream say to each other, without its encoding: state-of-the-world and
//! delta requests and responses in one form.

use std::sync::Arc;

use crate::snapshot::{Resource, Type, Version};

/// How a stream tells of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flavor {
    /// Each request names everything that is wanted; responses about clusters and listeners are whole.
    Sotw,
    /// Requests and responses say what changed.
    Delta,
}

/// What Envoy says about one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// About what.
    pub kind: Type,
    /// The response that it answers; empty when it answers none.
    pub nonce: String,
    /// Why that response was refused. Its presence is what makes a NACK.
    pub error: Option<String>,
    /// What is wanted from now on.
    pub asks: Asks,
}

/// How a request says what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// State of the world.
    Names {
        /// All that is wanted.
        names: Vec<String>,
        /// Whether the client has resources of this type, be it from an earlier stream.
        resumes: bool,
    },
    /// Delta.
    Changes {
        /// Wanted in addition.
        subscribe: Vec<String>,
        /// No longer wanted.
        unsubscribe: Vec<String>,
        /// Name and version of what the client has from an earlier stream.
        known: Vec<(String, String)>,
    },
}

/// What the server says about one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// About what.
    pub kind: Type,
    /// By which its answer is recognised.
    pub nonce: String,
    /// Of everything that the client is to have of this type.
    pub version: Version,
    /// New or changed; in whole responses of the state of the world, everything.
    pub resources: Vec<Arc<Resource>>,
    /// Deleted (delta only).
    pub removed: Vec<String>,
}
