//! How the API says that it could not do what was asked: one type, one shape (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ombre_policy::problem::{Problem, Problems};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::openapi::shapes;
use crate::engine::OrderError;
use crate::publish::DecisionsError;

/// An answer that is an error.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    detail: String,
    problems: Vec<Problem>,
}

/// The JSON of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// All of it, where there are several places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<shapes::Problem>, required = false)]
    problems: Vec<Problem>,
}

impl ApiError {
    /// An error with one sentence about what to do.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            problems: Vec::new(),
        }
    }

    /// What was sent is wrong in these places.
    pub fn invalid(detail: impl Into<String>, problems: &Problems) -> Self {
        Self {
            problems: problems.iter().cloned().collect(),
            ..Self::new(StatusCode::BAD_REQUEST, detail)
        }
    }

    /// A policy is needed and there has been none yet.
    pub fn no_policy() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "no policy is in force yet; /v1/status says why",
        )
    }

    /// Something that should not happen; the log says more.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "request failed unexpectedly");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed unexpectedly; the log says more",
        )
    }
}

impl From<OrderError> for ApiError {
    fn from(error: OrderError) -> Self {
        let status = match error {
            OrderError::NoRelease(_) => StatusCode::NOT_FOUND,
            OrderError::Refused(_) => StatusCode::CONFLICT,
            OrderError::Store(_) | OrderError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<DecisionsError> for ApiError {
    fn from(error: DecisionsError) -> Self {
        match error {
            DecisionsError::NoPolicy => Self::no_policy(),
            DecisionsError::Invalid(ref problems) => Self::invalid(error.to_string(), problems),
            DecisionsError::State(state) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the decisions cannot be stored and are not in force: {state}"),
            ),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            title: self.status.canonical_reason().unwrap_or("error"),
            status: self.status.as_u16(),
            detail: self.detail,
            problems: self.problems,
        };
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        response
    }
}
