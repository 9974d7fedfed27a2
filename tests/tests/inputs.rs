//! Everything that the filter reads of a request, each empty, repeated, contradicting, huge, not
//! UTF-8 and with control characters: the right answer or a clear 4xx, nobody else's group, and the
//! VM lives.

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Answer, Ask, Connection};
use ombre_tests::stack::Stack;

const TOKEN: &str = "a-secret-of-many-bytes";

/// A hundred groups: two units are in one by chance once in a hundred.
fn policy() -> String {
    let groups: String = (0..100)
        .map(|number| format!("          - {{ name: g{number}, weight: 1 }}\n"))
        .collect();
    format!(
        r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - {{ name: api, path: "/api/{{version}}/{{*rest}}" }}
      - {{ name: pages, path: "/shop/{{*rest}}" }}
    versions: [{{ name: v1, cluster: demo_v1 }}, {{ name: v2, cluster: demo_v2 }}]
    default: v1
    colors: {{ canary-v2: v2 }}
    verification: {{ token: {TOKEN} }}
    unit: [{{ header: x-user-id }}, {{ cookie: uid }}]
    experiment:
      experiment: tenants
      groups:
{groups}"#
    )
}

/// A place that is read.
struct Place {
    name: &'static str,
    /// What chooses v2 there.
    good: &'static str,
    /// What would choose v1 or nothing there.
    other: &'static str,
    /// The version for `good` and `other` at once.
    both: &'static str,
    /// A request with these values at the place.
    put: fn(&[&[u8]]) -> Ask,
}

fn page() -> Ask {
    Ask::get("/shop/a")
}

fn header(ask: Ask, name: &str, values: &[&[u8]]) -> Ask {
    values
        .iter()
        .fold(ask, |ask, value| ask.header(name, value))
}

/// `name=value` for each, in one cookie header.
fn cookies(name: &str, values: &[&[u8]]) -> Ask {
    let mut line = b"a=b".to_vec();
    for value in values {
        line.extend_from_slice(b"; ");
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        line.extend_from_slice(value);
    }
    page().header("cookie", line)
}

fn query(name: &str, values: &[&[u8]]) -> Ask {
    let pairs = values
        .iter()
        .map(|value| format!("{name}={}", latin1(value)));
    Ask::get(&format!("/shop/a?{}", pairs.collect::<Vec<_>>().join("&")))
}

/// In a request line only text can be sent here: bytes above 0x7f go as the UTF-8 of a character.
fn latin1(value: &[u8]) -> String {
    value.iter().map(|byte| char::from(*byte)).collect()
}

const PLACES: [Place; 10] = [
    Place {
        name: "accept",
        good: "application/vnd.api+v2",
        other: "application/vnd.api+v1;q=0.5",
        both: "v2",
        put: |values| header(page(), "accept", values),
    },
    Place {
        name: "x-api-version",
        good: "v2",
        other: "v1",
        both: "v1",
        put: |values| header(page(), "x-api-version", values),
    },
    Place {
        name: "the path's version",
        good: "v2",
        other: "v1",
        both: "v2",
        put: |values| {
            let segments: Vec<String> = values.iter().map(|value| latin1(value)).collect();
            Ask::get(&format!("/api/{}/x", segments.join("/")))
        },
    },
    Place {
        name: "the query's version",
        good: "v2",
        other: "v1",
        both: "v2",
        put: |values| query("version", values),
    },
    Place {
        name: "the color's header",
        good: "canary-v2",
        other: "blue",
        both: "v1",
        put: |values| header(page(), "x-envoy-traffic-color", values),
    },
    Place {
        name: "the color in baggage",
        good: "traffic-color=canary-v2",
        other: "traffic-color=blue",
        both: "v2",
        put: |values| header(page(), "baggage", values),
    },
    Place {
        name: "the color's cookie",
        good: "canary-v2",
        other: "blue",
        both: "v2",
        put: |values| cookies("traffic_color", values),
    },
    Place {
        name: "the query's color",
        good: "canary-v2",
        other: "blue",
        both: "v2",
        put: |values| query("color", values),
    },
    Place {
        name: "x-stage",
        good: "v2",
        other: "v1",
        both: "v1",
        put: |values| header(page().header("x-stage-token", TOKEN), "x-stage", values),
    },
    Place {
        name: "x-stage-token",
        good: TOKEN,
        other: "another-of-many-bytes",
        both: "v1",
        put: |values| header(page().header("x-stage", "v2"), "x-stage-token", values),
    },
];

/// Name, request, the version that must serve, and whether a 4xx is as good.
fn cases(place: &Place) -> Vec<(&'static str, Ask, &'static str, bool)> {
    let (good, other) = (place.good.as_bytes(), place.other.as_bytes());
    let with = |bytes: &[u8]| [good, bytes].concat();
    let inside = |byte: u8| {
        let (first, rest) = good.split_at(1);
        [first, &[byte], rest].concat()
    };
    let put = |value: &[u8]| (place.put)(&[value]);
    let in_path = place.name.contains("path") || place.name.contains("query");
    vec![
        ("good", put(good), "v2", false),
        ("absent", (place.put)(&[]), "v1", false),
        ("empty", put(b""), "v1", false),
        ("twice the same", (place.put)(&[good, good]), "v2", false),
        ("both", (place.put)(&[good, other]), place.both, false),
        (
            "both, the other way round",
            (place.put)(&[other, good]),
            // The larger q wins wherever it stands.
            if place.name == "accept" { "v2" } else { "v1" },
            false,
        ),
        ("huge", put(&b"x".repeat(20_000)), "v1", false),
        (
            "good and huge",
            put(&with(&b"x".repeat(20_000))),
            "v1",
            false,
        ),
        ("not UTF-8", put(&with(b"\xff\xfe")), "v1", in_path),
        ("not UTF-8 alone", put(&[0x80; 40]), "v1", in_path),
        ("cut UTF-8", put(&with(b"\xe2\x82")), "v1", in_path),
        ("a tab inside", put(&inside(b'\t')), "v1", true),
        ("a zero inside", put(&inside(0)), "v1", true),
        ("0x01 inside", put(&inside(1)), "v1", true),
        ("0x7f inside", put(&inside(0x7f)), "v1", true),
        ("an escape inside", put(&inside(0x1b)), "v1", true),
        ("a bare line feed inside", put(&inside(b'\n')), "v1", true),
    ]
}

/// The connection's worker still decides by the policy.
async fn alive(worker: &mut Connection) -> Result<()> {
    let answer = worker.ask(&page().header("x-api-version", "2")).await?;
    ensure!(
        answer.status == 200 && answer.echo()?.version == "v2",
        "{}",
        answer.seen()
    );
    Ok(())
}

#[tokio::test]
async fn whatever_is_read_is_read_right_or_refused() -> Result<()> {
    Stack::with(&policy(), async |stack| {
        let before = stack.envoy.vms().await?;
        let mut workers = stack.envoy.worker_connections().await?;
        let mut wrong = Vec::new();
        for place in &PLACES {
            for (number, (case, ask, version, may_refuse)) in cases(place).iter().enumerate() {
                // What Envoy refuses ends a connection, so that each gets its own.
                let answer = stack
                    .ask(ask)
                    .await
                    .with_context(|| format!("{}, {case}", place.name))?;
                let refused = *may_refuse && (400..500).contains(&answer.status);
                let served = answer.echo().ok().map(|echo| echo.version);
                if !(refused || answer.status == 200 && served.as_deref() == Some(version)) {
                    wrong.push(format!(
                        "{}, {case}: not {version}: {}",
                        place.name,
                        answer.seen()
                    ));
                }
                if !*may_refuse {
                    let at = number % workers.len();
                    let worker = workers.get_mut(at).context("no worker")?;
                    let again = worker.ask(ask).await?;
                    ensure!(again.status == answer.status, "{}", again.seen());
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        for worker in &mut workers {
            alive(worker).await?;
        }
        let after = stack.envoy.vms().await?;
        ensure!(before == after, "a VM died: {before:?} {after:?}");
        Ok(())
    })
    .await
}

fn group(answer: &Answer) -> Result<Option<String>> {
    Ok(answer.echo()?.header("x-ombre-group").map(str::to_owned))
}

#[tokio::test]
async fn a_broken_unit_gets_nobodys_group() -> Result<()> {
    Stack::with(&policy(), async |stack| {
        let before = stack.envoy.vms().await?;
        type Put = fn(&[&[u8]]) -> Ask;
        let places: [(&str, Put); 2] = [
            ("header", |values| header(page(), "x-user-id", values)),
            ("cookie", |values| cookies("uid", values)),
        ];
        let (alice, bob) = (b"alice".as_slice(), b"bob".as_slice());
        let alices = group(&stack.ask(&page().header("x-user-id", alice)).await?)?;
        let bobs = group(&stack.ask(&page().header("x-user-id", bob)).await?)?;
        ensure!(
            alices.is_some() && bobs.is_some() && alices != bobs,
            "choose other names"
        );
        let long = [alice, &b"e".repeat(20_000)].concat();
        for (place, put) in places {
            let own = group(&stack.ask(&put(&[alice])).await?)?;
            ensure!(own == alices, "{place}: {own:?}, not {alices:?}");
            let again = group(&stack.ask(&put(&[alice, alice])).await?)?;
            ensure!(again == alices, "{place}, twice: {again:?}");
            // Of two headers neither is believed; of two cookies the first is, as everywhere.
            let both = group(&stack.ask(&put(&[alice, bob])).await?)?;
            let due = if place == "header" {
                None
            } else {
                alices.clone()
            };
            ensure!(both == due, "{place}, alice and bob: {both:?}");
            for (name, value) in [("empty", b"".as_slice()), ("huge", &long)] {
                let answer = stack.ask(&put(&[value])).await?;
                let found = group(&answer)?;
                ensure!(found.is_none(), "{place}, {name}: {found:?}");
            }
            // Other bytes are another unit, or none, or a clear refusal.
            for value in [
                b"alice\xff".as_slice(),
                b"\xffalice",
                b"ali\xe2\x82ce",
                b"Alice",
                b"alice,bob",
                b"ali\tce",
                b"ali\0ce",
                b"alice\x7f",
                b"alice\x01",
            ] {
                let answer = stack.ask(&put(&[value])).await?;
                if (400..500).contains(&answer.status) {
                    continue;
                }
                let found = group(&answer)?;
                ensure!(
                    found.is_none() || found != alices && found != bobs,
                    "{place}, {value:?}: {found:?}"
                );
                let again = group(&stack.ask(&put(&[value])).await?)?;
                ensure!(
                    again == found,
                    "{place}, {value:?}: {again:?} after {found:?}"
                );
            }
        }
        let after = stack.envoy.vms().await?;
        ensure!(before == after, "a VM died: {before:?} {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn claims_and_names_of_hosts_do_no_harm() -> Result<()> {
    Stack::with(&policy(), async |stack| {
        let before = stack.envoy.vms().await?;
        let huge = b"x".repeat(20_000);
        let values: [&[u8]; 6] = [b"", b"claimed", b"\xff\xfe", b"a\tb", &huge, b"a\x01b"];
        for name in ["x-env-stage", "x-build-id"] {
            for value in values {
                for times in [1, 2] {
                    let ask = header(page(), name, &vec![value; times]);
                    let answer = stack.ask(&ask).await?;
                    if (400..500).contains(&answer.status) {
                        continue;
                    }
                    let got = answer.echo()?;
                    ensure!(got.header(name).is_none(), "{name}: {}", answer.seen());
                }
            }
        }
        for (name, bytes) in [
            ("empty", b"GET /shop/a HTTP/1.1\r\nhost:\r\n\r\n".to_vec()),
            (
                "twice",
                b"GET /shop/a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_vec(),
            ),
            (
                "not UTF-8",
                b"GET /shop/a HTTP/1.1\r\nhost: \xff\xfe\r\n\r\n".to_vec(),
            ),
            (
                "no name",
                b"GET /shop/a HTTP/1.1\r\nhost: :80:[\r\n\r\n".to_vec(),
            ),
            (
                "huge",
                [
                    b"GET /shop/a HTTP/1.1\r\nhost: ".as_slice(),
                    &huge,
                    b"\r\n\r\n",
                ]
                .concat(),
            ),
            (
                "another scheme",
                b"GET /shop/a HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: \xff\r\n\r\n".to_vec(),
            ),
            (
                "no such method",
                b"SH\xffP /shop/a HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            ),
        ] {
            let mut connection = Connection::open(stack.envoy.address()).await?;
            let answer = connection.send(&bytes, false).await;
            let answer = answer.with_context(|| name.to_owned())?;
            ensure!(
                answer.status == 200 || (400..500).contains(&answer.status),
                "{name}: {}",
                answer.seen()
            );
        }
        for mut worker in stack.envoy.worker_connections().await? {
            alive(&mut worker).await?;
        }
        let after = stack.envoy.vms().await?;
        ensure!(before == after, "a VM died: {before:?} {after:?}");
        Ok(())
    })
    .await
}
