//! What native comparisons compare: interfaces, protocols, addresses, ports and marks from their bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::parts::Part;
use super::read::Expression;
use super::wire::{self, Addresses, compare, payload};
use crate::kernel::xtables::encode::is_range;
use crate::kernel::xtables::{InterfaceMatch, Match, NetMatch, PortRange};
use crate::net::{Family, Protocol};

/// With its NUL it is a whole name, without it the beginning of one.
pub fn interface(invert: bool, value: &[u8]) -> Option<InterfaceMatch> {
    let name = value.split(|byte| *byte == 0).next()?;
    let is_whole = name.len() < value.len();
    let padding = value.get(name.len()..)?;
    let name = std::str::from_utf8(name).ok()?;
    // A whole name that ends in a `+` could not be told from a prefix.
    if padding.iter().any(|byte| *byte != 0) || name.is_empty() || (is_whole && name.ends_with('+')) {
        return None;
    }
    match is_whole {
        true if name == wire::NO_INTERFACE => (!invert).then(|| InterfaceMatch { invert: true, name: "+".into() }),
        true => Some(InterfaceMatch { invert, name: name.into() }),
        false => Some(InterfaceMatch { invert, name: format!("{name}+").into() }),
    }
}

pub fn protocol(value: &[u8]) -> Option<Protocol> {
    match value {
        [number] => Protocol::from_number(*number),
        _ => None,
    }
}

/// In the machine's byte order.
pub fn mark(invert: bool, value: &[u8], mask: Option<&[u8]>) -> Option<Match> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
    let mask = match mask {
        Some(mask) => number(mask)?,
        None => u32::MAX,
    };
    Some(Match::Mark { invert, value: number(value)?, mask })
}

/// An address of which `length` bytes are compared, or those bits of them that the mask has.
pub fn net(family: Family, invert: bool, length: u32, value: &[u8], mask: Option<&[u8]>) -> Option<NetMatch> {
    let whole = Addresses::of(family).length;
    let loaded = usize::try_from(length).ok().filter(|length| (1..=whole).contains(length))?;
    if value.len() != loaded || mask.is_some_and(|mask| mask.len() != loaded) {
        return None;
    }
    let prefix = mask.map_or(Some(length * 8), prefix_length).filter(|prefix| *prefix > 0)?;
    let mut bytes = [0; 16];
    bytes.get_mut(..loaded)?.copy_from_slice(value);
    let ip = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    let net = IpNet::new(ip, u8::try_from(prefix).ok()?).ok()?;
    // With a bit outside of its mask it would match nothing.
    (net.network() == ip).then_some(NetMatch { invert, net })
}

/// Number of ones in a mask that has no zero before a one.
fn prefix_length(mask: &[u8]) -> Option<u32> {
    let bits = mask.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let all = u32::try_from(mask.len()).ok().filter(|length| (1..=16).contains(length))? * 8;
    let ones = bits.count_ones();
    (bits.trailing_zeros().min(all) == all - ones).then_some(ones)
}

/// Ports in a header of TCP or UDP: those of one side, or one of each.
pub fn ports<'a>(offset: u32, length: u32, with: Expression<'_>) -> Option<Part<'a>> {
    match (offset, length) {
        (payload::SOURCE_PORT, 2) => Some(Part::Ports { source: Some(port_range(with)?), destination: None }),
        (payload::DESTINATION_PORT, 2) => Some(Part::Ports { source: None, destination: Some(port_range(with)?) }),
        // Not this pair of ports: that is not what `! --sport A ! --dport B` asks for, although 1.8.8 to 1.8.13 write
        // it so and print it back.
        (payload::SOURCE_PORT, 4) => {
            let Expression::Compare { op: compare::EQUAL, value } = with else { return None };
            let (source, destination) = value.split_at_checked(2)?;
            Some(Part::Ports {
                source: Some(PortRange::one(port(source)?)),
                destination: Some(PortRange::one(port(destination)?)),
            })
        }
        _ => None,
    }
}

/// The range that a comparison asks for. Those that begin with port 0 are compared with their end only.
fn port_range(with: Expression<'_>) -> Option<PortRange> {
    let range = match with {
        Expression::Range { invert, first, last } => PortRange { invert, first: port(first)?, last: port(last)? },
        Expression::Compare { op, value } => {
            let value = port(value)?;
            let (invert, first, last) = match op {
                compare::EQUAL => (false, value, value),
                compare::NOT_EQUAL => (true, value, value),
                compare::LESS_OR_EQUAL => (false, 0, value),
                compare::GREATER => (true, 0, value),
                compare::GREATER_OR_EQUAL => (false, value, u16::MAX),
                compare::LESS => (true, value, u16::MAX),
                _ => return None,
            };
            PortRange { invert, first, last }
        }
        _ => return None,
    };
    is_range(&range).then_some(range)
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}
