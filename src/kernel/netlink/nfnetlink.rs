//! What all netfilter subsystems share: the type of a message and the header behind it
//! (uapi `linux/netfilter/nfnetlink.h`).

use crate::net::Family;

/// A subsystem (`NFNL_SUBSYS_*`): the high byte of a message's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Subsystem {
    Conntrack = 1,
    Ipset = 6,
    Accounting = 7,
    NfTables = 10,
    NfTablesCompat = 11,
}

/// The type of a message of a subsystem.
pub const fn message_type(subsystem: Subsystem, command: u8) -> u16 {
    (subsystem as u16) << 8 | command as u16
}

/// Length of `struct nfgenmsg`, which precedes the attributes.
pub const HEADER_LENGTH: usize = 4;

/// `struct nfgenmsg`: address family, version 0, and a resource id in network order.
pub const fn header(family: Option<Family>, resource: u16) -> [u8; HEADER_LENGTH] {
    let [high, low] = resource.to_be_bytes();
    [family_number(family), 0, high, low]
}

/// Reads `struct nfgenmsg`: the family, if it is IPv4 or IPv6, and the attributes' bytes. `None` if it is cut off.
pub fn split_header(payload: &[u8]) -> Option<(Option<Family>, &[u8])> {
    let (header, attributes) = payload.split_at_checked(HEADER_LENGTH)?;
    let family = match i32::from(*header.first()?) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    };
    Some((family, attributes))
}

const fn family_number(family: Option<Family>) -> u8 {
    match family {
        None => libc::AF_UNSPEC as u8,
        Some(Family::V4) => libc::AF_INET as u8,
        Some(Family::V6) => libc::AF_INET6 as u8,
    }
}
