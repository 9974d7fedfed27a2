//! Who decides when both the operator (`PUT /v1/decisions`) and a release say something:
//!
//! - weight of a released service: the release; people move it by their orders to the release;
//! - degraded versions: both hold, and where they contradict each other, the release, which has seen
//!   evidence; a version that an operator sent to a degraded one goes on to that one's fallback;
//! - frozen writes: both hold, the longer wait counts;
//! - disabled routes: the operator alone.

use ombre_policy::decisions::{Decisions, ServiceDecisions};
use ombre_policy::problem::Problem;

const SOURCE: &str = "decisions";

/// What is in force, and what of the operator's decisions is not.
pub fn merge(operator: &Decisions, released: &Decisions) -> (Decisions, Vec<Problem>) {
    let mut merged = operator.clone();
    let mut overruled = Vec::new();
    for (name, release) in &released.services {
        let service = merged.services.entry(name.clone()).or_default();
        let path = format!("services.{name}");
        for (field, why) in overrule(service, release) {
            let problem = Problem::of_file(SOURCE, why);
            let path = format!("{path}.{field}");
            overruled.push(Problem { path, ..problem });
        }
        for (version, frozen) in &release.frozen {
            let held = service.frozen.entry(version.clone()).or_insert(*frozen);
            held.retry_after = held.retry_after.max(frozen.retry_after);
        }
    }
    (merged, overruled)
}

/// Puts a release's weight and degraded versions over the operator's.
fn overrule(
    service: &mut ServiceDecisions,
    release: &ServiceDecisions,
) -> Vec<(String, &'static str)> {
    let mut overruled = Vec::new();
    let before = std::mem::replace(&mut service.weight, release.weight);
    service.candidate.clone_from(&release.candidate);
    if before.is_some() && before != service.weight {
        let why = "its release decides, or decided last; order it to a weight, or without a `degrade` block edit the policy's";
        overruled.push(("weight".to_owned(), why));
    }
    for (version, fallback) in &release.degraded {
        if service.degraded.remove(fallback).is_some() {
            let why = "a release has made this version the fallback of the one it was to go to";
            overruled.push((format!("degraded.{fallback}"), why));
        }
        for onward in service.degraded.values_mut() {
            if onward == version {
                onward.clone_from(fallback);
            }
        }
        service.degraded.insert(version.clone(), fallback.clone());
    }
    overruled
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(value: Value) -> Decisions {
        serde_json::from_value(json!({ "services": { "shop": value } })).unwrap()
    }

    #[test]
    fn who_decides() {
        let cases = [
            ("nothing", json!({}), json!({}), json!({}), 0),
            (
                "operator alone",
                json!({"degraded":{"v3":"v1"},"disabled_routes":["a"]}),
                json!({"weight":5.0}),
                json!({"weight":5.0,"degraded":{"v3":"v1"},"disabled_routes":["a"]}),
                0,
            ),
            (
                "weight",
                json!({"weight":50.0}),
                json!({"weight":5.0}),
                json!({"weight":5.0}),
                1,
            ),
            (
                "weight of the policy",
                json!({"weight":50.0}),
                json!({}),
                json!({}),
                1,
            ),
            (
                "both degrade",
                json!({"degraded":{"v3":"v1"}}),
                json!({"degraded":{"v2":"v1"}}),
                json!({"degraded":{"v2":"v1","v3":"v1"}}),
                0,
            ),
            (
                "onward",
                json!({"degraded":{"v3":"v2"}}),
                json!({"degraded":{"v2":"v1"}}),
                json!({"degraded":{"v2":"v1","v3":"v1"}}),
                0,
            ),
            (
                "contradiction",
                json!({"degraded":{"v1":"v2"}}),
                json!({"degraded":{"v2":"v1"}}),
                json!({"degraded":{"v2":"v1"}}),
                1,
            ),
            (
                "longer freeze",
                json!({"frozen":{"v2":{"retry_after":60}}}),
                json!({"frozen":{"v2":{"retry_after":5}}}),
                json!({"frozen":{"v2":{"retry_after":60}}}),
                0,
            ),
        ];
        for (name, operator, release, expected, problems) in cases {
            let (merged, overruled) = merge(&service(operator), &service(release));
            assert_eq!(merged, service(expected), "{name}");
            assert_eq!(overruled.len(), problems, "{name}");
        }
    }
}
