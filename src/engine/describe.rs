//! A difference in words and numbers.

use std::collections::BTreeMap;

use super::backend::{DifferenceKind, Repair};
use crate::kernel::xtables::{BuiltinChange, ChainChange, ChainKey, Changes, ObservedRule, Rule};

/// How many differences are described one by one.
pub(super) const LINES: usize = 20;

/// Counts differences by sort and says the first of them in words.
pub(super) fn describe(changes: &Changes) -> Repair {
    let mut differences: BTreeMap<DifferenceKind, u64> = BTreeMap::new();
    let mut lines = Vec::new();
    let mut note = |key: &ChainKey, kind: &'static str, details: &dyn Fn() -> String| {
        let sort = DifferenceKind { family: key.family, table: key.table.as_str(), kind };
        *differences.entry(sort).or_default() += 1;
        if lines.len() < LINES {
            lines.push(format!("{} {} {}: {kind}{}", key.family, key.table, key.name, details()));
        }
    };
    for (key, change) in &changes.chains {
        note(key, chain_kind(change), &|| chain_details(change));
    }
    for change in &changes.builtin {
        let kind = match change {
            BuiltinChange::CreateChain(_) => "chain missing",
            BuiltinChange::Insert(..) | BuiltinChange::Append(..) => "rule missing",
            BuiltinChange::Delete(..) => "rule extra",
        };
        note(change.chain(), kind, &String::new);
    }
    Repair { differences, lines }
}

fn chain_kind(change: &ChainChange) -> &'static str {
    match (&change.before, &change.after) {
        (None, _) => "chain missing",
        (_, None) => "chain extra",
        _ => "chain changed",
    }
}

/// How many rules of a changed chain are missing, and how many are there that should not be.
fn chain_details(change: &ChainChange) -> String {
    let (Some(before), Some(after)) = (&change.before, &change.after) else { return String::new() };
    let missing = after.iter().filter(|rule| !before.iter().any(|held| held == *rule)).count();
    let extra = before.iter().filter(|held| !after.iter().any(|rule| same(held, rule))).count();
    match (missing, extra) {
        (0, 0) => ", its rules are out of order or there twice".to_owned(),
        (missing, 0) => format!(", {} missing", rules(missing)),
        (0, extra) => format!(", {} too many", rules(extra)),
        (missing, extra) => format!(", {} missing, {extra} too many", rules(missing)),
    }
}

fn same(held: &ObservedRule, rule: &Rule) -> bool {
    held == rule
}

fn rules(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::xtables::{ChainName, Match, Table};
    use crate::net::Family;

    fn plain(text: &str) -> Vec<Rule> {
        let rule = |word: &str| Rule { matches: vec![Match::Comment(word.into())], ..Rule::default() };
        text.split_whitespace().map(rule).collect()
    }

    fn held(text: &str) -> Vec<ObservedRule> {
        plain(text).into_iter().map(ObservedRule::from).collect()
    }

    fn line(before: Option<&str>, after: Option<&str>) -> String {
        let key = ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new("KUBE-SERVICES") };
        let change = ChainChange { before: before.map(held), after: after.map(plain) };
        let changes = Changes { chains: [(key, change)].into(), builtin: Vec::new() };
        let repair = describe(&changes);
        assert_eq!((repair.total(), repair.lines.len()), (1, 1));
        repair.lines[0].clone()
    }

    #[test]
    fn a_line_says_what_differs() {
        assert_eq!(line(None, Some("a")), "IPv4 nat KUBE-SERVICES: chain missing");
        assert_eq!(line(Some("a"), None), "IPv4 nat KUBE-SERVICES: chain extra");
        assert_eq!(line(Some("a"), Some("a b")), "IPv4 nat KUBE-SERVICES: chain changed, 1 rule missing");
        assert_eq!(line(Some("a b c"), Some("a")), "IPv4 nat KUBE-SERVICES: chain changed, 2 rules too many");
        let both = "IPv4 nat KUBE-SERVICES: chain changed, 2 rules missing, 1 too many";
        assert_eq!(line(Some("a x"), Some("a b c")), both);
        assert!(line(Some("a b"), Some("b a")).ends_with("out of order or there twice"));
    }
}
