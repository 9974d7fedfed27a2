//! Mutual TLS of what ombre serves to Envoys, from files on the disk, which are read again while the server
//! runs: certificates are replaced every few hours where somebody issues them automatically.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{error, info};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Where the certificates lie, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, with those between it and its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose clients are let in.
    pub client_ca: PathBuf,
}

/// What is spoken inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, as gRPC needs it.
    Http2,
}

/// What connections are accepted with now.
#[derive(Clone, Debug)]
pub struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

/// A connection with TLS.
pub type Stream = TlsStream<TcpStream>;

/// The names that a client's certificate gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<String>);

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error("`{}` cannot be read: {source}; give it to the user that runs ombre", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One is not what it should be.
    #[error("`{}` {what}; it has to be PEM", .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// They do not fit each other.
    #[error("`{}` and `{}` cannot be used together: {source}", .cert.display(), .key.display())]
    Pair {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// No client could be let in by it.
    #[error("`{}` cannot be used as authority: {why}", .path.display())]
    Authority {
        /// Which.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What was read from the files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read([Vec<u8>; 3]);

impl Tls {
    /// Reads the files, and again whenever they have changed until `stop` becomes true. Files that
    /// cannot be used are reported, and what was there before stays in use.
    ///
    /// # Errors
    /// When the files cannot be used now.
    pub fn open(
        files: Files,
        protocol: Protocol,
        stop: watch::Receiver<bool>,
    ) -> Result<Self, TlsError> {
        Self::open_looking(files, protocol, stop, LOOK_EVERY)
    }

    /// The same, looking at the files this often.
    ///
    /// # Errors
    /// As there.
    pub fn open_looking(
        files: Files,
        protocol: Protocol,
        stop: watch::Receiver<bool>,
        every: Duration,
    ) -> Result<Self, TlsError> {
        let read = Read::from(&files)?;
        let tls = Self(Arc::new(RwLock::new(read.config(&files, protocol)?)));
        tokio::spawn(tls.clone().follow(files, protocol, read, stop, every));
        Ok(tls)
    }

    /// Agrees with a client by what is in use now. It may take its time: who calls this has to end it.
    ///
    /// # Errors
    /// When the client speaks no TLS, has no certificate of the authorities, or is gone.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<(Stream, Names)> {
        let stream = self.acceptor().accept(stream).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let names = certificate.map(Names::of).unwrap_or_default();
        Ok((stream, names))
    }

    fn acceptor(&self) -> TlsAcceptor {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }

    async fn follow(
        self,
        files: Files,
        protocol: Protocol,
        mut used: Read,
        mut stop: watch::Receiver<bool>,
        every: Duration,
    ) {
        let mut complaint = None;
        loop {
            tokio::select! {
                () = sleep(every) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            // Three small files: not worth a thread.
            let read = Read::from(&files);
            if read.as_ref().is_ok_and(|read| *read == used) {
                complaint = None;
                continue;
            }
            let config = read.and_then(|read| Ok((read.config(&files, protocol)?, read)));
            match config {
                Ok((config, read)) => {
                    *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
                    used = read;
                    complaint = None;
                    info!(cert = %files.cert.display(), "new certificates are in use");
                }
                Err(error) => {
                    let text = Some(error.to_string());
                    if complaint != text {
                        error!(%error, "new certificates cannot be used, those before stay");
                        complaint = text;
                    }
                }
            }
        }
    }
}

impl Protocol {
    /// As ALPN has it.
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

impl Read {
    fn from(files: &Files) -> Result<Self, TlsError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|source| TlsError::Read {
                path: path.clone(),
                source,
            })
        };
        Ok(Self([
            read(&files.cert)?,
            read(&files.key)?,
            read(&files.client_ca)?,
        ]))
    }

    fn config(&self, files: &Files, protocol: Protocol) -> Result<Arc<ServerConfig>, TlsError> {
        let Self([cert, key, client_ca]) = self;
        let chain = certificates(cert, &files.cert)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Content {
            path: files.key.clone(),
            what: "has no private key",
        })?;
        let authority = |why: String| TlsError::Authority {
            path: files.client_ca.clone(),
            why,
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(client_ca, &files.client_ca)? {
            roots.add(root).map_err(|why| authority(why.to_string()))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|why| authority(why.to_string()))?;
        let pair = |source| TlsError::Pair {
            cert: files.cert.clone(),
            key: files.key.clone(),
            source,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![protocol.name().to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |what| TlsError::Content {
        path: path.to_owned(),
        what,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| content("has a broken certificate"))?;
    match found.is_empty() {
        true => Err(content("has no certificate")),
        false => Ok(found),
    }
}

impl Names {
    /// The DNS names and URIs among the subject's alternative names. The subject itself is not looked
    /// at, nor is a DNS name with a wildcard: both have other meanings.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
            return Self::default();
        };
        let dns = certificate.valid_dns_names();
        let dns = dns.filter(|name| !name.contains('*'));
        let uris = certificate.valid_uri_names();
        Self(dns.chain(uris).map(str::to_owned).collect())
    }

    /// Whether a node may have this id: it is one of the DNS names, one of the URIs in full, or what
    /// comes after the last slash of a SPIFFE URI.
    pub fn allow(&self, id: &str) -> bool {
        self.0.iter().any(|name| {
            let workload = name.strip_prefix("spiffe://").and_then(|path| {
                let (_, last) = path.rsplit_once('/')?;
                Some(last).filter(|last| !last.is_empty())
            });
            match workload {
                Some(workload) => id == workload || id == name,
                None => !id.is_empty() && id.eq_ignore_ascii_case(name),
            }
        })
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("which names nobody");
        }
        for (number, name) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}`{name}`")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
