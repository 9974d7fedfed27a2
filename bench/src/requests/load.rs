//! The generator: a few kept connections, one request at a time on each, all in one thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::mix;

const CONNECTIONS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);
const MAX_ANSWER: usize = 64 * 1024;

/// Kept connections to one listener.
pub(crate) struct Connections {
    streams: Vec<TcpStream>,
    requests: Vec<Vec<u8>>,
    status: u16,
    sent: usize,
    buffer: Vec<u8>,
}

impl Connections {
    /// Connects; every answer has to have this status.
    pub(crate) fn open(address: SocketAddr, status: u16) -> Result<Self> {
        let streams: Result<Vec<TcpStream>> = (0..CONNECTIONS).map(|_| connect(address)).collect();
        Ok(Self {
            streams: streams?,
            requests: mix::all(),
            status,
            sent: 0,
            buffer: Vec::new(),
        })
    }

    /// Sends so many requests of the mix and reads their answers.
    pub(crate) fn burst(&mut self, count: usize) -> Result<()> {
        for _ in 0..count.div_ceil(CONNECTIONS) {
            for stream in &mut self.streams {
                let request = self.requests.get(self.sent % self.requests.len());
                stream.write_all(request.context("an empty mix")?)?;
                self.sent += 1;
            }
            for stream in &mut self.streams {
                let status = read(stream, &mut self.buffer)?.status;
                ensure!(
                    status == self.status,
                    "status {status}, not {}",
                    self.status
                );
            }
        }
        Ok(())
    }
}

/// An answer in the buffer that it was read into.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Where the body begins.
    pub(crate) body: usize,
}

/// Connects to a listener.
pub(crate) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect(address).with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads one answer, which must be all that comes.
pub(crate) fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Answer> {
    buffer.clear();
    let mut part = [0; 8192];
    loop {
        let count = stream.read(&mut part)?;
        ensure!(count > 0, "the connection was closed");
        buffer.extend_from_slice(part.get(..count).unwrap_or_default());
        ensure!(buffer.len() < MAX_ANSWER, "an endless answer");
        let Some(head) = find(buffer, b"\r\n\r\n") else {
            continue;
        };
        let length = number_behind(buffer, b"\r\ncontent-length: ").unwrap_or(0);
        if buffer.len() >= head + 4 + length {
            let status = number_behind(buffer, b"HTTP/1.1 ").context("no status")?;
            return Ok(Answer {
                status: u16::try_from(status)?,
                body: head + 4,
            });
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

/// The digits behind the first `what`.
fn number_behind(text: &[u8], what: &[u8]) -> Option<usize> {
    let digits = text.get(find(text, what)? + what.len()..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}
