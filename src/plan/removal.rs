//! Nothing is wanted: what of the rules goes, and what stays because rules of others lead to it. Pure.
//!
//! What a rule names cannot go before the rule, and a rule that is not ours does not go at all. A chain of ours that one
//! leads to stays as it is, with all that is needed for the rule to mean what it meant: the chains that it leads to, and
//! the sets and accounting objects that those name.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::xtables::ownership::is_owned;
use crate::kernel::xtables::{
    BuiltinChange, ChainKey, ChainName, Changes, CtStates, Match, ObservedChain, ObservedRule, Reference, Rule, Table,
    Target, references,
};
use crate::net::Family;
use crate::plan::iptables::{Comparison, Desired};
use crate::plan::ipvs::is_our_set;

/// A rule of others that names something of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where the rule is.
    pub chain: ChainKey,
    pub rule: ObservedRule,
    /// What of ours it names.
    pub holds: Reference,
}

/// What goes of one kind of tables, and what does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Only deletions.
    pub changes: Changes,
    /// By chain, those of one chain in their order.
    pub holders: Vec<Holder>,
    /// Chains, sets and accounting objects of ours that stay because of these.
    pub held: Held,
}

/// What stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub chains: BTreeSet<ChainKey>,
    pub sets: BTreeSet<Box<str>>,
    pub counters: BTreeSet<Box<str>>,
}

/// The search: shown every chain of all tables, then finished.
pub struct Search {
    comparison: Comparison,
    is_our_counter: fn(&str) -> bool,
    holders: Vec<Holder>,
}

impl Search {
    /// `is_our_counter` tells which accounting objects are ours; chains and sets are told by their names.
    pub fn new(is_our_counter: fn(&str) -> bool) -> Self {
        Search { comparison: Desired::nothing().compare(), is_our_counter, holders: Vec::new() }
    }

    /// Shows a chain that the kernel holds.
    pub fn observed(&mut self, family: Family, table: Table, chain: ObservedChain) {
        if chain.builtin || !is_owned(table, chain.name.as_str()) {
            let key = ChainKey { family, table, name: chain.name.clone() };
            for rule in chain.rules.iter().filter(|rule| !(chain.builtin && is_our_jump(table, rule))) {
                self.note(&key, rule);
            }
        }
        self.comparison.observed(family, table, chain);
    }

    fn note(&mut self, chain: &ChainKey, rule: &ObservedRule) {
        let is_ours = |named: &Reference| match named {
            Reference::Chain(name) => is_owned(chain.table, name),
            Reference::Set(name) => is_our_set(name),
            Reference::Counter(name) => (self.is_our_counter)(name),
        };
        let named = references(rule).into_iter().filter(is_ours);
        self.holders.extend(named.map(|holds| Holder { chain: chain.clone(), rule: rule.clone(), holds }));
    }

    /// What goes, and what does not.
    pub fn finish(self) -> Removal {
        let Search { comparison, mut holders, .. } = self;
        // Chains are shown in any order, the rules of one in theirs.
        holders.sort_by(|a, b| a.chain.cmp(&b.chain));
        let mut changes = comparison.finish();
        let held = held(&holders, &changes);
        changes.chains.retain(|key, _| !held.chains.contains(key));
        changes.builtin.retain(|change| match change {
            BuiltinChange::Delete(chain, rule) => is_our_jump(chain.table, &ObservedRule::Known(rule.clone())),
            _ => true,
        });
        Removal { changes, holders, held }
    }
}

/// What the rules of others hold, and what that needs.
fn held(holders: &[Holder], changes: &Changes) -> Held {
    let mut held = Held::default();
    let mut todo: Vec<(ChainKey, Reference)> =
        holders.iter().map(|holder| (holder.chain.clone(), holder.holds.clone())).collect();
    while let Some((from, named)) = todo.pop() {
        match named {
            Reference::Set(name) => drop(held.sets.insert(name)),
            Reference::Counter(name) => drop(held.counters.insert(name)),
            Reference::Chain(name) => {
                // A longer name is no chain's.
                if name.len() > ChainName::MAX {
                    continue;
                }
                let key = ChainKey { name: ChainName::new(&*name), ..from };
                // What is not among the changes is not ours.
                let Some(change) = changes.chains.get(&key) else { continue };
                if held.chains.insert(key.clone()) {
                    let rules = change.before.iter().flatten();
                    todo.extend(rules.flat_map(references).map(|named| (key.clone(), named)));
                }
            }
        }
    }
    held
}

/// Whether a rule of a built-in chain is a jump that kube-proxy or weir made, in any version: it leads to a chain of
/// theirs, has a comment of theirs, and matches nothing but new connections (contract 3.2, 4.5). With anything else it is
/// somebody's own use of the chain.
pub fn is_our_jump(table: Table, rule: &ObservedRule) -> bool {
    let Some(rule) = rule.known() else { return false };
    let Rule { source: None, destination: None, in_interface: None, out_interface: None, protocol: None, .. } = rule
    else {
        return false;
    };
    let leads_to_ours = matches!(&rule.target, Some(Target::Jump(to)) if is_owned(table, to.as_str()));
    let is_ours = |item: &Match| match item {
        Match::Comment(text) => is_our_comment(text),
        Match::CtState { invert, states } => !invert && *states == CtStates::NEW,
        _ => false,
    };
    let has_comment = rule.matches.iter().any(|item| matches!(item, Match::Comment(_)));
    leads_to_ours && has_comment && rule.matches.iter().all(is_ours)
}

fn is_our_comment(text: &str) -> bool {
    ["kubernetes ", "kube-proxy ", "weir "].iter().any(|start| text.starts_with(start))
}

/// Holders by what they hold, for whoever tells people about them: each thing with the first rule that names it and how
/// many more there are.
pub fn by_what_they_hold(holders: &[Holder]) -> BTreeMap<(Option<ChainKey>, &Reference), (&Holder, usize)> {
    let mut found: BTreeMap<(Option<ChainKey>, &Reference), (&Holder, usize)> = BTreeMap::new();
    for holder in holders {
        // Chains of one name are in many tables.
        let chain = match &holder.holds {
            Reference::Chain(name) if name.len() <= ChainName::MAX => {
                Some(ChainKey { name: ChainName::new(&**name), ..holder.chain.clone() })
            }
            _ => None,
        };
        found.entry((chain, &holder.holds)).and_modify(|(_, more)| *more += 1).or_insert((holder, 0));
    }
    found
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
