//! Messages of rtnetlink: links and addresses (uapi `linux/if_link.h`, `linux/if_addr.h`).

use std::net::IpAddr;

use crate::kernel::netlink::{Attributes, Batch, Message, flags};
use crate::net::Family;

/// `RTM_*` of uapi `linux/rtnetlink.h`.
pub(super) const NEW_LINK: u16 = 16;
pub(super) const DELETE_LINK: u16 = 17;
pub(super) const GET_LINK: u16 = 18;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const DELETE_ADDRESS: u16 = 21;
pub(super) const GET_ADDRESS: u16 = 22;

/// `IFLA_IFNAME`
const LINK_NAME: u16 = 3;
/// `IFLA_LINKINFO`, and in it `IFLA_INFO_KIND`.
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
/// `IFA_ADDRESS`: the other end's address where there is one, else our own.
const ADDRESS: u16 = 1;
/// `IFA_LOCAL`: our own address. IPv6 leaves it out where there is no other end.
const LOCAL: u16 = 2;

/// `IFA_F_NODAD`: nobody is asked whether he has the address already, so it can be used at once. The kernel asks nobody
/// on a dummy device, but it finds that out a moment later. For IPv4 the bit is no flag that can be set.
const NO_DUPLICATE_DETECTION: u8 = 0x2;

/// The kind of link that we make.
pub(super) const DUMMY: &str = "dummy";

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    /// `None`: a link that was not made by a request, such as a network card.
    pub kind: Option<Box<str>>,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkAddress {
    pub index: u32,
    pub address: IpAddr,
}

/// Asks for a link by its name.
pub(super) fn get_link(batch: &mut Batch, name: &str) {
    batch.message(GET_LINK, flags::ACK, |body| {
        body.raw(&link_header(0)).put_text(LINK_NAME, name);
    });
}

/// Makes a dummy device, which is down.
pub(super) fn new_dummy(batch: &mut Batch, name: &str) {
    batch.message(NEW_LINK, flags::CREATE | flags::EXCL | flags::ACK, |body| {
        body.raw(&link_header(0)).put_text(LINK_NAME, name).nest(LINK_INFO, |info| {
            info.put_text(INFO_KIND, DUMMY);
        });
    });
}

pub(super) fn delete_link(batch: &mut Batch, index: u32) {
    batch.message(DELETE_LINK, flags::ACK, |body| {
        body.raw(&link_header(index));
    });
}

/// Asks for all addresses of a family, or of both.
pub(super) fn list_addresses(batch: &mut Batch, family: Option<Family>) {
    batch.message(GET_ADDRESS, 0, |body| {
        body.raw(&address_header(family, 0, 0, 0));
    });
}

/// Adds an address to a link, with a prefix of that one address.
pub(super) fn new_address(batch: &mut Batch, index: u32, address: IpAddr) {
    let family = Family::of(&address);
    let address_flags = match family {
        Family::V4 => 0,
        Family::V6 => NO_DUPLICATE_DETECTION,
    };
    batch.message(NEW_ADDRESS, flags::CREATE | flags::EXCL | flags::ACK, |body| {
        let header = address_header(Some(family), family.bits(), address_flags, index);
        body.raw(&header).put_ip(LOCAL, address).put_ip(ADDRESS, address);
    });
}

/// Takes an address from a link. For IPv4 whatever prefix it has; for IPv6 one with a prefix of that one address.
pub(super) fn delete_address(batch: &mut Batch, index: u32, address: IpAddr) {
    let family = Family::of(&address);
    batch.message(DELETE_ADDRESS, flags::ACK, |body| {
        body.raw(&address_header(Some(family), family.bits(), 0, index)).put_ip(LOCAL, address);
    });
}

/// `struct ifinfomsg`: family, padding, type of device, index, flags, and which flags to change (none: it stays down).
fn link_header(index: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`: family, length of the prefix, flags, scope (0: global), index of the link.
fn address_header(family: Option<Family>, prefix: u8, address_flags: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    let family = match family {
        None => libc::AF_UNSPEC,
        Some(Family::V4) => libc::AF_INET,
        Some(Family::V6) => libc::AF_INET6,
    };
    [family as u8, prefix, address_flags, 0, a, b, c, d]
}

/// Reads a link. `None` if the message is something else, or cut off.
pub(super) fn read_link(message: &Message<'_>) -> Option<Link> {
    let (header, attributes) = message.payload.split_first_chunk::<16>().filter(|_| message.kind == NEW_LINK)?;
    let index = header.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let info = Attributes::new(attributes).find(LINK_INFO);
    let kind = info.and_then(|info| info.nested().find(INFO_KIND)?.text().map(Box::from));
    Some(Link { index, kind })
}

/// Reads an address of a link. `None` if the message is something else, cut off, or has an address of no known family.
pub(super) fn read_address(message: &Message<'_>) -> Option<LinkAddress> {
    let (header, attributes) = message.payload.split_first_chunk::<8>().filter(|_| message.kind == NEW_ADDRESS)?;
    let index = header.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let attributes = Attributes::new(attributes);
    let own = attributes.clone().find(LOCAL).or_else(|| attributes.find(ADDRESS))?;
    Some(LinkAddress { index, address: own.ip()? })
}
