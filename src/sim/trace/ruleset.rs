//! The rules of one family, as the tracer reads them.

use std::collections::BTreeMap;

use super::Step;
use crate::kernel::xtables::{ChainName, ObserveError, ObservedRule, Table, Xtables};
use crate::net::Family;

/// All chains of one family, with the built-in chains and the jump rules in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    family: Family,
    chains: BTreeMap<(Table, ChainName), Vec<ObservedRule>>,
    duplicates: Vec<(Table, ChainName)>,
}

impl Ruleset {
    /// No chains at all.
    pub fn new(family: Family) -> Self {
        Ruleset { family, chains: BTreeMap::new(), duplicates: Vec::new() }
    }

    /// Reads all tables of a kernel, real or simulated.
    pub fn observe(kernel: &mut dyn Xtables, family: Family) -> Result<Self, ObserveError> {
        let mut rules = Ruleset::new(family);
        for table in Table::ALL {
            kernel.observe(family, table, &mut |chain| rules.insert(table, chain.name, chain.rules))?;
        }
        Ok(rules)
    }

    /// Adds a chain with its rules. A chain that is already there is replaced, and [`lint`](super::lint()) tells.
    pub fn insert<R: Into<ObservedRule>>(
        &mut self,
        table: Table,
        chain: ChainName,
        rules: impl IntoIterator<Item = R>,
    ) {
        let rules = rules.into_iter().map(Into::into).collect();
        let key = (table, chain);
        if self.chains.insert(key.clone(), rules).is_some() {
            self.duplicates.push(key);
        }
    }

    /// Puts a rule at the end of a chain, as `-A` does; makes the chain if it is not there.
    pub fn append(&mut self, table: Table, chain: ChainName, rule: impl Into<ObservedRule>) {
        self.chains.entry((table, chain)).or_default().push(rule.into());
    }

    /// Puts a rule at the head of a chain, as `-I` does; makes the chain if it is not there.
    pub fn prepend(&mut self, table: Table, chain: ChainName, rule: impl Into<ObservedRule>) {
        self.chains.entry((table, chain)).or_default().insert(0, rule.into());
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// The rules of a chain, if it is there.
    pub fn chain(&self, table: Table, name: &ChainName) -> Option<&[ObservedRule]> {
        self.entry(table, name).map(|(_, rules)| rules)
    }

    /// The rule at a step.
    pub fn rule(&self, step: &Step) -> Option<&ObservedRule> {
        self.chain(step.table, &step.chain)?.get(step.index)
    }

    /// All chains, sorted by table and name.
    pub fn chains(&self) -> impl Iterator<Item = (Table, &ChainName, &[ObservedRule])> {
        self.chains.iter().map(|((table, name), rules)| (*table, name, rules.as_slice()))
    }

    /// Chains that were added more than once.
    pub(super) fn duplicates(&self) -> &[(Table, ChainName)] {
        &self.duplicates
    }

    /// A chain with its name as the ruleset keeps it.
    pub(super) fn entry(&self, table: Table, name: &ChainName) -> Option<(&ChainName, &[ObservedRule])> {
        self.chains.get_key_value(&(table, name.clone())).map(|((_, name), rules)| (name, rules.as_slice()))
    }
}
