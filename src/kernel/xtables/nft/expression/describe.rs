//! A rule that is not one of ours as text.

use std::fmt::{self, Write};

use super::parts::{Loaded, Part, Parts};
use super::read::{Expression, Extension, Source};
use super::wire::{compare, meta, payload, verdict};
use crate::kernel::netlink::Attributes;
use crate::kernel::xtables::encode::push_rule;
use crate::kernel::xtables::nft::sets::SetIndexes;
use crate::kernel::xtables::{Match, Rule};
use crate::net::{Family, stable_hash64};

/// How many bytes are printed. Of more, a hash tells whether they are the same.
const MOST: usize = 32;

/// One line: what is known as `iptables-save` would print it, in the order of the expressions, and the rest in
/// brackets. Different rules have different texts.
pub fn text(family: Family, expressions: Attributes<'_>, sets: &SetIndexes) -> String {
    let mut text = String::new();
    let mut protocol = None;
    for part in Parts::new(family, expressions, sets) {
        let mut known = Rule::default();
        match part {
            Part::Source(net) => known.source = Some(net),
            Part::Destination(net) => known.destination = Some(net),
            Part::InInterface(interface) => known.in_interface = Some(interface),
            Part::OutInterface(interface) => known.out_interface = Some(interface),
            Part::Protocol(found) => {
                protocol = Some(found);
                known.protocol = protocol;
            }
            Part::Ports { source, destination } => match protocol {
                Some(protocol) => known.matches.push(Match::Ports { protocol, source, destination }),
                None => text.push_str(" [nft ports without protocol]"),
            },
            Part::Match(item) => known.matches.push(item),
            Part::Counter => {}
            Part::Target(target) => known.target = Some(target),
            Part::Foreign(loaded, expression) => push_foreign(&mut text, loaded, expression),
        }
        push_rule(&mut text, family, &known);
    }
    // A comment may hold anything, and this is one line.
    let mut line = String::with_capacity(text.len());
    for c in text.trim_start().chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

fn push_foreign(text: &mut String, loaded: Option<Loaded<'_>>, expression: Option<Expression<'_>>) {
    match expression {
        Some(Expression::Match(found)) => push_extension(text, "", found),
        Some(Expression::Target(found)) => push_extension(text, "-j ", found),
        Some(Expression::Verdict { code: verdict::JUMP, chain: Some(chain) }) => {
            push(text, format_args!(" -j {chain}"))
        }
        Some(Expression::Verdict { code: verdict::GOTO, chain: Some(chain) }) => {
            push(text, format_args!(" -g {chain}"))
        }
        Some(Expression::Verdict { code, .. }) => push(text, format_args!(" [nft verdict {code}]")),
        other => {
            text.push_str(" [nft");
            push_loaded(text, loaded);
            push_native(text, other);
            text.push(']');
        }
    }
}

fn push_extension(text: &mut String, option: &str, found: Extension<'_>) {
    let Extension { name, revision, info } = found;
    push(text, format_args!(" {option}[{name} rev {revision}, {}]", Hex(info)));
}

/// `transport header 13/1 & 02`: offset and length, and the mask if there is one.
fn push_loaded(text: &mut String, loaded: Option<Loaded<'_>>) {
    let Some(Loaded { from, mask }) = loaded else { return };
    match from {
        Source::Meta(meta::MARK) => text.push_str(" mark"),
        Source::Meta(meta::IIFNAME) => text.push_str(" iifname"),
        Source::Meta(meta::OIFNAME) => text.push_str(" oifname"),
        Source::Meta(meta::L4PROTO) => text.push_str(" l4proto"),
        Source::Meta(key) => push(text, format_args!(" meta {key}")),
        Source::Payload { base: payload::NETWORK, offset, length } => {
            push(text, format_args!(" network header {offset}/{length}"));
        }
        Source::Payload { base: payload::TRANSPORT, offset, length } => {
            push(text, format_args!(" transport header {offset}/{length}"));
        }
        Source::Payload { base, offset, length } => push(text, format_args!(" payload {base} {offset}/{length}")),
    }
    if let Some(mask) = mask {
        push(text, format_args!(" & {}", Hex(mask)));
    }
}

/// What is done with what was loaded, or something else.
fn push_native(text: &mut String, expression: Option<Expression<'_>>) {
    match expression {
        Some(Expression::Mask(mask)) => push(text, format_args!(" & {}", Hex(mask))),
        Some(Expression::Compare { op, value }) => {
            let op = match op {
                compare::EQUAL => "==",
                compare::NOT_EQUAL => "!=",
                compare::LESS => "<",
                compare::LESS_OR_EQUAL => "<=",
                compare::GREATER => ">",
                compare::GREATER_OR_EQUAL => ">=",
                _ => "?",
            };
            push(text, format_args!(" {op} {}", Hex(value)));
        }
        Some(Expression::Range { invert, first, last }) => {
            push(text, format_args!(" {} {}-{}", if invert { "!=" } else { "==" }, Hex(first), Hex(last)));
        }
        Some(Expression::Other { name, data }) => push(text, format_args!(" {name} {}", Hex(data))),
        Some(Expression::Malformed(bytes)) => push(text, format_args!(" malformed {}", Hex(bytes))),
        // The others are never foreign, or not native.
        _ => {}
    }
}

/// Writing to a `String` cannot fail; `fmt` has no other way to say so.
fn push(text: &mut String, what: fmt::Arguments<'_>) {
    let written = text.write_fmt(what);
    debug_assert!(written.is_ok());
}

/// Bytes in hexadecimal; of many only the first, their number and a hash.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().take(MOST) {
            write!(f, "{byte:02x}")?;
        }
        if self.0.len() > MOST {
            write!(f, "... {} bytes #{:016x}", self.0.len(), stable_hash64(self.0))?;
        }
        Ok(())
    }
}
