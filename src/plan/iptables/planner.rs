//! Moves of service ports → changes of chains.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::dispatch::{Dispatcher, Entry, Touched, Tree};
use super::names::ServiceChains;
use super::{base, names, service};
use crate::kernel::xtables::{ChainChange, ChainKey, ChainName, Changes, ObservedRule, Rule, Table};
use crate::model::{ServicePort, ServicePortKey, Settings};
use crate::net::Family;
use crate::plan::Move;

/// What the kernel is meant to hold, as far as it must be remembered: the entries of the dispatchers.
///
/// The chains of service ports are not kept. They are planned anew from the two sides of a [`Move`], which costs less
/// than holding them: a plan is a pure function.
#[derive(Clone, Debug)]
pub struct Planner {
    settings: Arc<Settings>,
    families: Vec<FamilyPlan>,
}

#[derive(Clone, Debug)]
struct FamilyPlan {
    family: Family,
    dispatchers: Vec<Dispatcher>,
}

impl Planner {
    /// A planner without services, for the families that the host has.
    pub fn new(settings: Arc<Settings>, families: &[Family]) -> Self {
        let families = families
            .iter()
            .map(|&family| FamilyPlan {
                family,
                dispatchers: Tree::ALL
                    .map(|tree| {
                        let tail = match tree {
                            Tree::NatServices => base::node_port_tail(&settings, family),
                            _ => Vec::new(),
                        };
                        Dispatcher::new(tree, family, tail)
                    })
                    .into(),
            })
            .collect();
        Planner { settings, families }
    }

    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The families that are planned for.
    pub fn families(&self) -> Vec<Family> {
        self.families.iter().map(|plan| plan.family).collect()
    }

    /// The changes that these moves make, and nothing else. The planner has moved on when this returns; if the kernel
    /// refuses, [`Planner::revert`] moves it back.
    pub fn replan(&mut self, moves: &[Move]) -> Changes {
        let mut changes = Changes::default();
        for plan in &mut self.families {
            plan.replan(&self.settings, moves, &mut changes);
        }
        changes
    }

    /// Takes service ports over as they are, without asking what that changes. For an empty planner.
    pub fn adopt(&mut self, model: &[Arc<ServicePort>]) {
        for plan in &mut self.families {
            let mut by_tree: BTreeMap<Tree, Vec<Entry>> = BTreeMap::new();
            for port in model.iter().filter(|port| port.key.family == plan.family) {
                for (tree, entry) in entries(port) {
                    by_tree.entry(tree).or_default().push(entry);
                }
            }
            for dispatcher in &mut plan.dispatchers {
                dispatcher.fill(by_tree.remove(&dispatcher.tree()).unwrap_or_default());
            }
        }
    }

    /// Takes moves back that were not made.
    pub fn revert(&mut self, moves: &[Move]) {
        let inverse: Vec<Move> =
            moves.iter().map(|m| Move { before: m.after.clone(), after: m.before.clone() }).collect();
        for plan in &mut self.families {
            plan.redispatch(&self.settings, &inverse);
        }
    }

    /// Which of these moves wanted a chain, if it is a chain of one service port.
    pub fn owner(moves: &[Move], chain: &ChainKey) -> Option<ServicePortKey> {
        let mut wanted = moves.iter().filter_map(|m| m.after.as_ref()).filter(|port| port.key.family == chain.family);
        wanted.find(|port| service::owns(port, &chain.name)).map(|port| port.key.clone())
    }

    /// Visits every chain that is wanted with these service ports, which must be the ones that the planner was moved to.
    pub fn all_chains(&self, model: &[Arc<ServicePort>], visit: &mut dyn FnMut(ChainKey, Vec<Rule>)) {
        for plan in &self.families {
            let family = plan.family;
            let key = |table, name| ChainKey { family, table, name };
            for (table, name, rules) in base::chains(&self.settings, family) {
                visit(key(table, name), rules);
            }
            for dispatcher in &plan.dispatchers {
                for (name, rules) in dispatcher.all(&self.settings) {
                    visit(key(dispatcher.tree().table(), name), rules);
                }
            }
            for port in model.iter().filter(|port| port.key.family == family) {
                for (name, rules) in service::chains(port, &self.settings, None) {
                    visit(key(Table::Nat, name), rules);
                }
            }
        }
    }
}

impl Planner {
    /// Visits those of these chains that are wanted with these service ports, which must be the ones that the planner
    /// was moved to. What is not asked for is not planned: of each service port only the name is looked at, and of
    /// endpoints only those that have chains, and only if an endpoint's chain is asked for.
    pub fn chains_named(
        &self,
        model: &[Arc<ServicePort>],
        names: &BTreeSet<ChainKey>,
        visit: &mut dyn FnMut(ChainKey, Vec<Rule>),
    ) {
        for plan in &self.families {
            let family = plan.family;
            let of = |table: Table| -> HashSet<&str> {
                let concerned = names.iter().filter(|key| key.family == family && key.table == table);
                concerned.map(|key| key.name.as_str()).collect()
            };
            let by_table = Table::ALL.map(|table| (table, of(table)));
            let mut each = |table, name: ChainName, rules| visit(ChainKey { family, table, name }, rules);
            for (table, name, rules) in base::chains(&self.settings, family) {
                if names.contains(&ChainKey { family, table, name: name.clone() }) {
                    each(table, name, rules);
                }
            }
            for (table, names) in by_table.iter().filter(|(_, names)| !names.is_empty()) {
                for dispatcher in plan.dispatchers.iter().filter(|d| d.tree().table() == *table) {
                    for (name, rules) in dispatcher.named(names, &self.settings) {
                        each(*table, name, rules);
                    }
                }
                if *table == Table::Nat {
                    self.service_chains_named(family, model, names, &mut |name, rules| each(*table, name, rules));
                }
            }
        }
    }

    /// The chains of service ports.
    fn service_chains_named(
        &self,
        family: Family,
        model: &[Arc<ServicePort>],
        names: &HashSet<&str>,
        visit: &mut dyn FnMut(ChainName, Vec<Rule>),
    ) {
        let hashes: HashSet<&str> = names.iter().filter_map(|name| names::service_hash(name)).collect();
        let mut endpoints: HashSet<&str> = names.iter().copied().filter(|n| names::is_endpoint_chain(n)).collect();
        if hashes.is_empty() && endpoints.is_empty() {
            return;
        }
        for port in model.iter().filter(|port| port.key.family == family) {
            let own = ServiceChains::new(&port.key);
            let mut is_concerned = hashes.contains(own.hash());
            if !endpoints.is_empty() {
                for name in service::endpoint_chains(port, &self.settings, &own) {
                    is_concerned |= endpoints.remove(name.as_str());
                }
            }
            if is_concerned {
                let planned = service::chains(port, &self.settings, None).into_iter();
                planned.filter(|(name, _)| names.contains(name.as_str())).for_each(|(name, rules)| visit(name, rules));
            }
        }
    }
}

impl FamilyPlan {
    fn replan(&mut self, settings: &Settings, moves: &[Move], changes: &mut Changes) {
        for (tree, touched) in self.redispatch(settings, moves) {
            for (name, (before, after)) in touched {
                record(changes, self.family, tree.table(), name, before, after);
            }
        }
        for m in moves.iter().filter(|m| family_of(m) == Some(self.family)) {
            let mut own = Touched::new();
            let (before, after) = (m.before.as_deref(), m.after.as_deref());
            for (name, rules) in before.into_iter().flat_map(|port| service::chains(port, settings, after)) {
                own.entry(name).or_default().0 = Some(rules);
            }
            for (name, rules) in after.into_iter().flat_map(|port| service::chains(port, settings, before)) {
                own.entry(name).or_default().1 = Some(rules);
            }
            for (name, (before, after)) in own {
                record(changes, self.family, Table::Nat, name, before, after);
            }
        }
    }

    /// Moves the entries, and tells which dispatch chains that touched.
    fn redispatch(&mut self, settings: &Settings, moves: &[Move]) -> Vec<(Tree, Touched)> {
        let family = self.family;
        let (mut remove, mut add) = (Vec::new(), Vec::new());
        for m in moves.iter().filter(|m| family_of(m) == Some(family)) {
            let before = m.before.as_ref().map(entries).unwrap_or_default();
            let after = m.after.as_ref().map(entries).unwrap_or_default();
            if same_entries(m, &before, &after) {
                // Only endpoints changed, say: the entries would be planned to the same rules. They still must hold
                // the new service port, or the old one would be kept alive.
                self.hold(&after);
                continue;
            }
            remove.extend(before);
            add.extend(after);
        }
        let of = |list: &[(Tree, Entry)], tree: Tree| -> Vec<Entry> {
            list.iter().filter(|(t, _)| *t == tree).map(|(_, entry)| entry.clone()).collect()
        };
        self.dispatchers
            .iter_mut()
            .map(|dispatcher| {
                let tree = dispatcher.tree();
                (tree, dispatcher.change(&of(&remove, tree), &of(&add, tree), settings))
            })
            .filter(|(_, touched)| !touched.is_empty())
            .collect()
    }

    /// Makes entries that stay what they are hold the new service port.
    fn hold(&mut self, entries: &[(Tree, Entry)]) {
        for (tree, entry) in entries {
            if let Some(dispatcher) = self.dispatchers.iter_mut().find(|d| d.tree() == *tree) {
                dispatcher.hold(entry);
            }
        }
    }
}

fn family_of(m: &Move) -> Option<Family> {
    m.before.as_ref().or(m.after.as_ref()).map(|port| port.key.family)
}

fn entries(port: &Arc<ServicePort>) -> Vec<(Tree, Entry)> {
    service::entries(port)
        .into_iter()
        .map(|(tree, key, role)| (tree, Entry { key, role, port: port.clone() }))
        .collect()
}

/// Whether both sides have the same entries with the same rules. Beside key and role, an entry's rules depend on the
/// policies and source ranges (which chain it jumps to) and on whether there are endpoints anywhere (REJECT or DROP).
fn same_entries(m: &Move, before: &[(Tree, Entry)], after: &[(Tree, Entry)]) -> bool {
    let (Some(old), Some(new)) = (&m.before, &m.after) else { return false };
    old.internal_policy == new.internal_policy
        && old.has_any_endpoint == new.has_any_endpoint
        && old.source_ranges.is_empty() == new.source_ranges.is_empty()
        && before.len() == after.len()
        && before.iter().zip(after).all(|((ta, a), (tb, b))| ta == tb && a.key == b.key && a.role == b.role)
}

/// Notes a chain that differs.
fn record(
    changes: &mut Changes,
    family: Family,
    table: Table,
    name: ChainName,
    before: Option<Vec<Rule>>,
    after: Option<Vec<Rule>>,
) {
    let key = ChainKey { family, table, name };
    // Two moves of one batch can touch one chain only if they have chains of the same name: then the last one counts,
    // and what was there first was there before.
    let known = changes.chains.remove(&key);
    let before = match known {
        Some(known) => known.before,
        None => before.map(|rules| rules.into_iter().map(ObservedRule::from).collect()),
    };
    let change = ChainChange { before, after };
    if !change.is_nothing() {
        changes.chains.insert(key, change);
    }
}
