//! A rule as expressions. Nothing here allocates: a start writes every rule there is.

use std::net::IpAddr;

use super::extension::{Extension, match_extension, target_extension};
use super::wire::{
    self, Addresses, bitwise, compare, compat, counter, data, expression, immediate, meta, payload, rule, verdict,
};
use crate::kernel::netlink::Body;
use crate::kernel::xtables::nft::sets::SetIndexes;
use crate::kernel::xtables::{ChainName, InterfaceMatch, NetMatch, Rule, Target};
use crate::net::{Family, Protocol};

pub fn put_rule(body: &mut Body<'_>, family: Family, rule: &Rule, sets: &SetIndexes) {
    body.nest(rule::EXPRESSIONS, |list| put_expressions(list, family, rule, sets));
    // The kernel asks it which protocol the extensions may rely on; the tools send it always.
    body.nest(rule::COMPAT, |inner| {
        inner.put_u32_be(compat::PROTOCOL, rule.protocol.map_or(0, |protocol| u32::from(protocol.number())));
        inner.put_u32_be(compat::FLAGS, 0);
    });
}

fn put_expressions(list: &mut Body<'_>, family: Family, rule: &Rule, sets: &SetIndexes) {
    put_interface(list, meta::IIFNAME, rule.in_interface.as_ref());
    put_interface(list, meta::OIFNAME, rule.out_interface.as_ref());
    // 1.8.8 misreads a meta expression behind an address; in IPv6 the protocol is one.
    if family == Family::V6 {
        put_protocol(list, family, rule.protocol);
    }
    let at = Addresses::of(family);
    put_net(list, at.source, rule.source.as_ref());
    put_net(list, at.destination, rule.destination.as_ref());
    if family == Family::V4 {
        put_protocol(list, family, rule.protocol);
    }
    for item in &rule.matches {
        put_extension(list, wire::extension::MATCH, &match_extension(family, item, sets));
    }
    put_counter(list);
    if let Some(target) = &rule.target {
        put_target(list, family, target);
    }
}

fn put_interface(list: &mut Body<'_>, key: u32, interface: Option<&InterfaceMatch>) {
    let Some(InterfaceMatch { invert, name }) = interface else { return };
    match name.strip_suffix('+') {
        // Every name begins with it.
        Some("") if !*invert => {}
        // No interface has such a name: the kernel allows no slash.
        Some("") => {
            put_meta(list, key);
            put_compare(list, false, |value| _ = value.put_text(data::VALUE, wire::NO_INTERFACE));
        }
        Some(prefix) => {
            put_meta(list, key);
            put_compare(list, *invert, |value| _ = value.put(data::VALUE, prefix.as_bytes()));
        }
        None => {
            put_meta(list, key);
            put_compare(list, *invert, |value| _ = value.put_text(data::VALUE, name));
        }
    }
}

fn put_protocol(list: &mut Body<'_>, family: Family, protocol: Option<Protocol>) {
    let Some(protocol) = protocol else { return };
    match family {
        Family::V4 => put_payload(list, payload::NETWORK, payload::IPV4_PROTOCOL, 1),
        Family::V6 => put_meta(list, meta::L4PROTO),
    }
    put_compare(list, false, |value| _ = value.put_u8(data::VALUE, protocol.number()));
}

/// The address and, unless it is a single one, its mask. Loading only the bytes that the prefix has would be shorter,
/// but the tools before 1.8.7 read that as a single address.
fn put_net(list: &mut Body<'_>, offset: u32, net: Option<&NetMatch>) {
    let Some(NetMatch { invert, net }) = net else { return };
    let length = u32::from(net.max_prefix_len() / 8);
    put_payload(list, payload::NETWORK, offset, length);
    if net.prefix_len() < net.max_prefix_len() {
        put_bitwise(list, length, net.netmask());
    }
    put_compare(list, *invert, |value| _ = value.put_ip(data::VALUE, net.network()));
}

pub(super) fn put_meta(list: &mut Body<'_>, key: u32) {
    put_expression(list, meta::NAME, |inner| {
        inner.put_u32_be(meta::KEY, key).put_u32_be(meta::DREG, wire::REGISTER);
    });
}

pub(super) fn put_payload(list: &mut Body<'_>, base: u32, offset: u32, length: u32) {
    put_expression(list, payload::NAME, |inner| {
        inner
            .put_u32_be(payload::DREG, wire::REGISTER)
            .put_u32_be(payload::BASE, base)
            .put_u32_be(payload::OFFSET, offset)
            .put_u32_be(payload::LENGTH, length);
    });
}

fn put_bitwise(list: &mut Body<'_>, length: u32, mask: IpAddr) {
    const ZEROS: [u8; 16] = [0; 16];
    let zeros = ZEROS.get(..length as usize).unwrap_or(&ZEROS);
    put_expression(list, bitwise::NAME, |inner| {
        inner
            .put_u32_be(bitwise::SREG, wire::REGISTER)
            .put_u32_be(bitwise::DREG, wire::REGISTER)
            .put_u32_be(bitwise::LENGTH, length)
            .nest(bitwise::MASK, |value| _ = value.put_ip(data::VALUE, mask))
            .nest(bitwise::XOR, |value| _ = value.put(data::VALUE, zeros));
    });
}

/// Compares what was loaded with the value that `fill` writes.
fn put_compare(list: &mut Body<'_>, invert: bool, fill: impl FnOnce(&mut Body<'_>)) {
    let op = if invert { compare::NOT_EQUAL } else { compare::EQUAL };
    put_expression(list, compare::CMP, |inner| {
        inner.put_u32_be(compare::SREG, wire::REGISTER).put_u32_be(compare::OP, op).nest(compare::DATA, fill);
    });
}

fn put_extension(list: &mut Body<'_>, kind: &str, extension: &Extension) {
    put_expression(list, kind, |inner| {
        inner
            .put_text(wire::extension::NAME, extension.name)
            .put_u32_be(wire::extension::REVISION, extension.revision)
            .put(wire::extension::INFO, extension.info());
    });
}

pub(super) fn put_counter(list: &mut Body<'_>) {
    put_expression(list, counter::NAME, |inner| {
        inner.put_u64_be(counter::BYTES, 0).put_u64_be(counter::PACKETS, 0);
    });
}

fn put_target(list: &mut Body<'_>, family: Family, target: &Target) {
    match target {
        Target::Accept => put_verdict(list, verdict::ACCEPT, None),
        Target::Drop => put_verdict(list, verdict::DROP, None),
        Target::Return => put_verdict(list, verdict::RETURN, None),
        Target::Jump(chain) => put_verdict(list, verdict::JUMP, Some(chain)),
        Target::Goto(chain) => put_verdict(list, verdict::GOTO, Some(chain)),
        Target::Reject | Target::Dnat(_) | Target::Masquerade { .. } | Target::Mark { .. } => {
            if let Some(extension) = target_extension(family, target) {
                put_extension(list, wire::extension::TARGET, &extension);
            }
        }
    }
}

pub(super) fn put_verdict(list: &mut Body<'_>, code: i32, chain: Option<&ChainName>) {
    put_expression(list, immediate::NAME, |inner| {
        inner.put_u32_be(immediate::DREG, wire::REGISTER_VERDICT).nest(immediate::DATA, |value| {
            value.nest(data::VERDICT, |inner| {
                inner.put_u32_be(verdict::CODE, code as u32);
                if let Some(chain) = chain {
                    inner.put_text(verdict::CHAIN, chain.as_str());
                }
            });
        });
    });
}

pub(super) fn put_expression(list: &mut Body<'_>, name: &str, fill: impl FnOnce(&mut Body<'_>)) {
    list.nest(expression::ELEMENT, |element| {
        element.put_text(expression::NAME, name).nest(expression::DATA, fill);
    });
}
