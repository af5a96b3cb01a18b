//! Requests.

use std::net::IpAddr;

use super::wire::{LIST_HEADER, NET, PROTOCOL, WITH_COMMENT, attribute, command, data};
use super::{Entry, SetName, SetSpec, SetType};
use crate::kernel::netlink::nfnetlink::{Subsystem, header, message_type};
use crate::kernel::netlink::{Batch, Body, flags};
use crate::net::Family;

/// What kube-proxy makes its hashes with (contract 4.4). The kernel lets the table grow, but not the limit of entries.
pub const HASHSIZE: u32 = 1024;

/// The room that a hash has at least, in entries.
pub const MAXELEM: u32 = 65_536;

/// An entry without its comment takes no more, in bytes.
const ENTRY: usize = 96;

/// Of an attribute that holds many entries: its length has 16 bits.
const ENTRIES: usize = 60_000;

/// The type's revision as the sets have it that are made here: the one from Linux 3.19. Every `ipset` since then, whoever
/// runs it, can list a set of this revision and knows SCTP in it.
const fn revision(set_type: SetType) -> u8 {
    match set_type {
        SetType::HashIp => 4,
        SetType::HashNet => 6,
        SetType::HashIpPort | SetType::HashIpPortIp => 5,
        SetType::HashIpPortNet => 7,
        SetType::BitmapPort => 3,
    }
}

fn request(batch: &mut Batch, command: u8, message_flags: u16, fill: impl FnOnce(&mut Body<'_>)) {
    batch.message(message_type(Subsystem::Ipset, command), message_flags, |body| {
        fill(body.raw(&header(None, 0)).put_u8(attribute::PROTOCOL, PROTOCOL));
    });
}

/// Asks for the versions of the protocol.
pub fn ask_protocol(batch: &mut Batch) {
    request(batch, command::PROTOCOL, flags::ACK, |_| ());
}

/// Asks for the index of a set.
pub fn ask_index(batch: &mut Batch, set: &SetName) {
    request(batch, command::GET_BYNAME, flags::ACK, |body| _ = body.put_text(attribute::SETNAME, set.as_str()));
}

/// Asks for the set of an index.
pub fn ask_name(batch: &mut Batch, index: u16) {
    request(batch, command::GET_BYINDEX, flags::ACK, |body| _ = body.put_u16_be(attribute::INDEX | NET, index));
}

/// Makes a set that is not there. A hash gets room for this many entries.
pub fn create(batch: &mut Batch, set: &SetName, spec: &SetSpec, room: u32) {
    request(batch, command::CREATE, flags::CREATE | flags::EXCL | flags::ACK, |body| {
        let family = match (spec.set_type, spec.family) {
            (SetType::BitmapPort, _) => libc::AF_UNSPEC,
            (_, Family::V4) => libc::AF_INET,
            (_, Family::V6) => libc::AF_INET6,
        };
        body.put_text(attribute::SETNAME, set.as_str())
            .put_text(attribute::TYPENAME, spec.set_type.as_str())
            .put_u8(attribute::REVISION, revision(spec.set_type))
            .put_u8(attribute::FAMILY, family as u8)
            .nest(attribute::DATA, |body| {
                match spec.set_type {
                    SetType::BitmapPort => {
                        body.put_u16_be(data::PORT | NET, 0).put_u16_be(data::PORT_TO | NET, u16::MAX)
                    }
                    _ => body.put_u32_be(data::HASHSIZE | NET, HASHSIZE).put_u32_be(data::MAXELEM | NET, room),
                };
                if spec.comments {
                    body.put_u32_be(data::CADT_FLAGS | NET, WITH_COMMENT);
                }
            });
    });
}

/// Destroys a set.
pub fn destroy(batch: &mut Batch, set: &SetName) {
    request(batch, command::DESTROY, flags::ACK, |body| _ = body.put_text(attribute::SETNAME, set.as_str()));
}

/// Gives each of two sets the name of the other.
pub fn swap(batch: &mut Batch, set: &SetName, other: &SetName) {
    request(batch, command::SWAP, flags::ACK, |body| {
        body.put_text(attribute::SETNAME, set.as_str()).put_text(attribute::SETNAME2, other.as_str());
    });
}

/// Asks for all sets, as a list, without their entries.
pub fn ask_headers(batch: &mut Batch) {
    request(batch, command::LIST, 0, |body| _ = body.put_u32_be(attribute::FLAGS | NET, LIST_HEADER));
}

/// Asks for one set without its entries, as a list.
pub fn ask_header(batch: &mut Batch, set: &SetName) {
    request(batch, command::LIST, 0, |body| {
        body.put_text(attribute::SETNAME, set.as_str()).put_u32_be(attribute::FLAGS | NET, LIST_HEADER);
    });
}

/// Asks for one set with its entries, as a list.
pub fn ask_entries(batch: &mut Batch, set: &SetName) {
    request(batch, command::LIST, 0, |body| _ = body.put_text(attribute::SETNAME, set.as_str()));
}

/// What is done with entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Adds them, or gives them another comment.
    Add,
    Delete,
}

/// An entry with its comment.
pub type Commented<'a> = (&'a Entry, Option<&'a str>);

/// How many of these entries go into one request: at least one if there is one.
pub fn portion(entries: &[Commented<'_>]) -> usize {
    let mut size = 0;
    let fits = |(_, comment): &&Commented<'_>| {
        size += ENTRY + comment.map_or(0, |comment| comment.len() + 8);
        size <= ENTRIES
    };
    entries.iter().take_while(fits).count().max(1).min(entries.len())
}

/// Does it with all of them, in this order. What is so already is no error. The first that is refused is told by its
/// place in an answer, see [`refused_entry`](super::decode::refused_entry); those before it are done.
pub fn put_entries(batch: &mut Batch, deed: Deed, set: &SetName, entries: &[Commented<'_>]) {
    let command = match deed {
        Deed::Add => command::ADD,
        Deed::Delete => command::DELETE,
    };
    // Without EXCL: what is so already is no error.
    request(batch, command, flags::ACK, |body| {
        body.put_text(attribute::SETNAME, set.as_str()).put_u32(attribute::LINENO, 0).nest(attribute::ADT, |body| {
            // To the kernel 0 is no place.
            for ((entry, comment), place) in entries.iter().zip(1..) {
                body.nest(attribute::DATA, |body| {
                    put_entry(body, entry);
                    if let (Some(comment), Deed::Add) = (comment, deed) {
                        body.put_text(data::COMMENT, comment);
                    }
                    body.put_u32(attribute::LINENO, place);
                });
            }
        });
    });
}

fn put_entry(body: &mut Body<'_>, entry: &Entry) {
    match *entry {
        Entry::Ip(ip) => put_ip(body, data::IP, ip),
        Entry::Net(net) => put_ip(body, data::IP, net.addr()).put_u8(data::CIDR, net.prefix_len()),
        Entry::IpPort(ip, protocol, port) => {
            put_port(put_ip(body, data::IP, ip), port).put_u8(data::PROTO, protocol.number())
        }
        Entry::IpPortIp(ip, protocol, port, second) => {
            put_port(put_ip(body, data::IP, ip), port).put_u8(data::PROTO, protocol.number());
            put_ip(body, data::IP2, second)
        }
        Entry::IpPortNet(ip, protocol, port, net) => {
            put_port(put_ip(body, data::IP, ip), port).put_u8(data::PROTO, protocol.number());
            put_ip(body, data::IP2, net.addr()).put_u8(data::CIDR2, net.prefix_len())
        }
        Entry::Port(port) => put_port(body, port),
    };
}

fn put_ip<'b, 'a>(body: &'b mut Body<'a>, kind: u16, ip: IpAddr) -> &'b mut Body<'a> {
    let inner = if ip.is_ipv4() { data::IPV4 } else { data::IPV6 };
    body.nest(kind, |body| _ = body.put_ip(inner | NET, ip))
}

fn put_port<'b, 'a>(body: &'b mut Body<'a>, port: u16) -> &'b mut Body<'a> {
    body.put_u16_be(data::PORT | NET, port)
}
