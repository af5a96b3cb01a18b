//! What the kernel holds against what is wanted → changes of chains: the start, the repair of drift, and `weir diff`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::{BuiltinRule, Place, Planner, builtin_rules, names};
use crate::kernel::xtables::ownership::is_owned;
use crate::kernel::xtables::{
    BuiltinChange, ChainChange, ChainKey, ChainName, Changes, ObservedChain, ObservedRule, Rule, Table, Target,
};
use crate::model::{ServicePort, Settings};
use crate::net::Family;
use crate::plan::ipvs;

/// Everything that is wanted, or what is wanted of some chains.
pub struct Desired {
    chains: BTreeMap<ChainKey, Vec<Rule>>,
    builtin: Vec<BuiltinRule>,
    /// Jumps that another mode makes. One that is not wanted too goes, also where its target stays: both modes have
    /// chains of the same names.
    others: Vec<BuiltinRule>,
    /// Chains shared with the kubelet of which nobody asked whether they are there.
    not_asked: Vec<ChainKey>,
}

impl Desired {
    /// The base and these service ports. The planner is one that knows nothing else.
    pub fn plan(settings: &Arc<Settings>, families: &[Family], model: &[Arc<ServicePort>]) -> (Desired, Planner) {
        let mut planner = Planner::new(settings.clone(), families);
        planner.adopt(model);
        let mut chains = BTreeMap::new();
        planner.all_chains(model, &mut |key, rules| {
            chains.insert(key, rules);
        });
        let builtin = families.iter().flat_map(|family| builtin_rules(settings, *family)).collect();
        let others = families.iter().flat_map(|family| ipvs::builtin_rules(settings, *family)).collect();
        (Desired { chains, builtin, others, not_asked: Vec::new() }, planner)
    }

    /// What is wanted of these chains, for a comparison that is shown these chains and no others. The planner and the
    /// model are as for [`Planner::chains_named`].
    ///
    /// Whoever asks for filter's INPUT or OUTPUT should ask for `KUBE-FIREWALL` too: our jumps lead there, and it is
    /// made only if it was asked for and is not there.
    pub fn plan_named(
        settings: &Settings,
        families: &[Family],
        planner: &Planner,
        model: &[Arc<ServicePort>],
        names: &BTreeSet<ChainKey>,
    ) -> Desired {
        let mut chains = BTreeMap::new();
        planner.chains_named(model, names, &mut |key, rules| {
            chains.insert(key, rules);
        });
        let builtin = families.iter().flat_map(|family| builtin_rules(settings, *family));
        let builtin = builtin.filter(|rule| names.contains(&rule.chain)).collect();
        let shared = families.iter().map(|family| shared_firewall(*family));
        let others = families.iter().flat_map(|family| ipvs::builtin_rules(settings, *family)).collect();
        Desired { chains, builtin, others, not_asked: shared.filter(|key| !names.contains(key)).collect() }
    }

    /// These chains, and these rules in chains that are not ours alone, where another mode makes other ones.
    pub fn of(chains: BTreeMap<ChainKey, Vec<Rule>>, builtin: Vec<BuiltinRule>, others: Vec<BuiltinRule>) -> Desired {
        Desired { chains, builtin, others, not_asked: Vec::new() }
    }

    /// Nothing: what `weir cleanup` wants.
    pub fn nothing() -> Desired {
        Desired { chains: BTreeMap::new(), builtin: Vec::new(), others: Vec::new(), not_asked: Vec::new() }
    }

    /// The wanted chains, by key.
    pub fn chains(&self) -> &BTreeMap<ChainKey, Vec<Rule>> {
        &self.chains
    }

    /// The wanted rules in chains that are not ours alone.
    pub fn builtin(&self) -> &[BuiltinRule] {
        &self.builtin
    }

    /// Of another mode, and not of this one.
    fn is_obsolete(&self, chain: &ChainKey, jump: &Rule) -> bool {
        let is_among = |rules: &[BuiltinRule]| rules.iter().any(|rule| rule.chain == *chain && rule.rule == *jump);
        is_among(&self.others) && !is_among(&self.builtin)
    }

    /// Starts a comparison: show it every chain of every table of the families, or those that were asked for, then
    /// finish it.
    pub fn compare(mut self) -> Comparison {
        let mut wanted: HashMap<ChainKey, Vec<(usize, bool)>> = HashMap::new();
        for (i, rule) in self.builtin.iter().enumerate() {
            wanted.entry(rule.chain.clone()).or_default().push((i, false));
        }
        let shared_seen = std::mem::take(&mut self.not_asked);
        Comparison {
            desired: self,
            builtin_seen: wanted,
            shared_seen,
            jumps_in: Vec::new(),
            changes: Changes::default(),
        }
    }
}

/// A comparison under way. What has been found equal is forgotten at once.
pub struct Comparison {
    desired: Desired,
    /// By chain: indices of wanted rules, and whether they were seen.
    builtin_seen: HashMap<ChainKey, Vec<(usize, bool)>>,
    /// User chains that are shared with others and were seen, or are taken to be there.
    shared_seen: Vec<ChainKey>,
    /// Rules of built-in chains that jump to chains of ours.
    jumps_in: Vec<(ChainKey, Rule)>,
    changes: Changes,
}

impl Comparison {
    /// Shows a chain that the kernel holds.
    pub fn observed(&mut self, family: Family, table: Table, chain: ObservedChain) {
        let key = ChainKey { family, table, name: chain.name };
        if let Some(wanted) = self.builtin_seen.get_mut(&key) {
            for (i, seen) in wanted.iter_mut() {
                let rule = self.desired.builtin.get(*i).map(|wanted| &wanted.rule);
                *seen |= rule.is_some_and(|rule| chain.rules.iter().any(|observed| observed == rule));
            }
        }
        if chain.builtin {
            self.note_jumps_in(&key, &chain.rules);
            return;
        }
        if key.name.as_str() == names::FIREWALL {
            self.shared_seen.push(key);
            return;
        }
        if !is_owned(table, key.name.as_str()) {
            return;
        }
        let wanted = self.desired.chains.remove(&key);
        if wanted.as_ref().is_none_or(|wanted| chain.rules != *wanted) {
            self.changes.chains.insert(key, ChainChange { before: Some(chain.rules), after: wanted });
        }
    }

    fn note_jumps_in(&mut self, chain: &ChainKey, rules: &[ObservedRule]) {
        for rule in rules {
            if let ObservedRule::Known(rule) = rule
                && let Some(Target::Jump(to)) = &rule.target
                && is_owned(chain.table, to.as_str())
            {
                self.jumps_in.push((chain.clone(), rule.clone()));
            }
        }
    }

    /// The difference.
    pub fn finish(mut self) -> Changes {
        for (key, rules) in std::mem::take(&mut self.desired.chains) {
            self.changes.chains.insert(key, ChainChange { before: None, after: Some(rules) });
        }
        self.delete_obsolete_jumps();
        self.add_missing_builtin_rules();
        self.delete_jumps_to_deleted_chains();
        self.changes
    }

    /// Of those to chains that stay.
    fn delete_obsolete_jumps(&mut self) {
        let stays = |to: &ChainKey| self.changes.chains.get(to).is_none_or(|change| change.after.is_some());
        let mut obsolete = Vec::new();
        self.jumps_in.retain(|(chain, rule)| {
            let to = target_of(chain, rule);
            let goes = to.is_some_and(|to| stays(&to)) && self.desired.is_obsolete(chain, rule);
            if goes {
                obsolete.push(BuiltinChange::Delete(chain.clone(), rule.clone()));
            }
            !goes
        });
        self.changes.builtin.extend(obsolete);
    }

    fn add_missing_builtin_rules(&mut self) {
        for (i, wanted) in std::mem::take(&mut self.desired.builtin).into_iter().enumerate() {
            let seen = self.builtin_seen.get(&wanted.chain);
            if seen.is_some_and(|rules| rules.iter().any(|(index, seen)| *index == i && *seen)) {
                continue;
            }
            self.ensure_shared_chain(&wanted);
            self.changes.builtin.push(match wanted.place {
                Place::Head => BuiltinChange::Insert(wanted.chain, wanted.rule),
                Place::Tail => BuiltinChange::Append(wanted.chain, wanted.rule),
            });
        }
    }

    /// The chain that we share with the kubelet is created if it is absent, before a rule is in it or leads to it.
    fn ensure_shared_chain(&mut self, wanted: &BuiltinRule) {
        let target = match &wanted.rule.target {
            Some(Target::Jump(to)) => to,
            _ => &wanted.chain.name,
        };
        let shared = shared_firewall(wanted.chain.family);
        let concerns_it = *target == shared.name || wanted.chain.name == shared.name;
        if concerns_it && !self.shared_seen.contains(&shared) {
            self.changes.builtin.push(BuiltinChange::CreateChain(shared.clone()));
            self.shared_seen.push(shared);
        }
    }

    /// A chain cannot go while a built-in chain leads to it.
    fn delete_jumps_to_deleted_chains(&mut self) {
        for (chain, rule) in std::mem::take(&mut self.jumps_in) {
            let Some(target) = target_of(&chain, &rule) else { continue };
            if self.changes.chains.get(&target).is_some_and(|change| change.after.is_none()) {
                self.changes.builtin.push(BuiltinChange::Delete(chain, rule));
            }
        }
    }
}

/// The chain that a rule of this chain jumps to.
fn target_of(chain: &ChainKey, rule: &Rule) -> Option<ChainKey> {
    let Some(Target::Jump(to)) = &rule.target else { return None };
    Some(ChainKey { name: to.clone(), ..chain.clone() })
}

/// The chain that we share with the kubelet.
fn shared_firewall(family: Family) -> ChainKey {
    ChainKey { family, table: Table::Filter, name: ChainName::new(names::FIREWALL) }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
