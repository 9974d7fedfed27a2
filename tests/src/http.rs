//! The HTTP client by which the tests ask what an operator asks. It asks by `http` alone and trusts
//! nobody, so that it needs no certificates of the system.

use std::sync::Arc;

use anyhow::Result;
use reqwest::Client;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};

/// A client. (`Client::new()` panics in a build where no TLS provider is installed.)
///
/// # Errors
/// When it cannot be built.
pub fn client() -> Result<Client> {
    let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = Client::builder().no_proxy().tls_backend_preconfigured(tls);
    Ok(client.build()?)
}
