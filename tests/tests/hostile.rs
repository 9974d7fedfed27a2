//! What a hostile or broken client sends gets a right answer, and the filter's VM lives: its next
//! request on the same worker is decided by the policy, and `wasm.*` counts no reload.

use anyhow::{Context, Result, ensure};
use ombre_tests::client::{Answer, Ask, Connection};
use ombre_tests::stack::Stack;

const POLICY: &str = r#"apiVersion: ombre/v1
services:
  - name: shop
    routes:
      - { name: api, path: "/api/{version}/{*rest}" }
      - { name: pages, path: "/shop/{*rest}" }
    versions: [{ name: v1, cluster: demo_v1 }, { name: v2, cluster: demo_v2 }]
    default: v1
    colors: { canary-v2: v2 }
    unit: [{ header: x-user-id }, { cookie: uid }, mint]
    rollout: { candidate: v2, weight: 0 }
    verification: { token: a-secret-of-many-bytes }
"#;

/// The headers that the filter reads, and some that it does not.
const READ: [&str; 9] = [
    "accept",
    "cookie",
    "x-envoy-traffic-color",
    "x-api-version",
    "x-user-id",
    "baggage",
    "x-stage",
    "x-stage-token",
    "x-anything",
];

fn page() -> Ask {
    Ask::get("/shop/a")
}

/// The connection's worker still decides by the policy.
async fn alive(connection: &mut Connection) -> Result<()> {
    let answer = connection.ask(&page().header("x-api-version", "2")).await?;
    ensure!(
        answer.status == 200 && answer.echo()?.version == "v2",
        "the worker does not decide any more: {} {:?}",
        answer.status,
        answer.headers
    );
    Ok(())
}

fn cookies(count: usize, last: &str) -> String {
    let mut line: String = (0..count - 1)
        .map(|number| format!("cookie-{number}=value-{number}; "))
        .collect();
    line.push_str(last);
    line
}

#[tokio::test]
async fn hostile_requests_get_right_answers_and_the_vm_lives() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let before = stack.envoy.vms().await?;
        let high: Vec<u8> = (0x80..=0xff).collect();
        let color = "traffic_color=canary-v2";
        let cases: Vec<(&str, Ask, u16, Option<&str>)> = vec![
            (
                "forged cluster",
                page().header("x-ombre-cluster", "demo_v2"),
                200,
                Some("v1"),
            ),
            (
                "forged cluster, upper case",
                page().header("X-Ombre-Cluster", "demo_v2"),
                200,
                Some("v1"),
            ),
            (
                "forged cluster twice",
                page()
                    .header("x-ombre-cluster", "demo_v2")
                    .header("x-ombre-cluster", "demo_v2"),
                200,
                Some("v1"),
            ),
            (
                "forged cluster that does not exist",
                page().header("x-ombre-cluster", "nowhere"),
                200,
                Some("v1"),
            ),
            (
                "forged cluster where no route matches",
                Ask::get("/elsewhere").header("x-ombre-cluster", "demo_v2"),
                200,
                Some("v1"),
            ),
            (
                "forged decision and group",
                page()
                    .header("x-ombre-decision", "version=v2")
                    .header("x-ombre-group", "a=b"),
                200,
                Some("v1"),
            ),
            (
                "forged cookie to be set",
                page().header("x-ombre-set-cookie", "session=stolen"),
                200,
                Some("v1"),
            ),
            (
                "stage without a token",
                page().header("x-stage", "v2"),
                200,
                Some("v1"),
            ),
            (
                "stage with a wrong token",
                page()
                    .header("x-stage", "v2")
                    .header("x-stage-token", "a-secret-of-many-bytez"),
                200,
                Some("v1"),
            ),
            (
                "bytes above 0x7f where nobody reads",
                page().header("x-anything", &high),
                200,
                Some("v1"),
            ),
            (
                "bytes above 0x7f in accept",
                page().header("accept", &high),
                200,
                Some("v1"),
            ),
            (
                "bytes above 0x7f in a cookie",
                page().header("cookie", [&high, color.as_bytes()].join(&b"; "[..])),
                200,
                Some("v2"),
            ),
            (
                "bytes above 0x7f as a color",
                page().header("x-envoy-traffic-color", &high),
                200,
                Some("v1"),
            ),
            (
                "bytes above 0x7f as a version",
                page().header("x-api-version", &high),
                200,
                Some("v1"),
            ),
            (
                "bytes above 0x7f as a unit",
                page().header("x-user-id", &high),
                200,
                Some("v1"),
            ),
            (
                "bytes above 0x7f in baggage",
                page().header("baggage", &high),
                200,
                Some("v1"),
            ),
            ("empty accept", page().header("accept", ""), 200, Some("v1")),
            (
                "accept of commas",
                page().header("accept", ",;,;q=,;q=;,/,*"),
                200,
                Some("v1"),
            ),
            (
                "everything empty",
                READ.iter().fold(page(), |ask, name| ask.header(name, "")),
                200,
                Some("v1"),
            ),
            (
                "200 cookies",
                page().header("cookie", cookies(200, color)),
                200,
                Some("v2"),
            ),
            (
                "a version of many digits",
                page().header("x-api-version", "9".repeat(400)),
                200,
                Some("v1"),
            ),
            (
                "a path of many segments",
                Ask::get(&format!("/shop{}", "/a".repeat(4000))),
                200,
                Some("v1"),
            ),
            (
                "a query of many parameters",
                Ask::get(&format!("/shop/a?{}version=v2", "a=b&".repeat(3000))),
                200,
                Some("v2"),
            ),
            // envoy.yaml takes 96 KiB of headers in all: what does not fit is 431.
            (
                "a header of 60 KB",
                page().header("x-anything", "x".repeat(60_000)),
                200,
                Some("v1"),
            ),
            (
                "a header of 60 KB that is read",
                page().header(
                    "accept",
                    format!("{}application/vnd.api+v2", "a/b, ".repeat(11_900)),
                ),
                200,
                Some("v2"),
            ),
            (
                "more than Envoy takes",
                page().header("x-anything", "x".repeat(100_000)),
                431,
                None,
            ),
        ];
        let mut wrong = Vec::new();
        for mut worker in stack.envoy.worker_connections().await? {
            for (name, ask, status, version) in &cases {
                let answer = worker.ask(ask).await.with_context(|| (*name).to_owned())?;
                let served = answer.echo().ok().map(|echo| echo.version);
                if answer.status != *status || served.as_deref() != *version {
                    wrong.push(format!(
                        "{name}: {} {served:?} {:?}",
                        answer.status, answer.headers
                    ));
                }
                ensure!(
                    answer
                        .header("set-cookie")
                        .is_none_or(|cookie| !cookie.contains("stolen")),
                    "{name}: the client set its own cookie"
                );
                // Envoy closes a connection whose request it did not read.
                if *status == 200 {
                    alive(&mut worker)
                        .await
                        .with_context(|| (*name).to_owned())?;
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        let after = stack.envoy.vms().await?;
        ensure!(before == after, "a VM died: {before:?} {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_only_ombre_may_say_is_taken_from_the_client() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let forged = [
            ("x-ombre-cluster", "demo_v2"),
            ("x-ombre-decision", "route=forged"),
            ("x-ombre-group", "checkout=treatment"),
            ("x-ombre-features", "forged"),
            ("x-ombre-set-cookie", "session=forged"),
            ("X-Ombre-Anything", "forged"),
            // CGI and its heirs read these as the ones with hyphens.
            ("x_ombre_group", "forged"),
            ("X-Ombre_Features", "forged"),
            ("x_env_stage", "forged"),
        ];
        for (path, cluster) in [("/shop/a", "demo_v1"), ("/elsewhere", "demo_v1")] {
            let ask = forged.iter().fold(
                Ask::get(path).header("x-user-id", "bob"),
                |ask, (name, value)| ask.header(name, value),
            );
            let answer = stack.ask(&ask).await?;
            let echo = answer.echo()?;
            for (name, value) in forged {
                let name = name.to_ascii_lowercase();
                let got = echo.headers.get(&name).map(String::as_str);
                ensure!(
                    got != Some(value),
                    "{path}: the upstream got the forged {name}: {got:?}"
                );
            }
            let got = echo.headers.get("x-ombre-cluster").map(String::as_str);
            ensure!(got == Some(cluster), "{path}: x-ombre-cluster is {got:?}");
            let answered = format!("{:?}", answer.headers);
            ensure!(
                !answered.contains("forged"),
                "{path}: the client got {answered}"
            );
        }
        Ok(())
    })
    .await
}

/// Bytes that HTTP/1 allows in a header's value, in an order that is the same in every run.
fn any_value(state: &mut u64) -> Vec<u8> {
    let mut next = || {
        *state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as usize
    };
    // Words of the formats that are read, so that the bytes get past the first check.
    let words: [&[u8]; 10] = [
        b"application/vnd.",
        b"+json",
        b";q=",
        b"v2",
        b"traffic_color=",
        b"traffic-color=",
        b"; ",
        b",",
        b"%ff",
        b"=",
    ];
    let mut value = b"x".to_vec();
    for _ in 0..next() % 12 {
        if next() % 2 == 0 {
            value.extend(words.get(next() % words.len()).copied().unwrap_or_default());
        } else {
            value.push(match next() % 256 {
                byte @ (0x20..=0x7e | 0x80..=0xff) => byte as u8,
                _ => b'\t',
            });
        }
    }
    value.push(b'x');
    value
}

#[tokio::test]
async fn no_bytes_in_any_header_that_is_read_kill_the_vm() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let before = stack.envoy.vms().await?;
        let mut state = 7;
        for mut worker in stack.envoy.worker_connections().await? {
            for round in 0..300 {
                let ask = READ
                    .iter()
                    .fold(page(), |ask, name| ask.header(name, any_value(&mut state)));
                let answer: Answer = worker
                    .ask(&ask)
                    .await
                    .with_context(|| format!("round {round}: {ask:?}"))?;
                ensure!(
                    answer.status == 200,
                    "round {round}: {} {ask:?}",
                    answer.status
                );
            }
            alive(&mut worker).await?;
        }
        let after = stack.envoy.vms().await?;
        ensure!(before == after, "a VM died: {before:?} {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn bytes_that_are_no_request_are_envoys_to_refuse() -> Result<()> {
    Stack::with(POLICY, async |stack| {
        let before = stack.envoy.vms().await?;
        for (name, bytes) in [
            (
                "bytes above 0x7f in the path",
                b"GET /shop/\xff\xfe HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(),
            ),
            ("no host", b"GET /shop/a HTTP/1.1\r\n\r\n"),
            (
                "a zero byte in a value",
                b"GET /shop/a HTTP/1.1\r\nhost: a\r\naccept: a\0b\r\n\r\n",
            ),
            ("a request line of noise", b"\x01\x02\x03\r\n\r\n"),
        ] {
            let mut connection = Connection::open(stack.envoy.address()).await?;
            let answer = connection
                .send(bytes, false)
                .await
                .with_context(|| name.to_owned())?;
            ensure!(
                (400..500).contains(&answer.status),
                "{name}: {}",
                answer.status
            );
        }
        // An encoded slash or dot segment is no way around a route.
        for (path, due) in [
            ("/shop/../api/v2/x", "api"),
            ("//shop//a", "pages"),
            ("/api/v2/x/%2e%2e/y", "api"),
        ] {
            let answer = stack.ask(&Ask::get(path)).await?;
            ensure!(
                answer.decision("route") == Some(due),
                "{path}: {} {:?}",
                answer.status,
                answer.headers
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
