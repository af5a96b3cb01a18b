//! Messages of rtnetlink: links, addresses and local routes (uapi `linux/if_link.h`, `linux/if_addr.h`,
//! `linux/rtnetlink.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kernel::netlink::{Attributes, Batch, Message, flags};
use crate::net::Family;

/// `RTM_*` of uapi `linux/rtnetlink.h`.
pub(in crate::kernel) const NEW_LINK: u16 = 16;
pub(in crate::kernel) const DELETE_LINK: u16 = 17;
pub(super) const GET_LINK: u16 = 18;
pub(in crate::kernel) const NEW_ADDRESS: u16 = 20;
pub(in crate::kernel) const DELETE_ADDRESS: u16 = 21;
pub(super) const GET_ADDRESS: u16 = 22;
pub(super) const NEW_ROUTE: u16 = 24;
pub(super) const DELETE_ROUTE: u16 = 25;
pub(super) const GET_ROUTE: u16 = 26;

/// `IFLA_IFNAME`
pub(in crate::kernel) const LINK_NAME: u16 = 3;
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

/// `RTA_DST`, `RTA_OIF`, `RTA_PREFSRC`.
const DESTINATION: u16 = 1;
const OUT_LINK: u16 = 4;
const PREFERRED_SOURCE: u16 = 7;

/// `RT_TABLE_LOCAL`, `RTN_LOCAL`, `RT_SCOPE_HOST`.
const LOCAL_TABLE: u8 = 255;
const LOCAL_TYPE: u8 = 2;
const HOST_SCOPE: u8 = 254;

/// Who made a route: `RTPROT_KERNEL`, which makes one for each address; and a number that nobody has yet, for ours.
const BY_KERNEL: u8 = 2;
const BY_US: u8 = 87;

/// The number of `lo` in every network namespace (`LOOPBACK_IFINDEX` of the kernel).
const LOOPBACK: u32 = 1;

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

/// Gives the local route of an address of this link another preferred source: what this host itself sends there has it.
///
/// For IPv4 it takes the place of the kernel's route. For IPv6, no route by a device that is down can be made, nor one
/// that comes before the kernel's: ours goes by `lo`, and counts once the kernel's is [deleted](delete_kernels_route).
pub(super) fn put_source(batch: &mut Batch, index: u32, address: IpAddr, source: IpAddr) {
    let family = Family::of(&address);
    let link = match family {
        Family::V4 => index,
        Family::V6 => LOOPBACK,
    };
    batch.message(NEW_ROUTE, flags::CREATE | flags::REPLACE | flags::ACK, |body| {
        let body = body.raw(&local_route(family, BY_US)).put_ip(DESTINATION, address);
        body.put_u32(OUT_LINK, link).put_ip(PREFERRED_SOURCE, source);
    });
}

/// Deletes the local route that [`put_source`] made for this address, whatever its link.
pub(super) fn delete_source(batch: &mut Batch, address: IpAddr) {
    batch.message(DELETE_ROUTE, flags::ACK, |body| {
        body.raw(&local_route(Family::of(&address), BY_US)).put_ip(DESTINATION, address);
    });
}

/// Deletes the local route that the kernel made for an address of this link.
pub(super) fn delete_kernels_route(batch: &mut Batch, index: u32, address: IpAddr) {
    batch.message(DELETE_ROUTE, flags::ACK, |body| {
        let body = body.raw(&local_route(Family::of(&address), BY_KERNEL)).put_ip(DESTINATION, address);
        body.put_u32(OUT_LINK, index);
    });
}

/// Asks which way a packet of this host takes to an address that is nobody's: one for documentation (RFC 5737, RFC 3849).
pub(super) fn get_route_out(batch: &mut Batch, family: Family) {
    let nobody = match family {
        Family::V4 => IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)),
        Family::V6 => IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    };
    batch.message(GET_ROUTE, flags::ACK, |body| {
        body.raw(&route_header(family, [0; 4])).put_ip(DESTINATION, nobody);
    });
}

/// The header of the local route of one address, made by this.
fn local_route(family: Family, by: u8) -> [u8; 12] {
    route_header(family, [LOCAL_TABLE, by, HOST_SCOPE, LOCAL_TYPE])
}

/// `struct rtmsg`: family, length of the destination's prefix (one address), of the source's, type of service; then
/// table, who made it, scope and type; flags.
fn route_header(family: Family, [table, by, scope, kind]: [u8; 4]) -> [u8; 12] {
    [number(family), family.bits(), 0, 0, table, by, scope, kind, 0, 0, 0, 0]
}

/// `AF_*`.
fn number(family: Family) -> u8 {
    (match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    }) as u8
}

/// `struct ifinfomsg`: family, padding, type of device, index, flags, and which flags to change (none: it stays down).
fn link_header(index: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`: family, length of the prefix, flags, scope (0: global), index of the link.
fn address_header(family: Option<Family>, prefix: u8, address_flags: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    let family = family.map_or(libc::AF_UNSPEC as u8, number);
    [family, prefix, address_flags, 0, a, b, c, d]
}

/// Length of `struct ifinfomsg`.
pub(in crate::kernel) const LINK_HEADER: usize = 16;

/// The number of the link that a message is about, be it about a link or an address: `struct ifinfomsg` and
/// `struct ifaddrmsg` both have it behind four bytes. `None` if the message is cut off.
pub(in crate::kernel) fn read_index(message: &Message<'_>) -> Option<u32> {
    message.payload.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The name in a message about a link. `None` if there is none, or it is no text.
pub(in crate::kernel) fn read_name<'a>(message: &Message<'a>) -> Option<&'a str> {
    Attributes::new(message.payload.get(LINK_HEADER..)?).find(LINK_NAME)?.text()
}

/// Reads a link. `None` if the message is something else, or cut off.
pub(super) fn read_link(message: &Message<'_>) -> Option<Link> {
    let (_, attributes) = message.payload.split_first_chunk::<LINK_HEADER>().filter(|_| message.kind == NEW_LINK)?;
    let index = read_index(message)?;
    let info = Attributes::new(attributes).find(LINK_INFO);
    let kind = info.and_then(|info| info.nested().find(INFO_KIND)?.text().map(Box::from));
    Some(Link { index, kind })
}

/// Reads an address of a link. `None` if the message is something else, cut off, or has an address of no known family.
pub(super) fn read_address(message: &Message<'_>) -> Option<LinkAddress> {
    let (_, attributes) = message.payload.split_first_chunk::<8>().filter(|_| message.kind == NEW_ADDRESS)?;
    let index = read_index(message)?;
    let attributes = Attributes::new(attributes);
    let own = attributes.clone().find(LOCAL).or_else(|| attributes.find(ADDRESS))?;
    Some(LinkAddress { index, address: own.ip()? })
}

/// Reads the preferred source of a route. `None` if the message is something else, cut off, or has none.
pub(super) fn read_source(message: &Message<'_>) -> Option<IpAddr> {
    let (_, attributes) = message.payload.split_first_chunk::<12>().filter(|_| message.kind == NEW_ROUTE)?;
    Attributes::new(attributes).find(PREFERRED_SOURCE)?.ip()
}
