//! One request: its headers are read once, decided, and what was decided is written. Nothing else of
//! a request is looked at; everything that Envoy does itself is left to it.

use ombre_policy::headers::HeaderMap;
use ombre_policy::verdict::{Edit, Refusal, Verdict};

use crate::host::{Exchange, Host};
use crate::metrics::Event;
use crate::worker::Worker;

/// Whether the request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// On to the upstream.
    Continue,
    /// It was answered here.
    Answered,
}

/// Decides the request that the worker's host is at.
pub fn on_request_headers<H: Host>(worker: &mut Worker<H>) -> Flow {
    let Worker {
        host,
        in_force,
        metrics,
        headers,
        ..
    } = worker;
    host.request_headers(headers);
    if headers.is_empty() {
        // Never seen. It goes to the stable cluster, which the listener has set before.
        metrics.event(host, Event::HeadersUnreadable);
        return Flow::Continue;
    }
    let verdict = in_force.decide(HeaderMap::new(headers), || host.entropy());
    for count in verdict.counts() {
        metrics.count(host, count);
    }
    match verdict {
        Verdict::Pass => Flow::Continue,
        Verdict::Route(mut routed) => {
            routed.write(|edit| match edit {
                Edit::Set(name, value) => host.set_request_header(name, value),
                Edit::Remove(name) => host.remove_request_header(name),
            });
            Flow::Continue
        }
        Verdict::Refuse(refusal) => {
            refuse(host, &refusal);
            Flow::Answered
        }
    }
}

fn refuse(host: &impl Exchange, refusal: &Refusal<'_>) {
    let retry_after = refusal.retry_after().map(|seconds| seconds.to_string());
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(
        retry_after
            .as_deref()
            .map(|seconds| ("retry-after", seconds)),
    );
    host.reply(refusal.status(), headers, refusal.body().as_bytes());
}

#[cfg(test)]
mod tests;
