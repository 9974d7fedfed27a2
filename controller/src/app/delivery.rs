//! The long poll by which documents reach the filters: answered at once when there is something
//! newer, else when there is, else with 304 after half a minute.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ombre_policy::document::{Kind, Revision};
use ombre_tls::Names;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, warn};

use crate::app::App;
use crate::app::openapi::{Invalid, Missing, Strange, shapes};
use crate::clock::steady;
use crate::documents::Published;
use crate::error::ApiError;
use crate::metrics::Poll;
use crate::nodes::{Identity, Waiting};

/// How long a poll waits for news. The poller itself gives up after 45 s.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A revision ahead of ours is only believed up to here (in the year 287396): publishing above
/// the largest number there is would end publishing.
const LARGEST_AHEAD: Revision = Revision::new(1 << 53);

/// `GET /v1/delivery/{policy|decisions}?after=<revision>`.
///
/// # Errors
/// 404 for another document, 403 when the client's certificate is not that of the node that it names, 400
/// for an `after` that is not a revision.
#[utoipa::path(get, path = "/v1/delivery/{kind}", operation_id = "poll", tag = "delivery",
    params(("kind" = String, Path, description = "`policy` or `decisions`"), ("after" = Option<u64>, Query, description = "the revision that is there already; 0 when it is left out")),
    responses((status = 200, description = "a document that is newer", body = inline(shapes::Document), content_type = "application/octet-stream", headers(("x-ombre-revision" = u64, description = "its revision"))), (status = 304, description = "nothing newer within half a minute"), Invalid, Strange, Missing))]
pub fn poll(
    State(app): State<App>,
    Path(kind): Path<String>,
    RawQuery(query): RawQuery,
    names: Option<Extension<Arc<Names>>>,
    headers: HeaderMap,
) -> impl Future<Output = Result<Response, ApiError>> + Send {
    // No `async fn`: it would keep all that it is called with for as long as the poll waits.
    let names = names.as_deref().map(Arc::as_ref);
    let asked = asked(
        &app,
        &kind,
        query.as_deref().unwrap_or_default(),
        names,
        &headers,
    );
    async move {
        let (kind, after, waiting) = asked?;
        let document = wait(&app, kind, after).await;
        // When the client goes away first, this is never reached.
        if let Some(waiting) = waiting {
            waiting.answered();
        }
        match document {
            Some(document) => {
                app.metrics.poll(kind, Poll::Delivered);
                Ok(answer(document))
            }
            None => {
                app.metrics.poll(kind, Poll::NothingNew);
                Ok(StatusCode::NOT_MODIFIED.into_response())
            }
        }
    }
}

/// Which document is asked for, what the client has of it, and that it waits.
fn asked(
    app: &App,
    kind: &str,
    query: &str,
    names: Option<&Names>,
    headers: &HeaderMap,
) -> Result<(Kind, Revision, Option<Waiting>), ApiError> {
    let kind = [Kind::Policy, Kind::Decisions]
        .into_iter()
        .find(|known| known.name() == kind)
        .ok_or_else(|| {
            let detail = "no such document; there are `policy` and `decisions`";
            ApiError::new(StatusCode::NOT_FOUND, detail)
        })?;
    if let Some(names) = names
        && let Err(refusal) = is_named_by(names, headers)
    {
        app.metrics.poll(kind, Poll::Refused);
        return Err(refusal);
    }
    let after = after(query)?;
    let ours = app.publisher.documents().revision(kind).unwrap_or_default();
    if after > ours.max(LARGEST_AHEAD) {
        let detail = format!(
            "`after` is ahead of anything that was published here, and above {LARGEST_AHEAD}"
        );
        return Err(ApiError::new(StatusCode::BAD_REQUEST, detail));
    }
    app.nodes.polled(headers, kind, after, steady());
    let waiting = Waiting::begin(&app.nodes, headers);
    Ok((kind, after, waiting))
}

/// Whether the poll is of a node that the client's certificate names.
fn is_named_by(names: &Names, headers: &HeaderMap) -> Result<(), ApiError> {
    let identity = Identity::of(headers);
    let node = identity.as_ref().map_or("", |identity| &identity.name);
    if names.allow(node) {
        return Ok(());
    }
    warn!(node, %names, "poll refused: the certificate is not this node's");
    let detail = format!(
        "node `{node}` is not what the client certificate is for, {names}; set `node.id` to one of them"
    );
    Err(ApiError::new(StatusCode::FORBIDDEN, detail))
}

async fn wait(app: &App, kind: Kind, after: Revision) -> Option<Published> {
    let mut news = app.publisher.documents().subscribe(kind);
    let mut stop = app.stop.clone();
    let mut found = async || {
        loop {
            let current = news.borrow_and_update().clone();
            match current {
                Some(document) if document.revision > after => return Some(document),
                Some(document) if document.revision < after => {
                    let publisher = app.publisher.clone();
                    let raise = move || publisher.publish_above(kind, after);
                    if let Err(error) = spawn_blocking(raise).await {
                        error!(%error, "publishing failed unexpectedly");
                        return None;
                    }
                    // It is there already, so that there may be no further news.
                    if app.publisher.documents().revision(kind) > Some(after) {
                        continue;
                    }
                }
                Some(_) | None => {}
            }
            news.changed().await.ok()?;
        }
    };
    tokio::select! {
        found = timeout(patience(app.patience), found()) => found.ok().flatten(),
        _ = stop.wait_for(|stop| *stop) => None,
    }
}

fn answer(document: Published) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE.as_str(),
            "application/octet-stream".to_owned(),
        ),
        ("x-ombre-revision", document.revision.to_string()),
    ];
    (headers, document.bytes).into_response()
}

/// `after=<number>`; without it, zero: everything is newer.
fn after(query: &str) -> Result<Revision, ApiError> {
    let mut revision = Revision::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let number = pair
            .strip_prefix("after=")
            .and_then(|text| text.parse().ok());
        revision = Revision::new(number.ok_or_else(|| {
            let detail = "the query takes `after=<revision>`, a number, and nothing else";
            ApiError::new(StatusCode::BAD_REQUEST, detail)
        })?);
    }
    Ok(revision)
}

/// Up to a tenth shorter, at random, so that polls that began together do not stay together.
fn patience(longest: Duration) -> Duration {
    let random = RandomState::new().hash_one(0_u8) % 1000;
    let share = u32::try_from(random).unwrap_or_default();
    longest - longest / 10 * share / 1000
}

#[cfg(test)]
mod tests;
