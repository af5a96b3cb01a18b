//! One expression from its attributes.
//!
//! An attribute that is newer than what is known here is passed over: kernels add them to what they dump of old rules
//! too. What would change the meaning of an expression that we know is looked at: another register, a load that is a
//! store, a bitwise operation that is no mask.

use super::wire::{self, bitwise, compare, counter, data, expression, extension, immediate, meta, payload};
use crate::kernel::netlink::{Attribute, Attributes};

/// An expression that rules of iptables-nft are made of, or another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expression<'a> {
    /// Loads the register.
    Load(Source),
    /// Keeps the bits of a mask.
    Mask(&'a [u8]),
    /// Goes on only if what is in the register compares so with a value. The operation is one of `wire::compare`.
    Compare {
        op: u32,
        value: &'a [u8],
    },
    /// Goes on only if what is in the register is, or is not, in a range. Both ends are part of it.
    Range {
        invert: bool,
        first: &'a [u8],
        last: &'a [u8],
    },
    Match(Extension<'a>),
    Target(Extension<'a>),
    Counter,
    /// With the name of the chain that a jump goes to.
    Verdict {
        code: i32,
        chain: Option<&'a str>,
    },
    /// Any other, with its attributes.
    Other {
        name: &'a str,
        data: &'a [u8],
    },
    /// No expression at all.
    Malformed(&'a [u8]),
}

/// Where the register is loaded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Meta(u32),
    Payload { base: u32, offset: u32, length: u32 },
}

/// An extension of x_tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    pub name: &'a str,
    pub revision: u32,
    pub info: &'a [u8],
}

/// Reads an element of a rule's list.
pub fn read(element: Attribute<'_>) -> Expression<'_> {
    let [name, data] = fields(element.nested());
    match (element.kind, name.and_then(|name| name.text())) {
        (expression::ELEMENT, Some(name)) => {
            let data = data.map_or(&[][..], |data| data.payload);
            known(name, Attributes::new(data)).unwrap_or(Expression::Other { name, data })
        }
        _ => Expression::Malformed(element.payload),
    }
}

fn known<'a>(name: &str, attributes: Attributes<'a>) -> Option<Expression<'a>> {
    match name {
        meta::NAME => read_meta(attributes),
        payload::NAME => read_payload(attributes),
        bitwise::NAME => read_bitwise(attributes),
        compare::CMP => read_cmp(attributes),
        compare::RANGE => read_range(attributes),
        extension::MATCH => read_extension(attributes).map(Expression::Match),
        extension::TARGET => read_extension(attributes).map(Expression::Target),
        counter::NAME => Some(Expression::Counter),
        immediate::NAME => read_immediate(attributes),
        _ => None,
    }
}

fn read_meta(attributes: Attributes<'_>) -> Option<Expression<'_>> {
    let [register, key] = fields(attributes);
    is_register(register)?;
    Some(Expression::Load(Source::Meta(key?.u32_be()?)))
}

fn read_payload(attributes: Attributes<'_>) -> Option<Expression<'_>> {
    let [register, base, offset, length] = fields(attributes);
    is_register(register)?;
    Some(Expression::Load(Source::Payload {
        base: base?.u32_be()?,
        offset: offset?.u32_be()?,
        length: length?.u32_be()?,
    }))
}

fn read_bitwise(attributes: Attributes<'_>) -> Option<Expression<'_>> {
    let [from, to, length, mask, xor, op] = fields(attributes);
    is_register(from)?;
    is_register(to)?;
    let (mask, xor) = (value(mask)?, value(xor)?);
    let is_mask = op.is_none_or(|op| op.u32_be() == Some(bitwise::MASK_XOR))
        && length?.u32_be() == u32::try_from(mask.len()).ok()
        && xor.len() == mask.len()
        && xor.iter().all(|byte| *byte == 0);
    is_mask.then_some(Expression::Mask(mask))
}

fn read_cmp(attributes: Attributes<'_>) -> Option<Expression<'_>> {
    let [register, op, data] = fields(attributes);
    is_register(register)?;
    Some(Expression::Compare { op: op?.u32_be()?, value: value(data)? })
}

fn read_range(attributes: Attributes<'_>) -> Option<Expression<'_>> {
    let [register, op, first, last] = fields(attributes);
    is_register(register)?;
    let invert = match op?.u32_be()? {
        compare::EQUAL => false,
        compare::NOT_EQUAL => true,
        _ => return None,
    };
    Some(Expression::Range { invert, first: value(first)?, last: value(last)? })
}

fn read_extension(attributes: Attributes<'_>) -> Option<Extension<'_>> {
    let [name, revision, info] = fields(attributes);
    Some(Extension { name: name?.text()?, revision: revision?.u32_be()?, info: info?.payload })
}

fn read_immediate(attributes: Attributes<'_>) -> Option<Expression<'_>> {
    let [register, content] = fields(attributes);
    (register?.u32_be()? == wire::REGISTER_VERDICT).then_some(())?;
    let [code, chain] = fields(content?.nested().find(data::VERDICT)?.nested());
    let chain = match chain {
        Some(chain) => Some(chain.text()?),
        None => None,
    };
    Some(Expression::Verdict { code: code?.u32_be()? as i32, chain })
}

/// The first attributes of types 1 to `N`.
fn fields<const N: usize>(attributes: Attributes<'_>) -> [Option<Attribute<'_>>; N] {
    let mut fields = [None; N];
    for attribute in attributes {
        if let Some(field) = usize::from(attribute.kind).checked_sub(1).and_then(|at| fields.get_mut(at)) {
            field.get_or_insert(attribute);
        }
    }
    fields
}

fn is_register(register: Option<Attribute<'_>>) -> Option<()> {
    (register?.u32_be()? == wire::REGISTER).then_some(())
}

fn value(content: Option<Attribute<'_>>) -> Option<&[u8]> {
    content?.nested().find(data::VALUE).map(|value| value.payload)
}
