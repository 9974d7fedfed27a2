//! Tables of requests and what becomes of them, under one policy that uses everything.

use super::*;
use crate::explain::{Explanation, Question, explain};
use crate::load::load_text;
use crate::policy::{Policy, SlotTables};
use crate::switches::{Compiled, Features};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

const POLICY: &str = "
apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: api, path: '/api/{version}/users/{id:[0-9]+}', methods: [GET, POST] }
      - { name: api-any, path: '/api/{version}/users/{id}' }
      - { name: cart, path: '/cart/{*rest}' }
      - { name: cart-gold, hosts: ['*.gold.example.com'], path: '/cart/{*rest}' }
      - { name: cart-shop, hosts: [shop.gold.example.com.], path: '/cart/{*rest}' }
      - { name: old, path: '/old/{id}/{*tail}', rewrite: '/new/{tail}/of/{id}' }
    versions:
      - { name: v1, cluster: shop_v1, stage: prod, build_id: b1 }
      - { name: v2, cluster: shop_v2, stage: canary }
      - { name: v2.3, cluster: shop_v23, rewrite: '/next{path}' }
    default: v1
    colors: { canary-v2: v2 }
    unit: [{ header: X-User-Id }, { cookie: uid }]
    verification: { token: sesame-sesame }
    secret: [build_id]
  - name: strict
    routes: [{ name: strict, path: '/strict/{version}' }]
    versions: [{ name: v1, cluster: strict_v1 }]
    default: v1
    on_unknown: reject
  - name: bucketed
    routes: [{ name: bucketed, path: /bucketed }]
    versions: [{ name: v1, cluster: b_v1 }, { name: v2, cluster: b_v2 }]
    default: v1
    unit: [{ header: x-user-id }, mint]
    rollout: { candidate: v2, weight: 30 }
    mint: { lifetime: 1d }
    experiments:
      - { experiment: cart, groups: [{ name: a, weight: 50, features: { cart: true } }, { name: b, weight: 50 }] }
      - { experiment: look, groups: [{ name: c, weight: 100, features: { look: 'dark \"é\"', old: ~ } }] }
  - name: unitless
    routes: [{ name: unitless, path: /unitless }]
    versions: [{ name: v1, cluster: u_v1 }]
    default: v1
    unit: [{ header: x-user-id }]
    experiment: { experiment: e, groups: [{ name: first, weight: 1, features: { f: true } }, { name: second, weight: 99 }] }
";

fn policy(text: &str) -> Policy {
    match load_text(text) {
        Ok(loaded) => loaded.policy,
        Err(problems) => panic!("{problems}"),
    }
}

fn in_force(decisions: &str) -> InForce {
    let policy = policy(POLICY);
    let plan = Plan::compile(&policy, &policy.slots(&SlotTables::default()));
    let decisions: crate::decisions::Decisions =
        serde_json::from_str(decisions).expect("decisions");
    let decisions = decisions
        .compile(&policy)
        .expect("decisions of this policy");
    let mut in_force = InForce::default();
    let document = document::seal(
        Kind::Policy,
        Revision::new(1),
        Revision::new(1),
        &plan.encode(&decisions),
    );
    assert_eq!(
        in_force.take(&document),
        Ok(Taken::Policy(Revision::new(1)))
    );
    in_force
}

fn ask(in_force: &mut InForce, method: &str, url: &str, headers: &[(&str, &str)]) -> Explanation {
    let (authority, target) = url.split_at(url.find('/').expect("a path"));
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let question = Question {
        method: method.to_owned(),
        scheme: "http".to_owned(),
        authority: authority.to_owned(),
        target: target.to_owned(),
        headers: headers.collect(),
    };
    explain(in_force, &question)
}

/// The decision in one line: `x-ombre-decision`, or the refusal, or `pass`.
fn line(explanation: &Explanation) -> String {
    match (explanation.status, header(explanation, "x-ombre-decision")) {
        (Some(status), _) => format!("{status} {}", explanation.reason.unwrap_or_default()),
        (None, Some(decision)) => decision.to_owned(),
        (None, None) => explanation.decision.to_owned(),
    }
}

fn header<'e>(explanation: &'e Explanation, name: &str) -> Option<&'e str> {
    let mut found = explanation
        .headers
        .iter()
        .filter(|(known, _)| known == name);
    found.next().and_then(|(_, value)| value.as_deref())
}

type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

fn check(in_force: &mut InForce, cases: &[Case<'_>]) {
    for (name, method, url, headers, expected) in cases {
        assert_eq!(
            line(&ask(in_force, method, url, headers)),
            *expected,
            "{name}"
        );
    }
}

#[test]
fn routes_pick_the_most_specific() {
    check(
        &mut in_force("{}"),
        &[
            (
                "pattern_before_param",
                "GET",
                "x/api/v1/users/7",
                &[],
                "route=api;version=v1;reason=path",
            ),
            (
                "param_when_pattern_fails",
                "GET",
                "x/api/v1/users/me",
                &[],
                "route=api-any;version=v1;reason=path",
            ),
            (
                "method_falls_through",
                "PUT",
                "x/api/v1/users/7",
                &[],
                "route=api-any;version=v1;reason=path",
            ),
            ("no_route", "GET", "x/api/v1/users", &[], "pass"),
            (
                "trailing_slash_is_another_path",
                "GET",
                "x/api/v1/users/7/",
                &[],
                "pass",
            ),
            (
                "rest_may_be_empty",
                "GET",
                "x/cart",
                &[],
                "route=cart;version=v1;reason=default",
            ),
            (
                "rest_takes_all",
                "GET",
                "x/cart/a/b/c",
                &[],
                "route=cart;version=v1;reason=default",
            ),
            (
                "wildcard_host",
                "GET",
                "a.gold.example.com/cart/a",
                &[],
                "route=cart-gold;version=v1;reason=default",
            ),
            (
                "wildcard_needs_a_label",
                "GET",
                "gold.example.com/cart/a",
                &[],
                "route=cart;version=v1;reason=default",
            ),
            (
                "exact_host_with_port_any_case",
                "GET",
                "Shop.Gold.example.COM:80/cart",
                &[],
                "route=cart-shop;version=v1;reason=default",
            ),
            (
                "host_with_its_last_dot",
                "GET",
                "shop.gold.example.com.:80/cart",
                &[],
                "route=cart-shop;version=v1;reason=default",
            ),
            (
                "host_without_the_path_falls_back",
                "GET",
                "shop.gold.example.com/api/v1/users/7",
                &[],
                "route=api;version=v1;reason=path",
            ),
            (
                "escapes_do_not_hide_a_route",
                "GET",
                "x/%63art/a",
                &[],
                "route=cart;version=v1;reason=default",
            ),
        ],
    );
}

#[test]
fn versions_are_found_where_the_policy_looks() {
    let api = "application/vnd.api+v1";
    let shop = "application/vnd.shop.v2+json;q=0.9";
    check(
        &mut in_force("{}"),
        &[
            (
                "accept_of_the_article",
                "GET",
                "x/cart",
                &[("accept", api)],
                "route=cart;version=v1;reason=accept",
            ),
            (
                "accept_takes_the_highest_minor",
                "GET",
                "x/cart",
                &[("accept", shop)],
                "route=cart;version=v2.3;reason=accept",
            ),
            (
                "path",
                "GET",
                "x/api/v2.0/users/7",
                &[],
                "route=api;version=v2;reason=path",
            ),
            (
                "header",
                "GET",
                "x/cart",
                &[("x-api-version", "2.0")],
                "route=cart;version=v2;reason=header",
            ),
            (
                "query",
                "GET",
                "x/cart?version=v2.3",
                &[],
                "route=cart;version=v2.3;reason=query",
            ),
            (
                "accept_before_path",
                "GET",
                "x/api/v2/users/7",
                &[("accept", api)],
                "route=api;version=v1;reason=accept",
            ),
            (
                "path_before_header",
                "GET",
                "x/api/v1/users/7",
                &[("x-api-version", "2")],
                "route=api;version=v1;reason=path",
            ),
            (
                "header_before_query",
                "GET",
                "x/cart?version=1",
                &[("x-api-version", "2")],
                "route=cart;version=v2.3;reason=header",
            ),
            (
                "unknown_goes_to_the_default",
                "GET",
                "x/cart?version=v9",
                &[],
                "route=cart;version=v1;reason=unknown_version",
            ),
            (
                "nonsense_is_unknown",
                "GET",
                "x/cart",
                &[("x-api-version", "new")],
                "route=cart;version=v1;reason=unknown_version",
            ),
            (
                "empty_says_nothing",
                "GET",
                "x/cart?version=",
                &[("x-api-version", ""), ("accept", "")],
                "route=cart;version=v1;reason=default",
            ),
            (
                "contradiction_is_unknown",
                "GET",
                "x/cart",
                &[("x-api-version", "1"), ("x-api-version", "2")],
                "route=cart;version=v1;reason=unknown_version",
            ),
            (
                "reject_accept",
                "GET",
                "x/strict/v1",
                &[("accept", "application/vnd.a.v3+json")],
                "406 unknown_version",
            ),
            (
                "reject_path",
                "GET",
                "x/strict/v3",
                &[],
                "404 unknown_version",
            ),
            (
                "the_first_that_answers_wins",
                "GET",
                "x/strict/v1",
                &[("x-api-version", "3")],
                "route=strict;version=v1;reason=path",
            ),
        ],
    );
}

#[test]
fn colors_come_in_their_order_and_bad_ones_are_dropped() {
    let by_color = "route=cart;version=v2;reason=color";
    let default = "route=cart;version=v1;reason=default";
    let mut in_force = in_force("{}");
    check(
        &mut in_force,
        &[
            (
                "header",
                "GET",
                "x/cart",
                &[("x-envoy-traffic-color", "canary-v2")],
                by_color,
            ),
            (
                "cookie",
                "GET",
                "x/cart",
                &[("cookie", "a=b; traffic_color=canary-v2")],
                by_color,
            ),
            ("query", "GET", "x/cart?color=canary-v2", &[], by_color),
            (
                "baggage",
                "GET",
                "x/cart",
                &[("baggage", "x=y,traffic-color=canary-v2")],
                by_color,
            ),
            (
                "header_before_cookie",
                "GET",
                "x/cart",
                &[
                    ("x-envoy-traffic-color", "blue"),
                    ("cookie", "traffic_color=canary-v2"),
                ],
                default,
            ),
            (
                "cookie_before_query",
                "GET",
                "x/cart?color=canary-v2",
                &[("cookie", "traffic_color=blue")],
                default,
            ),
            (
                "invalid_falls_through",
                "GET",
                "x/cart?color=canary-v2",
                &[("x-envoy-traffic-color", "<script>")],
                by_color,
            ),
            (
                "upper_case",
                "GET",
                "x/cart",
                &[("x-envoy-traffic-color", "CANARY-V2")],
                default,
            ),
            (
                "too_long",
                "GET",
                "x/cart",
                &[("x-envoy-traffic-color", &"a".repeat(33))],
                default,
            ),
            (
                "wanted_before_color",
                "GET",
                "x/cart?color=canary-v2&version=1",
                &[],
                "route=cart;version=v1;reason=query",
            ),
        ],
    );
    let explanation = ask(
        &mut in_force,
        "GET",
        "x/cart",
        &[("x-envoy-traffic-color", "BAD")],
    );
    assert_eq!(
        header(&explanation, "x-envoy-traffic-color"),
        Some("prod"),
        "never handed on"
    );
}

#[test]
fn the_verification_channel_needs_its_token() {
    let mut in_force = in_force(r#"{"services":{"shop":{"degraded":{"v2":"v1"}}}}"#);
    let token = ("x-stage-token", "sesame-sesame");
    check(
        &mut in_force,
        &[
            (
                "no_token",
                "GET",
                "x/cart",
                &[("x-stage", "v2.0")],
                "route=cart;version=v1;reason=default",
            ),
            (
                "wrong_token",
                "GET",
                "x/cart",
                &[("x-stage", "v2.0"), ("x-stage-token", "sesame")],
                "route=cart;version=v1;reason=default",
            ),
            (
                "reaches_a_degraded_version",
                "GET",
                "x/cart",
                &[("x-stage", "v2.0"), token],
                "route=cart;version=v2;reason=verification",
            ),
            (
                "others_fall_back",
                "GET",
                "x/cart?version=2.0",
                &[],
                "route=cart;version=v1;reason=query;degraded=v2",
            ),
        ],
    );
    let explanation = ask(
        &mut in_force,
        "GET",
        "x/cart",
        &[("x-stage", "v2.0"), token],
    );
    let removed = ("x-stage-token".to_owned(), None);
    assert!(
        explanation.headers.contains(&removed),
        "the token stops here"
    );
    let unused = ask(&mut in_force, "GET", "x/cart", &[("x-stage", "v9"), token]);
    assert!(
        unused.headers.contains(&removed),
        "also when it opens nothing"
    );
    let without = ask(&mut in_force, "GET", "x/cart", &[]);
    assert!(!without.headers.contains(&removed), "nothing to remove");
}

#[test]
fn decisions_freeze_disable_and_weigh() {
    let decisions = r#"{"services":{
        "shop":{"frozen":{"v1":{"retry_after":7}},"disabled_routes":["old"]},
        "bucketed":{"weight":100}}}"#;
    let mut in_force = in_force(decisions);
    check(
        &mut in_force,
        &[
            (
                "reads_go_on",
                "GET",
                "x/cart",
                &[],
                "route=cart;version=v1;reason=default",
            ),
            ("writes_wait", "POST", "x/cart", &[], "503 frozen_writes"),
            (
                "unknown_methods_are_writes",
                "PURGE",
                "x/cart",
                &[],
                "503 frozen_writes",
            ),
            (
                "sockets_may_write",
                "GET",
                "x/cart",
                &[("upgrade", "websocket")],
                "503 frozen_writes",
            ),
            (
                "other_versions_write",
                "POST",
                "x/cart?version=2.0",
                &[],
                "route=cart;version=v2;reason=query",
            ),
            ("disabled", "GET", "x/old/1/2", &[], "404 disabled_route"),
            (
                "weight_by_decision",
                "GET",
                "x/bucketed",
                &[("x-user-id", "7")],
                "route=bucketed;version=v2;reason=rollout",
            ),
        ],
    );
    let refusal = ask(&mut in_force, "POST", "x/cart", &[]);
    assert_eq!(header(&refusal, "retry-after"), Some("7"));
    assert!(
        refusal.summary.contains(r#""service":"shop""#),
        "{}",
        refusal.summary
    );
}

#[test]
fn switches_override_the_policy() {
    let compiled = Compiled {
        route_version: Some("v2.0"),
        features: Features::ALL,
    };
    let env = |key: &str| (key == "DISABLE_ROUTES").then(|| "/admin,/cart/secret".to_owned());
    let mut in_force = in_force("{}");
    in_force.switches = Switches::resolve(compiled, env).0;
    check(
        &mut in_force,
        &[
            (
                "route_version",
                "GET",
                "x/cart",
                &[],
                "route=cart;version=v2;reason=route_version",
            ),
            (
                "only_the_default",
                "GET",
                "x/cart?version=1",
                &[],
                "route=cart;version=v1;reason=query",
            ),
            (
                "for_unknown_versions_too",
                "GET",
                "x/cart?version=9",
                &[],
                "route=cart;version=v2;reason=unknown_version",
            ),
            (
                "services_without_it",
                "GET",
                "x/unitless",
                &[],
                "route=unitless;version=v1;reason=default",
            ),
            (
                "disabled_without_a_route",
                "GET",
                "x/admin/x",
                &[],
                "404 disabled_path",
            ),
            (
                "disabled_by_escapes_too",
                "GET",
                "x/cart/%73ecret",
                &[],
                "404 disabled_path",
            ),
        ],
    );
}

#[test]
fn upstreams_are_told_who_and_what() {
    let mut in_force = in_force("{}");
    let explanation = ask(&mut in_force, "GET", "x/bucketed", &[]);
    let unit = "0".repeat(32);
    let cookie = format!("ombre_uid={unit}; Max-Age=86400; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(
        header(&explanation, "x-ombre-set-cookie"),
        Some(cookie.as_str())
    );
    let features = header(&explanation, "x-ombre-features").expect("features");
    let features: serde_json::Value = serde_json::from_str(features).expect("JSON");
    assert_eq!(features["look"], "dark \"é\"");
    assert!(features["old"].is_null());
    let groups = header(&explanation, "x-ombre-group").expect("groups");
    assert!(
        groups.starts_with("cart=") && groups.ends_with(",look=c"),
        "{groups}"
    );

    let again = ask(
        &mut in_force,
        "GET",
        "x/bucketed",
        &[("cookie", &format!("ombre_uid={unit}"))],
    );
    assert_eq!(header(&again, "x-ombre-set-cookie"), None, "set once");
    assert_eq!(
        header(&again, "x-ombre-group"),
        Some(groups),
        "and bucketed alike from the start"
    );
}

#[test]
fn without_a_unit_the_default_group_counts_for_nobody() {
    let explanation = ask(&mut in_force("{}"), "GET", "x/unitless", &[]);
    assert_eq!(
        header(&explanation, "x-ombre-features"),
        Some(r#"{"f":true}"#)
    );
    assert_eq!(header(&explanation, "x-ombre-group"), None);
}

#[test]
fn a_unit_sent_twice_is_nobody() {
    let headers = [("x-user-id", "alice"), ("x-user-id", "bob")];
    let explanation = ask(&mut in_force("{}"), "GET", "x/unitless", &headers);
    assert_eq!(header(&explanation, "x-ombre-group"), None);
}

#[test]
fn colors_and_metadata_go_on() {
    let mut in_force = in_force("{}");
    let sent = [
        ("cookie", "traffic_color=canary-v2"),
        ("baggage", "tenant=a;p=1,traffic-color=old"),
        ("baggage", "last=z"),
        ("x-build-id", "forged"),
        ("x-ombre-group", "forged"),
    ];
    // Baggage is asked before the cookie: what an earlier hop resolved wins.
    let explanation = ask(&mut in_force, "GET", "x/cart?version=2.0", &sent);
    assert_eq!(header(&explanation, "x-envoy-traffic-color"), Some("old"));
    let explanation = ask(
        &mut in_force,
        "GET",
        "x/cart?version=2.0",
        &[sent[0], ("baggage", "tenant=a;p=1"), sent[2], sent[3]],
    );
    assert_eq!(
        header(&explanation, "baggage"),
        Some("traffic-color=canary-v2,tenant=a;p=1,last=z")
    );
    assert_eq!(header(&explanation, "x-traffic-tag"), Some("canary-v2"));
    assert_eq!(header(&explanation, "x-api-version"), Some("v2.0"));
    assert_eq!(header(&explanation, "x-env-stage"), Some("canary"));
    assert!(
        explanation
            .headers
            .contains(&("x-build-id".to_owned(), None)),
        "a forged build goes away"
    );
    let secret = ask(
        &mut in_force,
        "GET",
        "x/cart?version=1",
        &[("x-api-version", "v9")],
    );
    assert_eq!(header(&secret, "x-api-version"), Some("v1.0"));
    assert_eq!(
        header(&secret, "x-build-id"),
        None,
        "the policy calls it secret"
    );
}

#[test]
fn a_color_that_was_not_believed_is_not_passed_on() {
    let text = POLICY.replacen("colors:", "color_sources: [header]\n    colors:", 1);
    let policy = policy(&text);
    let plan = Plan::compile(&policy, &policy.slots(&SlotTables::default()));
    let mut in_force = InForce::default();
    in_force.put(plan, Revision::new(1), DecisionTable::default());
    for (name, sent, expected) in [
        (
            "claimed",
            "traffic-color=canary-v2,tenant=a",
            Some("traffic-color=prod,tenant=a"),
        ),
        ("no_color", "traffic-color=NONE", Some("traffic-color=prod")),
        ("others", "tenant=a", None),
    ] {
        let explanation = ask(&mut in_force, "GET", "x/cart", &[("baggage", sent)]);
        assert_eq!(header(&explanation, "baggage"), expected, "{name}");
        assert_eq!(
            header(&explanation, "x-envoy-traffic-color"),
            Some("prod"),
            "{name}"
        );
    }
}

#[test]
fn paths_are_rewritten_and_the_original_kept() {
    let mut in_force = in_force("{}");
    let explanation = ask(&mut in_force, "GET", "x/old/a%20b/c/d?q=1", &[]);
    assert_eq!(header(&explanation, ":path"), Some("/new/c/d/of/a%20b?q=1"));
    assert_eq!(
        header(&explanation, "x-envoy-original-path"),
        Some("/old/a%20b/c/d?q=1")
    );
    let explanation = ask(&mut in_force, "GET", "x/old/1/2?version=2.3", &[]);
    assert_eq!(
        header(&explanation, ":path"),
        Some("/next/old/1/2?version=2.3"),
        "the version's wins"
    );
}

#[test]
fn documents_are_taken_newer_and_valid_or_not_at_all() {
    let mut in_force = in_force("{}");
    let policy = policy(POLICY);
    let plan = Plan::compile(&policy, &policy.slots(&SlotTables::default()));
    let body = plan.encode(&DecisionTable::default());
    let seal = |kind, revision, of, body: &[u8]| {
        document::seal(kind, Revision::new(revision), Revision::new(of), body)
    };
    let old = seal(Kind::Policy, 1, 1, &body);
    assert_eq!(in_force.take(&old), Ok(Taken::NotNewer));
    let noise = seal(Kind::Policy, 2, 2, b"noise");
    assert_eq!(
        in_force.take(&noise),
        Err(NotTaken::Document(DocumentError::Body))
    );
    let early = seal(Kind::Decisions, 3, 2, &DecisionTable::default().encode());
    let (wanted, has) = (Revision::new(2), Revision::new(1));
    assert_eq!(
        in_force.take(&early),
        Err(NotTaken::OtherPolicy { wanted, has })
    );
    assert_eq!(
        in_force.policy_revision(),
        Revision::new(1),
        "all of that changed nothing"
    );
    assert_eq!(
        in_force.take(&seal(Kind::Policy, 2, 2, &body)),
        Ok(Taken::Policy(wanted))
    );
    assert_eq!(
        in_force.take(&early),
        Ok(Taken::Decisions(Revision::new(3))),
        "now it fits"
    );
}

#[test]
fn before_the_first_policy_everything_passes_but_what_is_switched_off() {
    let environment = |name: &str| (name == "DISABLE_ROUTES").then(|| "/admin".to_owned());
    let compiled = Compiled {
        route_version: None,
        features: Features::ALL,
    };
    let (switches, _) = Switches::resolve(compiled, environment);
    check(
        &mut InForce::new(switches),
        &[
            ("empty", "GET", "x/cart", &[], "pass"),
            ("closed", "GET", "x/%61dmin/users", &[], "404 disabled_path"),
        ],
    );
}

#[test]
fn services_with_one_salt_keep_their_own_weights() {
    let policy = policy(
        "
apiVersion: ombre/v1
services:
  - name: a
    routes: [{ name: a, path: /a }]
    versions: [{ name: v1, cluster: c }]
    default: v1
    unit: [{ header: id }]
    experiment: { experiment: e, salt: shared, groups: [{ name: all, weight: 100 }] }
  - name: b
    routes: [{ name: b, path: /b }]
    versions: [{ name: v1, cluster: c }]
    default: v1
    unit: [{ header: id }]
    experiment: { experiment: e, salt: shared, groups: [{ name: none, weight: 0 }, { name: all, weight: 100 }] }
",
    );
    let plan = Plan::compile(&policy, &policy.slots(&SlotTables::default()));
    let mut in_force = InForce::default();
    in_force.put(plan, Revision::new(1), DecisionTable::default());
    for url in ["x/a", "x/b"] {
        let explanation = ask(&mut in_force, "GET", url, &[("id", "7")]);
        assert_eq!(
            header(&explanation, "x-ombre-group"),
            Some("e=all"),
            "{url}"
        );
    }
}
