//! One request: its headers are read once, decided, and what was decided is written. Nothing else of
//! a request is looked at; everything that Envoy does itself is left to it.

use ombre_policy::headers::HeaderMap;

use crate::host::Host;
use crate::in_force::Verdict;
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

/// Decides the request that `host` is at.
pub fn on_request_headers<H: Host>(worker: &mut Worker<H>) -> Flow {
    let Worker {
        host,
        in_force,
        metrics,
        ..
    } = worker;
    let bytes = host.request_headers();
    if bytes.is_empty() {
        // Never seen. It goes to the stable cluster, which the listener has set before.
        metrics.event(host, Event::HeadersUnreadable);
        return Flow::Continue;
    }
    let verdict = in_force.decide(HeaderMap::new(&bytes), || host.entropy());
    for count in verdict.counts() {
        metrics.count(host, count);
    }
    match verdict {
        Verdict::Pass => Flow::Continue,
        Verdict::Route(routed) => {
            routed.write(|name, value| host.set_request_header(name, value));
            Flow::Continue
        }
        Verdict::Refuse(refusal) => {
            let headers = refusal.headers();
            let headers = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            host.reply(refusal.status(), headers, &refusal.body());
            Flow::Answered
        }
    }
}
