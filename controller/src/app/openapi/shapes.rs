//! The JSON of types of the policy crate, which knows nothing of HTTP. A test holds real answers
//! against them.
#![expect(dead_code, reason = "these stand in the document alone")]

use std::collections::{BTreeMap, BTreeSet};

use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, SchemaType, Type};

/// Any JSON.
pub fn any() -> Object {
    use Type::{Array, Boolean, Null, Number, Object, String};
    let all = [Object, Array, String, Number, Boolean, Null];
    let any = ObjectBuilder::new().schema_type(SchemaType::from_iter(all));
    any.build()
}

/// A document as the filters take it.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct Document(Vec<u8>);

/// One thing to mend.
#[derive(ToSchema)]
pub struct Problem {
    /// The file as it was named.
    file: String,
    /// Counted from 1; absent when the whole file is meant.
    line: Option<u64>,
    /// Counted from 1.
    column: Option<u64>,
    /// Where in the document, like `services[0].routes[1].path`.
    path: String,
    /// What is wrong and how to mend it.
    message: String,
}

/// Decisions for services by name.
#[derive(ToSchema)]
pub struct Decisions {
    /// A service that is not named is decided by its policy alone.
    #[schema(required = false)]
    services: BTreeMap<String, ServiceDecisions>,
}

/// What is decided for a service.
#[derive(ToSchema)]
pub struct ServiceDecisions {
    /// The candidate's share in percent, instead of the policy's.
    #[schema(required = false)]
    weight: Option<f64>,
    /// The candidate that the weight is for; by default that of the policy in force.
    #[schema(required = false)]
    candidate: Option<String>,
    /// Degraded version to the version that takes its requests.
    #[schema(required = false)]
    degraded: BTreeMap<String, String>,
    /// Versions whose writes are refused.
    #[schema(required = false)]
    frozen: BTreeMap<String, Frozen>,
    /// Routes that answer 404.
    #[schema(required = false)]
    disabled_routes: BTreeSet<String>,
}

/// Refused writes.
#[derive(ToSchema)]
pub struct Frozen {
    /// Seconds after which clients may try again.
    #[schema(minimum = 1, maximum = 3600)]
    retry_after: u32,
}

/// The decision about a request, and why.
#[derive(ToSchema)]
pub struct Explanation {
    /// The decision in one word: `pass`, `route` or `refuse`.
    decision: String,
    /// The decision in one sentence.
    summary: String,
    /// The service, when a route matched.
    service: Option<String>,
    /// The route that matched.
    route: Option<String>,
    /// The version that serves the request.
    version: Option<String>,
    /// The Envoy cluster.
    cluster: Option<String>,
    /// Why this version, in the word of `x-ombre-decision`.
    reason: Option<String>,
    /// The status of a refusal.
    status: Option<u32>,
    /// What was seen, step by step.
    steps: Vec<Step>,
    /// The headers that are set or removed (`null`): pairs of name and value.
    headers: Vec<Vec<Option<String>>>,
}

/// One step of a decision.
#[derive(ToSchema)]
pub struct Step {
    /// What was looked at.
    name: String,
    /// What was found.
    found: String,
}

/// What a person can order.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Command {
    /// One step forward.
    Promote,
    /// Hold automation.
    Pause,
    /// Let automation go on; after an abort, return to what went before.
    Resume,
    /// Fail back now, and stay so until resumed.
    Rollback {
        /// Without waiting for freeze and drain: what was not drained is lost.
        force: bool,
    },
    /// Give the candidate this share, 0 to 100 percent, and keep it.
    SetWeight(u8),
    /// Lift the lock and forget the trips that led to it.
    Unlock,
}

/// Where a release stands.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Phase {
    /// It keeps its share.
    Stable,
    /// A breach was seen.
    Suspect,
    /// Writes to the candidate are refused.
    Freezing,
    /// The sync log is applied.
    Draining,
    /// The stable version serves all.
    FailedBack,
    /// Only the verification channel reaches the candidate.
    Verifying,
    /// The share rises step by step.
    Ramping,
    /// A fail-back was given up; a person decides.
    Aborted,
}

/// Which version takes the writes of the candidate's share.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum WriteOwner {
    /// The candidate.
    Candidate,
    /// Neither: they are refused with 503.
    Nobody,
    /// The fallback.
    Fallback,
}

/// A breaker: what it has seen, and whether it tries again.
#[derive(ToSchema)]
pub struct CircuitState {
    /// The cluster.
    cluster_name: String,
    /// Failed requests in a million.
    failure_rate: u32,
    /// Whether a few requests are let through to see.
    in_half_open: bool,
}

/// Whether traffic may be moved to a cluster.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Circuit {
    /// Yes.
    Closed,
    /// No.
    Open,
    /// As much as tells whether it recovered.
    HalfOpen,
}
