//! Leading a packet to its service port: a tree of small chains instead of one long one.
//!
//! kube-proxy tests a packet against every service, one rule each. Here the entries of a dispatcher form a radix tree
//! over half bytes (nibbles) of `address, protocol, port`, and each chain holds at most a few dozen rules:
//!
//! * A chain with up to [`render::LEAF`] entries holds their rules, in order: a small cluster looks as kube-proxy leaves
//!   it.
//! * A larger one holds a jump for each branch, by prefix. A branch with one entry is that entry's rule itself, and a
//!   branch that holds more than a quarter of the chain's entries is spread into the chain, so that each level of chains
//!   has at most a quarter of the entries of the one above: the depth is bounded whatever addresses people choose
//!   (the kernel follows at most 16 nested chains). Only the first level is never spread: traffic to no
//!   service at all should meet as few rules as can be.
//!
//! A chain's content depends on the entries below its prefix and on nothing else, and its name comes from the prefix.
//! So the tree is a function of the set of entries (same services, same chains, whatever happened before), and a change
//! of one entry rewrites the chains on its path only.
//!
//! Chains never end a packet's way by `goto`: what no service takes returns and goes on to the node ports.

mod key;
pub mod render;
mod trie;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

pub use key::{Key, Prefix};
use trie::Trie;

use super::names;
use super::service::Role;
use crate::kernel::xtables::{ChainName, Rule, Table};
use crate::model::{ServicePort, ServicePortKey, Settings};
use crate::net::Family;

/// The dispatchers of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tree {
    /// nat KUBE-SERVICES: cluster IPs, external IPs and VIPs.
    NatServices,
    /// nat KUBE-NODEPORTS.
    NatNodePorts,
    /// filter KUBE-SERVICES: cluster IPs that nobody serves.
    FilterServices,
    /// filter KUBE-EXTERNAL-SERVICES: external IPs, VIPs and node ports that nobody serves.
    FilterExternal,
    /// filter KUBE-PROXY-FIREWALL: VIPs with source ranges.
    FilterFirewall,
    /// filter KUBE-NODEPORTS: health check node ports.
    FilterNodePorts,
}

impl Tree {
    pub const ALL: [Tree; 6] = [
        Tree::NatServices,
        Tree::NatNodePorts,
        Tree::FilterServices,
        Tree::FilterExternal,
        Tree::FilterFirewall,
        Tree::FilterNodePorts,
    ];

    pub const fn table(self) -> Table {
        match self {
            Tree::NatServices | Tree::NatNodePorts => Table::Nat,
            _ => Table::Filter,
        }
    }

    /// The chain at the root.
    pub const fn root(self) -> &'static str {
        match self {
            Tree::NatServices | Tree::FilterServices => names::SERVICES,
            Tree::NatNodePorts | Tree::FilterNodePorts => names::NODE_PORTS,
            Tree::FilterExternal => names::EXTERNAL_SERVICES,
            Tree::FilterFirewall => names::PROXY_FIREWALL,
        }
    }

    /// The letter in the names of the chains below the root.
    const fn letter(self) -> char {
        match self {
            Tree::NatServices | Tree::FilterServices => 's',
            Tree::NatNodePorts | Tree::FilterNodePorts => 'n',
            Tree::FilterExternal => 'e',
            Tree::FilterFirewall => 'f',
        }
    }
}

/// One entry: a service port and what it does here. The order of entries with the same key is that of the service
/// ports.
#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Key,
    pub role: Role,
    pub port: Arc<ServicePort>,
}

impl Entry {
    fn order(&self) -> (&Key, &ServicePortKey, Role) {
        (&self.key, &self.port.key, self.role)
    }
}

/// Chains by name, before and after a change: a [`ChainChange`](crate::kernel::xtables::ChainChange) of which it is not
/// known yet whether the sides differ.
pub type Touched = BTreeMap<ChainName, (Option<Vec<Rule>>, Option<Vec<Rule>>)>;

/// One tree of one family with its entries.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    tree: Tree,
    family: Family,
    trie: Trie,
    /// Rules at the end of the root chain.
    tail: Vec<Rule>,
    /// Prefixes that have a chain now. The root, which always has one, is not among them.
    chains: HashSet<Prefix>,
}

impl Dispatcher {
    pub fn new(tree: Tree, family: Family, tail: Vec<Rule>) -> Self {
        Dispatcher { tree, family, trie: Trie::new(family), tail, chains: HashSet::new() }
    }

    pub fn tree(&self) -> Tree {
        self.tree
    }

    /// Takes entries out and puts entries in, and tells which chains that touched, with their content before and after.
    pub fn change(&mut self, remove: &[Entry], add: &[Entry], settings: &Settings) -> Touched {
        let mut touched = Touched::new();
        if remove.is_empty() && add.is_empty() {
            return touched;
        }
        let keys: Vec<Key> = remove.iter().chain(add).map(|entry| entry.key).collect();
        let before = self.along(&keys, settings);
        for entry in remove {
            self.trie.remove(entry);
        }
        for entry in add {
            self.trie.insert(entry.clone());
        }
        let mut after = self.along(&keys, settings);
        self.add_new_subtrees(&mut after, settings);
        let gone = self.collect_gone(&before, &after, settings);
        for (prefix, node) in before {
            touched.entry(self.name(&prefix)).or_default().0 = Some(node.rules);
        }
        for (prefix, rules) in gone {
            touched.entry(self.name(&prefix)).or_default().0.get_or_insert(rules);
        }
        for (prefix, node) in after {
            touched.entry(self.name(&prefix)).or_default().1 = Some(node.rules);
        }
        // A chain that was there and lies on no changed path any more, but still exists, did not change: it cannot be
        // in `before` only, unless it is gone.
        touched
    }

    /// Makes an entry that is there hold another version of its service port, one that has the same rules.
    pub fn hold(&mut self, entry: &Entry) {
        self.trie.insert(entry.clone());
    }

    /// Puts entries in without telling what that touches.
    pub fn fill(&mut self, entries: impl IntoIterator<Item = Entry>) {
        entries.into_iter().for_each(|entry| self.trie.insert(entry));
        let mut todo = vec![Prefix::ROOT];
        self.chains.clear();
        while let Some(prefix) = todo.pop() {
            let children = render::children(&self.trie, &prefix);
            self.chains.extend(&children);
            todo.extend(children);
        }
    }

    /// All chains, for a full plan.
    pub fn all(&self, settings: &Settings) -> Vec<(ChainName, Vec<Rule>)> {
        let mut out = Vec::new();
        let mut todo = vec![Prefix::ROOT];
        while let Some(prefix) = todo.pop() {
            let node = self.render(&prefix, settings);
            todo.extend(node.children);
            out.push((self.name(&prefix), node.rules));
        }
        out
    }

    /// Those of the chains that have one of these names, sorted by name.
    pub fn named(&self, names: &HashSet<&str>, settings: &Settings) -> Vec<(ChainName, Vec<Rule>)> {
        let start = names::dispatch_prefix(self.tree.letter());
        let any_below = names.iter().any(|name| name.starts_with(&start));
        let below = self.chains.iter().filter(|_| any_below);
        let mut wanted: Vec<(ChainName, Prefix)> = std::iter::once(&Prefix::ROOT)
            .chain(below)
            .map(|prefix| (self.name(prefix), *prefix))
            .filter(|(name, _)| names.contains(name.as_str()))
            .collect();
        wanted.sort();
        wanted.into_iter().map(|(name, prefix)| (name, self.render(&prefix, settings).rules)).collect()
    }

    /// The chains that packets for these keys pass, each once, with their content.
    fn along(&self, keys: &[Key], settings: &Settings) -> BTreeMap<Prefix, render::Chain> {
        let mut chains = BTreeMap::new();
        for key in keys {
            let mut at = Prefix::ROOT;
            loop {
                let chain = chains.entry(at).or_insert_with(|| self.render(&at, settings));
                match chain.children.iter().find(|child| child.covers(key, self.family)) {
                    Some(child) => at = *child,
                    None => break,
                }
            }
        }
        chains
    }

    /// Adds the chains that are new although no changed key lies below them: a leaf that became a branch has children
    /// of its own, and so may they.
    fn add_new_subtrees(&mut self, after: &mut BTreeMap<Prefix, render::Chain>, settings: &Settings) {
        let mut todo: Vec<Prefix> = after.values().flat_map(|chain| chain.children.iter().copied()).collect();
        self.chains.extend(after.keys().filter(|prefix| **prefix != Prefix::ROOT));
        while let Some(prefix) = todo.pop() {
            if after.contains_key(&prefix) || !self.chains.insert(prefix) {
                continue;
            }
            let chain = self.render(&prefix, settings);
            todo.extend(chain.children.iter().copied());
            after.insert(prefix, chain);
        }
    }

    /// The chains that are no longer there, with what they held. Those on changed paths are in `before`; others hang
    /// below a chain that dissolved, and as nothing below them changed, their content is what it would be now.
    fn collect_gone(
        &mut self,
        before: &BTreeMap<Prefix, render::Chain>,
        after: &BTreeMap<Prefix, render::Chain>,
        settings: &Settings,
    ) -> Vec<(Prefix, Vec<Rule>)> {
        let mut gone = Vec::new();
        let mut todo: Vec<Prefix> =
            before.iter().flat_map(|(prefix, chain)| chain.children.iter().copied().chain([*prefix])).collect();
        while let Some(prefix) = todo.pop() {
            if prefix == Prefix::ROOT || after.contains_key(&prefix) || !self.chains.contains(&prefix) {
                continue;
            }
            if self.exists(&prefix) {
                continue;
            }
            self.chains.remove(&prefix);
            match before.get(&prefix) {
                Some(chain) => gone.push((prefix, chain.rules.clone())),
                None => {
                    let chain = self.render(&prefix, settings);
                    todo.extend(chain.children.iter().copied());
                    gone.push((prefix, chain.rules));
                }
            }
        }
        gone
    }

    /// Whether the tree has a chain for just this prefix, found by walking toward it.
    fn exists(&self, wanted: &Prefix) -> bool {
        let mut at = Prefix::ROOT;
        loop {
            let children = render::children(&self.trie, &at);
            match children.iter().find(|child| child.contains(wanted, self.family)) {
                Some(child) if child == wanted => return true,
                Some(child) => at = *child,
                None => return false,
            }
        }
    }

    fn render(&self, prefix: &Prefix, settings: &Settings) -> render::Chain {
        let mut chain = render::chain(&self.trie, self.tree, prefix, settings, &|prefix| self.name(prefix));
        if *prefix == Prefix::ROOT {
            chain.rules.extend(self.tail.iter().cloned());
        }
        chain
    }

    fn name(&self, prefix: &Prefix) -> ChainName {
        if *prefix == Prefix::ROOT {
            return ChainName::new(self.tree.root());
        }
        let nibbles = prefix.nibbles(self.family);
        names::dispatch(self.tree.letter(), &nibbles)
    }
}
