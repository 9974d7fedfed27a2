//! Releases for people: how they stand, what happened, and orders, each with who and why.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use ombre_policy::release::machine::{Command, Order};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

use crate::app::openapi::{Conflict, Invalid, Missing, TooLarge, Unavailable, shapes};
use crate::app::{App, decisions::rejected};
use crate::engine::{Board, ClusterView, OrderError, ServiceView};
use crate::error::ApiError;
use crate::metrics::Ordered;
use crate::store::{self, Backlog, Entry, Store, StoreError};

const LONGEST_ACTOR: usize = 200;
const LONGEST_REASON: usize = 2000;
const MOST_ENTRIES: u32 = 1000;

/// One release in full.
#[derive(Serialize, ToSchema)]
pub struct Detail {
    #[serde(flatten)]
    release: ServiceView,
    sync_log: Backlog,
}

/// What happened, newest first.
#[derive(Serialize, ToSchema)]
pub struct History {
    entries: Vec<Entry>,
}

/// All clusters of the policy in force.
#[derive(Serialize, ToSchema)]
pub struct Clusters {
    clusters: Vec<ClusterView>,
}

/// What a person orders.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderBody {
    /// What to do: `"promote"`, `"pause"`, `"resume"`, `{"rollback": {"force": false}}`,
    /// `{"set_weight": 25}`, `"unlock"`.
    #[schema(value_type = shapes::Command)]
    pub command: Command,
    /// Who says so.
    pub actor: String,
    /// Why.
    pub reason: String,
}

/// `?service=&before=&limit=`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Of this service alone.
    service: Option<String>,
    /// Older than the entry of this number.
    before: Option<u64>,
    /// So many at most; 100 when it is left out, 1000 at most.
    limit: Option<u32>,
}

/// `GET /v1/services`.
#[utoipa::path(get, path = "/v1/services", operation_id = "services", tag = "releases",
    responses((status = 200, description = "all releases", body = Board)))]
pub async fn list(State(app): State<App>) -> Json<Board> {
    Json((*app.engine.board()).clone())
}

/// `GET /v1/clusters`: the breakers.
#[utoipa::path(get, path = "/v1/clusters", operation_id = "clusters", tag = "releases",
    responses((status = 200, description = "all breakers", body = Clusters)))]
pub async fn clusters(State(app): State<App>) -> Json<Clusters> {
    let clusters = app.engine.board().clusters.clone();
    Json(Clusters { clusters })
}

/// `GET /v1/services/{service}`.
///
/// # Errors
/// 404 for what is not released, 503 when the store cannot be read.
#[utoipa::path(get, path = "/v1/services/{service}", operation_id = "service", tag = "releases",
    params(("service" = String, Path, description = "the service")),
    responses((status = 200, description = "one release", body = Detail), Missing, Unavailable))]
pub async fn one(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Detail>, ApiError> {
    let release = find(&app, &name)?;
    let sync_log = stored(&app, move |store| store.backlog(&name)).await?;
    Ok(Json(Detail { release, sync_log }))
}

/// `POST /v1/services/{service}/orders`: kept, then followed, then answered.
///
/// # Errors
/// 400 for what is no order, 404 for what is not released, 409 with the reason why the release does
/// not follow it, 503 when it cannot be kept.
#[utoipa::path(post, path = "/v1/services/{service}/orders", operation_id = "order", tag = "releases",
    params(("service" = String, Path, description = "the service")),
    request_body = OrderBody,
    responses((status = 200, description = "followed: how it stands now", body = ServiceView), Invalid, Missing, Conflict, TooLarge, Unavailable))]
pub async fn order(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ServiceView>, ApiError> {
    let body = body.map_err(|error| rejected(&error))?;
    let invalid = |detail: String| ApiError::new(StatusCode::BAD_REQUEST, detail);
    let OrderBody {
        command,
        actor,
        reason,
    } = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body is not an order: {error}")))?;
    for (field, text, longest) in [
        ("actor", &actor, LONGEST_ACTOR),
        ("reason", &reason, LONGEST_REASON),
    ] {
        if text.trim().is_empty() || text.len() > longest {
            let detail = format!("`{field}` must have 1 to {longest} bytes: it is kept");
            return Err(invalid(detail));
        }
    }
    let order = Order {
        command,
        actor,
        reason,
    };
    let ordered = app.engine.order(name.clone(), order).await;
    app.metrics.order(command, Ordered::from(&ordered));
    ordered?;
    Ok(Json(find(&app, &name)?))
}

/// `GET /v1/history?service=&before=&limit=`.
///
/// # Errors
/// 400 for another query, 503 when the store cannot be read.
#[utoipa::path(get, path = "/v1/history", operation_id = "history", tag = "releases",
    params(Part),
    responses((status = 200, description = "newest first", body = History), Invalid, Unavailable))]
pub async fn history(
    State(app): State<App>,
    query: Result<Query<Part>, QueryRejection>,
) -> Result<Json<History>, ApiError> {
    let Query(part) =
        query.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let query = store::Query {
        service: part.service,
        before: part.before,
        limit: part.limit.unwrap_or(100).min(MOST_ENTRIES),
    };
    let entries = stored(&app, move |store| store.history(&query)).await?;
    Ok(Json(History { entries }))
}

/// A release of this name.
pub(super) fn find(app: &App, name: &str) -> Result<ServiceView, ApiError> {
    let board = app.engine.board();
    let found = board.services.iter().find(|view| view.service == name);
    found
        .cloned()
        .ok_or_else(|| OrderError::NoRelease(name.to_owned()).into())
}

/// Runs something that blocks on the store.
pub(super) async fn stored<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let unavailable = |detail: String| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    let store = app.engine.store();
    let store = store.ok_or_else(|| unavailable(OrderError::Stopped.to_string()))?;
    spawn_blocking(move || work(&store))
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| {
            app.metrics.store_failed();
            unavailable(error.to_string())
        })
}
