//! The HTTP API: its routes, and what all of them share.

pub mod decisions;
pub mod delivery;
pub mod events;
pub mod explain;
pub mod health;
pub mod host;
pub mod policy;
pub mod services;
pub mod status;
pub mod sync_log;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::watch;

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
    /// Whether it serves its own machine alone.
    pub loopback: bool,
    /// When the controller was started.
    pub started: SystemTime,
    /// Becomes true when waiting polls are to end.
    pub stop: watch::Receiver<bool>,
}

/// The API.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/delivery/{kind}", get(delivery::poll))
        .route("/v1/status", get(status::status))
        .route("/v1/nodes", get(status::nodes))
        .route("/v1/policy", get(policy::get))
        .route("/v1/decisions", get(decisions::get).put(decisions::put))
        .route("/v1/services", get(services::list))
        .route("/v1/clusters", get(services::clusters))
        .route("/v1/services/{service}", get(services::one))
        .route("/v1/services/{service}/orders", post(services::order))
        .route(
            "/v1/services/{service}/sync-log",
            get(sync_log::get).post(sync_log::post),
        )
        .route("/v1/history", get(services::history))
        .route("/v1/events", get(events::stream))
        .route("/v1/explain", post(explain::explain))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take this method",
            )
        })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn_with_state(app.clone(), host::check))
        .with_state(app)
}

#[cfg(test)]
mod tests;
