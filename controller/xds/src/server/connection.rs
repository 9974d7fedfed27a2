//! Connections before there is gRPC on them: accepted, bounded in number, wrapped in TLS where there
//! is TLS, with the names that the client's certificate gives it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{Stream, unfold};
use ombre_tls::{self as tls, Names, Tls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tonic::transport::server::{Connected, TcpIncoming};
use tracing::{debug, warn};

use super::Limits;
use crate::line::Line;

/// A connection that streams can be opened on.
pub(super) struct Connection {
    io: Io,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// The names in its certificate; none without TLS.
    pub(super) names: Option<Arc<Names>>,
    /// Whether it closed the connection.
    pub(super) line: Line,
}

enum Io {
    Plain(TcpStream),
    Tls(Box<tls::Stream>),
}

/// The connections, as they become ready.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<Tls>,
    limits: &Limits,
) -> impl Stream<Item = io::Result<Connection>> + use<> {
    let (ready, receiver) = mpsc::channel(64);
    let listener = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(limits.keepalive));
    let places = Arc::new(Semaphore::new(limits.connections));
    tokio::spawn(accept(listener, tls, places, limits.patience, ready));
    unfold(receiver, async |mut receiver| {
        let connection = receiver.recv().await?;
        Some((Ok(connection), receiver))
    })
}

async fn accept(
    mut listener: TcpIncoming,
    tls: Option<Tls>,
    places: Arc<Semaphore>,
    patience: Duration,
    ready: mpsc::Sender<Connection>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.next() => accepted,
            () = ready.closed() => return,
        };
        let stream = match accepted {
            Some(Ok(stream)) => stream,
            Some(Err(error)) => {
                warn!(%error, "xds connection not accepted");
                // There may be no file left to open; trying at once would only keep the machine busy.
                sleep(Duration::from_millis(100)).await;
                continue;
            }
            None => return,
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!("xds connection closed: there are too many");
            continue;
        };
        let Some(tls) = &tls else {
            let io = Io::Plain(stream);
            let peer = Peer {
                names: None,
                line: Line::default(),
            };
            let connection = Connection {
                io,
                peer,
                _place: place,
            };
            if ready.send(connection).await.is_err() {
                return;
            }
            continue;
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            match timeout(patience, handshake(&tls, stream, place)).await {
                // When the server ends now, so does the connection.
                Ok(Ok(connection)) => drop(ready.send(connection).await),
                Ok(Err(error)) => warn!(%error, "xds connection refused"),
                Err(_) => debug!("xds connection closed: no TLS in time"),
            }
        });
    }
}

async fn handshake(
    tls: &Tls,
    stream: TcpStream,
    place: OwnedSemaphorePermit,
) -> io::Result<Connection> {
    let (stream, names) = tls.accept(stream).await?;
    let peer = Peer {
        names: Some(Arc::new(names)),
        line: Line::default(),
    };
    Ok(Connection {
        io: Io::Tls(Box::new(stream)),
        peer,
        _place: place,
    })
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let free = buf.remaining();
        let read = match &mut this.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let ended = match &read {
            Poll::Ready(Ok(())) => free > 0 && buf.remaining() == free,
            // TLS that ended without saying so. A reset may come from anything on the way.
            Poll::Ready(Err(error)) => error.kind() == io::ErrorKind::UnexpectedEof,
            Poll::Pending => false,
        };
        if ended {
            this.peer.line.hang_up();
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
