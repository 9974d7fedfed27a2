//! Takes connections and answers on them by HTTP/1.1. Thousands of filters wait here for news, each on
//! a connection of its own: what one costs is kept small, and their number and their silence bounded.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, Request};
use axum::response::Response;
use futures_util::FutureExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use ombre_tls::{Names, Stream, Tls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use crate::door::Door;

/// Files may be closed in this time, when there are none left to take a connection with.
const PAUSE: Duration = Duration::from_secs(1);

/// What the server takes. The defaults are above what clients need.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; more wait until one is closed.
    pub connections: usize,
    /// How long a client may take from an answer, or from connecting, to the end of a request's headers.
    pub silence: Duration,
    /// How long a client may take to agree on TLS.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Two polls of 10,000 Envoys, and as many again while they reconnect.
            connections: 40_000,
            // Not a minute nor half of one, by which many ask: the connection that one of them is about
            // to use again would be closed just then.
            silence: Duration::from_secs(75),
            // Two ways there and back, on a line however slow, to somebody who is not known yet.
            handshake: Duration::from_secs(10),
        }
    }
}

/// What answers on one connection.
struct Answering {
    service: TowerToHyperService<Router>,
    /// Of the client's certificate.
    names: Option<Arc<Names>>,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = detached(request);
        if let Some(names) = &self.names {
            request.extensions_mut().insert(Arc::clone(names));
        }
        self.service.call(request)
    }
}

/// Serves until `stop` becomes true, and then until every request that is there is answered. Over TLS each
/// request gets the [`Names`] of its client's certificate as an extension, in an `Arc`.
pub async fn serve(door: Door, router: Router, limits: Limits, mut stop: watch::Receiver<bool>) {
    let Door { listener, tls } = door;
    let places = Arc::new(Semaphore::new(limits.connections));
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new());
    http.header_read_timeout(limits.silence);
    let connections = GracefulShutdown::new();
    loop {
        let ((stream, client), place) = tokio::select! {
            Some(accepted) = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let service = service.clone();
        if let Some(tls) = &tls {
            let (tls, http, stop) = (tls.clone(), http.clone(), stop.clone());
            let watcher = connections.watcher();
            tokio::spawn(async move {
                let agreed = agree(&tls, stream, client, limits.handshake, stop).await;
                if let Some((stream, names)) = agreed {
                    let answer = Answering {
                        service,
                        names: Some(Arc::new(names)),
                    };
                    let connection = http.serve_connection(TokioIo::new(stream), answer);
                    note_end(&watcher.watch(connection).await);
                }
                drop(place);
            });
            continue;
        }
        let answer = Answering {
            service,
            names: None,
        };
        let connection = http.serve_connection(TokioIo::new(stream), answer);
        // An `async` block would hold the connection twice: as what it captures and as what it awaits.
        tokio::spawn(connections.watch(connection).map(move |ended| {
            drop(place);
            note_end(&ended);
        }));
    }
    drop(listener);
    connections.shutdown().await;
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<((TcpStream, SocketAddr), OwnedSemaphorePermit)> {
    if places.available_permits() == 0 {
        let address = listener.local_addr().ok();
        warn!(
            ?address,
            "there are as many connections as are taken: more wait until one is closed"
        );
    }
    // Never none: nobody closes the semaphore.
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok(accepted) => return Some((accepted, place)),
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                error!(%error, "connections cannot be accepted");
                sleep(PAUSE).await;
            }
        }
    }
}

/// TLS on a connection, and whom it is with; none when it comes to nothing. In a box, since the task of a
/// connection has room for it twice: as what it agrees on, and as what it serves.
async fn agree(
    tls: &Tls,
    stream: TcpStream,
    client: SocketAddr,
    patience: Duration,
    mut stop: watch::Receiver<bool>,
) -> Option<(Box<Stream>, Names)> {
    let agreed = tokio::select! {
        agreed = timeout(patience, tls.accept(stream)) => agreed,
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    match agreed {
        Ok(Ok((stream, names))) => return Some((Box::new(stream), names)),
        Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => {
            warn!(%client, %error, "connection refused");
        }
        // As of a probe that only connects.
        Ok(Err(error)) => debug!(%client, %error, "connection ended before TLS"),
        Err(_) => debug!(%client, "connection closed: no TLS in time"),
    }
    None
}

fn note_end(ended: &Result<(), hyper::Error>) {
    if let Err(error) = ended {
        debug!(%error, "connection ended");
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
