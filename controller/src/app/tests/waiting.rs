//! Who waits for news, over connections as they are.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::*;
use crate::nodes::Node;

async fn ask(address: SocketAddr, kind: Kind, after: Revision) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let path = format!("/v1/delivery/{}?after={after}", kind.name());
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nx-ombre-node: e1\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

/// Waits until the only node is like this, and so many polls wait.
async fn until(fixture: &Fixture, waiting: usize, so: impl Fn(&Node) -> bool) {
    let is = || {
        let list = fixture.app.nodes.list();
        list.first().is_some_and(&so) && fixture.app.publisher.documents().waiting() == waiting
    };
    let wait = async {
        while !is() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, wait).await.expect("in time");
}

#[tokio::test]
async fn an_envoy_whose_polls_wait_is_there_and_one_that_hangs_up_has_left() {
    let fixture = Fixture::with_policy();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = router(fixture.app.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let poll = |kind| ask(address, kind, fixture.revision(kind));

    let policy = poll(Kind::Policy).await;
    let mut decisions = poll(Kind::Decisions).await;
    until(&fixture, 2, |node| !node.left).await;
    let begun = SystemTime::now();
    assert!(fixture.app.nodes.list()[0].last_seen >= begun, "there");
    drop(policy);
    until(&fixture, 1, |node| !node.left).await;

    let weight = json!({ "services": { "shop": { "weight": 30 } } });
    let weight = serde_json::from_value(weight).unwrap();
    fixture.app.publisher.put_decisions(weight).unwrap();
    let mut answer = [0; 12];
    decisions.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    until(&fixture, 0, |node| !node.left).await;
    drop(decisions);

    let again = poll(Kind::Policy).await;
    until(&fixture, 1, |node| !node.left).await;
    drop(again);
    until(&fixture, 0, |node| node.left).await;
    let back = poll(Kind::Policy).await;
    until(&fixture, 1, |node| !node.left).await;
    drop(back);
    server.abort();
}
