//! Branches → one verdict.

use std::collections::BTreeMap;

use super::{Branch, Fate, RulesTested, Trace, TraceError};
use crate::model::oracle::Verdict;

/// Adds up the branches. All must be of one kind: served, refused, or left alone.
pub(super) fn sum_up(branches: Vec<Branch>) -> Result<Trace, TraceError> {
    let mut fates: BTreeMap<Fate, f64> = BTreeMap::new();
    for branch in &branches {
        *fates.entry(branch.fate).or_default() += branch.probability;
    }
    let verdict = verdict(fates)?;
    let tested = branches.iter().map(|branch| branch.rules_tested);
    let rules_tested = RulesTested {
        min: tested.clone().min().unwrap_or(0),
        max: tested.max().unwrap_or(0),
        expected: branches.iter().map(|b| b.probability * b.rules_tested as f64).sum(),
    };
    Ok(Trace { verdict, rules_tested, branches })
}

fn verdict(fates: BTreeMap<Fate, f64>) -> Result<Verdict, TraceError> {
    let single = match fates.keys().next() {
        Some(fate) if fates.len() == 1 => *fate,
        _ => return served(fates),
    };
    Ok(match single {
        Fate::Untouched => Verdict::Untouched,
        Fate::Accept => Verdict::Accept,
        Fate::Reject => Verdict::Reject,
        Fate::Drop => Verdict::Drop,
        Fate::Serve(_) => return served(fates),
    })
}

fn served(fates: BTreeMap<Fate, f64>) -> Result<Verdict, TraceError> {
    let outcomes: Option<BTreeMap<_, _>> = fates
        .iter()
        .map(|(fate, probability)| match fate {
            Fate::Serve(outcome) => Some((*outcome, *probability)),
            _ => None,
        })
        .collect();
    outcomes.map(Verdict::Serve).ok_or_else(|| TraceError::Mixed(fates.into_iter().collect()))
}
