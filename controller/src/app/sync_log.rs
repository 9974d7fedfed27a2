//! The sync log (§4.3): a candidate says which writes the stable version has yet to learn of.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::openapi::{Invalid, Missing, TooLarge, Unavailable};
use crate::app::services::{find, stored};
use crate::app::{App, decisions::rejected};
use crate::clock::wall;
use crate::error::ApiError;
use crate::store::{Backlog, Change};

const LONGEST_KEY: usize = 1024;

/// What became of a batch.
#[derive(Serialize, ToSchema)]
pub struct Taken {
    /// Changes that were newer than what was known of their keys.
    news: u64,
    /// Changes in all.
    received: usize,
}

/// `POST /v1/services/{service}/sync-log`: an array of changes, all of them on the disk when this
/// answers with 200. Sent again, they change nothing.
///
/// # Errors
/// 400 for what is no batch, 404 for what is not released, 413 above 1 MiB, 503 when it cannot be
/// kept: send it again then.
#[utoipa::path(post, path = "/v1/services/{service}/sync-log", operation_id = "post_sync_log", tag = "sync log",
    params(("service" = String, Path, description = "the service")),
    request_body = Vec<Change>,
    responses((status = 200, description = "all of it is on the disk", body = Taken), Invalid, Missing, TooLarge, Unavailable))]
pub async fn post(
    State(app): State<App>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Taken>, ApiError> {
    let body = body.map_err(|error| rejected(&error))?;
    let invalid = |detail: String| ApiError::new(StatusCode::BAD_REQUEST, detail);
    let batch: Vec<Change> = serde_json::from_slice(&body)
        .map_err(|error| invalid(format!("the body is not a batch of changes: {error}")))?;
    let release = find(&app, &name)?;
    if batch.is_empty() {
        return Err(invalid("the batch is empty: send a change".to_owned()));
    }
    for (number, change) in batch.iter().enumerate() {
        if (&change.src_ver, &change.dst_ver) != (&release.candidate, &release.stable) {
            let (from, to) = (&release.candidate, &release.stable);
            let detail = format!("[{number}]: the log goes from `{from}` to `{to}`");
            return Err(invalid(detail));
        }
        if change.pk.is_empty() || change.pk.len() > LONGEST_KEY {
            let detail = format!("[{number}].pk: has not 1 to {LONGEST_KEY} bytes");
            return Err(invalid(detail));
        }
    }
    let received = batch.len();
    let news = stored(&app, move |store| store.log(&name, &batch, wall())).await?;
    let begun = || {
        let detail = "another release has just begun: send it again to learn which";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    };
    let news = news.ok_or_else(begun)?;
    Ok(Json(Taken { news, received }))
}

/// `GET /v1/services/{service}/sync-log`: how much of it waits, and since when.
///
/// # Errors
/// 404 for what is not released, 503 when the store cannot be read.
#[utoipa::path(get, path = "/v1/services/{service}/sync-log", operation_id = "sync_log", tag = "sync log",
    params(("service" = String, Path, description = "the service")),
    responses((status = 200, description = "how much waits", body = Backlog), Missing, Unavailable))]
pub async fn get(
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Backlog>, ApiError> {
    find(&app, &name)?;
    Ok(Json(stored(&app, move |store| store.backlog(&name)).await?))
}
