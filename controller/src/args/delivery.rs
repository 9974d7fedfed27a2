//! What `ombre serve` is told of the Envoys that fetch documents from other machines.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::door::{Purpose, Wanted, files};

/// Delivery to the pollers of other machines.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DeliveryArgs {
    /// Serve the pollers of other machines here: `/v1/delivery/`, `/healthz` and nothing else of the API.
    /// The pollers of this machine may go on asking --listen.
    #[arg(long, value_name = "ADDRESS", env = "OMBRE_DELIVERY_LISTEN")]
    pub delivery_listen: Option<SocketAddr>,
    /// The certificate that they are served with, in PEM. It is read again when it changes, as are the key
    /// and the authority.
    #[arg(
        long,
        value_name = "FILE",
        requires = "delivery_tls_key",
        requires = "delivery_tls_client_ca",
        requires = "delivery_listen",
        env = "OMBRE_DELIVERY_TLS_CERT"
    )]
    pub delivery_tls_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires = "delivery_tls_cert",
        env = "OMBRE_DELIVERY_TLS_KEY"
    )]
    pub delivery_tls_key: Option<PathBuf>,
    /// The authorities whose clients are let in, in PEM. An Envoy's `node.id` has to be one of the DNS
    /// names or URIs in its certificate, or what comes after the last slash of a SPIFFE URI there.
    #[arg(
        long,
        value_name = "FILE",
        requires = "delivery_tls_cert",
        env = "OMBRE_DELIVERY_TLS_CLIENT_CA"
    )]
    pub delivery_tls_client_ca: Option<PathBuf>,
    /// Serve them without TLS on other addresses than the loopback too. Whoever reaches the address then
    /// gets the whole policy, keys of the verification channel included, under any name.
    #[arg(
        long,
        conflicts_with = "delivery_tls_cert",
        env = "OMBRE_DELIVERY_INSECURE"
    )]
    pub delivery_insecure: bool,
}

impl DeliveryArgs {
    /// The address that is asked for, if one is.
    pub fn wanted(&self) -> Option<Wanted> {
        let Self {
            delivery_listen,
            delivery_tls_cert,
            delivery_tls_key,
            delivery_tls_client_ca,
            delivery_insecure,
        } = self.clone();
        Some(Wanted {
            purpose: Purpose::Delivery,
            address: delivery_listen?,
            files: files(delivery_tls_cert, delivery_tls_key, delivery_tls_client_ca),
            insecure: delivery_insecure,
        })
    }
}
