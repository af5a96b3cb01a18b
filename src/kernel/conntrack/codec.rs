//! Requests to and entries from ctnetlink (uapi `linux/netfilter/nfnetlink_conntrack.h`).
//!
//! A request to delete without a tuple empties the table. [`delete`] is the only one here that makes requests to delete,
//! and it takes a whole [`Flow`].

use std::net::IpAddr;

use super::{Filter, Flow, Tuple, Zone};
use crate::kernel::netlink::nfnetlink::{Subsystem, header, message_type, split_header};
use crate::kernel::netlink::{Attribute, Attributes, Batch, Body, Message};
use crate::net::{Endpoint, Family};

/// `IPCTNL_MSG_CT_*`.
const GET: u8 = 1;
const DELETE: u8 = 2;

/// `CTA_*`.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;

/// `CTA_TUPLE_*`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const TUPLE_ZONE: u16 = 3;

/// `CTA_IP_*`.
const IP_V4_SOURCE: u16 = 1;
const IP_V4_DESTINATION: u16 = 2;
const IP_V6_SOURCE: u16 = 3;
const IP_V6_DESTINATION: u16 = 4;

/// `CTA_PROTO_*`.
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_SOURCE_PORT: u16 = 2;
const PROTOCOL_DESTINATION_PORT: u16 = 3;

/// `CTA_FILTER_ORIG_FLAGS`: which parts of the original tuple count. The bits are in the order of the kernel's tuple
/// attributes: source 1, destination 2, zone 4, protocol 8, source port 16, destination port 32.
const FILTER_ORIGINAL_FLAGS: u16 = 1;
const FLAG_IP_DESTINATION: u32 = 1 << 1;
const FLAG_PROTOCOL_NUMBER: u32 = 1 << 3;
const FLAG_DESTINATION_PORT: u32 = 1 << 5;

/// Appends the request to list the entries of a filter. Without `in_kernel` it lists the whole family, as older kernels
/// do in any case, and the filter is left to the reader.
pub fn list(batch: &mut Batch, filter: &Filter, in_kernel: bool) {
    batch.message(message_type(Subsystem::Conntrack, GET), 0, |body| {
        body.raw(&header(Some(filter.family), 0));
        if in_kernel {
            write_filter(body, filter);
        }
    });
}

fn write_filter(body: &mut Body<'_>, filter: &Filter) {
    let mut which = FLAG_PROTOCOL_NUMBER;
    body.nest(TUPLE_ORIGINAL, |tuple| {
        // The kernel wants both parts to be there, also where one of them is empty.
        tuple.nest(TUPLE_IP, |part| {
            // Not an IPv6 address: kernels (6.18 among them) compare those the wrong way round, and leave out just the
            // entries that have it. The port narrows the list, and the reader filters what comes.
            if let Some(ip) = filter.destination_ip.filter(IpAddr::is_ipv4) {
                part.put_ip(destination_kind(filter.family), ip);
                which |= FLAG_IP_DESTINATION;
            }
        });
        tuple.nest(TUPLE_PROTOCOL, |part| {
            part.put_u8(PROTOCOL_NUMBER, filter.protocol.number());
            if let Some(port) = filter.destination_port {
                part.put_u16_be(PROTOCOL_DESTINATION_PORT, port);
                which |= FLAG_DESTINATION_PORT;
            }
        });
    });
    body.nest(FILTER, |part| {
        part.put_u32(FILTER_ORIGINAL_FLAGS, which);
    });
}

/// Appends the request to delete exactly this entry: by tuple and zone, and by id, so that a newer entry of the same
/// tuple stays.
pub fn delete(batch: &mut Batch, flow: &Flow) {
    batch.message(message_type(Subsystem::Conntrack, DELETE), 0, |body| {
        body.raw(&header(Some(flow.family), 0));
        body.nest(TUPLE_ORIGINAL, |body| {
            write_tuple(body, flow.family, flow.protocol, &flow.original);
            if let Zone::Original(zone) = flow.zone {
                body.put_u16_be(TUPLE_ZONE, zone);
            }
        });
        if let Zone::Both(zone) = flow.zone {
            body.put_u16_be(ZONE, zone);
        }
        body.put_u32_be(ID, flow.id);
    });
}

fn write_tuple(body: &mut Body<'_>, family: Family, protocol: u8, tuple: &Tuple) {
    body.nest(TUPLE_IP, |part| {
        part.put_ip(source_kind(family), tuple.source.ip).put_ip(destination_kind(family), tuple.destination.ip);
    });
    body.nest(TUPLE_PROTOCOL, |part| {
        part.put_u8(PROTOCOL_NUMBER, protocol)
            .put_u16_be(PROTOCOL_SOURCE_PORT, tuple.source.port)
            .put_u16_be(PROTOCOL_DESTINATION_PORT, tuple.destination.port);
    });
}

/// Reads an entry. `None` if it is not one that this program has to do with: no IP family, or without what identifies
/// it.
pub fn read(message: &Message<'_>) -> Option<Flow> {
    let (family, attributes) = split_header(message.payload)?;
    let family = family?;
    let (mut original, mut reply) = (None, None);
    let (mut zone, mut id, mut status) = (Zone::Default, None, 0);
    for attribute in Attributes::new(attributes) {
        match attribute.kind {
            TUPLE_ORIGINAL => original = Some(read_tuple(family, &attribute)?),
            TUPLE_REPLY => reply = Some(read_tuple(family, &attribute)?),
            STATUS => status = attribute.u32_be()?,
            ID => id = Some(attribute.u32_be()?),
            ZONE => zone = Zone::Both(attribute.u16_be()?),
            _ => {}
        }
    }
    let (original, reply) = (original?, reply?);
    let zone = match (original.zone, reply.zone) {
        (Some(number), _) => Zone::Original(number),
        (None, Some(number)) => Zone::Reply(number),
        (None, None) => zone,
    };
    Some(Flow {
        family,
        protocol: original.protocol,
        zone,
        id: id?,
        status,
        original: original.tuple,
        reply: reply.tuple,
    })
}

/// What the attributes of one tuple say.
struct TupleParts {
    tuple: Tuple,
    protocol: u8,
    zone: Option<u16>,
}

fn read_tuple(family: Family, attribute: &Attribute<'_>) -> Option<TupleParts> {
    let (mut source, mut destination): (Option<IpAddr>, Option<IpAddr>) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, 0, 0);
    let mut zone = None;
    for part in attribute.nested() {
        match part.kind {
            TUPLE_IP => {
                for ip in part.nested() {
                    match ip.kind {
                        kind if kind == source_kind(family) => source = ip.ip(),
                        kind if kind == destination_kind(family) => destination = ip.ip(),
                        _ => {}
                    }
                }
            }
            TUPLE_PROTOCOL => {
                for value in part.nested() {
                    match value.kind {
                        PROTOCOL_NUMBER => protocol = value.u8(),
                        PROTOCOL_SOURCE_PORT => source_port = value.u16_be()?,
                        PROTOCOL_DESTINATION_PORT => destination_port = value.u16_be()?,
                        _ => {}
                    }
                }
            }
            TUPLE_ZONE => zone = part.u16_be(),
            _ => {}
        }
    }
    let tuple = Tuple {
        source: Endpoint::new(source.filter(|ip| Family::of(ip) == family)?, source_port),
        destination: Endpoint::new(destination.filter(|ip| Family::of(ip) == family)?, destination_port),
    };
    Some(TupleParts { tuple, protocol: protocol?, zone })
}

const fn source_kind(family: Family) -> u16 {
    match family {
        Family::V4 => IP_V4_SOURCE,
        Family::V6 => IP_V6_SOURCE,
    }
}

const fn destination_kind(family: Family) -> u16 {
    match family {
        Family::V4 => IP_V4_DESTINATION,
        Family::V6 => IP_V6_DESTINATION,
    }
}
