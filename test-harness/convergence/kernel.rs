//! What a simulated kernel holds: ours, and others'.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use weir::kernel::xtables::encode::rule_text;
use weir::kernel::xtables::ownership::{SHARED_FIREWALL, is_owned};
use weir::kernel::xtables::{ChainKey, ChainName, Match, ObservedRule, Rule, Table, Target};
use weir::model::{ServicePort, Settings};
use weir::net::Family;
use weir::plan::iptables::Desired;
use weir::sim::SimKernel;
use weir::sim::trace::Ruleset;

/// A kernel that a backend writes to while a test looks at it.
pub type Shared = Arc<Mutex<SimKernel>>;

pub type Chains = BTreeMap<ChainKey, Vec<ObservedRule>>;

pub fn lock(kernel: &Shared) -> MutexGuard<'_, SimKernel> {
    kernel.lock().unwrap()
}

/// All chains of both families.
pub fn all(kernel: &Shared) -> Chains {
    let kernel = lock(kernel);
    let mut found = Chains::new();
    for family in Family::ALL {
        for table in Table::ALL {
            let chains = kernel.chains(family, table).into_iter();
            found.extend(chains.map(|(name, rules)| (ChainKey { family, table, name }, rules)));
        }
    }
    found
}

/// The chains that differ, or are there only before or only after.
pub fn difference(before: &Chains, after: &Chains) -> BTreeSet<ChainKey> {
    let differs = |key: &&ChainKey| before.get(*key) != after.get(*key);
    before.keys().chain(after.keys()).filter(differs).cloned().collect()
}

/// The rules of one family. Never fails by fault, unlike what the proxy sees.
pub fn rules(kernel: &Shared, family: Family) -> Ruleset {
    let [v4, v6] = rules_of(all(kernel));
    if family == Family::V4 { v4 } else { v6 }
}

/// Chains as rules, family by family.
pub fn rules_of(chains: Chains) -> [Ruleset; 2] {
    let mut found = Family::ALL.map(Ruleset::new);
    for (key, chain) in chains {
        if let Some(rules) = found.iter_mut().find(|rules| rules.family() == key.family) {
            rules.insert(key.table, key.name, chain);
        }
    }
    found
}

pub fn chain(kernel: &Shared, family: Family, table: Table, name: &str) -> Option<Vec<ObservedRule>> {
    lock(kernel).chains(family, table).remove(&ChainName::new(name))
}

/// `iptables -F` of one chain.
pub fn flush(kernel: &Shared, family: Family, table: Table, chain: &str) {
    while lock(kernel).remove_rule(family, table, chain, 0).is_some() {}
}

fn owned(key: &ChainKey) -> bool {
    is_owned(key.table, key.name.as_str())
}

/// The chains that are ours alone.
pub fn ours(kernel: &Shared) -> Chains {
    all(kernel).into_iter().filter(|(key, _)| owned(key)).collect()
}

/// Everything else, without our rules in it. Chains without foreign rules are left out if they are built in or shared.
pub fn foreign(kernel: &Shared) -> Chains {
    foreign_in(&all(kernel))
}

/// The same among these chains.
pub fn foreign_in(chains: &Chains) -> Chains {
    let mut found = Chains::new();
    for (key, rules) in chains.iter().filter(|(key, _)| !owned(key)) {
        let shared = key.name.as_str() == SHARED_FIREWALL;
        let builtin = !key.name.as_str().contains('-');
        let rules: Vec<_> = rules.iter().filter(|rule| !is_our_rule(key, rule)).cloned().collect();
        if !rules.is_empty() || !(shared || builtin) {
            found.insert(key.clone(), rules);
        }
    }
    found
}

/// A rule of ours in a chain that is not: a jump to our chains, or what we put into the shared one.
fn is_our_rule(key: &ChainKey, rule: &ObservedRule) -> bool {
    let ObservedRule::Known(rule) = rule else { return false };
    let martian = |m: &Match| matches!(m, Match::Comment(text) if &**text == "block incoming localnet connections");
    match &rule.target {
        Some(Target::Jump(to)) => is_owned(key.table, to.as_str()) || to.as_str() == SHARED_FIREWALL,
        Some(Target::Drop) => rule.matches.iter().any(martian),
        _ => false,
    }
}

/// What the kernel must hold for this model: our chains exactly, our rules in others' chains each once.
pub fn assert_holds(kernel: &Shared, settings: &Arc<Settings>, model: &[Arc<ServicePort>], what: &str) {
    let (desired, _) = Desired::plan(settings, &Family::ALL, model);
    let held = ours(kernel);
    for key in held.keys().chain(desired.chains().keys()) {
        let wanted = desired.chains().get(key).map(|rules| known(rules));
        let text =
            |rules: Option<&Vec<ObservedRule>>| rules.map_or("no such chain\n".to_owned(), |r| text(key.family, r));
        assert!(
            held.get(key) == wanted.as_ref(),
            "{what}: {key}\nholds:\n{}wanted:\n{}",
            text(held.get(key)),
            text(wanted.as_ref())
        );
    }
    let all = all(kernel);
    for wanted in desired.builtin() {
        let rules = all.get(&wanted.chain).map(Vec::as_slice).unwrap_or_default();
        let count = rules.iter().filter(|rule| **rule == wanted.rule).count();
        assert_eq!(count, 1, "{what}: {} {:?}", wanted.chain, wanted.rule);
    }
}

fn text(family: Family, rules: &[ObservedRule]) -> String {
    let line = |rule: &ObservedRule| match rule {
        ObservedRule::Known(rule) => format!("  {}\n", rule_text(family, rule)),
        ObservedRule::Verbatim(text) => format!("  {text}\n"),
    };
    rules.iter().map(line).collect()
}

fn known(rules: &[Rule]) -> Vec<ObservedRule> {
    rules.iter().cloned().map(ObservedRule::Known).collect()
}
