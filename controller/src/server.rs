//! Takes connections and answers on them by HTTP/1.1. Thousands of filters wait here for news, each on
//! a connection of its own: what one costs is kept small, and their number and their silence bounded.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request};
use futures_util::FutureExt;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tracing::{debug, error, warn};

/// Files may be closed in this time, when there are none left to take a connection with.
const PAUSE: Duration = Duration::from_secs(1);

/// After an outage all Envoys come back at once, and whom the kernel has no room for tries again after
/// seconds. It may allow less.
const BACKLOG: u32 = 4096;

/// What the server takes. The defaults are above what clients need.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait until one is closed.
    pub connections: usize,
    /// How long a client may take from an answer, or from connecting, to the end of a request's headers.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two polls of 10,000 Envoys, and as many again while they reconnect.
            connections: 40_000,
            // Not a minute nor half of one, by which many ask: the connection that one of them is about
            // to use again would be closed just then.
            silence: Duration::from_secs(75),
        }
    }
}

/// Listens there.
///
/// # Errors
/// When the system refuses.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` becomes true, and then until every request that is there is answered.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(limits.silence);
    let connections = GracefulShutdown::new();
    loop {
        let (stream, place) = tokio::select! {
            Some(accepted) = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let service = service.clone();
        let answer = service_fn(move |request| service.call(detached(request)));
        let connection = http.serve_connection(TokioIo::new(stream), answer);
        // An `async` block would hold the connection twice: as what it captures and as what it awaits.
        tokio::spawn(connections.watch(connection).map(move |ended| {
            drop(place);
            if let Err(error) = ended {
                debug!(%error, "connection ended");
            }
        }));
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    if places.available_permits() == 0 {
        warn!("there are as many connections as the API takes: more wait until one is closed");
    }
    // Never none: nobody closes the semaphore.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, place)),
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                error!(%error, "connections cannot be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// The request, apart from the buffer that it was read into. While that is held, each request that waits
/// takes another one of 8 KB, in which hyper would see that the client is gone.
fn detached<B>(mut request: Request<B>) -> Request<B> {
    for value in request.headers_mut().values_mut() {
        if let Ok(copy) = HeaderValue::from_bytes(value.as_bytes()) {
            *value = copy;
        }
    }
    if let Ok(copy) = request.uri().to_string().parse() {
        *request.uri_mut() = copy;
    }
    request
}

/// Whether the next client may fare better at once.
fn is_of_one_client(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

#[cfg(test)]
mod tests;
