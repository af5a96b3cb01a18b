//! The expressions of a rule as the parts that they stand for.
//!
//! A native match is two or three expressions: one loads the register, one may mask it, one compares. Whatever does
//! not fit together in this way is handed on as foreign, so nothing is skipped.

use super::extension::{read_match, read_target};
use super::native;
use super::read::{Expression, Source, read};
use super::wire::{Addresses, compare, meta, payload, verdict};
use crate::kernel::netlink::Attributes;
use crate::kernel::xtables::nft::sets::SetIndexes;
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

/// Reads the parts of a list of expressions.
pub struct Parts<'a> {
    family: Family,
    sets: &'a SetIndexes,
    elements: Attributes<'a>,
    loaded: Option<Loaded<'a>>,
}

impl<'a> Parts<'a> {
    pub fn new(family: Family, elements: Attributes<'a>, sets: &'a SetIndexes) -> Self {
        Parts { family, sets, elements, loaded: None }
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
                _ => return Some(Part::Foreign(self.loaded.take(), Some(expression))),
            },
            Expression::Compare { .. } | Expression::Range { .. } => {
                let loaded = self.loaded.take();
                let part = loaded.and_then(|loaded| compared(self.family, loaded, expression));
                return Some(part.unwrap_or(Part::Foreign(loaded, Some(expression))));
            }
            Expression::Match(found) => {
                read_match(self.family, found.name, found.revision, found.info, self.sets).map(Part::Match)
            }
            Expression::Target(found) => {
                read_target(self.family, found.name, found.revision, found.info).map(Part::Target)
            }
            Expression::Counter => Some(Part::Counter),
            Expression::Verdict { code, chain } => read_verdict(code, chain).map(Part::Target),
            // It may change what was loaded.
            Expression::Other { .. } | Expression::Malformed(_) => {
                return Some(Part::Foreign(self.loaded.take(), Some(expression)));
            }
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
fn compared<'a>(family: Family, loaded: Loaded<'_>, with: Expression<'_>) -> Option<Part<'a>> {
    let at = Addresses::of(family);
    if let Source::Payload { base: payload::TRANSPORT, offset, length } = loaded.from {
        return loaded.mask.is_none().then(|| native::ports(offset, length, with)).flatten();
    }
    let (invert, value) = match with {
        Expression::Compare { op: compare::EQUAL, value } => (false, value),
        Expression::Compare { op: compare::NOT_EQUAL, value } => (true, value),
        _ => return None,
    };
    match (loaded.from, loaded.mask) {
        (Source::Meta(meta::IIFNAME), None) => native::interface(invert, value).map(Part::InInterface),
        (Source::Meta(meta::OIFNAME), None) => native::interface(invert, value).map(Part::OutInterface),
        (Source::Meta(meta::L4PROTO), None) if !invert => native::protocol(value).map(Part::Protocol),
        (Source::Payload { base: payload::NETWORK, offset: payload::IPV4_PROTOCOL, length: 1 }, None)
            if family == Family::V4 && !invert =>
        {
            native::protocol(value).map(Part::Protocol)
        }
        (Source::Meta(meta::MARK), mask) => native::mark(invert, value, mask).map(Part::Match),
        (Source::Payload { base: payload::NETWORK, offset, length }, mask) if offset == at.source => {
            native::net(family, invert, length, value, mask).map(Part::Source)
        }
        (Source::Payload { base: payload::NETWORK, offset, length }, mask) if offset == at.destination => {
            native::net(family, invert, length, value, mask).map(Part::Destination)
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
