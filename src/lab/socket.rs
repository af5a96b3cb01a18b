//! Sockets of the three protocols. SCTP's one-to-one sockets behave as TCP's, so both are streams here.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, setsockopt, sockopt,
};

use crate::net::Protocol;

/// Whether the kernel has SCTP. It may load the module to find out.
pub fn sctp_available() -> bool {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    create(&any, Protocol::Sctp).is_ok()
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

fn create(family_of: &SocketAddr, protocol: Protocol) -> io::Result<OwnedFd> {
    let family = if family_of.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let fd = socket::socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(fd)
}

fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    setsockopt(fd, sockopt::ReuseAddr, &true)?;
    Ok(socket::bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?)
}

/// A listening stream socket that does not block.
pub(super) fn listen(address: SocketAddr, protocol: Protocol) -> io::Result<TcpListener> {
    let fd = create(&address, protocol)?;
    bind(&fd, address)?;
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    let listener = TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A stream that is connected. Closing it leaves nothing behind, so that its port can be used again at once.
pub(super) fn connect_stream(
    to: SocketAddr,
    protocol: Protocol,
    from: Option<SocketAddr>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let fd = create(&to, protocol)?;
    if let Some(from) = from {
        bind(&fd, from)?;
    }
    // A reset instead of TIME_WAIT.
    setsockopt(&fd, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    let stream = TcpStream::from(fd);
    stream.set_nonblocking(true)?;
    match socket::connect(stream.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => await_connection(&stream, timeout)?,
        Err(errno) => return Err(errno.into()),
    }
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

fn await_connection(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    let milliseconds = PollTimeout::try_from(timeout).map_err(io::Error::other)?;
    // In the lab an ICMP error can arrive while the SYN is still being sent. The kernel then keeps it as a soft error,
    // which wakes no one: without this look, the refusal would come with the next SYN, a second later.
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    loop {
        match poll(&mut waiting, milliseconds) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    stream.take_error()?.map_or(Ok(()), Err)
}

/// A datagram socket that is bound.
pub(super) fn datagram(address: SocketAddr) -> io::Result<UdpSocket> {
    let fd = create(&address, Protocol::Udp)?;
    bind(&fd, address)?;
    Ok(UdpSocket::from(fd))
}

/// A datagram socket that is connected, and is told of every ICMP error. (By default that is only *port unreachable*.)
pub(super) fn connect_datagram(from: SocketAddr, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = datagram(from)?;
    if from.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
    }
    socket.connect(to)?;
    Ok(socket)
}
