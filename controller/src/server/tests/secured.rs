//! The same over TLS: whoever is not let in holds nothing for long.

use ombre_tls::{Protocol, Tls};
use rustls::pki_types::ServerName;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::authority::Authority;

const BRIEF: Duration = Duration::from_millis(50);

impl Running {
    async fn secured(limits: Limits, authority: &Authority) -> Self {
        let (stop, stopped) = watch::channel(false);
        let tls = Tls::open(authority.server(), Protocol::Http1, stopped).unwrap();
        Self::started(limits, Some(tls), stop).await
    }

    /// A client that trusts the first and has a certificate of the other, or none.
    async fn client_of(
        &self,
        authority: &Authority,
        own: Option<&Authority>,
    ) -> io::Result<Client<TlsStream<TcpStream>>> {
        let connector = authority.client(own.map(|own| own.issue("e1")));
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connected = timeout(SOON, connector.connect(name, stream)).await;
        Ok(Client(connected.expect("in time")?))
    }
}

#[tokio::test]
async fn who_is_not_let_in_holds_no_place() {
    let (own, foreign) = (Authority::new(), Authority::new());
    let limits = Limits {
        connections: 1,
        handshake: BRIEF,
        ..Limits::default()
    };
    let running = Running::secured(limits, &own).await;
    let mut silent = running.client().await;
    let mut plain = running.client().await;
    plain.ask("/now").await.unwrap();
    // With TLS 1.3 a client may hear of the refusal only after its own handshake was done.
    for (name, certificate) in [("none", None), ("foreign", Some(&foreign))] {
        if let Ok(mut client) = running.client_of(&own, certificate).await {
            // It may be refused in between.
            let _ = client.ask("/now").await;
            assert_eq!(client.answer().await, None, "{name}");
        }
    }
    let mut known = running.client_of(&own, Some(&own)).await.unwrap();
    known.ask("/now").await.unwrap();
    assert_eq!(known.answer().await, Some(204));
    assert_eq!(silent.answer().await, None);
    assert_eq!(plain.answer().await, None);
}

#[tokio::test]
async fn silence_counts_after_the_handshake_too() {
    let own = Authority::new();
    let limits = Limits {
        silence: BRIEF,
        ..Limits::default()
    };
    let running = Running::secured(limits, &own).await;
    let mut silent = running.client_of(&own, Some(&own)).await.unwrap();
    assert_eq!(silent.answer().await, None);
}

#[tokio::test]
async fn at_the_end_handshakes_are_broken_off_and_requests_answered_still() {
    let own = Authority::new();
    let limits = Limits {
        handshake: SOON * 2,
        ..Limits::default()
    };
    let running = Running::secured(limits, &own).await;
    let mut silent = running.client().await;
    let mut waiting = running.client_of(&own, Some(&own)).await.unwrap();
    running.waits(&mut waiting).await;
    running.stop.send_replace(true);
    assert_eq!(silent.answer().await, None);
    assert!(!running.server.is_finished(), "a request waits");
    running.news.send_replace(true);
    assert_eq!(waiting.answer().await, Some(200));
    assert_eq!(waiting.answer().await, None);
    let ended = timeout(SOON, running.server).await;
    ended.expect("nothing is left to do").unwrap();
}
