//! Is it alive, may it be relied on, what did it count.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::app::openapi::Unavailable;
use crate::error::ApiError;

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
    let unready = |detail: String| Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    let view = app.publisher.view();
    if let Some(error) = view.state_error {
        return unready(error);
    }
    if let Some(error) = &app.engine.board().store_error {
        return unready(format!("releases cannot be kept and do not move: {error}"));
    }
    match (view.in_force, view.refusal) {
        (Some(_), _) => Ok("ready\n"),
        (None, None) => unready("the policy is being loaded".to_owned()),
        (None, Some(refusal)) => unready(format!("no policy is in force: {}", refusal.problems)),
    }
}

/// `GET /metrics`, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "health",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(app): State<App>) -> Response {
    let waiting = app.publisher.documents().waiting();
    let text = app.metrics.text(waiting, app.nodes.count());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
