//! How many rules we have in each table.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::{ChainKey, Changes, Table};
use crate::net::{Family, PerFamily};

/// Numbers of rules in chains that are ours; jumps that lead there are not among them. Clones share the numbers.
#[derive(Clone, Debug, Default)]
pub struct RuleCounts(Arc<PerFamily<[Count; Table::ALL.len()]>>);

#[derive(Debug, Default)]
struct Count {
    owned: AtomicI64,
    last: AtomicI64,
}

/// One number for each table.
pub type PerTable = PerFamily<[i64; Table::ALL.len()]>;

impl RuleCounts {
    /// How many rules the kernel holds.
    pub fn owned(&self, family: Family, table: Table) -> i64 {
        self.of(family, table).map_or(0, |count| count.owned.load(Ordering::Relaxed))
    }

    /// How many rules the last change of the family's rules wrote.
    pub fn last(&self, family: Family, table: Table) -> i64 {
        self.of(family, table).map_or(0, |count| count.last.load(Ordering::Relaxed))
    }

    /// The kernel holds so many now.
    pub fn set_owned(&self, all: &PerTable) {
        self.each(all, |count, rules| count.owned.store(rules, Ordering::Relaxed));
    }

    /// A change is in force. A chain whose rules were not known before counts as if it had had none.
    pub fn changed(&self, changes: &Changes) {
        self.each(&grown(changes), |count, rules| {
            count.owned.fetch_add(rules, Ordering::Relaxed);
        });
        self.wrote(changes);
    }

    /// A change was written whose effect is counted otherwise.
    pub fn wrote(&self, changes: &Changes) {
        let written = sum(changes.chains.iter().map(|(key, change)| (key, after(change))));
        for family in Family::ALL.into_iter().filter(|family| changes.chains.keys().any(|key| key.family == *family)) {
            for (count, rules) in self.0.get(family).iter().zip(written.get(family)) {
                count.last.store(*rules, Ordering::Relaxed);
            }
        }
    }

    fn of(&self, family: Family, table: Table) -> Option<&Count> {
        let place = Table::ALL.iter().position(|other| *other == table)?;
        self.0.get(family).get(place)
    }

    fn each(&self, numbers: &PerTable, apply: impl Fn(&Count, i64)) {
        for (family, counts) in self.0.iter() {
            counts.iter().zip(numbers.get(family)).for_each(|(count, number)| apply(count, *number));
        }
    }
}

/// Adds up numbers of rules.
pub fn sum<'a>(rules: impl Iterator<Item = (&'a ChainKey, usize)>) -> PerTable {
    let mut sum = PerTable::default();
    for (key, rules) in rules {
        let place = Table::ALL.iter().position(|table| *table == key.table);
        if let Some(number) = place.and_then(|place| sum.get_mut(key.family).get_mut(place)) {
            *number += i64::try_from(rules).unwrap_or(i64::MAX);
        }
    }
    sum
}

fn after(change: &super::ChainChange) -> usize {
    change.after.as_ref().map_or(0, Vec::len)
}

fn grown(changes: &Changes) -> PerTable {
    let before = sum(changes.chains.iter().map(|(key, change)| (key, change.before.as_ref().map_or(0, Vec::len))));
    let after = sum(changes.chains.iter().map(|(key, change)| (key, after(change))));
    let mut grown = after;
    for family in Family::ALL {
        grown.get_mut(family).iter_mut().zip(before.get(family)).for_each(|(after, before)| *after -= before);
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::xtables::{ChainChange, ChainName, ObservedRule, Rule};

    fn change(name: &str, before: Option<usize>, after: Option<usize>) -> (ChainKey, ChainChange) {
        let key = ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new(name) };
        let before = before.map(|rules| vec![ObservedRule::Known(Rule::default()); rules]);
        (key, ChainChange { before, after: after.map(|rules| vec![Rule::default(); rules]) })
    }

    fn changes(of: impl IntoIterator<Item = (ChainKey, ChainChange)>) -> Changes {
        Changes { chains: of.into_iter().collect(), builtin: Vec::new() }
    }

    #[test]
    fn rules_are_counted_by_table_as_they_come_and_go() {
        let counts = RuleCounts::default();
        let mut all = PerTable::default();
        all.v4[2] = 40;
        counts.set_owned(&all);
        counts.changed(&changes([
            change("A", None, Some(3)),
            change("B", Some(5), Some(4)),
            change("C", Some(9), None),
        ]));
        assert_eq!((counts.owned(Family::V4, Table::Nat), counts.last(Family::V4, Table::Nat)), (33, 7));
        counts.wrote(&changes([change("A", None, Some(2))]));
        assert_eq!((counts.owned(Family::V4, Table::Nat), counts.last(Family::V4, Table::Nat)), (33, 2));
        assert_eq!((counts.owned(Family::V4, Table::Filter), counts.last(Family::V6, Table::Nat)), (0, 0));
    }
}
