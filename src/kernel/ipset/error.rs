//! What can go wrong, and what to do about it.

use nix::errno::Errno;

use super::wire::{PROTOCOL, error};
use super::{Entry, Mismatch, SetName};
use crate::kernel::netlink::{NetlinkError, Refusal};
use crate::kernel::{ApplyError, ApplyErrorKind, ObserveError};

/// Reading or changing sets failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpsetError {
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error("the kernel has no ipset; remedy: load the module ip_set")]
    Absent,
    #[error(
        "the kernel speaks the ipset protocol in versions {oldest} to {newest}, weir in version {PROTOCOL}; remedy: a \
         kernel from Linux 4.20 on"
    )]
    Protocol { oldest: u8, newest: u8 },
    #[error("cannot {what}: {}", explained(refusal.clone()))]
    Refused { what: String, refusal: Refusal },
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The kernel is not asked.
    #[error("the ipset {set} cannot hold {entry}: {why}")]
    Entry { set: SetName, entry: Entry, why: &'static str },
    #[error(
        "the ipset {0} cannot be destroyed, because something refers to it; remedy: find the rule with \
         `iptables-save | grep {0}` (or `ip6tables-save`) and delete it, or the list:set with `ipset list`"
    )]
    InUse(SetName),
    #[error("the ipset {set} cannot hold {entries} entries: the kernel says that it is full")]
    TooMany { set: SetName, entries: usize },
    #[error("the ipset {0} is gone: something else destroyed it; it will be made anew")]
    Gone(SetName),
    #[error("cannot make anew the ipset {0}: something reads it all the time; it will be tried again")]
    Read(SetName),
}

impl IpsetError {
    /// What to do about it.
    pub fn kind(&self) -> ApplyErrorKind {
        match self {
            IpsetError::Absent | IpsetError::Protocol { .. } => ApplyErrorKind::Unavailable,
            IpsetError::Gone(_) | IpsetError::Read(_) => ApplyErrorKind::Busy,
            IpsetError::Mismatch(_) | IpsetError::Entry { .. } | IpsetError::InUse(_) | IpsetError::TooMany { .. } => {
                ApplyErrorKind::Refused
            }
            IpsetError::Refused { refusal, .. } => kind(refusal.errno()),
            IpsetError::Netlink(NetlinkError::TooLong { .. }) => ApplyErrorKind::Refused,
            IpsetError::Netlink(error) => error.errno().map_or(ApplyErrorKind::Busy, kind),
        }
    }
}

fn kind(errno: Errno) -> ApplyErrorKind {
    match errno {
        Errno::EPERM | Errno::EACCES | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => ApplyErrorKind::Unavailable,
        Errno::ENOMEM | Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::EBUSY => ApplyErrorKind::Busy,
        _ => ApplyErrorKind::Refused,
    }
}

impl From<IpsetError> for ApplyError {
    fn from(error: IpsetError) -> Self {
        ApplyError { kind: error.kind(), message: error.to_string(), chain: None }
    }
}

impl From<IpsetError> for ObserveError {
    fn from(error: IpsetError) -> Self {
        ObserveError { message: error.to_string() }
    }
}

/// A refusal with words for the numbers that are ipset's own, unless the kernel has words.
pub(super) fn explained(mut refusal: Refusal) -> Refusal {
    let words = match refusal.code {
        error::PROTOCOL => "the kernel's ipset does not understand the request; remedy: a kernel from Linux 4.20 on",
        error::FIND_TYPE => "the kernel has no such type of set; remedy: load its module (ip_set_hash_ip, …)",
        error::MAX_SETS => "there are as many sets as the kernel can have",
        error::BUSY => "something refers to the set",
        error::TYPE_MISMATCH => "the two sets are of different types",
        error::INVALID_CIDR => "the prefix length is not one that the set takes",
        error::INVALID_FAMILY => "the set is of the other family",
        error::IPADDR_IPV4 => "it takes an IPv4 address",
        error::IPADDR_IPV6 => "it takes an IPv6 address",
        error::COMMENT => "the set has no comments",
        error::HASH_FULL => "the set is full, or the port is out of its range",
        error::HASH_ELEM => "the set cannot hold this address",
        _ => return refusal,
    };
    refusal.text.get_or_insert_with(|| words.into());
    refusal
}
