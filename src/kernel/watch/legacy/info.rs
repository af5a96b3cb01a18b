//! What the kernel tells about a legacy table with one cheap call.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::kernel::xtables::Table;
use crate::net::Family;

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO` of uapi `linux/netfilter_ipv4/ip_tables.h` and `ip6_tables.h`.
const GET_INFO: libc::c_int = 64;

/// Length of `struct ipt_getinfo` and of `struct ip6t_getinfo`: the table's name in 32 bytes, then 13 numbers of 32 bits:
/// the hooks that it has (1), where the built-in chains begin (5) and end (5), the number of entries, their size in bytes.
const LENGTH: usize = 32 + 13 * 4;

/// The numbers of a table. Rules that were added, deleted or moved to another built-in chain change them; a rule that was
/// replaced by one of the same size does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Info([u8; LENGTH]);

/// Asks for tables of one family, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Asker {
    /// Any socket of the family will do.
    socket: OwnedFd,
    level: libc::c_int,
}

impl Asker {
    pub(super) fn open(family: Family) -> Result<Self, Errno> {
        let (domain, level) = match family {
            Family::V4 => (AddressFamily::Inet, libc::IPPROTO_IP),
            Family::V6 => (AddressFamily::Inet6, libc::IPPROTO_IPV6),
        };
        Ok(Asker { socket: socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?, level })
    }

    /// The table's numbers. If there is no such table, the kernel makes it: ask for those that are there.
    #[allow(unsafe_code, reason = "no safe interface passes a name in and takes a structure out")]
    pub(super) fn info(&self, table: Table) -> Result<Info, Errno> {
        let mut info = [0; LENGTH];
        for (place, byte) in info.iter_mut().zip(table.as_str().bytes()) {
            *place = byte;
        }
        let mut length = LENGTH as libc::socklen_t;
        // SAFETY: the kernel reads the name from `info` and writes at most `length` bytes to it, which is its size; both
        // outlive the call, and any bytes are a valid `info`.
        let result = unsafe {
            libc::getsockopt(self.socket.as_raw_fd(), self.level, GET_INFO, info.as_mut_ptr().cast(), &raw mut length)
        };
        Errno::result(result).map(|_| Info(info))
    }
}
