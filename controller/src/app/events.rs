//! `GET /v1/events`: everything that happens to releases, as server-sent events while it happens.
//! A reader that falls behind is told how much it missed; the history has it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::app::App;
use crate::engine::News;

/// `GET /v1/events`.
#[utoipa::path(get, path = "/v1/events", operation_id = "events", tag = "releases",
    responses((status = 200, description = "events named `begun`, `transition`, `alert`, `order`, `refused`, `breaker`, `evidence`, and `missed` with a number for a reader that fell behind", body = String, content_type = "text/event-stream")))]
pub async fn stream(State(app): State<App>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let state = (app.engine.news(), app.engine.evidence(), app.stop.clone());
    let events = unfold(state, async |(mut news, mut evidence, mut stop)| {
        let event = next(&mut news, &mut evidence, &mut stop).await?;
        Some((Ok(event), (news, evidence, stop)))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

async fn next(
    news: &mut Receiver<Arc<News>>,
    evidence: &mut Receiver<Arc<News>>,
    stop: &mut watch::Receiver<bool>,
) -> Option<Event> {
    let received = tokio::select! {
        // What happened comes before what was counted, so that no end cuts it off.
        biased;
        received = news.recv() => received,
        received = evidence.recv() => received,
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    match received {
        Ok(news) => Some(
            Event::default()
                .event(&news.kind)
                .data(news.data.to_string()),
        ),
        Err(RecvError::Lagged(missed)) => {
            Some(Event::default().event("missed").data(missed.to_string()))
        }
        Err(RecvError::Closed) => None,
    }
}
