//! The expressions of a rule as the parts that they stand for.
//!
//! A native match is two or three expressions: one loads the register, one may mask it, one compares. Whatever does
//! not fit together in this way is handed on as foreign, so nothing is skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::extension::{read_match, read_target};
use super::is_regular;
use super::read::{Expression, Source, read};
use super::wire::{self, Addresses, meta, payload, verdict};
use crate::kernel::netlink::Attributes;
use crate::kernel::xtables::{ChainName, InterfaceMatch, Match, NetMatch, PortRange, Target};
use crate::net::{Family, Protocol};

/// What one or more expressions stand for.
#[derive(Debug)]
pub enum Part<'a> {
    Source(NetMatch),
    Destination(NetMatch),
    InInterface(InterfaceMatch),
    OutInterface(InterfaceMatch),
    Protocol(Protocol),
    /// Ports that 1.8.8 and newer write natively: of one side or of both.
    Ports {
        source: Option<PortRange>,
        destination: Option<PortRange>,
    },
    Match(Match),
    Counter,
    Target(Target),
    /// What no rule of ours has; for a comparison with what is compared.
    Foreign(Option<Loaded<'a>>, Option<Expression<'a>>),
}

/// What is in the register.
#[derive(Clone, Copy, Debug)]
pub struct Loaded<'a> {
    pub from: Source,
    pub mask: Option<&'a [u8]>,
}

impl Loaded<'_> {
    /// The tools up to 1.8.10 write `-i +` as a load that is compared with nothing, and print nothing for it.
    fn is_any_interface(&self) -> bool {
        matches!(self.from, Source::Meta(meta::IIFNAME | meta::OIFNAME)) && self.mask.is_none()
    }
}

/// A native match to be understood: what is compared, and with what.
struct Comparison<'a> {
    mask: Option<&'a [u8]>,
    invert: bool,
    first: &'a [u8],
    last: Option<&'a [u8]>,
}

/// Reads the parts of a list of expressions.
pub struct Parts<'a> {
    family: Family,
    elements: Attributes<'a>,
    loaded: Option<Loaded<'a>>,
}

impl<'a> Parts<'a> {
    pub fn new(family: Family, elements: Attributes<'a>) -> Self {
        Parts { family, elements, loaded: None }
    }

    /// The part that an expression completes; `None` if there must be more.
    fn take(&mut self, expression: Expression<'a>) -> Option<Part<'a>> {
        let part = match expression {
            Expression::Load(from) => return unused(self.loaded.replace(Loaded { from, mask: None })),
            Expression::Mask(mask) => match &mut self.loaded {
                Some(loaded) if loaded.mask.is_none() => {
                    loaded.mask = Some(mask);
                    return None;
                }
                _ => None,
            },
            Expression::Compare { invert, first, last } => {
                let Some(loaded) = self.loaded.take() else { return Some(Part::Foreign(None, Some(expression))) };
                let comparison = Comparison { mask: loaded.mask, invert, first, last };
                let part = compared(self.family, loaded.from, &comparison);
                return Some(part.unwrap_or(Part::Foreign(Some(loaded), Some(expression))));
            }
            Expression::Match(found) => {
                read_match(self.family, found.name, found.revision, found.info).map(Part::Match)
            }
            Expression::Target(found) => {
                read_target(self.family, found.name, found.revision, found.info).map(Part::Target)
            }
            Expression::Counter => Some(Part::Counter),
            Expression::Verdict { code, chain } => read_verdict(code, chain).map(Part::Target),
            Expression::Other { .. } | Expression::Malformed(_) => None,
        };
        Some(part.unwrap_or(Part::Foreign(None, Some(expression))))
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        while let Some(element) = self.elements.next() {
            if let Some(part) = self.take(read(element)) {
                return Some(part);
            }
        }
        let cut_off = self.elements.take_rest();
        if !cut_off.is_empty() {
            return Some(Part::Foreign(None, Some(Expression::Malformed(cut_off))));
        }
        unused(self.loaded.take())
    }
}

/// What was loaded and never compared.
fn unused(loaded: Option<Loaded<'_>>) -> Option<Part<'_>> {
    loaded.filter(|loaded| !loaded.is_any_interface()).map(|loaded| Part::Foreign(Some(loaded), None))
}

/// The part that a comparison is, if it is one of ours.
fn compared<'a>(family: Family, from: Source, what: &Comparison<'_>) -> Option<Part<'a>> {
    let at = Addresses::of(family);
    match from {
        Source::Meta(meta::IIFNAME) => interface(what).map(Part::InInterface),
        Source::Meta(meta::OIFNAME) => interface(what).map(Part::OutInterface),
        Source::Meta(meta::L4PROTO) => protocol(what),
        Source::Meta(meta::MARK) => mark(what),
        Source::Payload { base: payload::NETWORK, offset, length } if offset == at.source => {
            net(family, length, what).map(Part::Source)
        }
        Source::Payload { base: payload::NETWORK, offset, length } if offset == at.destination => {
            net(family, length, what).map(Part::Destination)
        }
        Source::Payload { base: payload::NETWORK, offset: payload::IPV4_PROTOCOL, length: 1 }
            if family == Family::V4 =>
        {
            protocol(what)
        }
        Source::Payload { base: payload::TRANSPORT, offset, length } => ports(offset, length, what),
        Source::Meta(_) | Source::Payload { .. } => None,
    }
}

impl Comparison<'_> {
    /// The value, if it is one and nothing is masked.
    fn plain(&self) -> Option<&[u8]> {
        (self.mask.is_none() && self.last.is_none()).then_some(self.first)
    }
}

/// With its NUL it is a whole name, without it the beginning of one.
fn interface(what: &Comparison<'_>) -> Option<InterfaceMatch> {
    let value = what.plain()?;
    let name = value.split(|byte| *byte == 0).next()?;
    let (is_whole, padding) = (name.len() < value.len(), value.get(name.len()..)?);
    let name = std::str::from_utf8(name).ok()?;
    // A `+` at the end of a whole name, or in one that is empty, could not be told from a prefix.
    if padding.iter().any(|byte| *byte != 0) || name.is_empty() || (is_whole && name.ends_with('+')) {
        return None;
    }
    if is_whole && name == wire::NO_INTERFACE {
        return (!what.invert).then(|| InterfaceMatch { invert: true, name: "+".into() });
    }
    let name = if is_whole { name.into() } else { format!("{name}+").into() };
    Some(InterfaceMatch { invert: what.invert, name })
}

fn protocol<'a>(what: &Comparison<'_>) -> Option<Part<'a>> {
    match what.plain()? {
        [number] if !what.invert => Protocol::from_number(*number).map(Part::Protocol),
        _ => None,
    }
}

/// 1.8.8 and newer: `-m mark`, in the machine's byte order.
fn mark<'a>(what: &Comparison<'_>) -> Option<Part<'a>> {
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_ne_bytes);
    let value = number(what.first).filter(|_| what.last.is_none())?;
    let mask = match what.mask {
        Some(mask) => number(mask)?,
        None => u32::MAX,
    };
    Some(Part::Match(Match::Mark { invert: what.invert, value, mask }))
}

/// An address of which `length` bytes are compared, or those bits of them that the mask has.
fn net(family: Family, length: u32, what: &Comparison<'_>) -> Option<NetMatch> {
    let whole = Addresses::of(family).length;
    let loaded = usize::try_from(length).ok().filter(|length| (1..=whole).contains(length))?;
    if what.last.is_some() || what.first.len() != loaded || what.mask.is_some_and(|mask| mask.len() != loaded) {
        return None;
    }
    let prefix = what.mask.map_or(Some(length * 8), prefix_length).filter(|prefix| *prefix > 0)?;
    let mut bytes = [0; 16];
    bytes.get_mut(..loaded)?.copy_from_slice(what.first);
    let ip = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(*bytes.first_chunk::<4>()?)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bytes)),
    };
    let net = IpNet::new(ip, u8::try_from(prefix).ok()?).ok()?;
    // With a bit outside of its mask it would match nothing.
    (net.network() == ip).then_some(NetMatch { invert: what.invert, net })
}

/// Number of ones in a mask that has no zero before a one.
fn prefix_length(mask: &[u8]) -> Option<u32> {
    let bits = mask.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let all = u32::try_from(mask.len()).ok().filter(|length| (1..=16).contains(length))? * 8;
    let ones = bits.count_ones();
    (bits.trailing_zeros().min(all) == all - ones).then_some(ones)
}

fn ports<'a>(offset: u32, length: u32, what: &Comparison<'_>) -> Option<Part<'a>> {
    if what.mask.is_some() {
        return None;
    }
    let range = |first: &[u8], last: &[u8]| {
        let port = |bytes: &[u8]| bytes.try_into().ok().map(u16::from_be_bytes);
        let range = PortRange { invert: what.invert, first: port(first)?, last: port(last)? };
        is_regular(&range).then_some(range)
    };
    match (offset, length) {
        (payload::SOURCE_PORT, 2) => {
            Some(Part::Ports { source: Some(range(what.first, what.last.unwrap_or(what.first))?), destination: None })
        }
        (payload::DESTINATION_PORT, 2) => {
            Some(Part::Ports { source: None, destination: Some(range(what.first, what.last.unwrap_or(what.first))?) })
        }
        // Both at once; "not both" would be something else than "neither".
        (payload::SOURCE_PORT, 4) if !what.invert && what.last.is_none() => {
            let (source, destination) = what.first.split_at_checked(2)?;
            Some(Part::Ports {
                source: Some(range(source, source)?),
                destination: Some(range(destination, destination)?),
            })
        }
        _ => None,
    }
}

fn read_verdict(code: i32, chain: Option<&str>) -> Option<Target> {
    let name = || chain.filter(|name| name.len() <= ChainName::MAX).map(ChainName::new);
    match code {
        verdict::ACCEPT if chain.is_none() => Some(Target::Accept),
        verdict::DROP if chain.is_none() => Some(Target::Drop),
        verdict::RETURN if chain.is_none() => Some(Target::Return),
        verdict::JUMP => name().map(Target::Jump),
        verdict::GOTO => name().map(Target::Goto),
        _ => None,
    }
}
