//! What the loop tells whoever listens. Evidence, which comes at every tick, has a channel of its own:
//! who falls behind loses no transition and no alert by it.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// News that a slow listener may be behind.
const BEHIND: usize = 1024;

/// Something that listeners hear of.
#[derive(Clone, Debug)]
pub struct News {
    /// The kind: `breaker`, `evidence`, or that of a history entry.
    pub kind: String,
    /// What it is about. Its kind is in it, for those who see nothing else, except in evidence, which is
    /// recorded as it is and simulated from.
    pub data: Value,
}

/// Both channels. Nobody has to listen.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    events: Sender<Arc<News>>,
    evidence: Sender<Arc<News>>,
}

impl News {
    /// Of any kind but evidence.
    pub(crate) fn event(kind: &str, mut data: Value) -> Self {
        if let Value::Object(fields) = &mut data {
            fields.insert("kind".to_owned(), kind.into());
        }
        let kind = kind.to_owned();
        Self { kind, data }
    }
}

impl Wire {
    /// With room for so much that a listener has not heard yet.
    pub(crate) fn with_room(room: usize) -> Self {
        let ((events, _), (evidence, _)) = (channel(room), channel(room));
        Self { events, evidence }
    }

    /// Tells an event.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.events.send(Arc::new(news));
    }

    /// Tells what was counted, if anybody listens; only then is it put together.
    pub(crate) fn tell_evidence(&self, data: impl FnOnce() -> Value) {
        if self.evidence.receiver_count() > 0 {
            let kind = "evidence".to_owned();
            let data = data();
            let _ = self.evidence.send(Arc::new(News { kind, data }));
        }
    }

    /// Everything but evidence, from now on.
    pub(crate) fn events(&self) -> Receiver<Arc<News>> {
        self.events.subscribe()
    }

    /// Evidence, from now on.
    pub(crate) fn evidence(&self) -> Receiver<Arc<News>> {
        self.evidence.subscribe()
    }

    /// How many listen to events.
    #[cfg(test)]
    pub(crate) fn listeners(&self) -> usize {
        self.events.receiver_count()
    }
}

impl Default for Wire {
    fn default() -> Self {
        Self::with_room(BEHIND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn evidence_drives_nothing_out_of_a_slow_listeners_queue() {
        let wire = Wire::default();
        let (mut events, evidence) = (wire.events(), wire.evidence());
        wire.tell(News::event("transition", json!({ "id": 1 })));
        // A delivery to a webhook that hangs takes up to 90 s: so much of a dozen services, twice.
        for at in 0..2 * 90 * 12 {
            wire.tell_evidence(|| json!({ "at": at }));
        }
        wire.tell(News::event("alert", json!({ "id": 2 })));
        let heard = [(); 2].map(|()| events.try_recv().unwrap().kind.clone());
        assert_eq!(heard, ["transition", "alert"]);
        assert!(events.is_empty(), "no evidence");
        assert_eq!(evidence.len(), 2 * 90 * 12);
    }

    #[test]
    fn an_event_says_of_what_kind_it_is() {
        let breaker = News::event("breaker", json!({ "cluster_name": "canary" }));
        let expected = json!({ "kind": "breaker", "cluster_name": "canary" });
        assert_eq!(breaker.data, expected);
    }
}
