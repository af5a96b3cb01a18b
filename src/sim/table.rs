//! One table: chains, rules and what the kernel checks of them, in transactions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::kernel::xtables::{ChainName, ObservedRule, Rule, Table, Target};

/// A chain's content.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain {
    pub(super) builtin: bool,
    pub(super) rules: Vec<ObservedRule>,
}

/// A table. Every change since [`SimTable::begin`] can be taken back.
#[derive(Debug)]
pub(super) struct SimTable {
    chains: BTreeMap<Arc<str>, Chain>,
    /// How many rules go to a chain.
    references: HashMap<Arc<str>, usize>,
    /// What the chains that changed were before the transaction.
    touched: HashMap<Arc<str>, Option<Chain>>,
}

/// Where a new rule goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Head,
    End,
}

const fn builtin_chains(table: Table) -> &'static [&'static str] {
    match table {
        Table::Mangle => &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
        Table::Filter => &["INPUT", "FORWARD", "OUTPUT"],
        Table::Nat => &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"],
    }
}

impl SimTable {
    pub(super) fn new(table: Table) -> Self {
        let chains = builtin_chains(table)
            .iter()
            .map(|name| (Arc::from(*name), Chain { builtin: true, rules: Vec::new() }))
            .collect();
        SimTable { chains, references: HashMap::new(), touched: HashMap::new() }
    }

    pub(super) fn chains(&self) -> impl Iterator<Item = (&Arc<str>, &Chain)> {
        self.chains.iter()
    }

    pub(super) fn chain(&self, name: &str) -> Option<ChainName> {
        self.chains.get_key_value(name).map(|(name, _)| ChainName::new(name.clone()))
    }

    /// Makes all changes since the last end of a transaction final.
    pub(super) fn commit(&mut self) {
        self.touched.clear();
    }

    /// Takes all changes since the last end of a transaction back.
    pub(super) fn roll_back(&mut self) {
        for (name, before) in std::mem::take(&mut self.touched) {
            self.remove_rules(&name);
            match before {
                Some(chain) => {
                    chain.rules.iter().for_each(|rule| self.refer(rule, true));
                    self.chains.insert(name, chain);
                }
                None => {
                    self.chains.remove(&name);
                }
            }
        }
    }

    /// `:NAME - [0:0]`
    pub(super) fn declare(&mut self, name: &str) -> Result<(), &'static str> {
        match self.chains.get(name) {
            Some(chain) if chain.builtin => Err("a built-in chain must not be flushed"),
            Some(_) => {
                self.flush(name);
                Ok(())
            }
            None => {
                self.create(name);
                Ok(())
            }
        }
    }

    /// `-N NAME`
    pub(super) fn new_chain(&mut self, name: &str) -> Result<(), &'static str> {
        if self.chains.contains_key(name) {
            return Err("Chain already exists.");
        }
        self.create(name);
        Ok(())
    }

    /// `-X NAME`
    pub(super) fn delete_chain(&mut self, name: &str) -> Result<(), &'static str> {
        let chain = self.chains.get(name).ok_or("No chain/target/match by that name.")?;
        if chain.builtin {
            return Err("a built-in chain cannot be deleted");
        }
        if !chain.rules.is_empty() {
            return Err("Directory not empty");
        }
        if self.references.get(name).is_some_and(|count| *count > 0) {
            return Err("Too many links");
        }
        self.touch(name);
        self.chains.remove(name);
        Ok(())
    }

    /// `-A` or `-I`
    pub(super) fn add(&mut self, name: &str, place: Place, rule: ObservedRule) -> Result<(), &'static str> {
        if !self.chains.contains_key(name) {
            return Err("No chain/target/match by that name.");
        }
        self.touch(name);
        self.refer(&rule, true);
        if let Some(chain) = self.chains.get_mut(name) {
            let at = if place == Place::Head { 0 } else { chain.rules.len() };
            chain.rules.insert(at, rule);
        }
        Ok(())
    }

    /// `-D` of the first rule that is equal.
    pub(super) fn delete_rule(&mut self, name: &str, rule: &ObservedRule) -> Result<(), &'static str> {
        let chain = self.chains.get(name).ok_or("No chain/target/match by that name.")?;
        let at = chain.rules.iter().position(|found| found == rule);
        let at = at.ok_or("Bad rule (does a matching rule exist in that chain?).")?;
        self.delete_at(name, at);
        Ok(())
    }

    /// Deletes a rule by its place; `None` if there is none.
    pub(super) fn delete_at(&mut self, name: &str, at: usize) -> Option<ObservedRule> {
        self.chains.get(name).filter(|chain| at < chain.rules.len())?;
        self.touch(name);
        let rule = self.chains.get_mut(name)?.rules.remove(at);
        self.refer(&rule, false);
        Some(rule)
    }

    /// `-F NAME`
    pub(super) fn flush(&mut self, name: &str) {
        self.touch(name);
        self.remove_rules(name);
    }

    fn create(&mut self, name: &str) {
        self.touch(name);
        self.chains.insert(Arc::from(name), Chain::default());
    }

    fn remove_rules(&mut self, name: &str) {
        let rules = self.chains.get_mut(name).map(|chain| std::mem::take(&mut chain.rules)).unwrap_or_default();
        rules.iter().for_each(|rule| self.refer(rule, false));
    }

    fn touch(&mut self, name: &str) {
        if !self.touched.contains_key(name) {
            self.touched.insert(Arc::from(name), self.chains.get(name).cloned());
        }
    }

    fn refer(&mut self, rule: &ObservedRule, more: bool) {
        if let Some(target) = goes_to(rule) {
            let count = self.references.entry(target.shared()).or_default();
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    /// A chain that changed and from which jumps lead back to it.
    pub(super) fn looping(&self) -> Option<&str> {
        let mut done = HashSet::new();
        self.touched.keys().find(|name| self.leads_back(name, &mut HashSet::new(), &mut done)).map(|name| &**name)
    }

    fn leads_back<'a>(&'a self, name: &'a str, path: &mut HashSet<&'a str>, done: &mut HashSet<&'a str>) -> bool {
        if done.contains(name) {
            return false;
        }
        if !path.insert(name) {
            return true;
        }
        let rules = self.chains.get(name).map(|chain| chain.rules.as_slice()).unwrap_or_default();
        let found = rules.iter().filter_map(goes_to).any(|target| self.leads_back(target.as_str(), path, done));
        path.remove(name);
        done.insert(name);
        found
    }
}

fn goes_to(rule: &ObservedRule) -> Option<&ChainName> {
    match rule {
        ObservedRule::Known(Rule { target: Some(Target::Jump(chain) | Target::Goto(chain)), .. }) => Some(chain),
        _ => None,
    }
}

/// Why the kernel refuses a rule in a table (`xt_check_target`: targets name the table they work in).
pub(super) fn out_of_place(table: Table, rule: &Rule) -> bool {
    match rule.target {
        Some(Target::Dnat(_) | Target::Masquerade { .. }) => table != Table::Nat,
        Some(Target::Reject) => table != Table::Filter,
        _ => false,
    }
}
