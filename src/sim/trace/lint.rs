//! Whether a kernel takes the rules.

use std::collections::BTreeMap;

use super::{Ruleset, lookup};
use crate::kernel::ipset::{SetName, SetType};
use crate::kernel::xtables::{ChainName, Match, ObservedRule, Rule, Table, Target};
use crate::net::Family;

/// How many chains may be nested below a built-in one: `NFT_JUMP_STACK_SIZE` (16) counts the built-in one too.
pub const MAX_DEPTH: usize = 15;

/// The longest comment in bytes: `XT_MAX_COMMENT_LEN` (uapi `linux/netfilter/xt_comment.h`) less the NUL.
pub const MAX_COMMENT: usize = 255;

const BUILTIN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// What is wrong with the rules, one line each; nothing if a kernel takes them.
///
/// Rules that are kept as text are not looked into.
pub fn lint(rules: &Ruleset) -> Vec<String> {
    let mut findings = Vec::new();
    for (table, chain) in rules.duplicates() {
        findings.push(format!("{table} {chain}: the chain is there more than once"));
    }
    for (table, chain, list) in rules.chains() {
        name_length(table, chain.as_str(), &mut findings);
        for (index, rule) in list.iter().enumerate() {
            if let ObservedRule::Known(rule) = rule {
                let place = format!("{table} {chain} rule {}", index + 1);
                check_rule(rules, table, rule, &place, &mut findings);
            }
        }
    }
    for table in Table::ALL {
        check_nesting(rules, table, &mut findings);
    }
    findings
}

pub(super) fn name_length(table: Table, chain: &str, findings: &mut Vec<String>) {
    if chain.len() > ChainName::MAX {
        findings.push(format!("{table} {chain}: the name has {} bytes, {} are allowed", chain.len(), ChainName::MAX));
    }
}

fn check_rule(rules: &Ruleset, table: Table, rule: &Rule, place: &str, findings: &mut Vec<String>) {
    for condition in &rule.matches {
        match condition {
            Match::Comment(text) if text.len() > MAX_COMMENT => {
                findings.push(format!("{place}: the comment has {} bytes, {MAX_COMMENT} are allowed", text.len()));
            }
            Match::Set { set, directions, .. } => check_set(rules, set, directions.len(), place, findings),
            Match::Ports { protocol, .. } if rule.protocol != Some(*protocol) => {
                findings.push(format!("{place}: matches ports of {protocol} without -p {protocol}"));
            }
            _ => {}
        }
    }
    for net in [&rule.source, &rule.destination].into_iter().flatten() {
        if Family::of_net(&net.net) != rules.family() {
            findings.push(format!("{place}: {} is no {} network", net.net, rules.family()));
        }
    }
    match &rule.target {
        Some(Target::Jump(name) | Target::Goto(name)) => {
            if BUILTIN.contains(&name.as_str()) {
                findings.push(format!("{place}: jumps to the built-in chain {name}"));
            } else if rules.chain(table, name).is_none() {
                findings.push(format!("{place}: jumps to {name}, which does not exist"));
            }
        }
        Some(Target::Dnat(endpoint)) => {
            if rule.protocol.is_none() {
                findings.push(format!("{place}: DNAT to a port without -p"));
            }
            if Family::of(&endpoint.ip) != rules.family() {
                findings.push(format!("{place}: DNAT to {endpoint}, which is no {} address", rules.family()));
            }
        }
        _ => {}
    }
}

/// The kernel refuses a rule that names a set that is not there; with the others, the match never finds anything.
fn check_set(rules: &Ruleset, set: &SetName, directions: usize, place: &str, findings: &mut Vec<String>) {
    let Some((spec, _)) = rules.sets.get(set) else {
        findings.push(format!("{place}: looks into the set {set}, which does not exist"));
        return;
    };
    let parts = lookup::parts(spec.set_type);
    if directions < parts {
        findings.push(format!("{place}: {directions} directions, entries of {set} have {parts} parts"));
    }
    if spec.set_type != SetType::BitmapPort && spec.family != rules.family() {
        findings.push(format!("{place}: the set {set} is for {}", spec.family));
    }
}

/// The jumps of one table. Chains are numbered in the order of their names.
struct Jumps<'a> {
    names: Vec<&'a ChainName>,
    to: Vec<Vec<usize>>,
}

impl<'a> Jumps<'a> {
    fn of(rules: &'a Ruleset, table: Table) -> Self {
        let chains: Vec<_> = rules.chains().filter(|(of, _, _)| *of == table).collect();
        let numbers: BTreeMap<&ChainName, usize> =
            chains.iter().enumerate().map(|(number, (_, name, _))| (*name, number)).collect();
        let targets = |list: &[ObservedRule]| {
            let mut to: Vec<usize> = list.iter().filter_map(jump).filter_map(|n| numbers.get(n).copied()).collect();
            to.sort_unstable();
            to.dedup();
            to
        };
        Jumps {
            names: chains.iter().map(|(_, name, _)| *name).collect(),
            to: chains.iter().map(|(_, _, list)| targets(list)).collect(),
        }
    }

    /// The same jumps, followed backwards.
    fn reversed(&self) -> Self {
        let mut to = vec![Vec::new(); self.to.len()];
        for (from, targets) in self.to.iter().enumerate() {
            for target in targets {
                if let Some(list) = to.get_mut(*target) {
                    list.push(from);
                }
            }
        }
        Jumps { names: self.names.clone(), to }
    }

    /// Chains in an order in which each comes after all that jump to it. Chains on a loop, or behind one, have none.
    fn sorted(&self) -> Vec<usize> {
        let mut open: Vec<usize> = self.reversed().to.iter().map(Vec::len).collect();
        let mut order: Vec<usize> = (0..open.len()).filter(|n| open.get(*n) == Some(&0)).collect();
        let mut done = 0;
        while let Some(&chain) = order.get(done) {
            done += 1;
            for target in self.to.get(chain).into_iter().flatten() {
                if let Some(count) = open.get_mut(*target) {
                    *count -= 1;
                    if *count == 0 {
                        order.push(*target);
                    }
                }
            }
        }
        order
    }
}

fn jump(rule: &ObservedRule) -> Option<&ChainName> {
    match rule {
        ObservedRule::Known(Rule { target: Some(Target::Jump(name) | Target::Goto(name)), .. }) => Some(name),
        _ => None,
    }
}

fn check_nesting(rules: &Ruleset, table: Table, findings: &mut Vec<String>) {
    let jumps = Jumps::of(rules, table);
    let order = jumps.sorted();
    if order.len() < jumps.names.len() {
        // What is neither before nor behind all loops lies on one, or between two.
        let backwards = jumps.reversed().sorted();
        let on_loop: Vec<&str> = (0..jumps.names.len())
            .filter(|n| !order.contains(n) && !backwards.contains(n))
            .filter_map(|n| jumps.names.get(n).map(|name| name.as_str()))
            .collect();
        findings.push(format!("{table}: jumps go round in a loop among {}", on_loop.join(", ")));
    }
    let mut depth: Vec<Option<usize>> =
        jumps.names.iter().map(|name| BUILTIN.contains(&name.as_str()).then_some(0)).collect();
    for chain in order {
        let Some(Some(at)) = depth.get(chain).copied() else { continue };
        if let Some(name) = jumps.names.get(chain).filter(|_| at > MAX_DEPTH) {
            findings.push(format!("{table} {name}: {at} chains below a built-in one, {MAX_DEPTH} are allowed"));
        }
        for target in jumps.to.get(chain).into_iter().flatten() {
            if let Some(deepest) = depth.get_mut(*target) {
                *deepest = (*deepest).max(Some(at + 1));
            }
        }
    }
}
