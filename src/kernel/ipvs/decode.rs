//! What the kernel lists, as typed objects. Attributes are found by their type: their order is no promise.

use std::net::{IpAddr, Ipv4Addr};

use super::wire::{dest, info, service, top};
use super::{Forwarding, ObservedRealServer, RealServer, Scheduler, ServerFlags, VirtualServer, VirtualServerKey};
use crate::kernel::netlink::{Attribute, generic};
use crate::net::{Endpoint, Family, Protocol};

/// An entry is not what the kernel lists. The whole list is then in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the kernel's list of {list} has an entry without a valid {what}")]
    Lacks { list: &'static str, what: &'static str },
    /// Every virtual server that is in use has this flag (scenario L65).
    #[error("the kernel's list of virtual servers has {0}, which is not in use (its flag HASHED is not set)")]
    NotHashed(VirtualServerKey),
}

/// A virtual server, without its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodedServer {
    pub key: VirtualServerKey,
    pub server: VirtualServer,
    /// Has something that weir does not know.
    pub unknown: bool,
}

/// A real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodedRealServer {
    pub endpoint: Endpoint,
    pub observed: ObservedRealServer,
    /// Has something that weir does not know.
    pub unknown: bool,
}

/// Reads a message about a virtual server. `None` if it is one by firewall mark, or has a protocol or scheduler that no
/// server of ours can have.
///
/// # Errors
/// The message lacks something, or the virtual server is not in use.
pub fn virtual_server(payload: &[u8]) -> Result<Option<DecodedServer>, DecodeError> {
    let lacks = |what| DecodeError::Lacks { list: "virtual servers", what };
    let fields = Fields::<12>::of(payload, top::SERVICE).ok_or(lacks("body"))?;
    let family = fields.get(service::AF).and_then(|value| family(value.u16()?)).ok_or(lacks("family"))?;
    if fields.get(service::FWMARK).is_some() {
        return Ok(None);
    }
    let protocol = fields.get(service::PROTOCOL).and_then(|value| value.u16()).ok_or(lacks("protocol"))?;
    let address = fields.get(service::ADDR).and_then(|value| address(value, family)).ok_or(lacks("address"))?;
    let port = fields.get(service::PORT).and_then(|value| value.u16_be()).ok_or(lacks("port"))?;
    let scheduler = fields.get(service::SCHED_NAME).and_then(|value| value.text()).ok_or(lacks("scheduler"))?;
    let flags = fields.get(service::FLAGS).and_then(first_word).ok_or(lacks("word of flags"))?;
    let timeout = fields.get(service::TIMEOUT).and_then(|value| value.u32()).ok_or(lacks("timeout"))?;
    let (prefix, odd_mask) = fields.get(service::NETMASK).and_then(|mask| prefix(mask, family)).ok_or(lacks("mask"))?;
    let protocol = u8::try_from(protocol).ok().and_then(Protocol::from_number);
    let (Some(protocol), Some(scheduler)) = (protocol, Scheduler::new(scheduler)) else { return Ok(None) };
    let key = VirtualServerKey::new(protocol, address, port);
    if flags & ServerFlags::HASHED == 0 {
        return Err(DecodeError::NotHashed(key));
    }
    let flags = ServerFlags(flags & !ServerFlags::HASHED);
    let unknown = odd_mask || fields.get(service::PE_NAME).is_some();
    Ok(Some(DecodedServer { key, server: VirtualServer { scheduler, flags, timeout, prefix }, unknown }))
}

/// Reads a message about a real server. Kernels before 3.18 do not tell its family: it is that of its virtual server.
///
/// # Errors
/// The message lacks something.
pub fn real_server(payload: &[u8], server_family: Family) -> Result<DecodedRealServer, DecodeError> {
    let lacks = |what| DecodeError::Lacks { list: "real servers", what };
    let fields = Fields::<15>::of(payload, top::DEST).ok_or(lacks("body"))?;
    let word = |kind, what| fields.get(kind).and_then(|value| value.u32()).ok_or(lacks(what));
    let own_family = match fields.get(dest::ADDR_FAMILY) {
        None => server_family,
        Some(value) => value.u16().and_then(family).ok_or(lacks("family"))?,
    };
    let ip = fields.get(dest::ADDR).and_then(|value| address(value, own_family)).ok_or(lacks("address"))?;
    let port = fields.get(dest::PORT).and_then(|value| value.u16_be()).ok_or(lacks("port"))?;
    let forwarding = forwarding(word(dest::FWD_METHOD, "forwarding method")?);
    let server = RealServer {
        forwarding: forwarding.unwrap_or_default(),
        weight: word(dest::WEIGHT, "weight")?,
        upper_threshold: word(dest::U_THRESH, "upper threshold")?,
        lower_threshold: word(dest::L_THRESH, "lower threshold")?,
    };
    let observed = ObservedRealServer {
        server,
        active: word(dest::ACTIVE_CONNS, "count of active connections")?,
        inactive: word(dest::INACT_CONNS, "count of inactive connections")?,
        persistent: word(dest::PERSIST_CONNS, "count of templates")?,
    };
    // Kernels since 5.3 always tell them, and 0 is IPIP without checksums: what tunnels have always been.
    let is_set = |kind| fields.get(kind).is_some_and(|value| value.payload.iter().any(|byte| *byte != 0));
    let unknown = forwarding.is_none() || is_set(dest::TUN_TYPE) || is_set(dest::TUN_FLAGS);
    Ok(DecodedRealServer { endpoint: Endpoint::new(ip, port), observed, unknown })
}

/// The version of IPVS (`NVERSION`), `None` if the message does not tell it.
pub fn version(payload: &[u8]) -> Option<[u8; 3]> {
    let (_, attributes) = generic::split_header(payload)?;
    let [_, major, minor, patch] = attributes.find(info::VERSION)?.u32()?.to_be_bytes();
    Some([major, minor, patch])
}

/// Attributes by their type, 1 to `N`, from one pass over them.
struct Fields<'a, const N: usize>([Option<Attribute<'a>>; N]);

impl<'a, const N: usize> Fields<'a, N> {
    /// Those inside the attribute `kind` of a message.
    fn of(payload: &'a [u8], kind: u16) -> Option<Self> {
        let (_, attributes) = generic::split_header(payload)?;
        let mut fields = [None; N];
        for attribute in attributes.find(kind)?.nested() {
            let place = usize::from(attribute.kind).checked_sub(1).and_then(|place| fields.get_mut(place));
            if let Some(place) = place {
                *place = Some(attribute);
            }
        }
        Some(Fields(fields))
    }

    fn get(&self, kind: u16) -> Option<Attribute<'a>> {
        *self.0.get(usize::from(kind).checked_sub(1)?)?
    }
}

fn family(number: u16) -> Option<Family> {
    match i32::from(number) {
        libc::AF_INET => Some(Family::V4),
        libc::AF_INET6 => Some(Family::V6),
        _ => None,
    }
}

/// `union nf_inet_addr`: an IPv4 address is in the first four bytes.
fn address(value: Attribute<'_>, family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => value.payload.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        Family::V6 => value.payload.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
    }
}

/// The flags of `struct ip_vs_flags`, which are followed by a mask.
fn first_word(value: Attribute<'_>) -> Option<u32> {
    value.payload.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// The prefix length of a persistence mask, and whether the mask is more than that: IPv4 masks may have holes.
fn prefix(value: Attribute<'_>, family: Family) -> Option<(u8, bool)> {
    match family {
        Family::V4 => {
            let mask = Ipv4Addr::from_bits(value.u32_be()?);
            Some(prefix_of(mask))
        }
        Family::V6 => u8::try_from(value.u32()?).ok().filter(|prefix| *prefix <= 128).map(|prefix| (prefix, false)),
    }
}

/// How many leading bits an IPv4 mask has, and whether it has others.
pub(super) fn prefix_of(mask: Ipv4Addr) -> (u8, bool) {
    let bits = mask.to_bits();
    let prefix = bits.leading_ones();
    (u8::try_from(prefix).unwrap_or(32), bits.count_ones() != prefix)
}

fn forwarding(number: u32) -> Option<Forwarding> {
    /// `IP_VS_CONN_F_FWD_MASK`
    const METHOD: u32 = 0x7;
    match number & METHOD {
        0 => Some(Forwarding::Masquerade),
        1 => Some(Forwarding::LocalNode),
        2 => Some(Forwarding::Tunnel),
        3 => Some(Forwarding::DirectRoute),
        4 => Some(Forwarding::Bypass),
        _ => None,
    }
}
