//! Whether a rule matches a packet.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::lookup;
use super::ruleset::Node;
use crate::kernel::ipset::SetName;
use crate::kernel::xtables::{AddrTypeMatch, InterfaceMatch, Match, NetMatch, PortRange, RecentAction, Rule};
use crate::net::Protocol;

/// One in `statistic`'s units (uapi `linux/netfilter/xt_statistic.h`).
const RANDOM_ONE: f64 = 2_147_483_648.0;

/// The packet as the rule at hand sees it.
pub(super) struct View<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// Empty where the hook has none.
    pub in_interface: &'a str,
    pub mark: u32,
    /// Bits of `XT_CONNTRACK_STATE_*` that the flow has.
    pub ct_state: u16,
    pub node: Node<'a>,
}

/// Why nobody can tell whether a rule matches.
pub(super) enum Obstacle {
    /// The rule looks at something that the packet does not tell.
    Unknown(&'static str),
    /// The rule names a set that is not there.
    NoSet(SetName),
}

/// With which probability the rule matches: 0 or 1 unless it says `-m statistic`.
///
/// `recent` holds the lists that have an entry for the source; `--set` adds to it.
pub(super) fn probability(rule: &Rule, view: &View<'_>, recent: &mut BTreeSet<Arc<str>>) -> Result<f64, Obstacle> {
    if rule.out_interface.is_some() {
        return Err(Obstacle::Unknown("the outgoing interface"));
    }
    let header = net_matches(rule.source.as_ref(), view.source)
        && net_matches(rule.destination.as_ref(), view.destination)
        && rule.in_interface.as_ref().is_none_or(|m| interface_matches(m, view.in_interface))
        && rule.protocol.is_none_or(|protocol| protocol == view.protocol);
    if !header {
        return Ok(0.0);
    }
    let mut probability = 1.0;
    for condition in &rule.matches {
        probability *= extension(condition, view, recent)?;
        if probability == 0.0 {
            break;
        }
    }
    Ok(probability)
}

fn extension(condition: &Match, view: &View<'_>, recent: &mut BTreeSet<Arc<str>>) -> Result<f64, Obstacle> {
    let matches = match condition {
        Match::Comment(_) | Match::Nfacct(_) => true,
        Match::Set { invert, set, directions } => {
            let set = view.node.set(set).ok_or_else(|| Obstacle::NoSet(set.clone()))?;
            lookup::contains(set, directions, view)? != *invert
        }
        Match::Ports { source: Some(_), .. } => return Err(Obstacle::Unknown("the source port")),
        Match::Ports { protocol, source: None, destination } => {
            *protocol == view.protocol && destination.as_ref().is_none_or(|range| port_matches(range, view.port))
        }
        Match::Mark { invert, value, mask } => (view.mark & mask == *value) != *invert,
        Match::Random { probability } => return Ok((f64::from(*probability) / RANDOM_ONE).min(1.0)),
        Match::Recent { name, action: RecentAction::Set } => {
            recent.insert(name.clone());
            true
        }
        Match::Recent { name, action: RecentAction::Check { .. } } => recent.contains(name),
        Match::AddrType(types) => addr_type_matches(types, view),
        Match::CtState { invert, states } => (view.ct_state & states.0 != 0) != *invert,
    };
    Ok(if matches { 1.0 } else { 0.0 })
}

fn net_matches(condition: Option<&NetMatch>, address: IpAddr) -> bool {
    condition.is_none_or(|m| m.net.contains(&address) != m.invert)
}

/// A name that ends in `+` is a prefix. A packet without an interface matches inverted conditions only, and `+`.
fn interface_matches(condition: &InterfaceMatch, name: &str) -> bool {
    let matches = match condition.name.strip_suffix('+') {
        Some(prefix) => name.starts_with(prefix),
        None => name == &*condition.name,
    };
    matches != condition.invert
}

fn port_matches(range: &PortRange, port: u16) -> bool {
    (range.first..=range.last).contains(&port) != range.invert
}

fn addr_type_matches(types: &AddrTypeMatch, view: &View<'_>) -> bool {
    let one = |inverted: Option<bool>, address: IpAddr| {
        inverted.is_none_or(|inverted| view.node.is_local(&address) != inverted)
    };
    one(types.source_local, view.source) && one(types.destination_local, view.destination)
}
