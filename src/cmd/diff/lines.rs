//! The two sides of a chain, line by line.

use std::collections::HashMap;

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::kernel::xtables::{ChainChange, ObservedRule, Rule, encode};
use crate::net::Family;

/// What happens to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    Keep,
    Add,
    Remove,
}

/// A rule, understood or as it was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleRef<'a> {
    Known(&'a Rule),
    Verbatim(&'a str),
}

impl RuleRef<'_> {
    /// As `iptables-save` prints it after `-A CHAIN `.
    pub fn text(&self, family: Family) -> String {
        match self {
            RuleRef::Known(rule) => encode::rule_text(family, rule),
            RuleRef::Verbatim(text) => (*text).to_owned(),
        }
    }
}

impl<'a> From<&'a ObservedRule> for RuleRef<'a> {
    fn from(rule: &'a ObservedRule) -> Self {
        match rule {
            ObservedRule::Known(rule) => RuleRef::Known(rule),
            ObservedRule::Verbatim(text) => RuleRef::Verbatim(text),
        }
    }
}

/// One line of a chain's difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub fate: Fate,
    pub rule: RuleRef<'a>,
}

/// The rules of both sides in order; where both differ, the old ones come first. As few lines as possible are changed,
/// and the answer depends on the rules alone.
pub fn of_chain(change: &ChainChange) -> Vec<Line<'_>> {
    let before: Vec<RuleRef> = change.before.iter().flatten().map(RuleRef::from).collect();
    let after: Vec<RuleRef> = change.after.iter().flatten().map(RuleRef::Known).collect();
    let mut lines = Vec::with_capacity(before.len().max(after.len()));
    let (mut old, mut new) = (before.iter(), after.iter());
    let mut from = (0, 0);
    for (b, a) in kept(&before, &after).into_iter().chain([(before.len(), after.len())]) {
        lines.extend(old.by_ref().take(b - from.0).map(|rule| Line { fate: Fate::Remove, rule: *rule }));
        lines.extend(new.by_ref().take(a - from.1).map(|rule| Line { fate: Fate::Add, rule: *rule }));
        old.next();
        lines.extend(new.next().map(|rule| Line { fate: Fate::Keep, rule: *rule }));
        from = (b + 1, a + 1);
    }
    lines
}

/// Where each rule that stays stands in both sides.
///
/// A chain that kube-proxy left may have tens of thousands of rules, of which weir wants some dozens. The rules that
/// only one side has cannot stay; without them the search is small.
fn kept(before: &[RuleRef], after: &[RuleRef]) -> Vec<(usize, usize)> {
    let (mut in_after, mut in_both) = (HashMap::new(), HashMap::new());
    for (number, rule) in after.iter().enumerate() {
        in_after.entry(*rule).or_insert(number);
    }
    for rule in before {
        if let Some(number) = in_after.get(rule) {
            in_both.insert(*rule, *number);
        }
    }
    let common = |side: &[RuleRef]| -> (Vec<usize>, Vec<usize>) {
        let found = side.iter().enumerate().filter_map(|(place, rule)| Some((place, *in_both.get(rule)?)));
        found.unzip()
    };
    let ((old_places, old), (new_places, new)) = (common(before), common(after));
    let mut kept = Vec::new();
    for op in capture_diff_slices(Algorithm::Myers, &old, &new) {
        if let DiffOp::Equal { old_index, new_index, len } = op {
            let old = old_places.get(old_index..).unwrap_or_default();
            let new = new_places.get(new_index..).unwrap_or_default();
            kept.extend(old.iter().copied().zip(new.iter().copied()).take(len));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::xtables::{ChainName, Target};
    use proptest::prelude::*;

    fn rule(number: u8) -> Rule {
        Rule { target: Some(Target::Jump(ChainName::new(format!("C{number}")))), ..Rule::default() }
    }

    fn change(before: &[u8], after: &[u8]) -> ChainChange {
        ChainChange {
            before: Some(before.iter().map(|n| ObservedRule::Known(rule(*n))).collect()),
            after: Some(after.iter().map(|n| rule(*n)).collect()),
        }
    }

    fn text(change: &ChainChange) -> String {
        let sign = |fate| match fate {
            Fate::Keep => ' ',
            Fate::Add => '+',
            Fate::Remove => '-',
        };
        let lines = of_chain(change);
        lines.iter().map(|line| format!("{}{}", sign(line.fate), &line.rule.text(Family::V4)[4..])).collect()
    }

    #[test]
    fn old_lines_come_before_new_ones() {
        assert_eq!(text(&change(&[1, 2, 3], &[1, 4, 3])), " 1-2+4 3");
        assert_eq!(text(&change(&[1, 2], &[2, 1])), "+2 1-2");
        assert_eq!(text(&change(&[], &[1, 2])), "+1+2");
        assert_eq!(text(&change(&[1, 1, 1], &[1])), " 1-1-1");
        assert_eq!(text(&ChainChange { before: None, after: Some(vec![rule(1)]) }), "+1");
        assert_eq!(text(&ChainChange { before: change(&[1], &[]).before, after: None }), "-1");
    }

    #[test]
    fn what_was_not_understood_is_never_kept() {
        let before = Some(vec![ObservedRule::Verbatim("-j C1".into())]);
        assert_eq!(text(&ChainChange { before, after: Some(vec![rule(1)]) }), "-1+1");
    }

    #[test]
    fn two_long_sides_with_little_in_common_are_quick() {
        let rules = |range: std::ops::Range<u32>| -> Vec<Rule> {
            let name = |n| ChainName::new(format!("C{n}"));
            range.map(|n| Rule { target: Some(Target::Jump(name(n))), ..Rule::default() }).collect()
        };
        let before = rules(0..40_000).into_iter().rev().map(ObservedRule::Known).collect();
        let change = ChainChange { before: Some(before), after: Some(rules(39_990..80_000)) };
        let began = std::time::Instant::now();
        assert_eq!(of_chain(&change).len(), 40_000 + 40_010 - 1);
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "it would take hours: {:?}", began.elapsed());
    }

    proptest! {
        /// Without the new lines it is the old side, without the old lines the new one, and nothing could be kept more.
        #[test]
        fn both_sides_can_be_read_off(
            before in proptest::collection::vec(0u8..6, 0..12),
            after in proptest::collection::vec(0u8..6, 0..12),
        ) {
            let change = change(&before, &after);
            let lines = of_chain(&change);
            let side = |not: Fate| -> Vec<RuleRef<'_>> {
                lines.iter().filter(|line| line.fate != not).map(|line| line.rule).collect()
            };
            let old: Vec<RuleRef> = change.before.iter().flatten().map(RuleRef::from).collect();
            let new: Vec<RuleRef> = change.after.iter().flatten().map(RuleRef::Known).collect();
            prop_assert_eq!(side(Fate::Add), old);
            prop_assert_eq!(side(Fate::Remove), new);
        }
    }
}
