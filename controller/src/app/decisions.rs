//! `GET` and `PUT /v1/decisions`: weights, degraded versions, frozen writes and disabled routes,
//! by names. A PUT replaces all of them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use ombre_policy::decisions::Decisions;
use ombre_policy::document::Revision;
use ombre_policy::problem::Problem;
use serde::Serialize;
use tokio::task::spawn_blocking;
use tracing::info;
use utoipa::ToSchema;

use crate::app::openapi::{Conflict, Invalid, TooLarge, Unavailable, shapes};
use crate::app::{App, LARGEST_BODY};
use crate::error::ApiError;

/// Decisions as they are in force.
#[derive(Serialize, ToSchema)]
pub struct InForce {
    #[schema(value_type = u64)]
    revision: Revision,
    #[schema(value_type = u64)]
    policy_revision: Revision,
    #[schema(value_type = shapes::Decisions)]
    decisions: Decisions,
    /// What the releases decided; where both say something, see `publish::merge`.
    #[schema(value_type = shapes::Decisions)]
    released: Decisions,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<shapes::Problem>, required = false)]
    without_effect: Vec<Problem>,
}

/// `GET /v1/decisions`.
///
/// # Errors
/// 409 when there has been no good policy yet.
#[utoipa::path(get, path = "/v1/decisions", operation_id = "decisions", tag = "policy",
    responses((status = 200, description = "the decisions in force", body = InForce), Conflict))]
pub async fn get(State(app): State<App>) -> Result<Json<InForce>, ApiError> {
    let now = app.publisher.view().in_force;
    let now = now.ok_or_else(ApiError::no_policy)?;
    Ok(Json(InForce {
        revision: now.decisions_revision,
        policy_revision: now.revision,
        decisions: (*now.decisions).clone(),
        released: now.released(),
        without_effect: now.without_effect.to_vec(),
    }))
}

/// `PUT /v1/decisions`: stored, then published, then answered.
///
/// # Errors
/// 400 with every problem, 409 without a policy, 413 above 1 MiB, 503 when they cannot be stored.
#[utoipa::path(put, path = "/v1/decisions", operation_id = "put_decisions", tag = "policy",
    request_body = shapes::Decisions,
    responses((status = 200, description = "they are stored and in force", body = InForce), Invalid, Conflict, TooLarge, Unavailable))]
pub async fn put(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InForce>, ApiError> {
    let body = body.map_err(|error| rejected(&error))?;
    let decisions: Decisions = serde_json::from_slice(&body).map_err(|error| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not decisions: {error}"),
        )
    })?;
    let publisher = app.publisher.clone();
    let revision = spawn_blocking(move || publisher.put_decisions(decisions))
        .await
        .map_err(|error| ApiError::internal(&error))??;
    info!(%revision, "decisions published");
    get(State(app)).await
}

/// A body that did not come, or is too large.
pub(super) fn rejected(error: &BytesRejection) -> ApiError {
    let status = error.status();
    let detail = match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            format!("the body is larger than {LARGEST_BODY} bytes; send less at once")
        }
        _ => format!("the body could not be read: {error}"),
    };
    ApiError::new(status, detail)
}
