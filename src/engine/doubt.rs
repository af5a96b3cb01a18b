//! Chains of which it is not known what the kernel holds, because a change of them failed: sections that came before the
//! failing one are in force.
//!
//! The next change, whatever it is about, puts them right as well. It must: a chain that other fragments share, or that
//! their rules go to, may be another one than the planner remembers, or gone, and then the kernel would refuse a fragment
//! that is not at fault.

use std::collections::{BTreeMap, HashSet};

use crate::kernel::xtables::{ChainChange, ChainKey, Changes, ObservedRule, Rule, Target};

/// What a chain was, and what it may have become.
#[derive(Clone, Debug, Default)]
struct Doubtful {
    /// What the planner remembers; `None`: no such chain.
    believed: Option<Vec<ObservedRule>>,
    /// Every rule that a failed change would have put in.
    tried: Vec<Rule>,
}

/// All chains in doubt.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    chains: BTreeMap<ChainKey, Doubtful>,
}

impl Doubt {
    /// These changes failed; what they say of before is what the planner remembers.
    pub(super) fn failed(&mut self, changes: Changes) {
        for (key, ChainChange { before, after }) in changes.chains {
            let doubtful = self.chains.entry(key).or_insert_with(|| Doubtful { believed: before, tried: Vec::new() });
            let known: HashSet<Rule> = doubtful.tried.iter().cloned().collect();
            doubtful.tried.extend(after.into_iter().flatten().filter(|rule| !known.contains(rule)));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// The kernel is known again.
    pub(super) fn clear(&mut self) {
        self.chains.clear();
    }

    /// Makes changes of the planner's right for a kernel in doubt: chains that they do not mention become what the
    /// planner remembers, and of all others it is said what they may hold.
    ///
    /// With `memory`, chains that the planner does not remember are leftovers of the failed change and go. Without, they
    /// may as well be from before its time, in use, and stay.
    pub(super) fn settle(&self, changes: &mut Changes, memory: bool) {
        let missing = if memory { HashSet::new() } else { self.perhaps_missing(changes) };
        for (key, doubtful) in &self.chains {
            let may_hold = |after: Option<&[Rule]>| {
                let mut rules = doubtful.may_hold(after);
                rules.retain(|rule| !callee(key, rule).is_some_and(|callee| missing.contains(&callee)));
                rules
            };
            match changes.chains.get_mut(key) {
                Some(change) => change.before = Some(may_hold(change.after.as_deref())),
                None => {
                    let after = doubtful.remembered();
                    if after.is_some() || (memory && doubtful.believed.is_none()) {
                        let before = Some(may_hold(after.as_deref()));
                        changes.chains.insert(key.clone(), ChainChange { before, after });
                    }
                }
            }
        }
    }

    /// Chains that only failed changes would have made, and that this one does not mention. Without memory they are left
    /// as they are; if they are not there, the kernel would refuse an old rule that leads to them, and with it everything.
    fn perhaps_missing(&self, changes: &Changes) -> HashSet<ChainKey> {
        let doubtful = self.chains.iter().filter(|(_, doubtful)| doubtful.believed.is_none());
        doubtful.map(|(key, _)| key).filter(|key| !changes.chains.contains_key(key)).cloned().collect()
    }
}

/// The chain of the same table that a rule leads to.
fn callee(chain: &ChainKey, rule: &ObservedRule) -> Option<ChainKey> {
    let ObservedRule::Known(Rule { target: Some(Target::Jump(name) | Target::Goto(name)), .. }) = rule else {
        return None;
    };
    Some(ChainKey { name: name.clone(), ..chain.clone() })
}

impl Doubtful {
    /// The rules that the planner remembers: it knows all of them by type.
    fn remembered(&self) -> Option<Vec<Rule>> {
        self.believed.as_ref()?.iter().map(|rule| rule.known().cloned()).collect()
    }

    /// What the chain may hold. A wanted rule is among it only if it is there for certain, so that it counts as new
    /// otherwise; the rules that are not wanted are all among it, so that they are kept until the switch is over.
    fn may_hold(&self, wanted: Option<&[Rule]>) -> Vec<ObservedRule> {
        let wanted: HashSet<&Rule> = wanted.unwrap_or_default().iter().collect();
        let tried: HashSet<&Rule> = self.tried.iter().collect();
        let mut held: HashSet<&Rule> = HashSet::new();
        let mut rules = Vec::new();
        for rule in self.believed.iter().flatten() {
            match rule {
                ObservedRule::Known(known) if wanted.contains(known) && !tried.contains(known) => continue,
                ObservedRule::Known(known) => drop(held.insert(known)),
                ObservedRule::Verbatim(_) => {}
            }
            rules.push(rule.clone());
        }
        let tried = self.tried.iter().filter(|rule| !wanted.contains(rule) && !held.contains(rule));
        rules.extend(tried.cloned().map(ObservedRule::from));
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::xtables::{ChainName, Match, Table};
    use crate::net::Family;

    fn rule(text: &str) -> Rule {
        Rule { matches: vec![Match::Comment(text.into())], ..Rule::default() }
    }

    fn rules(text: &str) -> Vec<Rule> {
        text.split_whitespace().map(rule).collect()
    }

    fn observed(text: &str) -> Vec<ObservedRule> {
        rules(text).into_iter().map(ObservedRule::from).collect()
    }

    fn key(name: &str) -> ChainKey {
        ChainKey { family: Family::V4, table: Table::Filter, name: ChainName::new(name) }
    }

    fn change(chains: &[(&str, Option<&str>, Option<&str>)]) -> Changes {
        let change = |(name, before, after): &(&str, Option<&str>, Option<&str>)| {
            (key(name), ChainChange { before: before.map(observed), after: after.map(rules) })
        };
        Changes { chains: chains.iter().map(change).collect(), builtin: Vec::new() }
    }

    #[test]
    fn the_next_change_puts_right_what_a_failed_one_may_have_left() {
        let mut doubt = Doubt::default();
        doubt.failed(change(&[
            ("changed", Some("a b"), Some("b c")),
            ("deleted", Some("d"), None),
            ("made", None, Some("e")),
            ("again", Some("a b x"), Some("b c x")),
        ]));
        let mut next = change(&[("again", Some("a b x"), Some("x c d")), ("other", Some("1"), Some("2"))]);
        doubt.settle(&mut next, true);
        let expected = change(&[
            ("changed", Some("b c"), Some("a b")),
            ("deleted", Some(""), Some("d")),
            ("made", Some("e"), None),
            ("again", Some("a b x"), Some("x c d")),
            ("other", Some("1"), Some("2")),
        ]);
        assert_eq!(next, expected);
        let mut next = Changes::default();
        doubt.settle(&mut next, false);
        assert!(!next.chains.contains_key(&key("made")), "it may be from before our time");
        doubt.clear();
        let mut next = Changes::default();
        doubt.settle(&mut next, true);
        assert!(next.is_empty());
    }

    /// A root that was to lead to a branch; now the branch is not needed.
    #[test]
    fn without_memory_no_old_rule_leads_to_a_chain_that_may_not_be_there() {
        let jump = Rule { target: Some(Target::Jump(ChainName::new("branch"))), ..Rule::default() };
        let mut failed = change(&[("root", None, Some("a")), ("branch", None, Some("b"))]);
        failed.chains.get_mut(&key("root")).unwrap().after.as_mut().unwrap().push(jump.clone());
        let mut doubt = Doubt::default();
        doubt.failed(failed);
        let before = |memory: bool, next: &[(&str, Option<&str>, Option<&str>)]| {
            let mut next = change(next);
            doubt.settle(&mut next, memory);
            next.chains.remove(&key("root")).unwrap().before.unwrap()
        };
        let with_jump = || [observed("a"), vec![jump.clone().into()]].concat();
        assert_eq!(before(false, &[("root", None, Some("c"))]), observed("a"));
        assert_eq!(before(false, &[("root", None, Some("c")), ("branch", None, Some("d"))]), with_jump());
        // Here the branch is made before it is deleted.
        assert_eq!(before(true, &[("root", None, Some("c"))]), with_jump());
    }

    #[test]
    fn what_was_remembered_first_counts_and_every_attempt_is_in_doubt() {
        let mut doubt = Doubt::default();
        doubt.failed(change(&[("chain", Some("a"), Some("b"))]));
        doubt.failed(change(&[("chain", Some("a b"), Some("c"))]));
        let mut next = Changes::default();
        doubt.settle(&mut next, true);
        assert_eq!(next, change(&[("chain", Some("b c"), Some("a"))]));
    }
}
