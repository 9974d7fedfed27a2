//! Free ports of the loopback for programs that must be told theirs beforehand (and keep it over
//! a restart). They lie below the range that the system gives to outgoing connections, and are
//! held against other test processes for as long as the value lives.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that no other test process takes while this value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// The UDP port of the same number is the lock: the programs under test use TCP only, and the
    /// system releases it however this process ends.
    _lock: UdpSocket,
}

impl Port {
    /// Takes a free port.
    ///
    /// # Errors
    /// When 20,000 ports in a row are taken.
    pub fn free() -> Result<Self> {
        // Processes begin at places of their own, so that they seldom meet.
        let start = std::process::id().wrapping_mul(7919) as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + start.wrapping_add(step) % COUNT;
            if let Some(port) = Self::take(number) {
                return Ok(port);
            }
        }
        bail!("no free port between {FIRST} and {}", FIRST + COUNT)
    }

    /// Takes `number` if it is free, else any free port.
    ///
    /// # Errors
    /// As [`Port::free`].
    pub fn preferred(number: u16) -> Result<Self> {
        Self::take(number).map_or_else(Self::free, Ok)
    }

    /// The number.
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// The port on the loopback.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }

    fn take(number: u16) -> Option<Self> {
        let lock = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _lock: lock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn a_held_port_is_not_given_twice() {
        let first = Port::free().unwrap();
        let second = Port::preferred(first.number()).unwrap();
        assert_ne!(first.number(), second.number());
        let number = first.number();
        drop(first);
        assert_eq!(Port::preferred(number).unwrap().number(), number);
    }
}
