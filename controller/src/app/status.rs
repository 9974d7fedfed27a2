//! `GET /v1/status` and `GET /v1/nodes`: what is in force, what went wrong last, who runs what.

use axum::Json;
use axum::extract::State;
use ombre_policy::document::Revision;
use ombre_policy::problem::Problem;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::app::openapi::shapes;
use crate::nodes::Node;
use crate::publish::{InForce, Refusal};
use crate::timestamp;

/// The whole picture.
#[derive(Serialize, ToSchema)]
pub struct Status {
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    ready: bool,
    policy: Option<PolicyStatus>,
    decisions: Option<DecisionsStatus>,
    last_error: Option<LastError>,
    state_error: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Serialize, ToSchema)]
struct PolicyStatus {
    files: Vec<String>,
    #[schema(value_type = u64)]
    revision: Revision,
    loaded_at: String,
    routes: usize,
    services: Vec<Service>,
    #[schema(value_type = Vec<shapes::Problem>)]
    warnings: Vec<Problem>,
}

#[derive(Serialize, ToSchema)]
struct Service {
    name: String,
    versions: Vec<String>,
}

#[derive(Serialize, ToSchema)]
struct DecisionsStatus {
    #[schema(value_type = u64)]
    revision: Revision,
    #[schema(value_type = Vec<shapes::Problem>)]
    without_effect: Vec<Problem>,
}

/// Why the newest files are not in force: the first problem in full, all of them in a list.
#[derive(Serialize, ToSchema)]
struct LastError {
    file: String,
    place: String,
    message: String,
    since: String,
    #[schema(value_type = Vec<shapes::Problem>)]
    problems: Vec<Problem>,
}

/// The Envoys that polled.
#[derive(Serialize, ToSchema)]
pub struct NodeList {
    nodes: Vec<Node>,
}

/// `GET /v1/status`.
#[utoipa::path(get, path = "/v1/status", operation_id = "status", tag = "status",
    responses((status = 200, description = "what is in force, and what went wrong last", body = Status)))]
pub async fn status(State(app): State<App>) -> Json<Status> {
    let view = app.publisher.view();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        started_at: timestamp::text(app.started),
        uptime_seconds: app.started.elapsed().map_or(0, |time| time.as_secs()),
        ready: view.is_ready(),
        policy: view.in_force.as_ref().map(PolicyStatus::new),
        decisions: view.in_force.as_ref().map(|now| DecisionsStatus {
            revision: now.decisions_revision,
            without_effect: now.without_effect.to_vec(),
        }),
        last_error: view.refusal.as_ref().and_then(LastError::new),
        state_error: view.state_error,
        nodes: app.nodes.list(),
    })
}

/// `GET /v1/nodes`.
#[utoipa::path(get, path = "/v1/nodes", operation_id = "nodes", tag = "status",
    responses((status = 200, description = "who runs what", body = NodeList)))]
pub async fn nodes(State(app): State<App>) -> Json<NodeList> {
    let nodes = app.nodes.list();
    Json(NodeList { nodes })
}

impl PolicyStatus {
    fn new(now: &InForce) -> Self {
        let policy = &now.compiled.policy;
        let services = policy.services().map(|(name, versions)| Service {
            name: name.to_owned(),
            versions: versions.into_iter().map(str::to_owned).collect(),
        });
        let files = now.compiled.sources.iter();
        Self {
            files: files.map(|file| file.name.clone()).collect(),
            revision: now.revision,
            loaded_at: timestamp::text(now.loaded_at),
            routes: policy.size().2,
            services: services.collect(),
            warnings: now.compiled.warnings.clone(),
        }
    }
}

impl LastError {
    fn new(refusal: &Refusal) -> Option<Self> {
        let first = refusal.problems.iter().next()?;
        Some(Self {
            file: first.file.clone(),
            place: place(first),
            message: first.message.clone(),
            since: timestamp::text(refusal.since),
            problems: refusal.problems.iter().cloned().collect(),
        })
    }
}

/// `12:9: services[0].name`, as much of it as is known.
fn place(problem: &Problem) -> String {
    let numbers = [problem.line, problem.column].into_iter().flatten();
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    let parts = [numbers.join(":"), problem.path.clone()];
    let known: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    known.join(": ")
}
