#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::load::load_text;

/// A policy whose `shop` has this default version and these blocks.
fn policy(rest: &str) -> Policy {
    let text = format!(
        "apiVersion: ombre/v1
services:
  - name: shop
    routes: [{{ name: shop, path: /shop }}]
    versions: [{{ name: v1, cluster: v1 }}, {{ name: v2, cluster: v2 }}, {{ name: v3, cluster: v3 }}]
    unit: [mint]
    {}
",
        rest.replace("; ", "\n    ")
    );
    load_text(&text).unwrap().policy
}

/// Decided while `v2` was released over `v1` with a weight of 10 by the policy.
fn released(decided: &str) -> Released {
    serde_json::from_str(&format!(
        r#"{{"services":{{"shop":{{
            "made_for":{{"candidate":"v2","stable":"v1","default":"v1","weight":10.0}},
            "decided":{decided}}}}}}}"#
    ))
    .unwrap()
}

fn under(released: &Released, policy: &Policy) -> String {
    let decisions = released.under(policy);
    let shop = decisions.services.get("shop");
    shop.map_or_else(String::new, |shop| serde_json::to_string(shop).unwrap())
}

const FAILED: &str = r#"{"weight":0.0,"degraded":{"v2":"v1"}}"#;
const FROZEN: &str = r#"{"weight":50.0,"frozen":{"v2":{"retry_after":30}}}"#;

/// With a release, and after its `degrade` block was taken out.
const CASES: [(&str, &str, bool, bool); 7] = [
    (
        "the same",
        "default: v1; rollout: { candidate: v2, weight: 10 }",
        true,
        true,
    ),
    (
        "weight",
        "default: v1; rollout: { candidate: v2, weight: 20 }",
        true,
        false,
    ),
    (
        "candidate",
        "default: v1; rollout: { candidate: v3, weight: 10 }",
        false,
        false,
    ),
    (
        "default",
        "default: v3; rollout: { candidate: v2, weight: 10 }",
        false,
        false,
    ),
    (
        "ramp",
        "default: v1; rollout: { candidate: v2, weight: 10, hold: 1s }",
        true,
        true,
    ),
    (
        "both",
        "default: v2; rollout: { candidate: v1, weight: 10 }",
        false,
        false,
    ),
    ("no rollout", "default: v1", false, false),
];

#[test]
fn a_decision_holds_for_what_it_was_made_for() {
    for (name, rest, with, without) in CASES {
        let expected = |holds| if holds { FAILED } else { "" };
        let released = released(FAILED);
        let bare = policy(rest);
        assert_eq!(under(&released, &bare), expected(without), "{name}");
        if name != "no rollout" {
            let judged = policy(&format!("{rest}; degrade: {{}}"));
            assert_eq!(under(&released, &judged), expected(with), "{name}, judged");
        }
    }
    let other =
        policy("default: v1; rollout: { candidate: v2, weight: 10 }; degrade: { fallback: v3 }");
    assert_eq!(under(&released(FAILED), &other), "", "fallback");
}

#[test]
fn the_policys_own_weight_is_not_said_again() {
    let same = policy("default: v1; rollout: { candidate: v2, weight: 10 }; degrade: {}");
    let edited = policy("default: v1; rollout: { candidate: v2, weight: 5 }; degrade: {}");
    let kept = r#"{"weight":10.0}"#;
    assert_eq!(under(&released(kept), &same), "{}");
    assert_eq!(under(&released(kept), &edited), kept);
}

#[test]
fn an_edit_of_what_nobody_decides_about_is_remembered() {
    for (name, rest, _, without) in CASES {
        let mut released = released(FAILED);
        released.forget_edited(&policy(rest));
        // Without a rollout nothing is decided, and nothing was edited that says otherwise.
        let kept = without || name == "no rollout";
        assert_eq!(!released.services.is_empty(), kept, "{name}");
    }
}

#[test]
fn a_freeze_ends_with_the_release_that_would_end_it() {
    let judged = policy("default: v1; rollout: { candidate: v2, weight: 10 }; degrade: {}");
    let bare = policy("default: v1; rollout: { candidate: v2, weight: 10 }");
    let cases = [
        ("not taken up yet", &judged, Released::default(), FROZEN),
        ("brought to its end", &bare, released(FROZEN), FROZEN),
        ("given up", &bare, Released::default(), r#"{"weight":50.0}"#),
        ("ended", &bare, released(FAILED), FAILED),
    ];
    for (name, policy, decided, expected) in cases {
        let mut held = released(FROZEN);
        held.take(decided, policy);
        assert_eq!(under(&held, policy), expected, "{name}");
    }
}
