//! Is it alive, may it be relied on, what did it count.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::app::openapi::Unavailable;
use crate::clock::steady;
use crate::engine::Board;
use crate::error::ApiError;
use crate::metrics::Now;
use crate::nodes::Census;
use crate::publish::View;

/// `GET /healthz`: the process answers.
#[utoipa::path(get, path = "/healthz", operation_id = "alive", tag = "health",
    responses((status = 200, description = "the process answers", body = String, content_type = "text/plain")))]
pub async fn alive() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: a good policy is in force, and what must survive can be kept.
///
/// # Errors
/// 503 with the reason.
#[utoipa::path(get, path = "/readyz", operation_id = "ready", tag = "health",
    responses((status = 200, description = "a good policy is in force, and releases can be kept", body = String, content_type = "text/plain"), Unavailable))]
pub async fn ready(State(app): State<App>) -> Result<&'static str, ApiError> {
    match lacking(&app.publisher.view(), &app.engine.board()) {
        None => Ok("ready\n"),
        Some(detail) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail)),
    }
}

/// `GET /metrics`, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(app): State<App>) -> Response {
    let (view, board) = (app.publisher.view(), app.engine.board());
    let documents = app.publisher.documents();
    let newer_since = |kind, run| documents.newer_since(kind, run);
    let text = app.metrics.text(Now {
        at: app.engine.now(),
        ready: lacking(&view, &board).is_none(),
        refused: view.refusal.is_some(),
        polls_waiting: documents.waiting(),
        census: Census::of(&app.nodes.list(), steady(), newer_since),
        board,
    });
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// What is missing for it to be relied on.
fn lacking(view: &View, board: &Board) -> Option<String> {
    if let Some(error) = &view.state_error {
        return Some(error.clone());
    }
    if let Some(error) = &board.store_error {
        let detail = format!("releases cannot be kept and do not move: {error}");
        return Some(detail);
    }
    match (&view.in_force, &view.refusal) {
        (Some(_), _) => None,
        (None, None) => Some("the policy is being loaded".to_owned()),
        (None, Some(refusal)) => Some(format!("no policy is in force: {}", refusal.problems)),
    }
}
