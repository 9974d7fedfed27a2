//! A policy of 100,000 routes loads, compiles, travels and finds its routes.
#![cfg(not(target_arch = "wasm32"))]
#![expect(clippy::expect_used, reason = "a test that cannot go on must stop")]

use std::fmt::Write;

use ombre_policy::decisions::DecisionTable;
use ombre_policy::document::Revision;
use ombre_policy::headers::HeaderMap;
use ombre_policy::in_force::InForce;
use ombre_policy::load::load_text;
use ombre_policy::plan::Plan;
use ombre_policy::policy::SlotTables;
use ombre_policy::verdict::{Edit, Verdict};

const SERVICES: u32 = 1_000;
const ROUTES_PER_SERVICE: u32 = 100;

#[test]
fn a_hundred_thousand_routes_are_found() {
    let text = yaml();
    let loaded = match load_text(&text) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    };
    let routes = SERVICES * ROUTES_PER_SERVICE;
    assert_eq!(loaded.policy.size(), (1_000, 2_000, 100_000));
    let slots = loaded.policy.slots(&SlotTables::default());
    let body = Plan::compile(&loaded.policy, &slots).encode(&DecisionTable::default());
    let (plan, decisions) = Plan::decode(&body).expect("what was encoded");
    let mut worker = InForce::default();
    worker.put(plan, Revision::new(1), decisions);

    // A stride that meets every kind of route in every part of the policy.
    for number in (0..routes).step_by(997) {
        let headers = HeaderMap::encode(&[
            (":method", "GET".to_owned()),
            (":authority", host(number)),
            (":path", path(number, "7", "x/y")),
        ]);
        let Verdict::Route(mut routed) = worker.decide(HeaderMap::new(&headers), || [0; 16]) else {
            panic!("route {number} is not found");
        };
        let mut decision = String::new();
        routed.write(|edit| {
            if let Edit::Set("x-ombre-decision", value) = edit {
                decision = String::from_utf8_lossy(value).into_owned();
            }
        });
        assert_eq!(
            decision,
            format!("route=r{number};version=v1;reason=default")
        );
    }
}

fn yaml() -> String {
    let mut out = String::from("apiVersion: ombre/v1\nservices:\n");
    for service in 0..SERVICES {
        write!(out, "  - name: s{service}\n    routes:\n").expect("memory");
        for route in 0..ROUTES_PER_SERVICE {
            let number = service * ROUTES_PER_SERVICE + route;
            let (path, host) = (path(number, "{id:[0-9]+}", "{*rest}"), host(number));
            writeln!(out, "      - {{ name: r{number}, hosts: [{host}], methods: [GET, POST], path: '{path}' }}")
                .expect("memory");
        }
        write!(
            out,
            "    versions: [{{ name: v1, cluster: s{service}_v1 }}, {{ name: v2, cluster: s{service}_v2 }}]\n    default: v1\n"
        )
        .expect("memory");
    }
    out
}

fn host(number: u32) -> String {
    format!("h{}.example.com", number % 50)
}

/// Static text, patterns and rests in turn.
fn path(number: u32, id: &str, rest: &str) -> String {
    let service = number / ROUTES_PER_SERVICE;
    match number % 3 {
        0 => format!("/api/s{service}/things{number}"),
        1 => format!("/api/s{service}/items{number}/{id}/detail"),
        _ => format!("/s{service}/files{number}/{rest}"),
    }
}
