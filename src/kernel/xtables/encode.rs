//! A rule as text, byte for byte as `iptables-save` prints it, which is also what `iptables-restore` reads.
//!
//! The form is that of iptables 1.8.2 to 1.8.13 on both variants; `test-harness/captures` holds what the tools print.
//! Nothing here allocates per rule: a cluster of 10,000 services has 320,000 rules.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    AddrTypeMatch, CtStates, Direction, InterfaceMatch, Match, NetMatch, PortRange, RecentAction, Rule, Target,
};
use crate::kernel::ipset::SetName;
use crate::net::{Endpoint, Family};

/// The names of [`CtStates`] in the order in which iptables prints them.
pub(super) const CT_STATES: [(&str, CtStates); 7] = [
    ("INVALID", CtStates::INVALID),
    ("NEW", CtStates::NEW),
    ("RELATED", CtStates::RELATED),
    ("ESTABLISHED", CtStates::ESTABLISHED),
    ("UNTRACKED", CtStates::UNTRACKED),
    ("SNAT", CtStates::SNAT),
    ("DNAT", CtStates::DNAT),
];

/// What `REJECT` answers where nothing else is asked for.
pub(super) const fn port_unreachable(family: Family) -> &'static str {
    match family {
        Family::V4 => "icmp-port-unreachable",
        Family::V6 => "icmp6-port-unreachable",
    }
}

/// The mask of `-m recent` that keeps the whole address.
pub(super) const fn full_mask(family: Family) -> &'static str {
    match family {
        Family::V4 => "255.255.255.255",
        Family::V6 => "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    }
}

/// The probability of 1 in the kernel's units: 2^31.
pub const ONE: u32 = 1 << 31;

/// The longest comment in bytes (`XT_MAX_COMMENT_LEN` of uapi `linux/netfilter/xt_comment.h` less the NUL).
const MAX_COMMENT: usize = 255;

/// The longest names in bytes, each less the NUL: `IFNAMSIZ` of uapi `linux/if.h`, `XT_RECENT_NAME_LEN` of
/// `linux/netfilter/xt_recent.h`, `NFACCT_NAME_MAX` of `linux/netfilter/nfnetlink_acct.h`.
const MAX_INTERFACE: usize = 15;
const MAX_RECENT: usize = 199;
const MAX_NFACCT: usize = 31;

/// As many parts has an entry of a set at most (`IPSET_DIM_THREE` of uapi `linux/netfilter/ipset/ip_set.h`: no type of set
/// uses the dimensions above).
pub(super) const MAX_DIRECTIONS: usize = 3;

/// The text of a rule after `-A CHAIN `; empty for a rule that matches everything and has no target.
pub fn rule_text(family: Family, rule: &Rule) -> String {
    let mut text = String::with_capacity(160);
    push_rule(&mut text, family, rule);
    if text.starts_with(' ') {
        text.remove(0);
    }
    text
}

/// Appends the text of a rule, a space before each word, so that it can follow `-A CHAIN` at once.
pub fn push_rule(out: &mut String, family: Family, rule: &Rule) {
    push_net(out, "-s ", rule.source.as_ref());
    push_net(out, "-d ", rule.destination.as_ref());
    push_interface(out, "-i ", rule.in_interface.as_ref());
    push_interface(out, "-o ", rule.out_interface.as_ref());
    if let Some(protocol) = rule.protocol {
        out.push_str(" -p ");
        out.push_str(protocol.lower());
    }
    for item in &rule.matches {
        push_match(out, family, item);
    }
    if let Some(target) = &rule.target {
        push_target(out, family, target);
    }
}

fn push_match(out: &mut String, family: Family, item: &Match) {
    match item {
        Match::Comment(text) => {
            out.push_str(" -m comment --comment");
            push_quoted(out, text);
        }
        Match::Ports { protocol, source, destination } => {
            out.push_str(" -m ");
            out.push_str(protocol.lower());
            push_ports(out, "--sport ", source.as_ref());
            push_ports(out, "--dport ", destination.as_ref());
        }
        Match::Mark { invert, value, mask } => {
            out.push_str(" -m mark");
            push_option(out, *invert, "--mark 0x");
            push_hex(out, *value);
            if *mask != u32::MAX {
                out.push_str("/0x");
                push_hex(out, *mask);
            }
        }
        Match::Random { probability } => {
            out.push_str(" -m statistic --mode random --probability ");
            push_probability(out, *probability);
        }
        Match::Recent { name, action } => push_recent(out, family, name, *action),
        Match::AddrType(types) => push_addrtype(out, *types),
        Match::CtState { invert, states } => {
            out.push_str(" -m conntrack");
            push_option(out, *invert, "--ctstate ");
            push_states(out, *states);
        }
        Match::Nfacct(name) => {
            // The tool prints two spaces here, in every version.
            out.push_str(" -m nfacct --nfacct-name ");
            push_quoted(out, name);
        }
        Match::Set { invert, set, directions } => {
            out.push_str(" -m set");
            push_option(out, *invert, "--match-set ");
            out.push_str(set.as_str());
            for (place, direction) in directions.iter().enumerate() {
                out.push(if place == 0 { ' ' } else { ',' });
                out.push_str(match direction {
                    Direction::Source => "src",
                    Direction::Destination => "dst",
                });
            }
        }
    }
}

fn push_target(out: &mut String, family: Family, target: &Target) {
    out.push_str(if matches!(target, Target::Goto(_)) { " -g " } else { " -j " });
    match target {
        Target::Jump(chain) | Target::Goto(chain) => out.push_str(chain.as_str()),
        Target::Accept => out.push_str("ACCEPT"),
        Target::Drop => out.push_str("DROP"),
        Target::Return => out.push_str("RETURN"),
        Target::Reject => {
            out.push_str("REJECT --reject-with ");
            out.push_str(port_unreachable(family));
        }
        Target::Dnat(endpoint) => {
            out.push_str("DNAT --to-destination ");
            push_endpoint(out, *endpoint);
        }
        Target::Masquerade { random_fully } => {
            out.push_str("MASQUERADE");
            if *random_fully {
                out.push_str(" --random-fully");
            }
        }
        Target::Mark { value, mask } => {
            out.push_str("MARK --set-xmark 0x");
            push_hex(out, *value);
            out.push_str("/0x");
            push_hex(out, *mask);
        }
    }
}

fn push_recent(out: &mut String, family: Family, name: &str, action: RecentAction) {
    out.push_str(" -m recent");
    match action {
        RecentAction::Set => out.push_str(" --set"),
        RecentAction::Check { seconds, reap } => {
            out.push_str(" --rcheck --seconds ");
            push_number(out, seconds);
            if reap {
                out.push_str(" --reap");
            }
        }
    }
    out.push_str(" --name ");
    out.push_str(name);
    out.push_str(" --mask ");
    out.push_str(full_mask(family));
    out.push_str(" --rsource");
}

fn push_addrtype(out: &mut String, types: AddrTypeMatch) {
    out.push_str(" -m addrtype");
    if let Some(invert) = types.source_local {
        push_option(out, invert, "--src-type LOCAL");
    }
    if let Some(invert) = types.destination_local {
        push_option(out, invert, "--dst-type LOCAL");
    }
}

fn push_states(out: &mut String, states: CtStates) {
    let mut separator = "";
    for (name, state) in CT_STATES {
        if states.0 & state.0 != 0 {
            out.push_str(separator);
            out.push_str(name);
            separator = ",";
        }
    }
}

fn push_net(out: &mut String, option: &str, net: Option<&NetMatch>) {
    let Some(net) = net else { return };
    push_option(out, net.invert, option);
    push_ip(out, net.net.addr());
    out.push('/');
    push_number(out, u32::from(net.net.prefix_len()));
}

fn push_interface(out: &mut String, option: &str, interface: Option<&InterfaceMatch>) {
    let Some(interface) = interface else { return };
    push_option(out, interface.invert, option);
    out.push_str(&interface.name);
}

fn push_ports(out: &mut String, option: &str, range: Option<&PortRange>) {
    let Some(range) = range else { return };
    push_option(out, range.invert, option);
    push_number(out, u32::from(range.first));
    if range.first != range.last {
        out.push(':');
        push_number(out, u32::from(range.last));
    }
}

fn push_option(out: &mut String, invert: bool, option: &str) {
    out.push_str(if invert { " ! " } else { " " });
    out.push_str(option);
}

/// Quotes as iptables does: a word of letters, digits, `_` and `-` stays bare, anything else goes into double quotes
/// with a backslash before `"`, `'` and `\`.
fn push_quoted(out: &mut String, text: &str) {
    out.push(' ');
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        out.push_str(text);
        return;
    }
    out.push('"');
    for part in text.split_inclusive(['"', '\'', '\\']) {
        match part.char_indices().next_back() {
            Some((at, special @ ('"' | '\'' | '\\'))) => {
                out.push_str(part.get(..at).unwrap_or_default());
                out.push('\\');
                out.push(special);
            }
            _ => out.push_str(part),
        }
    }
    out.push('"');
}

/// Appends `probability / 2^31` with 11 decimals, rounded half to even as the C library does. 11 decimals tell two
/// neighbouring values apart, so reading the text gives the same value again.
fn push_probability(out: &mut String, probability: u32) {
    // p * 10^11 / 2^31 is p * 5^11 / 2^20, which fits 64 bits.
    const SHIFT: u32 = 20;
    let scaled = u64::from(probability) * 5u64.pow(11);
    let rest = scaled & ((1 << SHIFT) - 1);
    let mut digits = scaled >> SHIFT;
    if rest > 1 << (SHIFT - 1) || (rest == 1 << (SHIFT - 1) && digits & 1 == 1) {
        digits += 1;
    }
    let whole = 10u64.pow(11);
    infallible(write!(out, "{}.{:011}", digits / whole, digits % whole));
}

fn push_endpoint(out: &mut String, endpoint: Endpoint) {
    match endpoint.ip {
        IpAddr::V4(ip) => push_ipv4(out, ip),
        IpAddr::V6(ip) => {
            out.push('[');
            push_ipv6(out, ip);
            out.push(']');
        }
    }
    out.push(':');
    push_number(out, u32::from(endpoint.port));
}

fn push_ip(out: &mut String, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => push_ipv4(out, ip),
        IpAddr::V6(ip) => push_ipv6(out, ip),
    }
}

fn push_ipv4(out: &mut String, ip: Ipv4Addr) {
    let [a, b, c, d] = ip.octets();
    for (separator, octet) in [("", a), (".", b), (".", c), (".", d)] {
        out.push_str(separator);
        push_number(out, u32::from(octet));
    }
}

/// As the C library's `inet_ntop`: unlike Rust it still writes the last four bytes of `::a.b.c.d` with dots.
fn push_ipv6(out: &mut String, ip: Ipv6Addr) {
    if let [0, 0, 0, 0, 0, 0, high, _] = ip.segments()
        && high != 0
    {
        let [.., a, b, c, d] = ip.octets();
        out.push_str("::");
        push_ipv4(out, Ipv4Addr::new(a, b, c, d));
    } else {
        infallible(write!(out, "{ip}"));
    }
}

fn push_number(out: &mut String, number: u32) {
    let mut divisor = 1;
    while number / divisor >= 10 {
        divisor *= 10;
    }
    while divisor > 0 {
        out.push(char::from(b'0' + (number / divisor % 10) as u8));
        divisor /= 10;
    }
}

fn push_hex(out: &mut String, number: u32) {
    infallible(write!(out, "{number:x}"));
}

/// Writing to a `String` cannot fail; `fmt` has no other way to say so.
fn infallible(written: std::fmt::Result) {
    debug_assert!(written.is_ok());
}

/// Why a rule has no text that reads back as the same rule; `None` if it has one.
///
/// Such a rule must never reach `iptables-restore`: a line break in a comment would start a new command.
pub fn unwritable(family: Family, rule: &Rule) -> Option<&'static str> {
    let nets = [&rule.source, &rule.destination];
    if nets.into_iter().flatten().any(|net| Family::of_net(&net.net) != family) {
        return Some("an address is of the other family");
    }
    let interfaces = [&rule.in_interface, &rule.out_interface];
    if interfaces.into_iter().flatten().any(|interface| !is_word(&interface.name)) {
        return Some("an interface name is empty or has spaces, quotes or control characters");
    }
    if interfaces.into_iter().flatten().any(|interface| interface.name.len() > MAX_INTERFACE) {
        return Some("an interface name is longer than 15 bytes");
    }
    if rule.matches.iter().any(|item| matches!(item, Match::Ports { protocol, .. } if rule.protocol != Some(*protocol)))
    {
        return Some("ports are of another protocol than the rule");
    }
    if let Some(why) = rule.matches.iter().find_map(unwritable_match) {
        return Some(why);
    }
    match &rule.target {
        Some(Target::Jump(chain) | Target::Goto(chain)) if !is_word(chain.as_str()) => {
            Some("the target's name is empty or has spaces, quotes or control characters")
        }
        Some(Target::Dnat(endpoint)) if Family::of(&endpoint.ip) != family => {
            Some("the DNAT address is of the other family")
        }
        _ => None,
    }
}

fn unwritable_match(item: &Match) -> Option<&'static str> {
    match item {
        Match::Comment(text) if text.len() > MAX_COMMENT => Some("the comment is longer than 255 bytes"),
        Match::Comment(text) if text.contains(['\n', '\0']) => Some("the comment has a line break or a NUL"),
        Match::Ports { source, destination, .. }
            if [source, destination].into_iter().flatten().any(|range| !is_range(range)) =>
        {
            Some("a range of ports is empty or has all ports")
        }
        Match::Random { probability } if *probability > ONE => Some("the probability is greater than 1"),
        Match::Recent { name, .. } if !is_word(name) => {
            Some("the name of a recent list is empty or has spaces, quotes or control characters")
        }
        Match::Recent { name, .. } if name.len() > MAX_RECENT => {
            Some("the name of a recent list is longer than 199 bytes")
        }
        Match::Recent { action: RecentAction::Check { seconds: 0, .. }, .. } => {
            Some("a recent match looks back 0 seconds")
        }
        Match::Nfacct(name) if name.len() > MAX_NFACCT => Some("the name of a counter is longer than 31 bytes"),
        Match::Nfacct(name) if !is_word(name) => {
            Some("the name of a counter is empty or has spaces, quotes or control characters")
        }
        Match::Set { set, .. } if !is_word(set.as_str()) => {
            Some("the name of a set is empty or has spaces, quotes or control characters")
        }
        Match::Set { set, .. } if set.as_str().len() > SetName::MAX => {
            Some("the name of a set is longer than 31 bytes")
        }
        Match::Set { directions, .. } if !(1..=MAX_DIRECTIONS).contains(&directions.len()) => {
            Some("a lookup in a set has no direction, or more than three")
        }
        Match::AddrType(types) if *types == AddrTypeMatch::default() => Some("an addrtype match asks for nothing"),
        Match::CtState { states, .. } if states.0 == 0 => Some("a conntrack match has no state"),
        _ => None,
    }
}

/// Whether a range is one that the tools print: not empty, and not all ports.
pub(super) fn is_range(range: &PortRange) -> bool {
    range.first <= range.last && (range.first, range.last) != (0, u16::MAX)
}

/// Whether `text` is one word of a command line without quoting and cannot be taken for an option.
pub(super) fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(['-', '!'])
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\'))
}
