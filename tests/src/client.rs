//! A client that sends requests byte for byte as told, well-formed or not, over a connection that
//! it keeps: which worker of Envoy answers depends on the connection. Responses are HTTP/1.1 with
//! `content-length`, which is all that Envoy sends for the demo upstream and its own replies.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::upstream::Echo;

/// The `Host` of requests that do not say another.
pub const HOST: &str = "shop.example.com";

/// How long an answer may take before it counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(10);

const MAX_HEADERS: usize = 128;

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Ask {
    method: String,
    path: String,
    host: String,
    headers: Vec<(String, Vec<u8>)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// A kept connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What was read beyond the last answer.
    rest: Vec<u8>,
}

impl Ask {
    /// `GET path`, as it stands.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// `method path`, as they stand.
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            host: HOST.to_owned(),
            headers: Vec::new(),
        }
    }

    /// The same with one header more; a name may come several times.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// The same for another `Host`.
    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// The bytes of the request.
    pub fn encode(&self) -> Vec<u8> {
        let Self {
            method,
            path,
            host,
            headers,
        } = self;
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n").into_bytes();
        if !matches!(method.as_str(), "GET" | "HEAD" | "OPTIONS") {
            bytes.extend_from_slice(b"content-length: 0\r\n");
        }
        for (name, value) in headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// All values of a header, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let found = self.headers.iter().filter(move |(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| self.seen())
    }

    /// All of it in one line, for messages.
    pub fn seen(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!("{} {:?} {body}", self.status, self.headers)
    }

    /// What the demo upstream echoed.
    ///
    /// # Errors
    /// When the body is not its answer.
    pub fn echo(&self) -> Result<Echo> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "not an answer of the demo upstream: {} `{}`",
                self.status,
                String::from_utf8_lossy(&self.body)
            )
        })
    }

    /// One part of `x-ombre-decision: route=..;version=..;reason=..`.
    pub fn decision(&self, part: &str) -> Option<&str> {
        self.header("x-ombre-decision")?
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(name, value)| (name == part).then_some(value))
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address))
            .await
            .context("no connection in time")?
            .with_context(|| format!("no connection to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            rest: Vec::new(),
        })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// When the connection breaks, the answer is late or cannot be read.
    pub async fn ask(&mut self, ask: &Ask) -> Result<Answer> {
        self.send(&ask.encode(), ask.method == "HEAD").await
    }

    /// Sends bytes and reads one answer; `bodiless` when the method was HEAD.
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub async fn send(&mut self, bytes: &[u8], bodiless: bool) -> Result<Answer> {
        let exchange = async {
            self.stream.write_all(bytes).await?;
            self.read(bodiless).await
        };
        timeout(PATIENCE, exchange)
            .await
            .context("no answer in time")?
    }

    async fn read(&mut self, bodiless: bool) -> Result<Answer> {
        let (mut answer, head) = loop {
            if let Some(parsed) = parse_head(&self.rest)? {
                break parsed;
            }
            self.read_more().await?;
        };
        let length: usize = match answer.header("content-length") {
            Some(length) if !bodiless => length.parse()?,
            None if answer.header("transfer-encoding").is_some() => {
                bail!("the client reads no chunked answers")
            }
            _ => 0,
        };
        while self.rest.len() < head + length {
            self.read_more().await?;
        }
        let left = self.rest.split_off(head + length);
        answer.body = std::mem::replace(&mut self.rest, left).split_off(head);
        Ok(answer)
    }

    async fn read_more(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.rest).await? == 0 {
            bail!(
                "the connection was closed after {} bytes of the answer",
                self.rest.len()
            );
        }
        Ok(())
    }
}

/// Asks once over a connection of its own.
///
/// # Errors
/// As [`Connection::ask`].
pub async fn ask(address: SocketAddr, ask: &Ask) -> Result<Answer> {
    Connection::open(address).await?.ask(ask).await
}

/// The head of an answer and its length, once it is complete.
fn parse_head(bytes: &[u8]) -> Result<Option<(Answer, usize)>> {
    let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut slots);
    let httparse::Status::Complete(length) = response.parse(bytes)? else {
        return Ok(None);
    };
    let headers = response.headers.iter().map(|header| {
        let value = String::from_utf8_lossy(header.value).into_owned();
        (header.name.to_ascii_lowercase(), value)
    });
    let answer = Answer {
        status: response.code.context("an answer without a status")?,
        headers: headers.collect(),
        body: Vec::new(),
    };
    Ok(Some((answer, length)))
}
