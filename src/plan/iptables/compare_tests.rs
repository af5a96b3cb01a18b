//! Comparing single chains.

use super::*;
use crate::kernel::xtables::ObservedRule;
use crate::model::{EndpointFlags, ModelEndpoint, ServicePortKey};
use crate::net::{Endpoint, ObjectName, Protocol, ServicePortName};
use crate::plan::build::{Build, rule};

const FAMILIES: [Family; 1] = [Family::V4];

/// So many services that their dispatch is a tree.
fn model() -> Vec<Arc<ServicePort>> {
    let flags = EndpointFlags::CLUSTER.with(EndpointFlags::READY).with(EndpointFlags::SERVING);
    (0..100u8)
        .map(|i| {
            let name = ServicePortName::new(ObjectName::new("ns", format!("svc{i:03}")), "http", Protocol::Tcp);
            Arc::new(ServicePort {
                node_port: 30000 + u16::from(i),
                endpoints: Box::new([ModelEndpoint::new(Endpoint::new([10, 244, 0, i].into(), 80), flags)]),
                has_any_endpoint: true,
                ..ServicePort::new(ServicePortKey { family: Family::V4, name }, [10, 96, i / 16, i].into(), 80)
            })
        })
        .collect()
}

struct Lab {
    settings: Arc<Settings>,
    model: Vec<Arc<ServicePort>>,
    planner: Planner,
    /// What the kernel holds.
    kernel: BTreeMap<ChainKey, ObservedChain>,
}

impl Lab {
    /// A kernel that holds what is wanted.
    fn new() -> Lab {
        let (settings, model) = (Arc::new(Settings::default()), model());
        let (desired, planner) = Desired::plan(&settings, &FAMILIES, &model);
        let mut kernel = BTreeMap::new();
        let mut put = |key: &ChainKey, builtin: bool, rules: Vec<ObservedRule>| {
            let empty = ObservedChain { name: key.name.clone(), builtin, rules: Vec::new() };
            kernel.entry(key.clone()).or_insert(empty).rules.extend(rules);
        };
        for (key, rules) in desired.chains() {
            put(key, false, rules.iter().cloned().map(ObservedRule::from).collect());
        }
        for rule in desired.builtin() {
            put(&rule.chain, rule.chain.name.as_str() != names::FIREWALL, vec![rule.rule.clone().into()]);
        }
        Lab { settings, model, planner, kernel }
    }

    fn compare(&self, names: &[ChainKey]) -> Changes {
        let names: BTreeSet<ChainKey> = names.iter().cloned().collect();
        let mut comparison =
            Desired::plan_named(&self.settings, &FAMILIES, &self.planner, &self.model, &names).compare();
        for (key, chain) in self.kernel.iter().filter(|(key, _)| names.contains(key)) {
            comparison.observed(key.family, key.table, chain.clone());
        }
        comparison.finish()
    }

    fn chain(&mut self, key: &ChainKey) -> &mut ObservedChain {
        self.kernel.get_mut(key).unwrap()
    }
}

fn key(table: Table, name: &str) -> ChainKey {
    ChainKey { family: Family::V4, table, name: ChainName::new(name) }
}

fn nat(name: &str) -> ChainKey {
    key(Table::Nat, name)
}

#[test]
fn what_is_as_wanted_differs_in_nothing() {
    let lab = Lab::new();
    let all: Vec<ChainKey> = lab.kernel.keys().cloned().collect();
    assert!(all.len() > 300, "{}", all.len());
    assert!(lab.compare(&all).is_empty());
    for key in &all {
        let changes = lab.compare(std::slice::from_ref(key));
        assert!(changes.is_empty(), "{key}: {changes:?}");
    }
    assert!(lab.compare(&[]).is_empty());
    assert!(lab.compare(&[nat("KUBE-SVC-NOBODYSNOBODYSNO"), nat("KUBE-SEP-X"), nat("OTHER")]).is_empty());
}

#[test]
fn each_kind_of_chain_is_repaired_alone() {
    let whole = Lab::new();
    let with = |start: &str| whole.kernel.keys().find(|key| key.name.as_str().starts_with(start)).unwrap().clone();
    for broken in [
        with("KUBE-SVC-s-"),
        with("KUBE-SVC-n-"),
        nat("KUBE-SERVICES"),
        nat("KUBE-POSTROUTING"),
        key(Table::Filter, "KUBE-FORWARD"),
        with("KUBE-EXT-"),
        with("KUBE-SEP-"),
    ] {
        let mut lab = Lab::new();
        let held = lab.chain(&broken).rules.pop().unwrap();
        let changes = lab.compare(std::slice::from_ref(&broken));
        assert_eq!(changes.chains.keys().collect::<Vec<_>>(), [&broken]);
        assert_eq!(
            changes.chains[&broken].after.as_ref().and_then(|rules| rules.last()),
            match &held {
                ObservedRule::Known(rule) => Some(rule),
                ObservedRule::Verbatim(_) => None,
            }
        );
        // Gone altogether.
        lab.kernel.remove(&broken);
        let changes = lab.compare(std::slice::from_ref(&broken));
        assert!(changes.chains[&broken].before.is_none() && changes.builtin.is_empty());
        // Somebody else's is none of ours to look at.
        assert!(lab.compare(&[nat("OTHER")]).is_empty());
    }
}

#[test]
fn what_nobody_wants_goes() {
    let mut lab = Lab::new();
    for name in ["KUBE-SVC-STALESTALESTALES", "KUBE-SEP-STALESTALESTALES", "KUBE-SVC-s-0fff", "KUBE-OTHER"] {
        let chain = ObservedChain { name: ChainName::new(name), builtin: false, rules: Vec::new() };
        lab.kernel.insert(nat(name), chain);
        let changes = lab.compare(&[nat(name)]);
        let goes = changes.chains.get(&nat(name)).is_some_and(|change| change.after.is_none());
        assert_eq!(goes, name != "KUBE-OTHER", "{name}");
    }
}

#[test]
fn a_missing_jump_is_inserted_where_it_was_asked_for() {
    let mut lab = Lab::new();
    lab.chain(&nat("OUTPUT")).rules.clear();
    let input = key(Table::Filter, "INPUT");
    lab.chain(&input).rules.clear();
    assert!(lab.compare(&[nat("PREROUTING")]).is_empty());
    let changes = lab.compare(&[nat("OUTPUT")]);
    assert!(matches!(&changes.builtin[..], [BuiltinChange::Insert(chain, _)] if *chain == nat("OUTPUT")));
    // The shared chain was not asked for: it is there, as far as anyone knows.
    let creates = |changes: &Changes| changes.builtin.iter().any(|c| matches!(c, BuiltinChange::CreateChain(_)));
    let changes = lab.compare(std::slice::from_ref(&input));
    assert!(changes.builtin.len() == 4 && !creates(&changes), "{changes:?}");
    let shared = key(Table::Filter, names::FIREWALL);
    assert!(!creates(&lab.compare(&[input.clone(), shared.clone()])));
    lab.kernel.remove(&shared);
    let changes = lab.compare(&[input, shared]);
    assert!(changes.builtin.len() == 6 && creates(&changes), "{changes:?}");
}

/// Both modes have a chain `KUBE-PROXY-FIREWALL`, and lead to it by other rules (contract 3.6, 4.5).
#[test]
fn jumps_of_ipvs_mode_go_and_those_of_others_stay() {
    let mut lab = Lab::new();
    let input = key(Table::Filter, "INPUT");
    let jump = |comment: &str| {
        let rules = ipvs::builtin_rules(&lab.settings, Family::V4);
        let of_input =
            rules.into_iter().find(|rule| rule.chain == input && format!("{:?}", rule.rule).contains(comment));
        of_input.unwrap().rule
    };
    let (obsolete, same) = (jump("kube-proxy firewall rules"), rule().jump(ChainName::new("KUBE-FORWARD")));
    lab.chain(&input).rules.extend([obsolete.clone().into(), same.into()]);
    let changes = lab.compare(std::slice::from_ref(&input));
    assert_eq!(changes.builtin, [BuiltinChange::Delete(input, obsolete)]);
    assert!(changes.chains.is_empty());
}
