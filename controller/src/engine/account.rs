//! What the history says of a step: what happened, and everything that led to it.

use ombre_policy::duration::Moment;
use ombre_policy::release::machine::{Action, Event, Order, Refusal, Release};
use serde_json::{Value, json};

use super::service::Service;
use crate::store::{Kind, NewEntry};

/// One entry for an order, one for each transition and alert; none for a step that is neither.
pub(super) fn entries(
    service: &Service,
    event: &Event,
    after: &Release,
    actions: &[Action],
    at: Moment,
) -> Vec<NewEntry> {
    let order = match event {
        Event::Operator(order) => Some(by(order)),
        _ => None,
    };
    let entry = |kind, detail: Value| NewEntry {
        at,
        kind,
        order: order.clone(),
        detail,
    };
    let mut entries = Vec::new();
    if let Event::Operator(order) = event {
        let refusal = actions.iter().find_map(|action| match action {
            Action::Refuse(refusal) => Some(*refusal),
            _ => None,
        });
        entries.push(match refusal {
            None => entry(Kind::Order, json!({ "command": order.command })),
            Some(refusal) => refused(order, refusal, at),
        });
    }
    for action in actions {
        match action {
            Action::Notify(transition) => entries.push(entry(
                Kind::Transition,
                json!({
                    "transition": transition,
                    "event": event,
                    "state": after,
                    "judgement": service.judgement,
                }),
            )),
            Action::Alert(alert) => entries.push(entry(
                Kind::Alert,
                json!({ "alert": alert, "state": after, "judgement": service.judgement }),
            )),
            _ => {}
        }
    }
    entries
}

/// The entry for an order that is not followed.
pub(super) fn refused(order: &Order, refusal: Refusal, at: Moment) -> NewEntry {
    let text = refusal.to_string();
    NewEntry {
        at,
        kind: Kind::Refused,
        order: Some(by(order)),
        detail: json!({ "command": order.command, "refusal": refusal, "text": text }),
    }
}

fn by(order: &Order) -> (String, String) {
    (order.actor.clone(), order.reason.clone())
}
