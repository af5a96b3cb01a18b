//! A node of the trie as a chain.

use super::trie::{Node, Trie};
use super::{Prefix, Tree};
use crate::kernel::xtables::{ChainName, Rule};
use crate::model::Settings;
use crate::net::Family;
use crate::plan::build::{Build, rule};
use crate::plan::iptables::service;

/// How many entries a chain holds as plain rules before it branches.
pub const LEAF: usize = 48;

/// One in so many of a chain's entries: a branch that holds more is spread into the chain.
const SPREAD: usize = 4;

/// A chain: its rules, and the prefixes of the chains that it jumps to.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    pub rules: Vec<Rule>,
    pub children: Vec<Prefix>,
}

/// What stands in a chain, in order.
enum Item<'a> {
    /// The rules of the entries of this node.
    Entries(&'a Node),
    /// A jump to the chain of this node.
    Jump(&'a Node),
}

/// The chain of a prefix.
pub fn chain(
    trie: &Trie,
    tree: Tree,
    prefix: &Prefix,
    settings: &Settings,
    name: &dyn Fn(&Prefix) -> ChainName,
) -> Chain {
    let mut chain = Chain::default();
    for item in items(trie, prefix) {
        match item {
            Item::Entries(node) => node.each(&mut |entry| {
                chain.rules.extend(service::entry_rules(&entry.port, settings, &entry.key, entry.role));
            }),
            Item::Jump(node) => {
                let child = node.prefix(trie.family);
                chain.rules.push(jump(tree, prefix, &child, trie.family, name(&child)));
                chain.children.push(child);
            }
        }
    }
    chain
}

/// The prefixes of the chains that the chain of a prefix jumps to.
pub fn children(trie: &Trie, prefix: &Prefix) -> Vec<Prefix> {
    items(trie, prefix)
        .into_iter()
        .filter_map(|item| match item {
            Item::Jump(node) => Some(node.prefix(trie.family)),
            Item::Entries(_) => None,
        })
        .collect()
}

fn items<'a>(trie: &'a Trie, prefix: &Prefix) -> Vec<Item<'a>> {
    let Some(top) = trie.at(prefix) else { return Vec::new() };
    let count = top.count();
    if count <= LEAF {
        return vec![Item::Entries(top)];
    }
    let mut items = Vec::new();
    if *prefix == Prefix::ROOT {
        // The first level only tells addresses that may be services from all others.
        for node in first_level(top, trie.family) {
            items.push(if needs_chain(node) { Item::Jump(node) } else { Item::Entries(node) });
        }
    } else {
        spread(top, count, &mut items);
    }
    items
}

/// Puts the branches of a node in, and spreads those that hold more than a quarter of the chain's entries.
fn spread<'a>(node: &'a Node, count: usize, items: &mut Vec<Item<'a>>) {
    let Node::Branch { children, .. } = node else {
        items.push(Item::Entries(node));
        return;
    };
    for (_, child) in children {
        if !needs_chain(child) {
            items.push(Item::Entries(child));
        } else if child.count() * SPREAD > count {
            spread(child, count, items);
        } else {
            items.push(Item::Jump(child));
        }
    }
}

/// Nodes of the root chain: as far up as possible, but below the kind, so that node ports and addresses part, and with
/// at least one nibble of address.
fn first_level(top: &Node, family: Family) -> Vec<&Node> {
    let prefix = top.prefix(family);
    match top {
        Node::Branch { children, .. } if prefix.len() < FIRST && !prefix.is_node_port() => {
            children.iter().flat_map(|(_, child)| first_level(child, family)).collect()
        }
        _ => vec![top],
    }
}

/// Nibbles that a prefix in the root chain has at least: the kind and the first of the address.
const FIRST: usize = 2;

/// One entry, or entries that no prefix tells apart, are rules and not a chain.
fn needs_chain(node: &Node) -> bool {
    matches!(node, Node::Branch { .. })
}

/// The rule that leads from a prefix to a longer one: it matches what the longer one says and the shorter does not.
fn jump(tree: Tree, from: &Prefix, to: &Prefix, family: Family, chain: ChainName) -> Rule {
    let mut jump = rule();
    if to.network(family) != from.network(family)
        && let Some(network) = to.network(family)
    {
        jump = jump.to_net(network);
    }
    if to.is_node_port() && !from.is_node_port() && tree == Tree::FilterExternal {
        jump = jump.destination_local();
    }
    let protocol = to.protocol(family);
    match (protocol, to.ports(family)) {
        (Some(protocol), Some((first, last))) if to.ports(family) != from.ports(family) => {
            jump = jump.to_ports(protocol, first, last);
        }
        (Some(protocol), _) if protocol_is_new(from, family) => jump = jump.protocol(protocol),
        _ => {}
    }
    jump.jump(chain)
}

fn protocol_is_new(from: &Prefix, family: Family) -> bool {
    from.protocol(family).is_none()
}
