//! Random requests through Envoy, and the code of `ombre explain` beside it on the document that the
//! filter got: version, cluster, every header written and every refusal agree. A few thousand by
//! default; `OMBRE_AGREEMENT_REQUESTS=1000000` for the whole claim.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ombre_policy::explain::{Explanation, Question, explain};
use ombre_policy::in_force::InForce;
use ombre_tests::client::{Answer, Ask, Connection};
use ombre_tests::poll::{SOON, eventually};
use ombre_tests::stack::{Setup, Stack};
use serde_json::json;
use tokio::task::JoinSet;

const DEFAULT_REQUESTS: u64 = 20_000;
const CONNECTIONS: u64 = 16;
/// Every tenth is compared.
const SAMPLED: u64 = 10;
const MAX_EXAMPLES: usize = 5;

const TOKEN: &str = "a-secret-of-many-bytes";

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: shop-api, path: "/api/{version}/shop/{*rest}" }
      - { name: shop-item, path: "/shop/item/{id:[0-9]+}", rewrite: "/items/{id}" }
      - { name: shop-write, methods: [POST, PUT], path: "/shop/cart/{id}" }
      - { name: shop-off, path: "/shop/off/{*rest}" }
      - { name: shop-pages, path: "/shop/{*rest}" }
    versions:
      - { name: v1, cluster: demo_v1, stage: prod, build_id: bld-1 }
      - { name: v2.1, cluster: demo_v2, stage: canary, build_id: bld-21 }
      - { name: v2.3, cluster: demo_v2, rewrite: "/v23{path}" }
      - { name: v3, cluster: demo_v1, stage: next }
    default: v1
    colors: { canary-v2: v2.1, next: v3 }
    unit: [{ header: x-user-id }, { cookie: uid }, mint]
    rollout: { candidate: v2.3, weight: 30 }
    verification: { token: a-secret-of-many-bytes }
    experiments:
      - experiment: cart
        groups:
          - { name: old, weight: 50, features: { cart: "old", "bold": false } }
          - { name: new, weight: 30, features: { cart: "new" } }
          - { name: v2, weight: 20, version: v2.1 }
      - experiment: words
        layer: text
        share: 70
        unit: [{ cookie: session }]
        groups: [{ name: short, weight: 100, features: { text: null } }]
  - name: pay
    routes:
      - { name: pay, hosts: [pay.example.com, "*.pay.example.com"], path: "/{version}/pay/{*rest}" }
      - { name: pay-any, path: "/pay/{a}/{b}" }
    versions:
      - { name: v1, cluster: demo_v1, stage: prod, build_id: secret-build }
      - { name: v2, cluster: demo_v2 }
    default: v2
    on_unknown: reject
    detect: [query, header, path, accept]
    color_sources: [cookie, header]
    colors: { blue: v1 }
    verification: open
    secret: [build_id]
"#;

/// SplitMix64: the same requests in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One chance in `of`.
    fn one_in(&mut self, of: u64) -> bool {
        self.next().is_multiple_of(of)
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        let at = self.next() as usize % list.len();
        list.get(at).copied().unwrap_or_default()
    }
}

const METHODS: [&str; 8] = [
    "GET", "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS",
];
const HOSTS: [&str; 5] = [
    "shop.example.com",
    "pay.example.com",
    "eu.pay.example.com:8080",
    "PAY.example.com",
    "elsewhere.example.com",
];
const PATHS: [&str; 16] = [
    "/shop/a",
    "/shop/a%20b/c",
    "/shop/item/77",
    "/shop/item/7a",
    "/shop/cart/9",
    "/shop/off/x",
    "/shop",
    "/api/v1/shop/a",
    "/api/v2/shop/a/b",
    "/api/2.1/shop/a",
    "/api/v9/shop/a",
    "/v1/pay/a",
    "/v2/pay/a",
    "/v7/pay/a",
    "/pay/a/b",
    "/elsewhere/a",
];
const VERSIONS: [&str; 12] = [
    "1", "v1", "2", "v2", "v2.1", "2.3", "3", "v9", "latest", "v2.", "é", "0002",
];
const COLORS: [&str; 9] = [
    "canary-v2",
    "next",
    "blue",
    "prod",
    "CANARY",
    "a_b",
    "x",
    "grün",
    "-",
];
const TYPES: [&str; 8] = [
    "application/vnd.api+v1",
    "application/vnd.shop.v2+json",
    "application/vnd.shop.v2.1+json;q=0.3, application/vnd.shop.v3+json;q=0.7",
    "application/vnd.shop.v9+json",
    "application/vnd.shop.v9+json, application/vnd.shop.v1+json;q=0.1",
    "text/html, */*;q=0.1",
    "application/vnd.pay.v2+json;q=0",
    ",;q=,",
];
const BAGGAGE: [&str; 6] = [
    "a=1",
    "traffic-color=canary-v2",
    "a=1;p, traffic-color=next ,b=2",
    "traffic-color=NO",
    "=,,=",
    "k=v,k=v,k=w",
];

fn question(dice: &mut Dice) -> Question {
    let mut target = dice.of(&PATHS).to_owned();
    let mut separator = '?';
    for (name, values) in [
        ("version", VERSIONS.as_slice()),
        ("color", &COLORS),
        ("x", &["1"]),
    ] {
        // Envoy refuses other bytes in a path before any filter sees them.
        let value = dice.of(values);
        if dice.one_in(6) && value.is_ascii() {
            target.push(separator);
            target.push_str(&format!("{name}={value}"));
            separator = '&';
        }
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    let user = format!("user-{}", dice.next() % 5000);
    let mut maybe = |dice: &mut Dice, chance: u64, name: &str, value: String| {
        if dice.one_in(chance) {
            headers.push((name.to_owned(), value.clone()));
            // Sent twice now and then.
            if dice.one_in(12) {
                headers.push((name.to_owned(), value));
            }
        }
    };
    let value = dice.of(&VERSIONS).to_owned();
    maybe(dice, 5, "x-api-version", value);
    let value = dice.of(&COLORS).to_owned();
    maybe(dice, 5, "x-envoy-traffic-color", value);
    let value = dice.of(&TYPES).to_owned();
    maybe(dice, 4, "accept", value);
    let value = dice.of(&BAGGAGE).to_owned();
    maybe(dice, 5, "baggage", value);
    maybe(dice, 2, "x-user-id", user.clone());
    let value = format!("a=b; uid={user}; traffic_color={}", dice.of(&COLORS));
    maybe(dice, 4, "cookie", value);
    let value = format!("session={user}");
    maybe(dice, 4, "cookie", value);
    let value = dice.of(&VERSIONS).to_owned();
    maybe(dice, 6, "x-stage", value);
    maybe(dice, 3, "x-stage-token", TOKEN.to_owned());
    maybe(dice, 9, "x-ombre-group", "cart=forged".to_owned());
    maybe(dice, 9, "x-env-stage", "forged".to_owned());
    Question {
        method: dice.of(&METHODS).to_owned(),
        scheme: "http".to_owned(),
        authority: dice.of(&HOSTS).to_owned(),
        target,
        headers,
    }
}

fn ask(question: &Question) -> Ask {
    let ask = Ask::new(&question.method, &question.target).host(&question.authority);
    question
        .headers
        .iter()
        .fold(ask, |ask, (name, value)| ask.header(name, value))
}

/// Compares what happened with what the code of `ombre explain` says.
fn compare(in_force: &mut InForce, question: &Question, answer: &Answer) -> Result<&'static str> {
    let mut question = question.clone();
    // Which unit is minted nobody can know before: the one that was is explained as if it came back.
    let minted = answer.all("set-cookie").next();
    if let Some(cookie) = minted {
        let pair = cookie.split(';').next().unwrap_or_default().to_owned();
        question.headers.push(("cookie".to_owned(), pair));
    }
    let explained = explain(in_force, &question);
    if explained.decision == "refuse" {
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(Some(u32::from(answer.status)) == explained.status);
        ensure!(question.method == "HEAD" || explained.summary.ends_with(&*body));
        let retry = explained
            .headers
            .iter()
            .find(|(name, _)| name == "retry-after");
        ensure!(retry.and_then(|(_, value)| value.as_deref()) == answer.header("retry-after"));
        return Ok(explained.decision);
    }
    ensure!(answer.status == 200);
    let due: BTreeMap<&str, Option<&str>> = explained
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    ensure!(answer.header("x-ombre-decision") == due.get("x-ombre-decision").copied().flatten());
    if question.method == "HEAD" {
        return Ok("head");
    }
    let echo = answer.echo()?;
    let cluster = explained.cluster.as_deref().unwrap_or("demo_v1");
    ensure!(
        cluster.ends_with(&echo.version),
        "it went to {}",
        echo.version
    );
    ensure!(echo.header("x-ombre-cluster") == Some(cluster));
    ensure!(echo.method == question.method);
    let path = due.get(":path").copied().flatten();
    ensure!(
        echo.path == path.unwrap_or(&question.target),
        "{}",
        echo.path
    );
    for (name, value) in &due {
        if *name != ":path" {
            ensure!(
                echo.header(name) == *value,
                "{name}: {:?}",
                echo.header(name)
            );
        }
    }
    let ours = |name: &str| name.starts_with("x-ombre-") && name != "x-ombre-set-cookie";
    let got: BTreeSet<&str> = echo.headers.keys().map(String::as_str).collect();
    for name in got.into_iter().filter(|name| ours(name)) {
        ensure!(
            name == "x-ombre-cluster" || due.contains_key(name),
            "{name} was written"
        );
    }
    for (name, sent) in &question.headers {
        if explained.decision == "pass" && ours(name) {
            ensure!(echo.header(name).is_none(), "{name} was let through");
        } else if explained.decision == "pass" && minted.is_none() {
            let got = echo.header(name).unwrap_or_default();
            ensure!(got.contains(sent.as_str()), "{name} became {got}");
        }
    }
    Ok(if minted.is_some() {
        "minted"
    } else {
        explained.decision
    })
}

/// What a connection found: how many agreed by kind, and the first that did not.
#[derive(Default)]
struct Found {
    sent: u64,
    agreed: BTreeMap<&'static str, u64>,
    reasons: BTreeMap<String, u64>,
    disagreed: Vec<String>,
}

async fn run(
    address: SocketAddr,
    document: Arc<Vec<u8>>,
    seed: u64,
    requests: u64,
) -> Result<Found> {
    let mut in_force = InForce::default();
    in_force.take(&document)?;
    let mut dice = Dice(seed);
    let mut connection = Connection::open(address).await?;
    let mut found = Found::default();
    for number in 0..requests {
        let question = question(&mut dice);
        let answer = connection.ask(&ask(&question)).await;
        let answer = answer.with_context(|| format!("{question:?}"))?;
        found.sent += 1;
        // Envoy does so after a 400.
        if answer.header("connection") == Some("close") {
            connection = Connection::open(address).await?;
        }
        if number % SAMPLED != 0 {
            continue;
        }
        let reason = answer.decision("reason").unwrap_or("none");
        *found.reasons.entry(reason.to_owned()).or_default() += 1;
        match compare(&mut in_force, &question, &answer) {
            Ok(kind) => *found.agreed.entry(kind).or_default() += 1,
            Err(error) => {
                let explained: Explanation = explain(&mut in_force, &question);
                found.disagreed.push(format!(
                    "{error:#}\n{question:?}\n{}\n{explained}",
                    answer.seen()
                ));
            }
        }
    }
    Ok(found)
}

async fn decided(stack: &Stack) -> Result<()> {
    stack
        .decide(&json!({ "services": {
            "shop": {
                "weight": 45.5,
                "degraded": { "v3": "v2.1" },
                "frozen": { "v2.1": { "retry_after": 9 } },
                "disabled_routes": ["shop-off"],
            },
        } }))
        .await?;
    let due = stack.controller.json("/v1/decisions").await?;
    eventually(SOON, "every worker has the decisions", async || {
        let nodes = stack.controller.json("/v1/nodes").await?;
        let applied = nodes.pointer("/nodes/0/applied/decisions");
        ensure!(applied == due.get("revision"), "{nodes}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_and_envoy_agree_on_random_requests() -> Result<()> {
    let requests = match std::env::var("OMBRE_AGREEMENT_REQUESTS") {
        Ok(text) => text.parse().context("OMBRE_AGREEMENT_REQUESTS")?,
        Err(_) => DEFAULT_REQUESTS,
    };
    Setup::new(POLICY)
        .run(async |stack| {
            decided(stack).await?;
            let document = Arc::new(stack.controller.document("policy").await?);
            let mut runs = JoinSet::new();
            for seed in 0..CONNECTIONS {
                let address = stack.envoy.address();
                let share = requests.div_ceil(CONNECTIONS);
                runs.spawn(run(address, document.clone(), seed, share));
            }
            let mut all = Found::default();
            while let Some(found) = runs.join_next().await {
                let Found {
                    sent,
                    agreed,
                    reasons,
                    disagreed,
                } = found??;
                all.sent += sent;
                for (kind, count) in agreed {
                    *all.agreed.entry(kind).or_default() += count;
                }
                for (reason, count) in reasons {
                    *all.reasons.entry(reason).or_default() += count;
                }
                all.disagreed.extend(disagreed);
            }
            let sampled = all.agreed.values().sum::<u64>() + all.disagreed.len() as u64;
            println!(
                "{} requests, {sampled} sampled, {} disagree; {:?}; {:?}",
                all.sent,
                all.disagreed.len(),
                all.agreed,
                all.reasons
            );
            let examples = all.disagreed.iter().take(MAX_EXAMPLES);
            let examples: Vec<&str> = examples.map(String::as_str).collect();
            ensure!(all.disagreed.is_empty(), "{}", examples.join("\n\n"));
            ensure!(sampled * SAMPLED >= requests, "{sampled} were sampled");
            // Every way of deciding was among them.
            for kind in ["pass", "route", "refuse", "minted", "head"] {
                ensure!(all.agreed.contains_key(kind), "no {kind}: {:?}", all.agreed);
            }
            for reason in [
                "verification",
                "accept",
                "path",
                "header",
                "query",
                "unknown_version",
                "color",
                "experiment",
                "rollout",
                "default",
            ] {
                ensure!(
                    all.reasons.contains_key(reason),
                    "no {reason}: {:?}",
                    all.reasons
                );
            }
            Ok(())
        })
        .await
}
