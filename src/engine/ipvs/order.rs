//! The order across object families, written once.
//!
//! A packet must never meet a service half made, and what a service has must not go before its last packet:
//!
//! 1. sets, and entries that let packets through; then entries that refuse, before there is anything to reach
//! 2. the device, and the rules that are new: guards and masquerade before the first virtual server
//! 3. virtual servers and real servers that are new or change
//! 4. addresses: from now on packets come to the virtual servers
//! 5. rules that change. Where another mode served until now, its rules lead packets away from IPVS up to this point
//! 6. addresses that go, then virtual servers and real servers that go
//! 7. rules that go
//! 8. entries that refuse and are no longer right, then all others that go, and sets
//! 9. the device

use std::collections::BTreeMap;

use super::Kernel;
use crate::kernel::ipset::{SetChange, SetName, Sets};
use crate::kernel::ipvs::{Ipvs, RealServerChange, Refused, VirtualServerChange, VirtualServerKey};
use crate::kernel::link::Links;
use crate::kernel::xtables::{BuiltinChange, Xtables};
use crate::kernel::{ApplyError, ipset, ipvs, link, xtables};
use crate::net::Family;
use crate::plan::ipvs::{Difference, Set};

/// Applying failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub error: ApplyError,
    /// The virtual server that it is about, where there is one.
    pub server: Option<VirtualServerKey>,
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        Failure { error, server: None }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure { error: refused.error, server: refused.server }
    }
}

/// One step: changes of one object family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Sets(ipset::Changes),
    Links(link::Changes),
    Rules(xtables::Changes),
    Servers(ipvs::Changes),
}

impl Step {
    fn is_empty(&self) -> bool {
        match self {
            Step::Sets(changes) => changes.is_empty(),
            Step::Links(changes) => changes.is_empty(),
            Step::Rules(changes) => changes.is_empty(),
            Step::Servers(changes) => changes.is_empty(),
        }
    }
}

/// The difference in its order, without steps that have nothing to do.
pub fn steps(difference: &Difference) -> Vec<Step> {
    let [allowing, refusing, lifting, leaving] = split_sets(&difference.sets);
    let [new, changed, old] = split_rules(&difference.rules);
    let [coming, going] = split_servers(&difference.servers);
    let links = &difference.links;
    let all = [
        Step::Sets(allowing),
        Step::Sets(refusing),
        Step::Links(link::Changes { create: links.create, ..link::Changes::default() }),
        Step::Rules(new),
        Step::Servers(coming),
        Step::Links(link::Changes { add: links.add.clone(), ..link::Changes::default() }),
        Step::Rules(changed),
        Step::Links(link::Changes { remove: links.remove.clone(), ..link::Changes::default() }),
        Step::Servers(going),
        Step::Rules(old),
        Step::Sets(lifting),
        Step::Sets(leaving),
        Step::Links(link::Changes { delete: links.delete, ..link::Changes::default() }),
    ];
    all.into_iter().filter(|step| !step.is_empty()).collect()
}

/// Makes exactly this difference. A virtual server that is refused does not keep the others from being made; all else
/// that fails ends it, for what comes later relies on it.
pub(super) fn apply<X: Xtables, S: Sets, L: Links, V: Ipvs>(
    kernel: &mut Kernel<X, S, L, V>,
    difference: &Difference,
) -> Result<(), Failure> {
    let mut refused = Ok(());
    for step in steps(difference) {
        match step {
            Step::Sets(changes) => kernel.sets.apply(&changes)?,
            Step::Links(changes) => kernel.links.apply(&changes)?,
            Step::Rules(changes) => kernel.rules.apply(&changes)?,
            Step::Servers(changes) => {
                let applied = kernel.servers.apply(&changes);
                refused = refused.and(applied);
            }
        }
    }
    Ok(refused?)
}

/// Entries that come: those of sets that refuse after all others. Entries that go: the other way round, and sets last.
fn split_sets(changes: &ipset::Changes) -> [ipset::Changes; 4] {
    let mut parts: [ipset::Changes; 4] = Default::default();
    let [allowing, refusing, lifting, leaving] = &mut parts;
    for (name, change) in &changes.sets {
        let is_guard = is_guard(name);
        let coming = SetChange { remove: Default::default(), ..change.clone() };
        let spec = change.after.or(change.before);
        let going =
            SetChange { before: spec, after: change.after, add: Default::default(), remove: change.remove.clone() };
        if change.after.is_some() && !coming.is_nothing() {
            let part = if is_guard { &mut *refusing } else { &mut *allowing };
            part.sets.insert(name.clone(), coming);
        }
        if !going.is_nothing() {
            let part = if is_guard && change.after.is_some() { &mut *lifting } else { &mut *leaving };
            part.sets.insert(name.clone(), going);
        }
    }
    parts
}

fn is_guard(name: &SetName) -> bool {
    let guards = Set::ALL.into_iter().filter(|set| set.is_guard());
    guards.flat_map(|set| Family::ALL.map(|family| set.name(family))).any(|guard| guard == *name)
}

/// Rules that are new, with the jumps to them; chains that change; what goes.
fn split_rules(changes: &xtables::Changes) -> [xtables::Changes; 3] {
    let mut parts: [xtables::Changes; 3] = Default::default();
    let [new, changed, old] = &mut parts;
    for (key, change) in &changes.chains {
        let part = match (&change.before, &change.after) {
            (_, None) => &mut *old,
            (None, Some(_)) => &mut *new,
            // One that leads nowhere yet is as good as new.
            (Some(before), Some(_)) if before.is_empty() => &mut *new,
            (Some(_), Some(_)) => &mut *changed,
        };
        part.chains.insert(key.clone(), change.clone());
    }
    for change in &changes.builtin {
        let part = if matches!(change, BuiltinChange::Delete(..)) { &mut *old } else { &mut *new };
        part.builtin.push(change.clone());
    }
    parts
}

/// What comes or changes, and what goes.
fn split_servers(changes: &ipvs::Changes) -> [ipvs::Changes; 2] {
    let mut parts: [ipvs::Changes; 2] = Default::default();
    let [coming, going] = &mut parts;
    for (key, change) in &changes.servers {
        if change.after.is_none() {
            going.servers.insert(*key, change.clone());
            continue;
        }
        let (stay, go): (BTreeMap<_, RealServerChange>, BTreeMap<_, _>) =
            change.real_servers.iter().map(|(e, c)| (*e, *c)).partition(|(_, change)| change.after.is_some());
        if change.before != change.after || !stay.is_empty() {
            coming.servers.insert(*key, VirtualServerChange { real_servers: stay, ..change.clone() });
        }
        if !go.is_empty() {
            let change =
                VirtualServerChange { before: change.after.clone(), after: change.after.clone(), real_servers: go };
            going.servers.insert(*key, change);
        }
    }
    parts
}
