//! Notifications: what the kernel tells the members of a group unasked.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::SetUsize;
use nix::sys::socket::{MsgFlags, recv, setsockopt};

use super::socket::{RECEIVE_BUFFER, open};
use super::{Message, NetlinkError, Protocol};

/// What a listener is for, in error messages.
const ASKED: &str = "listen to the kernel";

/// How many bytes of notifications may wait in the kernel. A limit; nothing is set aside.
const WAITING: usize = 4 << 20;

/// Receiving never waits; only the kernel's side of the socket wants a number.
const TIMEOUT: Duration = Duration::from_secs(5);

/// `NETLINK_ADD_MEMBERSHIP` and `NETLINK_DROP_MEMBERSHIP` of uapi `linux/netlink.h`.
#[derive(Clone, Copy, Debug)]
struct AddMembership;
#[derive(Clone, Copy, Debug)]
struct DropMembership;

nix::setsockopt_impl!(AddMembership, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, usize, SetUsize);
nix::setsockopt_impl!(DropMembership, libc::SOL_NETLINK, libc::NETLINK_DROP_MEMBERSHIP, usize, SetUsize);

/// A socket that receives notifications and sends nothing.
///
/// It belongs to the network namespace that the thread which opened it was in at that time. Its file descriptor is
/// readable while something waits.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Listener {
    /// Opens a socket in the network namespace of the calling thread. It is a member of no group yet.
    pub fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        Ok(Listener { fd: open(protocol, TIMEOUT, WAITING)?, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Joining and leaving groups.
    pub fn membership(&self) -> Result<Membership, NetlinkError> {
        let copy = self.fd.try_clone();
        copy.map(|fd| Membership { fd }).map_err(|error| NetlinkError::Call {
            asked: ASKED,
            call: "dup",
            errno: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        })
    }

    /// Takes one datagram, if one waits, and hands out its messages. False if none waited.
    ///
    /// # Errors
    /// [`NetlinkError::Overrun`]: notifications were lost. The next call goes on with those that were not.
    pub fn receive(&mut self, mut visit: impl FnMut(Message<'_>)) -> Result<bool, NetlinkError> {
        let malformed = |what| NetlinkError::Malformed { asked: ASKED, what };
        let length = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT) {
            Ok(length) if length > self.buffer.len() => return Err(malformed("it is longer than 72 KiB")),
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(Errno::ENOBUFS) => return Err(NetlinkError::Overrun { asked: ASKED }),
            Err(errno) => return Err(NetlinkError::Call { asked: ASKED, call: "recv", errno }),
        };
        let mut datagram = self.buffer.get(..length).unwrap_or_default();
        while !datagram.is_empty() {
            let (message, end) = Message::read(datagram).ok_or_else(|| malformed("a message is cut off"))?;
            datagram = datagram.get(end..).unwrap_or_default();
            visit(message);
        }
        Ok(true)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The groups that a [`Listener`] is in. It can be changed from any thread. What was told before a group was left
/// still waits to be received.
#[derive(Debug)]
pub struct Membership {
    fd: OwnedFd,
}

impl Membership {
    /// Joins a group, by its number.
    pub fn join(&self, group: u32) -> Result<(), NetlinkError> {
        self.set(AddMembership, "setsockopt NETLINK_ADD_MEMBERSHIP", group)
    }

    /// Leaves a group.
    pub fn leave(&self, group: u32) -> Result<(), NetlinkError> {
        self.set(DropMembership, "setsockopt NETLINK_DROP_MEMBERSHIP", group)
    }

    fn set(
        &self,
        option: impl nix::sys::socket::SetSockOpt<Val = usize>,
        call: &'static str,
        group: u32,
    ) -> Result<(), NetlinkError> {
        let group = usize::try_from(group).unwrap_or(usize::MAX);
        setsockopt(&self.fd, option, &group).map_err(|errno| NetlinkError::Call { asked: ASKED, call, errno })
    }
}
