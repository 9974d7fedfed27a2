use std::net::SocketAddr;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

mod secured;

const SOON: Duration = Duration::from_secs(20);

/// A server of `/now`, and of `/news`, which waits for some.
struct Running {
    address: SocketAddr,
    news: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

struct Client<S>(S);

impl Running {
    async fn start(limits: Limits) -> Self {
        Self::started(limits, None, watch::Sender::new(false)).await
    }

    async fn started(limits: Limits, tls: Option<Tls>, stop: watch::Sender<bool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let news = watch::Sender::new(false);
        let router = Router::new()
            .route("/now", get(async || StatusCode::NO_CONTENT))
            .route("/news", get(wait))
            .with_state(news.clone());
        let server = tokio::spawn(serve(
            Door { listener, tls },
            router,
            limits,
            stop.subscribe(),
        ));
        Self {
            address,
            news,
            stop,
            server,
        }
    }

    async fn client(&self) -> Client<TcpStream> {
        Client(TcpStream::connect(self.address).await.unwrap())
    }

    /// A client whose request waits.
    async fn waiting(&self) -> Client<TcpStream> {
        let mut client = self.client().await;
        self.waits(&mut client).await;
        client
    }

    /// Lets its request wait.
    async fn waits(&self, client: &mut Client<impl AsyncRead + AsyncWrite + Unpin>) {
        let before = self.news.receiver_count();
        client.ask("/news").await.unwrap();
        let waits = async {
            while self.news.receiver_count() == before {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, waits).await.expect("the request arrives");
    }
}

async fn wait(State(news): State<watch::Sender<bool>>) -> StatusCode {
    let _ = news.subscribe().wait_for(|news| *news).await;
    StatusCode::OK
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    async fn ask(&mut self, path: &str) -> io::Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.0.write_all(request.as_bytes()).await?;
        self.0.flush().await
    }

    /// The status of the next answer; none when the connection was closed instead.
    async fn answer(&mut self) -> Option<u16> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(SOON, self.0.read_u8()).await.expect("an answer");
            head.push(byte.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        Some(head.split(' ').nth(1).unwrap().parse().unwrap())
    }
}

#[tokio::test]
async fn at_the_end_silent_connections_are_closed_and_requests_answered_still() {
    let running = Running::start(Limits::default()).await;
    let (mut waiting, mut idle) = (running.waiting().await, running.client().await);
    idle.ask("/now").await.unwrap();
    assert_eq!(idle.answer().await, Some(204));
    let mut silent = running.client().await;
    running.stop.send_replace(true);
    assert_eq!(idle.answer().await, None);
    assert_eq!(silent.answer().await, None);
    assert!(TcpStream::connect(running.address).await.is_err());
    assert!(!running.server.is_finished(), "a request waits");
    running.news.send_replace(true);
    assert_eq!(waiting.answer().await, Some(200));
    assert_eq!(waiting.answer().await, None);
    let ended = timeout(SOON, running.server).await;
    ended.expect("nothing is left to do").unwrap();
}

#[tokio::test]
async fn who_is_silent_is_cut_off_and_who_waits_is_not() {
    let running = Running::start(Limits {
        silence: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let mut waiting = running.waiting().await;
    let (mut silent, mut slow) = (running.client().await, running.client().await);
    let half = b"GET /now HTTP/1.1\r\nhost: local";
    slow.0.write_all(half).await.unwrap();
    let mut idle = running.client().await;
    idle.ask("/now").await.unwrap();
    assert_eq!(idle.answer().await, Some(204));
    for client in [&mut silent, &mut slow, &mut idle] {
        assert_eq!(client.answer().await, None);
    }
    running.news.send_replace(true);
    assert_eq!(waiting.answer().await, Some(200));
}

#[tokio::test]
async fn more_connections_than_there_are_places_wait() {
    let running = Running::start(Limits {
        connections: 2,
        ..Limits::default()
    })
    .await;
    let (_waiting, mut second) = (running.waiting().await, running.client().await);
    second.ask("/now").await.unwrap();
    assert_eq!(second.answer().await, Some(204));
    let mut third = running.client().await;
    third.ask("/now").await.unwrap();
    // A server that took it would have answered it in between.
    for _ in 0..100 {
        second.ask("/now").await.unwrap();
        assert_eq!(second.answer().await, Some(204));
    }
    let early = third.0.try_read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(early, Err(ErrorKind::WouldBlock));
    drop(second);
    assert_eq!(third.answer().await, Some(204));
}

#[test]
fn a_request_lets_go_of_the_buffer_that_it_was_read_into_and_stays_as_it_was() {
    for target in [
        "/v1/delivery/policy?after=7",
        "/",
        "*",
        "http://localhost/now?a=%20b",
        "host:80",
    ] {
        let buffer = Bytes::from(format!("{target} \u{e9} twice"));
        let part = |text: &str| {
            let start = buffer.len() - text.len();
            HeaderValue::from_maybe_shared(buffer.slice(start..)).unwrap()
        };
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_maybe_shared(buffer.slice(..target.len())).unwrap();
        for value in ["\u{e9} twice", "twice", "twice"] {
            request.headers_mut().append("x-value", part(value));
        }
        assert!(!buffer.is_unique(), "{target}");
        let before = (
            request.uri().to_string(),
            format!("{:?}", request.headers()),
        );
        let request = detached(request);
        let after = (
            request.uri().to_string(),
            format!("{:?}", request.headers()),
        );
        assert_eq!(before, after);
        assert!(buffer.is_unique(), "{target}");
    }
}

#[test]
fn only_errors_of_one_client_are_passed_over_at_once() {
    const ECONNABORTED: i32 = 103;
    const EMFILE: i32 = 24;
    for (name, code, expected) in [("aborted", ECONNABORTED, true), ("no file", EMFILE, false)] {
        let error = io::Error::from_raw_os_error(code);
        assert_eq!(is_of_one_client(&error), expected, "{name}");
    }
}
