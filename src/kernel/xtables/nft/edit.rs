//! The smallest edit that turns the rules of a chain into others: rules that stay keep their handles and counters.

use std::collections::HashMap;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::wire::{Handle, Spot};
use crate::kernel::xtables::{ObservedRule, Rule};

/// One step. The steps of a chain are made in their order, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<'a> {
    Put(Spot, &'a Rule),
    Delete(Handle),
}

/// The steps from what the kernel holds to what is wanted; none if they are equal.
pub fn edits<'a>(held: &[(Handle, ObservedRule)], wanted: &[&'a Rule]) -> Vec<Edit<'a>> {
    if held.len() == wanted.len() && held.iter().zip(wanted).all(|((_, held), wanted)| held == *wanted) {
        return Vec::new();
    }
    let (old, new) = numbers(held, wanted);
    let mut edits = Vec::new();
    // From the end to the head: what an insertion goes before is then known to stay.
    let mut anchor: Option<Handle> = None;
    for op in capture_diff_slices(Algorithm::Myers, &old, &new).into_iter().rev() {
        let (old, new) = (op.old_range(), op.new_range());
        let held = held.get(old).unwrap_or_default();
        let wanted = wanted.get(new).unwrap_or_default();
        if let DiffOp::Equal { .. } = op {
            anchor = held.first().map(|(handle, _)| *handle).or(anchor);
            continue;
        }
        let replaced = held.len().min(wanted.len());
        let (instead, added) = wanted.split_at(replaced);
        let mut steps: Vec<Edit<'a>> =
            held.iter().zip(instead).map(|((handle, _), rule)| Edit::Put(Spot::InsteadOf(*handle), rule)).collect();
        let spot = anchor.map_or(Spot::Tail, Spot::Before);
        steps.extend(added.iter().map(|rule| Edit::Put(spot, rule)));
        steps.extend(held.iter().skip(replaced).map(|(handle, _)| Edit::Delete(*handle)));
        if replaced > 0 {
            anchor = held.first().map(|(handle, _)| *handle).or(anchor);
        }
        edits.push(steps);
    }
    edits.into_iter().rev().flatten().collect()
}

/// Equal rules get equal numbers; rules that are not understood are equal to none.
fn numbers(held: &[(Handle, ObservedRule)], wanted: &[&Rule]) -> (Vec<usize>, Vec<usize>) {
    let mut known: HashMap<&Rule, usize> = HashMap::new();
    let mut old = Vec::with_capacity(held.len());
    let mut fresh = 0usize;
    for (_, rule) in held {
        fresh += 1;
        old.push(match rule {
            ObservedRule::Known(rule) => *known.entry(rule).or_insert(fresh),
            ObservedRule::Verbatim(_) => fresh,
        });
    }
    let mut new = Vec::with_capacity(wanted.len());
    for rule in wanted {
        fresh += 1;
        new.push(*known.entry(rule).or_insert(fresh));
    }
    (old, new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::xtables::Match;

    fn rule(text: &str) -> Rule {
        Rule { matches: vec![Match::Comment(text.into())], ..Rule::default() }
    }

    /// The rules of words, with handles counted from 1; a word in capitals is a rule that was not understood.
    fn held(words: &[String]) -> Vec<(Handle, ObservedRule)> {
        let rule = |word: &String| match word.chars().all(char::is_uppercase) {
            true => ObservedRule::Verbatim(word.as_str().into()),
            false => rule(word).into(),
        };
        (1..).zip(words.iter().map(rule)).collect()
    }

    /// What the kernel makes of the steps.
    fn play(mut chain: Vec<(Handle, ObservedRule)>, edits: &[Edit<'_>]) -> Vec<ObservedRule> {
        let mut next = 1000;
        for edit in edits {
            let at = |handle: Handle, chain: &[(Handle, ObservedRule)]| {
                chain.iter().position(|(known, _)| *known == handle).expect("a handle that is there")
            };
            match edit {
                Edit::Delete(handle) => drop(chain.remove(at(*handle, &chain))),
                Edit::Put(spot, rule) => {
                    let rule: ObservedRule = (*rule).clone().into();
                    next += 1;
                    match spot {
                        Spot::Head => chain.insert(0, (next, rule)),
                        Spot::Tail => chain.push((next, rule)),
                        Spot::Before(handle) => chain.insert(at(*handle, &chain), (next, rule)),
                        Spot::InsteadOf(handle) => {
                            let at = at(*handle, &chain);
                            chain[at].1 = rule;
                        }
                    }
                }
            }
        }
        chain.into_iter().map(|(_, rule)| rule).collect()
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn steps(before: &str, after: &str) -> Vec<String> {
        let wanted: Vec<Rule> = words(after).iter().map(|word| rule(word)).collect();
        let wanted: Vec<&Rule> = wanted.iter().collect();
        let name = |rule: &Rule| match rule.matches.first() {
            Some(Match::Comment(text)) => text.to_string(),
            _ => String::new(),
        };
        edits(&held(&words(before)), &wanted)
            .iter()
            .map(|edit| match edit {
                Edit::Delete(handle) => format!("-{handle}"),
                Edit::Put(Spot::InsteadOf(handle), rule) => format!("{handle}={}", name(rule)),
                Edit::Put(Spot::Before(handle), rule) => format!("{}<{handle}", name(rule)),
                Edit::Put(Spot::Head, rule) => format!("{}<", name(rule)),
                Edit::Put(Spot::Tail, rule) => format!("{}>", name(rule)),
            })
            .collect()
    }

    #[test]
    fn only_what_differs_is_written() {
        assert_eq!(steps("a b c", "a b c"), Vec::<String>::new());
        assert_eq!(steps("a b c", "a x c"), ["2=x"]);
        assert_eq!(steps("a b c", "a c"), ["-2"]);
        assert_eq!(steps("a c", "a b c"), ["b<2"]);
        assert_eq!(steps("a b", "a b c d"), ["c>", "d>"]);
        assert_eq!(steps("b", "a b"), ["a<1"]);
        assert_eq!(steps("", "a b"), ["a>", "b>"]);
        assert_eq!(steps("a b", ""), ["-1", "-2"]);
        assert_eq!(steps("a X b", "a b"), ["-2"]);
    }

    #[test]
    fn several_insertions_keep_their_order() {
        assert_eq!(steps("a z", "a b c d z"), ["b<2", "c<2", "d<2"]);
    }

    proptest! {
        #[test]
        fn any_chain_becomes_any_other(before in "([a-eA-B] ){0,12}", after in "([a-e] ){0,12}") {
            let wanted: Vec<Rule> = words(&after).iter().map(|word| rule(word)).collect();
            let wanted: Vec<&Rule> = wanted.iter().collect();
            let before = held(&words(&before));
            let edits = edits(&before, &wanted);
            let after = play(before.clone(), &edits);
            prop_assert_eq!(after.len(), wanted.len());
            prop_assert!(after.iter().zip(&wanted).all(|(after, wanted)| after == *wanted));
            // Never more than everything once.
            prop_assert!(edits.len() <= before.len() + wanted.len());
            // A rule that someone is put before must not go in the same transaction.
            for edit in &edits {
                if let Edit::Put(Spot::Before(anchor), _) = edit {
                    prop_assert!(!edits.contains(&Edit::Delete(*anchor)));
                }
            }
        }
    }
}
