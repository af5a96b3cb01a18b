//! Ways to services that a rebuild has not come to yet.
//!
//! While the backend writes everything again part by part ([`forget`](super::Backend::forget)), the chains that many
//! services share must not be written whole: they would hold the part's services only, and all others would be cut off
//! until their turn. So new rules are inserted into what the kernel holds, and what was there stays, unmentioned: a rule
//! that the kernel would refuse today is not repeated. The compare that ends a rebuild puts the chains in order.

use std::collections::BTreeMap;

use crate::kernel::xtables::{BuiltinChange, ChainKey, Changes, ObservedChain, ObservedRule, Rule, Table};
use crate::net::Family;
use crate::plan::iptables::is_dispatch_chain;

/// The shared chains as they were found, with what was inserted since.
#[derive(Debug, Default)]
pub(super) struct Kept {
    chains: BTreeMap<ChainKey, Vec<ObservedRule>>,
}

impl Kept {
    /// A chain is in the kernel.
    pub(super) fn note(&mut self, family: Family, table: Table, chain: &ObservedChain) {
        if is_dispatch_chain(chain.name.as_str()) {
            let key = ChainKey { family, table, name: chain.name.clone() };
            self.chains.insert(key, chain.rules.clone());
        }
    }

    /// What a chain that is kept held when it was found.
    pub(super) fn held(&self, key: &ChainKey) -> Option<&[ObservedRule]> {
        self.chains.get(key).map(Vec::as_slice)
    }

    /// Everything is in order: chains are written whole again.
    pub(super) fn clear(&mut self) {
        self.chains.clear();
    }

    /// Turns changes of kept chains into insertions.
    pub(super) fn keep(&self, changes: &mut Changes) {
        for (key, held) in &self.chains {
            let Some(change) = changes.chains.remove(key) else { continue };
            let new = change.after.into_iter().flatten().filter(|rule| !held.iter().any(|old| old == rule));
            // Each goes to the head: the last first, so that they end in their order.
            let new: Vec<Rule> = new.collect();
            changes.builtin.extend(new.into_iter().rev().map(|rule| BuiltinChange::Insert(key.clone(), rule)));
        }
    }

    /// The kernel took these changes. What a failed change may have inserted is inserted again: twice does no harm.
    pub(super) fn took(&mut self, changes: &Changes) {
        for change in &changes.builtin {
            if let BuiltinChange::Insert(key, rule) = change
                && let Some(held) = self.chains.get_mut(key)
            {
                held.push(rule.clone().into());
            }
        }
    }
}
