//! The compiled plan against a naive interpreter of the same policy: random policies, random
//! requests, and for each of them the same answer. Native only, for proptest.
#![cfg(not(target_arch = "wasm32"))]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must stop"
)]

#[path = "agreement/interpreter.rs"]
mod interpreter;
#[path = "agreement/model.rs"]
mod model;
#[path = "agreement/strategy.rs"]
mod strategy;

use std::collections::BTreeMap;

use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::{Kind, Revision, seal};
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::{InForce, Taken};
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;
use ombre_policy::policy::{Policy, SlotTables};
use ombre_policy::switches::{Compiled, Features, Switches};
use ombre_policy::verdict::{Edit, Verdict};
use proptest::collection::vec;
use proptest::prelude::*;

use interpreter::{ENTROPY, Outcome};
use model::{Model, Request};

const POLICIES: u32 = 1_000;
const REQUESTS: usize = 50;

proptest! {
    #![proptest_config(ProptestConfig { cases: POLICIES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_agrees_with_the_interpreter(
        model in strategy::model(),
        requests in vec(strategy::request(), REQUESTS),
        apart in any::<bool>(),
    ) {
        let yaml = model.yaml();
        let mut worker = worker(&model, &yaml, apart);
        for (request, aim) in requests {
            let request = request.aimed(&model, aim);
            let expected = interpreter::decide(&model, &request);
            let actual = decide(&mut worker, &request);
            prop_assert_eq!(actual, expected, "{:#?}\n{}\n{:?}\n{:?}", request.headers(), yaml, model.decisions(), model.switches);
        }
    }
}

/// What the requests of the test above hit: a test that meets nothing holds nothing.
#[test]
fn the_requests_meet_everything() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..100 {
        let model = strategy::model()
            .new_tree(&mut runner)
            .expect("a model")
            .current();
        let requests = vec(strategy::request(), REQUESTS);
        for (request, aim) in requests.new_tree(&mut runner).expect("requests").current() {
            let kind = match interpreter::decide(&model, &request.aimed(&model, aim)) {
                Outcome::Pass => "pass".to_owned(),
                Outcome::Refuse { why, status } => format!("{status} {why}"),
                Outcome::Route {
                    decision,
                    groups,
                    minted,
                    ..
                } => {
                    let facts = [
                        ("degraded", decision.contains(";degraded=")),
                        ("one group", !groups.is_empty() && !groups.contains(',')),
                        ("two groups", groups.contains(',')),
                        ("minted", minted.is_some()),
                    ];
                    for (fact, _) in facts.into_iter().filter(|(_, met)| *met) {
                        *met.entry(fact.to_owned()).or_default() += 1;
                    }
                    let reason = decision.split("reason=").nth(1).expect("a reason");
                    reason.split(';').next().expect("its word").to_owned()
                }
            };
            *met.entry(kind).or_default() += 1;
        }
    }
    let all = [
        "pass",
        "404 disabled_path",
        "404 disabled_route",
        "503 frozen_writes",
        "406 unknown_version",
        "404 unknown_version",
        "400 unknown_version",
        "verification",
        "accept",
        "path",
        "header",
        "query",
        "unknown_version",
        "color",
        "experiment",
        "rollout",
        "route_version",
        "default",
        "degraded",
        "one group",
        "two groups",
        "minted",
    ];
    for kind in all {
        assert!(
            met.get(kind).is_some_and(|times| *times >= 5),
            "{kind}: {met:#?}"
        );
    }
}

fn policy(yaml: &str) -> Policy {
    match load_text(yaml) {
        Ok(loaded) => loaded.policy,
        Err(problems) => panic!("{problems}\n{yaml}"),
    }
}

/// A worker that took the policy as the controller sends it: decisions inside, or `apart`.
fn worker(model: &Model, yaml: &str, apart: bool) -> InForce {
    let policy = policy(yaml);
    let plan = Plan::compile(&policy, &policy.slots(&SlotTables::default()));
    let decisions = model
        .decisions()
        .compile(&policy)
        .expect("decisions of this policy");
    let (one, two) = (Revision::new(1), Revision::new(2));
    let inside = if apart {
        &DecisionTable::default()
    } else {
        &decisions
    };
    let mut worker = InForce::new(switches(&model.switches));
    let taken = worker.take(&seal(Kind::Policy, one, one, &plan.encode(inside)));
    assert_eq!(taken, Ok(Taken::Policy(one)));
    if apart {
        let taken = worker.take(&seal(Kind::Decisions, two, one, &decisions.encode()));
        assert_eq!(taken, Ok(Taken::Decisions(two)));
    }
    worker
}

fn switches(model: &model::Switches) -> Switches {
    let built = Compiled {
        route_version: None,
        features: Features::ALL,
    };
    let env = |key: &str| match key {
        "ROUTE_VERSION" => model.route_version.map(str::to_owned),
        "ROUTE_FEATURES" => model.features.as_ref().map(|features| features.join(",")),
        "DISABLE_ROUTES" => model.disabled.map(|label| format!("/{label}")),
        _ => None,
    };
    let (switches, warnings) = Switches::resolve(built, env);
    assert_eq!(warnings, Vec::<String>::new());
    switches
}

fn decide(worker: &mut InForce, request: &Request) -> Outcome {
    let bytes = HeaderMap::encode(&request.headers());
    let mut routed = match worker.decide(HeaderMap::new(&bytes), || ENTROPY) {
        Verdict::Pass => return Outcome::Pass,
        Verdict::Refuse(refusal) => {
            return Outcome::Refuse {
                status: refusal.status(),
                why: refusal.why().name(),
            };
        }
        Verdict::Route(routed) => routed,
    };
    let mut set = BTreeMap::new();
    routed.write(|edit| {
        if let Edit::Set(name, value) = edit {
            set.insert(name.to_owned(), String::from_utf8_lossy(value).into_owned());
        }
    });
    let mut take = |name: &str| set.remove(name);
    let features = take("x-ombre-features");
    let cookie = take("x-ombre-set-cookie");
    let minted = cookie.and_then(|cookie| {
        Some(
            cookie
                .strip_prefix("ombre_uid=")?
                .split(';')
                .next()?
                .to_owned(),
        )
    });
    Outcome::Route {
        decision: take("x-ombre-decision").unwrap_or_default(),
        cluster: take("x-ombre-cluster").unwrap_or_default(),
        color: take("x-traffic-tag").unwrap_or_default(),
        groups: take("x-ombre-group").unwrap_or_default(),
        features: features.map_or_else(BTreeMap::new, |json| {
            serde_json::from_str(&json).expect("a JSON object")
        }),
        minted,
    }
}
