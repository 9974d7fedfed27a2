//! `POST /v1/explain`: where a request would go now, and why.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use ombre_policy::document::Kind;
use ombre_policy::explain::{Explanation, Question, explain as ask};
use ombre_policy::in_force::{InForce, NotTaken};
use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use crate::app::openapi::{Conflict, Invalid, TooLarge, shapes};
use crate::app::{App, decisions::rejected};
use crate::error::ApiError;
use crate::explain::request::Request;

/// The explanation, in both of its forms.
#[derive(Serialize, ToSchema)]
pub struct Answer {
    text: String,
    #[schema(value_type = shapes::Explanation)]
    explanation: Explanation,
}

/// `POST /v1/explain`.
///
/// # Errors
/// 400 when the request makes no sense, 409 when there has been no good policy yet.
#[utoipa::path(post, path = "/v1/explain", operation_id = "explain", tag = "policy",
    request_body = Request,
    responses((status = 200, description = "where it would go, and why", body = Answer), Invalid, Conflict, TooLarge))]
pub async fn explain(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answer>, ApiError> {
    let body = body.map_err(|error| rejected(&error))?;
    let invalid = |detail: String| ApiError::new(StatusCode::BAD_REQUEST, detail);
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body is not a request: {error}")))?;
    let question = request
        .question()
        .map_err(|error| invalid(error.to_string()))?;
    let news = app.publisher.documents().subscribe(Kind::Policy);
    let document = news.borrow().clone().ok_or_else(ApiError::no_policy)?;
    let explanation = spawn_blocking(move || answer(&document.bytes, &question))
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))?;
    Ok(Json(Answer {
        text: explanation.to_string(),
        explanation,
    }))
}

/// Takes the very bytes that the filters take. The policy document is the one with everything in
/// it: it is sealed anew whenever decisions change.
fn answer(document: &[u8], question: &Question) -> Result<Explanation, NotTaken> {
    let mut in_force = InForce::default();
    in_force.take(document)?;
    Ok(ask(&mut in_force, question))
}
