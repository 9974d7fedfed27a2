//! `GET /v1/policy`: the policy in force, as it was written.

use axum::Json;
use axum::extract::State;
use ombre_policy::document::Revision;
use serde::Serialize;

use crate::app::App;
use crate::error::ApiError;
use crate::timestamp;

/// The files of the policy in force. What they refer to is left out: it may be a token.
#[derive(Serialize)]
pub struct PolicyText {
    revision: Revision,
    loaded_at: String,
    files: Vec<File>,
}

#[derive(Serialize)]
struct File {
    name: String,
    text: String,
}

/// `GET /v1/policy`.
///
/// # Errors
/// 409 when there has been no good policy yet.
pub async fn get(State(app): State<App>) -> Result<Json<PolicyText>, ApiError> {
    let now = app.publisher.view().in_force;
    let now = now.ok_or_else(ApiError::no_policy)?;
    let files = now.compiled.sources.iter().map(|source| File {
        name: source.name.clone(),
        text: source.text.clone(),
    });
    Ok(Json(PolicyText {
        revision: now.revision,
        loaded_at: timestamp::text(now.loaded_at),
        files: files.collect(),
    }))
}
