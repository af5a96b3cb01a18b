//! Listening as Go's `net.Listen` does it (contract 6.1).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Which addresses a wildcard stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// Go's `tcp`: either wildcard is one socket for both families, where this host has IPv6.
    AnyFamily,
    /// Go's `tcp4` and `tcp6`: a wildcard stands for the addresses of its own family.
    OwnFamily,
}

/// A socket that listens. Connections wait in it until it is given to a [`Server`](super::Server).
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Where it listens: the port is the one that the kernel chose, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listening failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", remedy(.source))]
pub struct ListenError {
    pub address: SocketAddr,
    pub source: io::Error,
}

impl ListenError {
    /// The same state as the other: not worth telling twice.
    pub fn is_like(&self, other: &ListenError) -> bool {
        let same_code = self.source.raw_os_error() == other.source.raw_os_error();
        self.address == other.address && same_code && self.source.kind() == other.source.kind()
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": stop whoever has the port, or choose another one",
        io::ErrorKind::AddrNotAvailable => ": this host does not have the address (yet)",
        io::ErrorKind::PermissionDenied => ": a port below 1024 needs CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// Listens in the calling thread's network namespace, with `SO_REUSEADDR`. Must be called within a runtime.
///
/// # Errors
/// The port is taken, the host does not have the address, ports below 1024 are not ours to use, no file descriptor is left.
pub fn listen(address: SocketAddr, bind: Bind) -> Result<Listener, ListenError> {
    try_listen(address, bind).map_err(|source| ListenError { address, source })
}

fn try_listen(address: SocketAddr, bind: Bind) -> io::Result<Listener> {
    let socket = match (bind, address.ip().is_unspecified()) {
        (Bind::AnyFamily, true) => listen_on_both(address.port())?,
        _ => listen_on(address, true)?,
    };
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}

/// One socket for both families; one of IPv4 where the kernel has no IPv6.
fn listen_on_both(port: u16) -> io::Result<TcpListener> {
    let v6 = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    match listen_on(v6, false) {
        Err(error) if lacks_ipv6(&error) => listen_on((Ipv4Addr::UNSPECIFIED, port).into(), true),
        result => result,
    }
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listen_on(address: SocketAddr, only_own_family: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => {
            let socket = TcpSocket::new_v6()?;
            setsockopt(&socket, sockopt::Ipv6V6Only, &only_own_family)?;
            socket
        }
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
