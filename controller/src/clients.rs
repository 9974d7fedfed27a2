//! The HTTP clients by which others are asked and told, all built here: with TLS by rustls and ring,
//! trusting what the system trusts and the authorities of a private file. No provider is installed
//! for the whole process, so nothing depends on who comes first.

pub mod address;
pub mod body;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::{Client, ClientBuilder};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use tracing::{debug, warn};

/// What all clients have in common.
#[derive(Clone, Debug)]
pub struct Clients {
    tls: ClientConfig,
}

/// Why clients cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// No such file, or no certificates in it.
    #[error("`{}` cannot be read as certificates in PEM: {source}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: pem::Error,
    },
    /// A certificate that is none.
    #[error("`{}` has a certificate that cannot be used: {source}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// An empty file would be a mistake that shows much later.
    #[error("`{}` has no certificate; give a file with at least one in PEM", .0.display())]
    Empty(PathBuf),
    /// What was linked together does not fit together.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Clients {
    /// Clients that trust what this system trusts, and the authorities in `ca_file`. A system
    /// without any is no error: whoever is asked by `http` alone needs none.
    ///
    /// # Errors
    /// When the file is not PEM or has no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, ClientsError> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            warn!(%error, "some of the system's certificates are left out");
        }
        let (added, ignored) = roots.add_parsable_certificates(found.certs);
        debug!(added, ignored, "trusting the system's certificates");
        if let Some(path) = ca_file {
            add(&mut roots, path)?;
        }
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls })
    }

    /// The beginning of a client; its time limit and its proxies are the caller's.
    pub fn builder(&self) -> ClientBuilder {
        Client::builder().tls_backend_preconfigured(self.tls.clone())
    }
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), ClientsError> {
    let pem = |source| ClientsError::Pem {
        path: path.to_owned(),
        source,
    };
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(pem)? {
        let added = roots.add(certificate.map_err(pem)?);
        added.map_err(|source| ClientsError::Certificate {
            path: path.to_owned(),
            source,
        })?;
    }
    if roots.len() == before {
        return Err(ClientsError::Empty(path.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod secure;
#[cfg(test)]
mod tests;
