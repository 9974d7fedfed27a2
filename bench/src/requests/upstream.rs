//! The upstream of every case: answers at once, a thread per connection. It tells what it got when
//! it is asked to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::Result;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n";

/// Starts one that lives as long as this program; its answers to `x-bench-echo` begin with `name`.
pub(crate) fn start(name: &'static str) -> Result<SocketAddr> {
    serve(move |stream, head| {
        if !head.windows(12).any(|window| window == b"x-bench-echo") {
            return stream.write_all(ANSWER);
        }
        let length = name.len() + 1 + head.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}\n"
        )?;
        stream.write_all(head)
    })
}

/// Serves requests without bodies on a port of its own.
pub(crate) fn serve(
    answer: impl Fn(&mut TcpStream, &[u8]) -> std::io::Result<()> + Clone + Send + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || connection(stream, answer));
        }
    });
    Ok(address)
}

/// Ends with the connection, whatever ends it.
fn connection(
    mut stream: TcpStream,
    answer: impl Fn(&mut TcpStream, &[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut head, mut part) = (Vec::new(), [0; 8192]);
    loop {
        let count = stream.read(&mut part)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(part.get(..count).unwrap_or_default());
        if head.ends_with(b"\r\n\r\n") {
            answer(&mut stream, &head)?;
            head.clear();
        }
    }
}
