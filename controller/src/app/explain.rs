//! `POST /v1/explain`: where a request would go now, and why.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use ombre_policy::explain::Explanation;
use serde::Serialize;

use crate::app::{App, decisions::rejected};
use crate::error::ApiError;
use crate::explain::answer;
use crate::explain::request::Request;

/// The explanation, in both of its forms.
#[derive(Serialize)]
pub struct Answer {
    text: String,
    explanation: Explanation,
}

/// `POST /v1/explain`.
///
/// # Errors
/// 400 when the request makes no sense, 409 when there has been no good policy yet.
pub async fn explain(
    State(app): State<App>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answer>, ApiError> {
    let body = body.map_err(|error| rejected(&error))?;
    let invalid = |detail: String| ApiError::new(StatusCode::BAD_REQUEST, detail);
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body is not a request: {error}")))?;
    let headers = request
        .encode()
        .map_err(|error| invalid(error.to_string()))?;
    let now = app.publisher.view().in_force;
    let now = now.ok_or_else(ApiError::no_policy)?;
    let explanation = answer(&now.compiled, &now.table, &headers);
    Ok(Json(Answer {
        text: explanation.to_string(),
        explanation,
    }))
}
