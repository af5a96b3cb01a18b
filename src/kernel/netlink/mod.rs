//! A small netlink transport, shared by the object families that the kernel keeps behind netlink: conntrack, ipset and
//! nf_tables over nfnetlink, IPVS over generic netlink, and links and addresses over rtnetlink.
//!
//! A [`Batch`] packs requests into one buffer, a [`Socket`] sends it and hands out the answers: [`Socket::transact`]
//! for requests that are acknowledged, [`Socket::dump`] for lists, which it reads with one buffer however long they
//! are. A [`Listener`] receives what the kernel tells a group unasked. What comes back is read through [`Attributes`], which never reads past its bytes and skips what it does not
//! know. The formats are those of the uapi headers `linux/netlink.h` and `linux/netfilter/nfnetlink.h`; numbers are in
//! the machine's byte order unless a function's name says `be`.
//!
//! Errors are always reported by the kernel; success only where a request carries [`flags::ACK`]. A batch whose last
//! request alone carries it costs one answer, and still tells which requests failed.

mod attribute;
mod batch;
mod error;
pub mod generic;
mod listener;
mod message;
pub mod nfnetlink;
mod socket;
#[cfg(test)]
mod tests;

pub use attribute::{Attribute, Attributes};
pub use batch::{Batch, Body};
pub use error::{NetlinkError, Refusal};
pub use listener::{Listener, Membership};
pub use message::Message;
pub use socket::{Answer, Dump, Protocol, Socket};

/// Flags of a message (`NLM_F_*` of uapi `linux/netlink.h`). `REQUEST` is set on everything that a [`Batch`] holds.
pub mod flags {
    pub const REQUEST: u16 = 0x1;
    pub const MULTI: u16 = 0x2;
    /// Answer also if the request succeeded.
    pub const ACK: u16 = 0x4;
    /// The list changed while it was read: it may lack entries or name some twice.
    pub const DUMP_INTR: u16 = 0x10;
    pub const DUMP: u16 = 0x300;
    pub const REPLACE: u16 = 0x100;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// Lengths are rounded up to this (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
const ALIGN: usize = 4;

/// Rounds a length up to the alignment of messages and attributes.
const fn align(length: usize) -> usize {
    length.saturating_add(ALIGN - 1) & !(ALIGN - 1)
}
