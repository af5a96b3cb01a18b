//! A difference in a safe order: create what is referred to, switch the references, delete what is left.
//!
//! Chains are written whole. Within a table a chain is written before the chains that jump to it, built-in chains
//! change after all of ours, and deletions come last. Between the tables of a family:
//!
//! 1. `mangle`, then `filter`, in which the changed chains hold their new rules *and then* their old ones;
//! 2. `nat`;
//! 3. `filter` as it is to be, without the old rules.
//!
//! So a packet that already takes the new way through `nat` meets the new filter rules, and one that still takes the
//! old way meets the old ones. Where only one of the two tables changes, it changes in one step.
//!
//! Each table step is one COMMIT. Only a large change through iptables-nft is cut into several: that tool takes
//! quadratic time in the rules and chains of one COMMIT. 110,000 chains with 320,000 rules, in sections of 3,000 chains,
//! 1,000, 250 and 100: 130 s, 49 s, 17 s and 23 s of CPU time (1.8.9).

mod graph;
mod script;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use super::encode::{is_word, unwritable};
use super::ownership::is_owned;
use super::{
    ApplyError, ApplyErrorKind, BuiltinChange, ChainChange, ChainKey, ChainName, Changes, ObservedRule, Rule, Table,
};
use crate::kernel::xtables::variant::Variant;
use crate::net::Family;
use graph::{callee, leaves_first};
pub use script::{Content, Line, Script, Section};

/// A change through iptables-nft of up to so many chains is one COMMIT, and atomic.
pub const NFT_ONE_COMMIT: usize = 1_000;

/// The most chains in one COMMIT of a larger change.
pub const NFT_SECTION_CHAINS: usize = 250;

/// The difference cannot be brought into a safe order: a mistake of whoever planned it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("chain {0} leads back to itself")]
    Loop(ChainKey),
    #[error("chain {0} is not ours to rewrite")]
    NotOurs(ChainKey),
    #[error("chain {chain} jumps to {target}, which is to be deleted")]
    JumpToDeleted { chain: ChainKey, target: ChainName },
    #[error("a rule of chain {chain} cannot be written: {why}")]
    Unwritable { chain: ChainKey, why: &'static str },
}

impl OrderError {
    /// The chain at fault.
    pub fn chain(&self) -> &ChainKey {
        match self {
            OrderError::Loop(chain) | OrderError::NotOurs(chain) => chain,
            OrderError::JumpToDeleted { chain, .. } | OrderError::Unwritable { chain, .. } => chain,
        }
    }
}

/// Trying it again gives the same answer.
impl From<OrderError> for ApplyError {
    fn from(error: OrderError) -> Self {
        ApplyError { kind: ApplyErrorKind::Refused, message: error.to_string(), chain: Some(error.chain().clone()) }
    }
}

/// How a change is cut into sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Restore input: one COMMIT a table step, or several for a large change through iptables-nft.
    Restore(Variant),
    /// All sections of a family come into force at once, so no table needs its old rules beside the new ones.
    Atomic,
    /// Each section may come into force by itself, and also a part of it that ends with a chain: in `fill`, then
    /// `builtin`, then `empty`, then `delete`.
    Apart,
}

/// The restore input for each family that changes, IPv4 first.
///
/// # Errors
/// See [`OrderError`]. Nothing of the difference should be applied then.
pub fn scripts(changes: &Changes, variant: Variant) -> Result<Vec<Script<'_>>, OrderError> {
    let mut scripts = Vec::new();
    for family in Family::ALL {
        let script = cut(changes, family, Cut::Restore(variant))?;
        if !script.sections.is_empty() {
            scripts.push(script);
        }
    }
    Ok(scripts)
}

/// The sections of one family; none if nothing of it changes.
///
/// # Errors
/// See [`OrderError`]. Nothing of the difference should be applied then.
pub fn cut(changes: &Changes, family: Family, cut: Cut) -> Result<Script<'_>, OrderError> {
    let [mangle, filter, nat] =
        [Table::Mangle, Table::Filter, Table::Nat].map(|table| TableChange::new(changes, family, table));
    for change in [&mangle, &filter, &nat] {
        change.check()?;
    }
    let (before_nat, after_nat) =
        if nat.is_empty() || cut == Cut::Atomic { (filter.whole(), None) } else { filter.make_before_break() };
    let mut sections = Vec::new();
    for step in [Some(mangle.whole()), Some(before_nat), Some(nat.whole()), after_nat].into_iter().flatten() {
        sections.extend(step.sections(family, cut)?);
    }
    Ok(Script { family, sections })
}

/// What becomes of one table of one family.
struct TableChange<'a> {
    family: Family,
    table: Table,
    /// Chains that are there before or after.
    chains: Vec<(&'a ChainName, &'a ChainChange)>,
    builtin: Vec<&'a BuiltinChange>,
}

impl<'a> TableChange<'a> {
    fn new(changes: &'a Changes, family: Family, table: Table) -> Self {
        let is_here = |key: &ChainKey| key.family == family && key.table == table;
        let exists = |change: &ChainChange| change.before.is_some() || change.after.is_some();
        let chains = changes.chains.iter().filter(|(key, change)| is_here(key) && exists(change));
        let builtin = changes.builtin.iter().filter(|change| is_here(change.chain()));
        let chains = chains.map(|(key, change)| (&key.name, change)).collect();
        TableChange { family, table, chains, builtin: builtin.collect() }
    }

    fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.builtin.is_empty()
    }

    /// The chains that are there afterwards, with their new rules.
    fn filled(&self) -> impl Iterator<Item = (&'a ChainName, &'a [Rule])> + '_ {
        self.chains.iter().filter_map(|(name, change)| Some((*name, change.after.as_deref()?)))
    }

    fn deleted(&self) -> Vec<&'a ChainName> {
        self.chains.iter().filter(|(_, change)| change.after.is_none()).map(|(name, _)| *name).collect()
    }

    /// Refuses what must not be written at all.
    fn check(&self) -> Result<(), OrderError> {
        let key = |name: &ChainName| key(self.family, self.table, name);
        if let Some((name, _)) = self.chains.iter().find(|(name, _)| !is_owned(self.table, name.as_str())) {
            return Err(OrderError::NotOurs(key(name)));
        }
        let names = self.chains.iter().map(|(name, _)| *name).chain(self.builtin.iter().map(|c| &c.chain().name));
        if let Some(name) = names.into_iter().find(|name| !is_word(name.as_str())) {
            return Err(OrderError::Unwritable { chain: key(name), why: "its name is not one word" });
        }
        let deleted: HashSet<&ChainName> = self.deleted().into_iter().collect();
        let filled = self.filled().flat_map(|(name, rules)| rules.iter().map(move |rule| (name, rule, true)));
        let builtin = self.builtin.iter().filter_map(|change| match change {
            BuiltinChange::Insert(key, rule) | BuiltinChange::Append(key, rule) => Some((&key.name, rule, true)),
            BuiltinChange::Delete(key, rule) => Some((&key.name, rule, false)),
            BuiltinChange::CreateChain(_) => None,
        });
        for (name, rule, added) in filled.chain(builtin) {
            if let Some(why) = unwritable(self.family, rule) {
                return Err(OrderError::Unwritable { chain: key(name), why });
            }
            if let Some(target) = callee(rule).filter(|target| added && deleted.contains(target)) {
                return Err(OrderError::JumpToDeleted { chain: key(name), target: target.clone() });
            }
        }
        Ok(())
    }

    /// All of it in one step.
    fn whole(&self) -> Step<'a> {
        Step { table: self.table, fill: self.contents(), builtin: self.builtin.clone(), delete: self.deleted() }
    }

    fn contents(&self) -> Vec<Content<'a>> {
        self.filled().map(|(chain, rules)| Content { chain, rules, leftovers: Vec::new() }).collect()
    }

    /// Every changed chain with its new rules, and behind them the old ones that are not among the new.
    fn union(&self) -> Vec<Content<'a>> {
        let content = |(chain, change): &(&'a ChainName, &'a ChainChange)| {
            let rules = change.after.as_deref().unwrap_or_default();
            let before = change.before.as_deref().unwrap_or_default();
            Content { chain, rules, leftovers: leftovers(before, rules) }
        };
        self.chains.iter().map(content).collect()
    }

    /// Two steps: what is added, and what is taken away. The first is empty if nothing is added, the second `None` if
    /// nothing is taken away.
    fn make_before_break(&self) -> (Step<'a>, Option<Step<'a>>) {
        let union = self.union();
        let delete = self.deleted();
        // From the first deletion on as given: which rule is "the first equal one" depends on what came before it.
        let taken_from = self.builtin.iter().position(|change| matches!(change, BuiltinChange::Delete(..)));
        let takes = union.iter().any(|content| !content.leftovers.is_empty());
        if !takes && taken_from.is_none() && delete.is_empty() {
            return (self.whole(), None);
        }
        let (added, taken) = self.builtin.split_at(taken_from.unwrap_or(self.builtin.len()));
        let (first, last) = if !self.adds(&union) {
            (Vec::new(), self.contents())
        } else if leaves_first(union.iter().collect(), |content| content.chain, |content| content.callees()).is_ok() {
            let changed_again: HashSet<&ChainName> =
                union.iter().filter(|content| !content.leftovers.is_empty()).map(|content| content.chain).collect();
            let last = self.contents().into_iter().filter(|content| changed_again.contains(content.chain)).collect();
            (union, last)
        } else {
            // Old and new jumps together form a loop that the kernel would refuse: the new rules alone must do.
            (self.contents(), Vec::new())
        };
        let first = Step { table: self.table, fill: first, builtin: added.to_vec(), delete: Vec::new() };
        let last = Step { table: self.table, fill: last, builtin: taken.to_vec(), delete };
        (first, Some(last))
    }

    /// Whether some chain is to have a rule that it has not now, or has in another order.
    fn adds(&self, union: &[Content<'a>]) -> bool {
        self.chains.iter().zip(union).any(|((_, change), content)| match &change.before {
            Some(before) => !is_subsequence(content.rules, before),
            None => true,
        })
    }
}

/// Whether the chain already has all the rules in their order, perhaps with others between them.
fn is_subsequence(rules: &[Rule], before: &[ObservedRule]) -> bool {
    let mut before = before.iter();
    rules.iter().all(|rule| before.any(|old| old == rule))
}

fn key(family: Family, table: Table, name: &ChainName) -> ChainKey {
    ChainKey { family, table, name: name.clone() }
}

/// The old rules that are not among the new ones. Rules that were not understood cannot be written again.
fn leftovers<'a>(before: &'a [ObservedRule], after: &[Rule]) -> Vec<&'a Rule> {
    let after: HashSet<&Rule> = after.iter().collect();
    let known = before.iter().filter_map(ObservedRule::known);
    known.filter(|rule| !after.contains(rule)).collect()
}

/// One table in one go.
struct Step<'a> {
    table: Table,
    fill: Vec<Content<'a>>,
    builtin: Vec<&'a BuiltinChange>,
    delete: Vec<&'a ChainName>,
}

impl<'a> Step<'a> {
    fn sections(self, family: Family, cut: Cut) -> Result<Vec<Section<'a>>, OrderError> {
        let table = self.table;
        let fill = leaves_first(self.fill, |content| content.chain, |content| content.callees())
            .map_err(|name| OrderError::Loop(key(family, table, &name)))?;
        let many = fill.len() + self.delete.len() > NFT_ONE_COMMIT;
        let mut sections = Vec::new();
        if cut == Cut::Apart {
            sections.push(Section { fill, builtin: self.builtin, ..Section::new(table) });
            sections.push(Section { empty: self.delete.clone(), delete: self.delete, ..Section::new(table) });
        } else if cut == Cut::Restore(Variant::Nft) && many {
            sections.extend(chunks(fill).map(|fill| Section { fill, ..Section::new(table) }));
            match sections.last_mut() {
                Some(last) => last.builtin = self.builtin,
                None => sections.push(Section { builtin: self.builtin, ..Section::new(table) }),
            }
            sections.extend(deletions(table, self.delete));
        } else {
            let empty = self.delete.clone();
            sections.push(Section { table, empty, fill, builtin: self.builtin, delete: self.delete });
        }
        sections.retain(|section| !section.is_empty());
        Ok(sections)
    }
}

/// All chains are emptied before the first is deleted, because they may jump to each other.
fn deletions(table: Table, delete: Vec<&ChainName>) -> Vec<Section<'_>> {
    if delete.len() <= NFT_SECTION_CHAINS {
        return vec![Section { empty: delete.clone(), delete, ..Section::new(table) }];
    }
    let empty = chunks(delete.clone()).map(|empty| Section { empty, ..Section::new(table) });
    let delete = chunks(delete).map(|delete| Section { delete, ..Section::new(table) });
    empty.chain(delete).collect()
}

fn chunks<T>(items: Vec<T>) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<T> = items.by_ref().take(NFT_SECTION_CHAINS).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}
