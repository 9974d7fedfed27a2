//! The addresses that are listened on. One for Envoys that other machines reach is opened with mutual TLS,
//! or when somebody has said that it is meant without.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use ombre_tls::{Files, Protocol, Tls};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tracing::{info, warn};

/// After an outage all Envoys come back at once, and whom the kernel has no room for tries again after
/// seconds. It may allow less.
const BACKLOG: u32 = 4096;

/// An address that is listened on, and not served yet.
#[derive(Debug)]
pub struct Door {
    /// Where connections come in.
    pub listener: TcpListener,
    /// What they begin with; without it, with what is asked.
    pub tls: Option<Tls>,
}

/// A door for Envoys, as it is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What it is for.
    pub purpose: Purpose,
    /// Where it is.
    pub address: SocketAddr,
    /// The certificates, when it is to have TLS.
    pub files: Option<Files>,
    /// Whether other machines may come in without TLS.
    pub insecure: bool,
}

/// What a door for Envoys is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// xDS.
    Xds,
    /// The long polls for documents.
    Delivery,
}

impl Door {
    /// One without TLS, for whoever reaches the address that this option gives.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub fn plain(option: &str, address: SocketAddr) -> anyhow::Result<Self> {
        let listener = listen(address)
            .with_context(|| format!("cannot listen on {address}, which --{option} asks for"))?;
        Ok(Self {
            listener,
            tls: None,
        })
    }

    /// One for Envoys.
    ///
    /// # Errors
    /// When it cannot be listened on, when certificates cannot be used, and when others than this machine
    /// would be served without them and nobody has said that this is meant.
    pub fn open(wanted: Wanted, stop: &watch::Receiver<bool>) -> anyhow::Result<Self> {
        let Wanted {
            purpose,
            address,
            files,
            insecure,
        } = wanted;
        let option = purpose.option();
        let mut door = Self::plain(&format!("{option}-listen"), address)?;
        let address = door.listener.local_addr()?;
        match files {
            Some(files) => {
                door.tls = Some(Tls::open(files, purpose.protocol(), stop.clone())?);
            }
            None if address.ip().is_loopback() => {}
            None if insecure => {
                warn!(%address, purpose = option, "served without TLS: whoever reaches this address gets the policy");
            }
            None => bail!(
                "{address} (--{option}-listen) needs --{option}-tls-cert, --{option}-tls-key and --{option}-tls-client-ca, since others than this machine can reach it; --{option}-insecure serves it without"
            ),
        }
        info!(%address, tls = door.tls.is_some(), purpose = option, "listening for envoys");
        Ok(door)
    }
}

impl Purpose {
    /// What its options begin with.
    const fn option(self) -> &'static str {
        match self {
            Self::Xds => "xds",
            Self::Delivery => "delivery",
        }
    }

    const fn protocol(self) -> Protocol {
        match self {
            Self::Xds => Protocol::Http2,
            Self::Delivery => Protocol::Http1,
        }
    }
}

/// The certificates, when all are named; the command line takes them together or not at all.
pub fn files(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Option<Files> {
    let ((cert, key), client_ca) = cert.zip(key).zip(client_ca)?;
    Some(Files {
        cert,
        key,
        client_ca,
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn others_than_this_machine_come_in_over_tls_or_when_that_is_meant() {
        let (_stop, stopped) = watch::channel(false);
        for (purpose, option) in [(Purpose::Xds, "xds"), (Purpose::Delivery, "delivery")] {
            for (name, address, insecure, fine) in [
                ("loopback", "127.0.0.1:0", false, true),
                ("everywhere", "0.0.0.0:0", false, false),
                ("everywhere, as meant", "0.0.0.0:0", true, true),
            ] {
                let wanted = Wanted {
                    purpose,
                    address: address.parse().unwrap(),
                    files: None,
                    insecure,
                };
                match (Door::open(wanted, &stopped), fine) {
                    (Ok(door), true) => assert!(door.tls.is_none(), "{name}"),
                    (Err(error), false) => {
                        let error = error.to_string();
                        assert!(error.contains(&format!("--{option}-insecure")), "{error}");
                    }
                    (opened, _) => panic!("{name}: {:?}", opened.err()),
                }
            }
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named_with_its_option() {
        let (_stop, stopped) = watch::channel(false);
        let taken = Door::plain("listen", "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = taken.listener.local_addr().unwrap();
        let wanted = Wanted {
            purpose: Purpose::Delivery,
            address,
            files: None,
            insecure: false,
        };
        let error = Door::open(wanted, &stopped).err().unwrap();
        let expected = format!("cannot listen on {address}, which --delivery-listen asks for");
        assert_eq!(error.to_string(), expected);
        assert!(
            error.root_cause().to_string().contains("in use"),
            "{error:?}"
        );
    }
}
