//! What the pollers of other machines are served, and who of them.

use ombre_tls::{Protocol, Tls};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::authority::Authority;
use crate::door::Door;
use crate::metrics::Now;
use crate::server::{Limits, serve};

#[tokio::test]
async fn pollers_are_served_documents_and_nothing_else() {
    let fixture = Fixture::with_policy();
    let document = read_json(fixture.get("/v1/openapi.json").await).await;
    let paths = document["paths"].as_object().unwrap();
    let mut served = Vec::new();
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys() {
            let target = path.replace("{kind}", "policy").replace(['{', '}'], "");
            let method = method.to_uppercase();
            let request = Request::builder().method(method.as_str()).uri(&target);
            let request = request.body(Body::empty()).unwrap();
            let answer = delivery_router(fixture.app.clone()).oneshot(request);
            let status = timeout(SOON, answer).await.unwrap().unwrap().status();
            match status {
                StatusCode::NOT_FOUND => {}
                status => served.push(format!("{method} {path}: {}", status.as_u16())),
            }
        }
    }
    let expected = ["GET /healthz: 200", "GET /v1/delivery/{kind}: 200"];
    assert_eq!(served, expected);
}

#[tokio::test]
async fn a_poll_over_tls_is_of_a_node_that_the_certificate_names() {
    let fixture = Fixture::with_policy();
    let authority = Authority::new();
    let door = Door {
        listener: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        tls: Some(
            Tls::open(
                authority.server(),
                Protocol::Http1,
                fixture.app.stop.clone(),
            )
            .unwrap(),
        ),
    };
    let address = door.listener.local_addr().unwrap();
    let router = delivery_router(fixture.app.clone());
    let stop = fixture.app.stop.clone();
    let server = tokio::spawn(serve(door, router, Limits::default(), stop));
    let poll = async |path: &str, headers: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = authority.client(Some(authority.issue("e1.example.com")));
        let mut stream = connector.connect(name, stream).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
        read.expect("an answer").unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (policy, ahead) = (
        "/v1/delivery/policy",
        "/v1/delivery/policy?after=1234567890123456",
    );
    let before = fixture.revision(Kind::Policy);
    for (name, path, headers) in [
        ("another node", policy, "x-ombre-node: e2.example.com\r\n"),
        ("part of a name", policy, "x-ombre-node: e1\r\n"),
        ("no node", policy, ""),
        ("an empty one", policy, "x-ombre-node: \r\n"),
        (
            "another first",
            policy,
            "x-ombre-node: e2\r\nx-ombre-node: e1.example.com\r\n",
        ),
        ("one that is ahead", ahead, "x-ombre-node: e2\r\n"),
    ] {
        let answer = poll(path, headers).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{name}: {answer}");
        assert!(answer.contains("`e1.example.com`"), "{name}: {answer}");
        assert!(!answer.contains("OMBR"), "{name}: {answer}");
        assert!(fixture.app.nodes.list().is_empty(), "{name}");
    }
    assert_eq!(fixture.revision(Kind::Policy), before);
    let metrics = fixture.app.metrics.text(Now::nothing());
    let line = "ombre_polls_total{kind=\"policy\",result=\"refused\"} 6";
    assert!(metrics.contains(line), "{metrics}");

    let answer = poll(policy, "x-ombre-node: e1.example.com\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let names: Vec<String> = fixture
        .app
        .nodes
        .list()
        .into_iter()
        .map(|node| node.identity.name)
        .collect();
    assert_eq!(names, ["e1.example.com"]);
    let answer = poll("/healthz", "").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.abort();
}
