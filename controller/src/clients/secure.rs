//! A server with TLS on the loopback, for tests, and the file with the authority that signed it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, Identity};

/// The server; dropping it ends it.
pub(crate) struct Secure {
    /// `https://localhost:<port>`.
    pub(crate) url: String,
    /// The authority's certificate in PEM.
    pub(crate) ca_file: PathBuf,
    task: JoinHandle<()>,
    _authority: Authority,
}

struct Accepting {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Secure {
    /// Serves `app` as `name`, under a certificate of an authority of its own.
    pub(crate) async fn start(app: Router, name: &str) -> Self {
        let authority = Authority::new();
        let Identity { cert, key } = authority.issue(name);
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", tcp.local_addr().unwrap().port());
        let tls = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(async move {
            axum::serve(Accepting { tcp, tls }, app).await.unwrap();
        });
        Self {
            url,
            ca_file: authority.ca_file(),
            task,
            _authority: authority,
        }
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener for Accepting {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.tcp.accept().await.unwrap();
            // A client that does not trust the certificate goes away here.
            if let Ok(stream) = self.tls.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
