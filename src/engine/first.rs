//! What comes before everything else where nothing leads to services: DNS, and the API server's own service. Whoever
//! waits for the others needs them.
//!
//! At a cold start, and when somebody flushed the tables, a repair is made in two stages: the base with these services,
//! as small a change as can be, and then the rest. In the first stage nothing is taken away, and a chain that leads to
//! many services and is there is not written whole but added to ([`Kept`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::kept::Kept;
use crate::kernel::xtables::ownership::SHARED_FIREWALL;
use crate::kernel::xtables::{
    BuiltinChange, ChainChange, ChainKey, Changes, ObservedChain, ObservedRule, Rule, Table, Target,
};
use crate::model::{ServicePort, Settings};
use crate::net::Family;
use crate::plan::iptables::{Comparison, Desired, is_dispatch_chain};

/// Whether others cannot do without this service port: `default/kubernetes`, and DNS in `kube-system`, told by the names
/// that its ports have everywhere (`dns`, `dns-tcp`) or by port 53.
pub(super) fn comes_first(port: &ServicePort) -> bool {
    let name = &port.key.name;
    match (&*name.service.namespace, &*name.service.name) {
        ("default", "kubernetes") => true,
        ("kube-system", _) => port.port == 53 || matches!(&*name.port, "dns" | "dns-tcp"),
        _ => false,
    }
}

/// The first stage, while the kernel is looked at.
pub(super) struct First {
    comparison: Comparison,
    wanted: BTreeSet<ChainKey>,
    kept: Kept,
}

impl First {
    /// Plans it; `None` if none of these service ports comes first.
    pub(super) fn plan(settings: &Arc<Settings>, families: &[Family], model: &[Arc<ServicePort>]) -> Option<First> {
        let ports: Vec<_> = model.iter().filter(|port| comes_first(port)).cloned().collect();
        if ports.is_empty() {
            return None;
        }
        let (desired, _) = Desired::plan(settings, families, &ports);
        let wanted = desired.chains().keys().cloned().collect();
        Some(First { comparison: desired.compare(), wanted, kept: Kept::default() })
    }

    /// Shows a chain that the kernel holds. Chains that this stage does not write are none of its business.
    pub(super) fn observed(&mut self, family: Family, table: Table, chain: &ObservedChain) {
        let key = ChainKey { family, table, name: chain.name.clone() };
        let wanted = self.wanted.contains(&key);
        if wanted {
            self.kept.note(family, table, chain);
        }
        if wanted || chain.builtin || chain.name.as_str() == SHARED_FIREWALL {
            self.comparison.observed(family, table, chain.clone());
        }
    }

    /// What is to be done first; `None` if there are ways to services already: then all changes are one.
    pub(super) fn finish(self) -> Option<FirstStage> {
        let mut changes = self.comparison.finish();
        if !is_cut_off(&changes) {
            return None;
        }
        self.kept.keep(&mut changes);
        Some(FirstStage { changes, kept: self.kept })
    }
}

/// Whether packets find no way to services: the chain where all ways begin is not there, or no rule leads to it.
fn is_cut_off(changes: &Changes) -> bool {
    let missing = |(key, change): (&ChainKey, &ChainChange)| {
        key.table == Table::Nat && is_dispatch_chain(key.name.as_str()) && change.before.is_none()
    };
    let jump_missing = |change: &BuiltinChange| match change {
        BuiltinChange::Insert(chain, Rule { target: Some(Target::Jump(to)), .. }) => {
            chain.table == Table::Nat && is_dispatch_chain(to.as_str())
        }
        _ => false,
    };
    changes.chains.iter().any(missing) || changes.builtin.iter().any(jump_missing)
}

/// The first stage as it is applied.
pub(super) struct FirstStage {
    changes: Changes,
    kept: Kept,
}

impl FirstStage {
    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What is left of all changes when this stage is in force.
    pub(super) fn rest(self, mut whole: Changes) -> Changes {
        for (key, done) in self.changes.chains {
            let now: Option<Vec<ObservedRule>> = done.after.map(observed);
            match whole.chains.get_mut(&key) {
                Some(change) => change.before = now,
                // It was right before, or not wanted and not there.
                None => {
                    let after = done.before.as_deref().map(known);
                    whole.chains.insert(key, ChainChange { before: now, after });
                }
            }
        }
        for done in self.changes.builtin {
            match done {
                BuiltinChange::Insert(key, rule) if self.kept.held(&key).is_some() => {
                    let was = || self.kept.held(&key).unwrap_or_default().to_vec();
                    let right = || ChainChange { before: Some(was()), after: Some(known(&was())) };
                    let change = whole.chains.entry(key.clone()).or_insert_with(right);
                    change.before.get_or_insert_default().insert(0, rule.into());
                }
                done => {
                    if let Some(at) = whole.builtin.iter().position(|change| *change == done) {
                        whole.builtin.remove(at);
                    }
                }
            }
        }
        whole.chains.retain(|_, change| !change.is_nothing());
        whole
    }
}

fn observed(rules: Vec<Rule>) -> Vec<ObservedRule> {
    rules.into_iter().map(ObservedRule::from).collect()
}

/// The rules of a chain that is as it was planned: all of them are known.
fn known(rules: &[ObservedRule]) -> Vec<Rule> {
    rules.iter().filter_map(ObservedRule::known).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::value;
    use crate::model::ServicePortKey;
    use crate::net::{ObjectName, Protocol, ServicePortName};

    fn port(family: Family, namespace: &str, name: &str, port_name: &str, number: u16) -> ServicePort {
        let name = ServicePortName::new(ObjectName::new(namespace, name), port_name, Protocol::Udp);
        ServicePort { key: ServicePortKey { family, name }, port: number, ..(*value(0, 1)).clone() }
    }

    #[test]
    fn dns_and_the_api_server_come_first() {
        let table = [
            ("default", "kubernetes", "https", 443, true),
            ("default", "kubernetes", "other", 1, true),
            ("kube-system", "kube-dns", "dns", 53, true),
            ("kube-system", "kube-dns", "dns-tcp", 53, true),
            ("kube-system", "coredns", "udp-53", 53, true),
            ("kube-system", "node-local", "dns", 5353, true),
            ("kube-system", "kube-dns", "metrics", 9153, false),
            ("kube-system", "metrics-server", "https", 443, false),
            ("default", "dns", "dns", 53, false),
            ("other", "kubernetes", "https", 443, false),
        ];
        for family in Family::ALL {
            for (namespace, name, port_name, number, first) in table {
                let found = comes_first(&port(family, namespace, name, port_name, number));
                assert_eq!(found, first, "{namespace}/{name}:{port_name} {number}");
            }
        }
    }
}
