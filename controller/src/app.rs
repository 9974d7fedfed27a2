//! The HTTP API: its routes, and what all of them share.

pub mod decisions;
pub mod delivery;
pub mod events;
pub mod explain;
pub mod health;
pub mod host;
pub mod openapi;
pub mod policy;
pub mod services;
pub mod status;
pub mod sync_log;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::{Extension, Router};
use tokio::sync::watch;
use tower_http::validate_request::ValidateRequestHeaderLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::app::host::Hosts;
use crate::engine::Handle;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::publish::Publisher;

/// The largest body that is taken, in bytes.
pub const LARGEST_BODY: usize = 1 << 20;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    /// What is in force.
    pub publisher: Arc<Publisher>,
    /// Who polls.
    pub nodes: Arc<Nodes>,
    /// The release loop.
    pub engine: Handle,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How long a poll waits.
    pub patience: Duration,
    /// Whether whoever asks is on this machine.
    pub loopback: bool,
    /// When the controller was started.
    pub started: SystemTime,
    /// Becomes true when waiting polls are to end.
    pub stop: watch::Receiver<bool>,
}

/// The API.
pub fn router(app: App) -> Router {
    finished(openapi::routes(), app)
}

/// What of it is for pollers alone, and for who asks whether they can be served.
pub fn delivery_router(app: App) -> Router {
    finished(openapi::delivery_routes(), app)
}

/// With what every address has beside its routes.
fn finished(routes: OpenApiRouter<App>, app: App) -> Router {
    let (router, document) = routes.split_for_parts();
    let hosts = ValidateRequestHeaderLayer::custom(Hosts {
        local_only: app.loopback,
    });
    router
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take this method",
            )
        })
        // All in one, since each layer costs every poll that waits another box.
        .layer((
            hosts,
            DefaultBodyLimit::max(LARGEST_BODY),
            Extension(Arc::new(document)),
        ))
        .with_state(app)
}

#[cfg(test)]
mod tests;
