//! An address that neither accepts nor refuses connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketAddrV4, SocketType};

/// An address of loopback to which no connection can be made, and which does not refuse one either: its queue is full.
pub struct BlackHole {
    address: SocketAddr,
    _listener: OwnedFd,
    _waiting: Vec<TcpStream>,
}

impl BlackHole {
    /// Occupies a free port.
    ///
    /// # Errors
    /// If the system has none.
    pub fn open() -> io::Result<Self> {
        let listener = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        rustix::net::listen(&listener, 0)?;
        let bound = rustix::net::getsockname(listener.as_fd())?;
        let address = SocketAddr::try_from(bound)?;
        let limit = Duration::from_millis(200);
        let waiting = (0..8).map_while(|_| TcpStream::connect_timeout(&address, limit).ok());
        Ok(Self {
            address,
            _waiting: waiting.collect(),
            _listener: listener,
        })
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
