//! One typed [`Rule`] as the expressions of an nf_tables rule, and back.
//!
//! **Writing.** Every iptables-nft from 1.8.2 to 1.8.13 must read a rule of ours as if it had written it itself, so a
//! rule has the form that all of them know: interfaces, addresses and the protocol as native expressions, everything
//! else as the `match` and `target` expressions that carry an extension of x_tables. Ports and marks are extensions
//! too: newer tools write them natively, and then older ones do not see them and print a rule that matches more.
//!
//! | family | order |
//! |---|---|
//! | IPv4 | interfaces, source, destination, protocol; matches; counter; verdict or target |
//! | IPv6 | interfaces, protocol, source, destination; matches; counter; verdict or target |
//!
//! **Reading.** What any of those versions writes for a rule is read as the same typed rule. Everything else is
//! [`ObservedRule::Verbatim`]: an extension is understood only if writing what was read gives the same bytes, and
//! comparisons only where every part of them is known. So a rule that means something else can never be taken for one
//! of ours.
//!
//! | step | module |
//! |---|---|
//! | attribute numbers and codes of the uapi header | `wire` |
//! | the structures of extensions, both ways | `extension` |
//! | a rule as expressions | `write` |
//! | one expression from its attributes | `read` |
//! | expressions as parts of a rule | `parts`, `native` |
//! | parts as text, where some are foreign | `describe` |

mod describe;
mod extension;
mod native;
mod parts;
mod read;
#[cfg(test)]
mod tests;
mod wire;
mod write;

use self::parts::{Part, Parts};
use self::read::Expression;
use crate::kernel::netlink::{Attributes, Body};
use crate::kernel::xtables::encode::unwritable;
use crate::kernel::xtables::nft::sets::SetIndexes;
use crate::kernel::xtables::{Match, ObservedRule, PortRange, Rule, Target};
use crate::net::{Family, Protocol};

/// Appends the attributes of a `NEWRULE` request that say what the rule does: `NFTA_RULE_EXPRESSIONS` and
/// `NFTA_RULE_COMPAT`.
///
/// The rule must be writable: [`encode::unwritable`](super::super::encode::unwritable) says `None`. The sets that it names
/// must be known.
pub fn put_rule(body: &mut Body<'_>, family: Family, rule: &Rule, sets: &SetIndexes) {
    write::put_rule(body, family, rule, sets);
}

/// Reads the payload of a dumped rule's `NFTA_RULE_EXPRESSIONS`. A rule that is not understood exactly is
/// [`ObservedRule::Verbatim`], in the words of `iptables-save` as far as they go and with what is foreign in brackets; so is
/// one that looks in a set which is not known.
pub fn read_rule(family: Family, expressions: Attributes<'_>, sets: &SetIndexes) -> ObservedRule {
    match assemble(family, expressions.clone(), sets) {
        Some(rule) => ObservedRule::Known(rule),
        None => ObservedRule::Verbatim(describe::text(family, expressions, sets).into()),
    }
}

/// The indexes of the sets that a rule looks in.
pub fn set_indexes(expressions: Attributes<'_>) -> impl Iterator<Item = u16> {
    expressions.filter_map(|element| match read::read(element) {
        Expression::Match(found) => extension::set_index(found.name, found.info),
        _ => None,
    })
}

/// The rule, if every part is known, none is there twice and the whole could be written again.
fn assemble(family: Family, expressions: Attributes<'_>, sets: &SetIndexes) -> Option<Rule> {
    let mut rule = Rule::default();
    let mut counter = None;
    let mut native_ports = None;
    for part in Parts::new(family, expressions, sets) {
        if rule.target.is_some() {
            return None;
        }
        match part {
            Part::Source(net) => set_once(&mut rule.source, net)?,
            Part::Destination(net) => set_once(&mut rule.destination, net)?,
            Part::InInterface(interface) => set_once(&mut rule.in_interface, interface)?,
            Part::OutInterface(interface) => set_once(&mut rule.out_interface, interface)?,
            Part::Protocol(protocol) => set_once(&mut rule.protocol, protocol)?,
            Part::Ports { source, destination } => {
                add_native_ports(&mut rule, &mut native_ports, source, destination)?;
            }
            Part::Match(item) => rule.matches.push(item),
            Part::Counter => set_once(&mut counter, ())?,
            Part::Target(target) => rule.target = Some(target),
            Part::Foreign(..) => return None,
        }
    }
    (!is_ambiguous(rule.target.as_ref()) && unwritable(family, &rule).is_none()).then_some(rule)
}

/// Native ports are one `-m tcp` or `-m udp` at the place of the first of them, as the tools print them.
fn add_native_ports(
    rule: &mut Rule,
    place: &mut Option<usize>,
    source: Option<PortRange>,
    destination: Option<PortRange>,
) -> Option<()> {
    // SCTP's are never native, and without a protocol these are just bytes.
    let protocol = rule.protocol.filter(|protocol| *protocol != Protocol::Sctp)?;
    let at = *place.get_or_insert(rule.matches.len());
    if at == rule.matches.len() {
        rule.matches.push(Match::Ports { protocol, source: None, destination: None });
    }
    let Some(Match::Ports { source: own_source, destination: own_destination, .. }) = rule.matches.get_mut(at) else {
        return None;
    };
    for (slot, ports) in [(own_source, source), (own_destination, destination)] {
        if let Some(ports) = ports {
            set_once(slot, ports)?;
        }
    }
    Some(())
}

/// `None` if there was a value already: twice means something that we do not write.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.is_none().then(|| *slot = Some(value))
}

/// Whether the target is a chain whose name the tools take for one of their targets. Only `nft` makes such chains.
fn is_ambiguous(target: Option<&Target>) -> bool {
    const TARGETS: [&str; 8] = ["ACCEPT", "DROP", "RETURN", "QUEUE", "REJECT", "DNAT", "MASQUERADE", "MARK"];
    match target {
        Some(Target::Jump(chain) | Target::Goto(chain)) => TARGETS.contains(&chain.as_str()),
        _ => false,
    }
}
