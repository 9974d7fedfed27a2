//! `GET /v1/openapi.json`: what the API takes and answers. The document and the router are made of the
//! same list of handlers, so that neither has a route that the other lacks.

pub mod shapes;

use std::sync::Arc;

use axum::{Extension, Json};
use utoipa::openapi::OpenApi;
use utoipa::{IntoResponses, OpenApi as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{
    App, decisions, delivery, events, explain, health, policy, services, status, sync_log,
};
use crate::error::ErrorBody;

/// The head of the document.
#[derive(utoipa::OpenApi)]
#[openapi(
    components(schemas(ErrorBody)),
    info(
        title = "ombre",
        description = "Gray release behind Envoy. Times are Unix milliseconds unless they are texts (RFC 3339); revisions are numbers that rise. Every error is a problem of RFC 9457."
    )
)]
struct Head;

/// All handlers.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Head::openapi())
        .routes(routes!(delivery::poll))
        .routes(routes!(status::status))
        .routes(routes!(status::nodes))
        .routes(routes!(policy::get))
        .routes(routes!(decisions::get, decisions::put))
        .routes(routes!(services::list))
        .routes(routes!(services::clusters))
        .routes(routes!(services::one))
        .routes(routes!(services::order))
        .routes(routes!(sync_log::get, sync_log::post))
        .routes(routes!(services::history))
        .routes(routes!(events::stream))
        .routes(routes!(explain::explain))
        .routes(routes!(health::alive))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(document))
}

/// Those for pollers alone.
pub(super) fn delivery_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(delivery::poll))
        .routes(routes!(health::alive))
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", operation_id = "openapi", tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document(Extension(document): Extension<Arc<OpenApi>>) -> Json<OpenApi> {
    Json(OpenApi::clone(&document))
}

/// What was sent makes no sense.
#[derive(IntoResponses)]
#[response(status = 400, content_type = "application/problem+json")]
#[expect(dead_code, reason = "stands in the document alone")]
pub(super) struct Invalid(ErrorBody);

/// The client's certificate is another node's.
#[derive(IntoResponses)]
#[response(status = 403, content_type = "application/problem+json")]
#[expect(dead_code, reason = "stands in the document alone")]
pub(super) struct Strange(ErrorBody);

/// There is no such thing.
#[derive(IntoResponses)]
#[response(status = 404, content_type = "application/problem+json")]
#[expect(dead_code, reason = "stands in the document alone")]
pub(super) struct Missing(ErrorBody);

/// Not as things stand: there is no policy yet, or the release does not follow the order.
#[derive(IntoResponses)]
#[response(status = 409, content_type = "application/problem+json")]
#[expect(dead_code, reason = "stands in the document alone")]
pub(super) struct Conflict(ErrorBody);

/// The body is larger than 1 MiB.
#[derive(IntoResponses)]
#[response(status = 413, content_type = "application/problem+json")]
#[expect(dead_code, reason = "stands in the document alone")]
pub(super) struct TooLarge(ErrorBody);

/// Not now: it cannot be kept or read, or is not ready. Try again.
#[derive(IntoResponses)]
#[response(status = 503, content_type = "application/problem+json")]
#[expect(dead_code, reason = "stands in the document alone")]
pub(super) struct Unavailable(ErrorBody);

#[cfg(test)]
mod tests;
