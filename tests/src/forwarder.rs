//! A TCP forwarder between two parts, to cut the way between them while both live.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A forwarder. Dropping it ends it.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    /// Where to, while the way is open.
    target: watch::Sender<Option<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Forwarder {
    /// Takes connections, and closes them at once until it is opened.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (target, watched) = watch::channel(None);
        let task = tokio::spawn(forward(listener, watched));
        Ok(Self {
            address,
            target,
            task,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards to `target` from now on.
    pub fn open(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }

    /// Breaks every connection, and forwards none.
    pub fn cut(&self) {
        self.target.send_replace(None);
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(listener: TcpListener, mut target: watch::Receiver<Option<SocketAddr>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            changed = target.changed() => {
                if changed.is_err() {
                    return;
                }
                connections.shutdown().await;
            }
            accepted = listener.accept() => {
                let to = *target.borrow();
                if let (Ok((stream, _)), Some(to)) = (accepted, to) {
                    connections.spawn(join(stream, to));
                }
            }
        }
    }
}

async fn join(mut from: TcpStream, to: SocketAddr) -> Result<()> {
    let mut to = TcpStream::connect(to).await.context("nobody is there")?;
    copy_bidirectional(&mut from, &mut to).await?;
    Ok(())
}
