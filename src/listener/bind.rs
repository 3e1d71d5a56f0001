//! Sockets of a listener: one for each worker, all on the same address.
//!
//! The first socket is bound without `SO_REUSEPORT`, so an address that somebody else has is an error even if that somebody shares it;
//! it gets the option before it listens, so that the workers' further sockets can join it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockRef, Type};

use super::{Config, Tls, TlsError};
use crate::routing::{AuthorityProblem, ServedHosts};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 4096;
/// Bytes of an answer that the system takes for a client before it can send them. Of its own accord it takes some MiB, for everyone who does not read.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;

/// Why an address could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error("{0} is taken by another program (`ss -ltnp` names it)")]
    Taken(SocketAddr),
    /// The system says no.
    #[error("cannot listen on {address}")]
    System {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// A name of `hosts` is none. The configuration's own check finds this first.
    #[error("the hosts of {address} cannot be served")]
    Hosts {
        /// The address.
        address: SocketAddr,
        /// What is wrong with the name.
        #[source]
        cause: AuthorityProblem,
    },
    /// TLS cannot be served with its files. The configuration's own check finds this first.
    #[error("TLS cannot be served at {address}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: TlsError,
    },
}

impl BindError {
    /// Which address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        match self {
            Self::Taken(address) | Self::System { address, .. } | Self::Hosts { address, .. } | Self::Tls { address, .. } => *address,
        }
    }
}

/// An address that is ours. It listens already; connections wait until workers serve them.
#[derive(Debug)]
pub struct Bound {
    first: TcpListener,
    address: SocketAddr,
    adopted: bool,
    hosts: ServedHosts,
    tls: Option<Arc<Tls>>,
    h2c: bool,
}

/// One worker's socket.
#[derive(Debug)]
pub struct Socket {
    pub(super) listener: TcpListener,
    pub(super) hosts: ServedHosts,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) h2c: bool,
}

/// Takes the address of a listener.
///
/// # Errors
/// When somebody else has it or the system refuses.
pub fn bind(config: &Config) -> Result<Bound, BindError> {
    bound(config, config.address, |address| open(address, false))
}

/// Takes an address that this process has already: the old sockets and the new ones share it until the old ones are closed.
///
/// # Errors
/// As [`bind`].
pub fn bind_again(config: &Config, address: SocketAddr) -> Result<Bound, BindError> {
    bound(config, address, |address| open(address, true))
}

/// Takes over a socket that listens already, as a service manager hands it on. All workers share it, and its queue outlives them.
///
/// # Errors
/// As [`bind`].
pub fn adopt(config: &Config, socket: &TcpListener) -> Result<Bound, BindError> {
    let taken = |_| {
        let socket = socket.try_clone()?;
        socket.set_nonblocking(true)?;
        bound_unsent(&SockRef::from(&socket))?;
        Ok(socket)
    };
    bound(config, config.address, taken).map(|bound| Bound { adopted: true, ..bound })
}

fn bound(config: &Config, address: SocketAddr, open: impl FnOnce(SocketAddr) -> io::Result<TcpListener>) -> Result<Bound, BindError> {
    let refused = |cause: io::Error| match cause.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken(address),
        _ => BindError::System { address, cause },
    };
    let hosts = ServedHosts::new(&config.hosts).map_err(|(_, cause)| BindError::Hosts { address, cause })?;
    let tls = config.tls.as_ref().map(Tls::load).transpose().map_err(|cause| BindError::Tls { address, cause })?.map(Arc::new);
    let first = open(address).map_err(refused)?;
    let address = first.local_addr().map_err(refused)?;
    Ok(Bound { first, address, adopted: false, hosts, tls, h2c: config.h2c })
}

impl Bound {
    /// The address, with the port that was given where 0 was asked for.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its TLS, to be looked after while it serves.
    #[must_use]
    pub const fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// A socket for each worker (one at least).
    ///
    /// # Errors
    /// When the system gives no further socket.
    pub fn sockets(self, workers: usize) -> io::Result<Vec<Socket>> {
        let mut sockets = Vec::with_capacity(workers.max(1));
        let socket = |listener| {
            let (hosts, tls) = (self.hosts.clone(), self.tls.clone());
            Socket { listener, hosts, tls, h2c: self.h2c }
        };
        for _ in 1..workers {
            sockets.push(socket(if self.adopted { self.first.try_clone()? } else { open(self.address, true)? }));
        }
        sockets.push(socket(self.first));
        Ok(sockets)
    }
}

fn open(address: SocketAddr, share: bool) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart would wait for the last connections' TIME_WAIT; it lets nobody share a listening address.
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    bound_unsent(&SockRef::from(&socket))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections have this from their listener.
#[cfg(target_os = "linux")]
fn bound_unsent(socket: &SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT)
}

#[cfg(not(target_os = "linux"))]
fn bound_unsent(_: &SockRef<'_>) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn the_system_keeps_little_of_an_answer_that_is_not_read() {
        let listener = open(([127, 0, 0, 1], 0).into(), false).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let mut kept = 0;
        // What is on its way to the client is not counted by the system, so it takes more for a moment.
        while let Ok(taken) = accepted.write(&[0; 16 * 1024]) {
            kept += taken;
            assert!(kept < 1024 * 1024, "more than a MiB");
        }
        assert!(kept >= 64 * 1024, "{kept}");
    }
}
