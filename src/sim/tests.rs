use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{
    ApplyErrorKind, BuiltinChange, ChainChange, ChainKey, ChainName, Changes, Match, ObservedRule, Rule, Table, Target,
    Xtables,
};
use crate::net::Family::{self, V4};

fn key(table: Table, name: &str) -> ChainKey {
    ChainKey { family: V4, table, name: ChainName::new(name) }
}

fn jump(name: &str) -> Rule {
    Rule { target: Some(Target::Jump(ChainName::new(name))), ..Rule::default() }
}

fn comment(text: &str) -> Rule {
    Rule { matches: vec![Match::Comment(text.into())], ..Rule::default() }
}

fn fill(chains: &[(Table, &str, Vec<Rule>)]) -> Changes {
    let change = |rules: &Vec<Rule>| ChainChange { before: None, after: Some(rules.clone()) };
    let chains = chains.iter().map(|(table, name, rules)| (key(*table, name), change(rules)));
    Changes { chains: chains.collect(), builtin: Vec::new() }
}

fn rules(kernel: &SimKernel, table: Table, name: &str) -> Option<Vec<ObservedRule>> {
    kernel.chains(V4, table).remove(&ChainName::new(name))
}

/// Services that jump to a chain, with the jump from PREROUTING.
fn served() -> SimKernel {
    let mut kernel = SimKernel::new(Variant::Nft);
    let mut changes = fill(&[
        (Table::Nat, "KUBE-SERVICES", vec![jump("KUBE-SVC-A")]),
        (Table::Nat, "KUBE-SVC-A", vec![comment("a")]),
    ]);
    changes.builtin.push(BuiltinChange::Insert(key(Table::Nat, "PREROUTING"), jump("KUBE-SERVICES")));
    kernel.apply(&changes).unwrap();
    kernel
}

#[test]
fn what_is_applied_is_observed() {
    let mut kernel = served();
    let mut seen = BTreeMap::new();
    kernel.observe(V4, Table::Nat, &mut |chain| drop(seen.insert(chain.name.to_string(), chain))).unwrap();
    assert_eq!(seen.len(), 6);
    assert!(seen["PREROUTING"].builtin && !seen["KUBE-SERVICES"].builtin);
    assert_eq!(seen["PREROUTING"].rules, [jump("KUBE-SERVICES")]);
    assert_eq!(seen["KUBE-SERVICES"].rules, [jump("KUBE-SVC-A")]);
    assert!(kernel.chains(V4, Table::Filter).is_empty() && kernel.chains(Family::V6, Table::Nat).is_empty());
    assert_eq!(kernel.commits(), 1);
}

#[test]
fn a_chain_in_use_cannot_be_deleted_and_nothing_of_the_commit_stays() {
    let mut kernel = served();
    let before = kernel.chains(V4, Table::Nat);
    let mut changes = fill(&[(Table::Nat, "KUBE-SVC-B", vec![comment("b")])]);
    changes.chains.insert(key(Table::Nat, "KUBE-SVC-A"), ChainChange { before: Some(vec![]), after: None });
    let error = kernel.apply(&changes).unwrap_err();
    assert_eq!((error.kind, error.chain), (ApplyErrorKind::Refused, Some(key(Table::Nat, "KUBE-SVC-A"))));
    assert_eq!(kernel.chains(V4, Table::Nat), before);
    // Nor does a counter of references go astray when a COMMIT is taken back.
    kernel.apply(&fill(&[(Table::Nat, "KUBE-SERVICES", vec![])])).unwrap();
    changes.chains.remove(&key(Table::Nat, "KUBE-SVC-B"));
    kernel.apply(&changes).unwrap();
    assert_eq!(rules(&kernel, Table::Nat, "KUBE-SVC-A"), None);
}

#[test]
fn loops_are_refused() {
    let mut kernel = served();
    let error = kernel.apply(&fill(&[(Table::Nat, "KUBE-SVC-A", vec![jump("KUBE-SERVICES")])])).unwrap_err();
    assert_eq!(error.kind, ApplyErrorKind::Refused);
    assert_eq!(rules(&kernel, Table::Nat, "KUBE-SVC-A"), Some(vec![comment("a").into()]));
}

#[test]
fn an_error_stops_the_rest_and_keeps_what_came_before() {
    let mut kernel = SimKernel::new(Variant::Legacy);
    kernel.refuse_if(|rule| rule.matches.iter().any(|item| matches!(item, Match::Comment(text) if &**text == "bad")));
    let changes = fill(&[
        (Table::Mangle, "KUBE-PROXY-CANARY", vec![]),
        (Table::Filter, "KUBE-SERVICES", vec![comment("bad")]),
        (Table::Nat, "KUBE-SERVICES", vec![comment("good")]),
    ]);
    let error = kernel.apply(&changes).unwrap_err();
    assert_eq!((error.kind, error.chain), (ApplyErrorKind::Refused, None), "legacy names no chain");
    assert!(rules(&kernel, Table::Mangle, "KUBE-PROXY-CANARY").is_some());
    assert!(rules(&kernel, Table::Filter, "KUBE-SERVICES").is_none() && kernel.chains(V4, Table::Nat).is_empty());
    kernel.refuse_none();
    kernel.apply(&changes).unwrap();
    assert_eq!(rules(&kernel, Table::Nat, "KUBE-SERVICES"), Some(vec![comment("good").into()]));
}

#[test]
fn faults_come_from_the_seed() {
    let outcomes = |seed| {
        let mut kernel = SimKernel::new(Variant::Nft);
        kernel.set_faults(Faults { seed, busy: 0.3, refused: 0.1, partial: 0.2 });
        let changes = fill(&[(Table::Mangle, "KUBE-PROXY-CANARY", vec![]), (Table::Nat, "KUBE-SERVICES", vec![])]);
        let mut apply = || kernel.apply(&changes).err().map(|error| error.kind);
        (0..200).map(|_| apply()).collect::<Vec<_>>()
    };
    let found = outcomes(1);
    assert_eq!(found, outcomes(1));
    assert_ne!(found, outcomes(2));
    for kind in [None, Some(ApplyErrorKind::Busy), Some(ApplyErrorKind::Refused)] {
        assert!(found.contains(&kind), "{kind:?}");
    }
}

#[test]
fn a_partial_apply_leaves_the_first_commit() {
    let mut kernel = SimKernel::new(Variant::Nft);
    kernel.set_faults(Faults { partial: 1.0, ..Faults::default() });
    let changes = fill(&[(Table::Mangle, "KUBE-PROXY-CANARY", vec![]), (Table::Nat, "KUBE-SERVICES", vec![])]);
    assert_eq!(kernel.apply(&changes).unwrap_err().kind, ApplyErrorKind::Busy);
    assert!(rules(&kernel, Table::Mangle, "KUBE-PROXY-CANARY").is_some());
    assert!(rules(&kernel, Table::Nat, "KUBE-SERVICES").is_none());
    kernel.set_faults(Faults { busy: 1.0, ..Faults::default() });
    assert!(kernel.observe(V4, Table::Nat, &mut |_| ()).is_err());
}

#[test]
fn others_edit_as_they_like() {
    let kernel = Arc::new(Mutex::new(served()));
    let mut handle = kernel.clone();
    kernel.lock().unwrap().refuse_if(|_| true);
    let foreign = "*nat\n-A POSTROUTING -s 10.0.0.0/8 -j SNAT --to-source 192.0.2.1\nCOMMIT\n";
    kernel.lock().unwrap().edit(V4, foreign).unwrap();
    let text = "-s 10.0.0.0/8 -j SNAT --to-source 192.0.2.1";
    let mut found = Vec::new();
    handle.observe(V4, Table::Nat, &mut |chain| found.extend(chain.rules)).unwrap();
    assert!(found.contains(&ObservedRule::Verbatim(text.into())));

    let mut kernel = kernel.lock().unwrap();
    assert!(kernel.edit(V4, "*nat\n-X KUBE-SVC-A\nCOMMIT\n").unwrap_err().contains("Directory not empty"));
    assert!(kernel.edit(V4, "*nat\n:X - [0:0]\n").unwrap_err().contains("COMMIT expected"));
    assert_eq!(kernel.remove_rule(V4, Table::Nat, "PREROUTING", 1), None);
    assert_eq!(kernel.remove_rule(V4, Table::Nat, "PREROUTING", 0), Some(jump("KUBE-SERVICES").into()));
    assert!(kernel.remove_chain(V4, Table::Nat, "KUBE-SVC-A"));
    assert!(!kernel.remove_chain(V4, Table::Nat, "KUBE-SVC-A"));
    assert_eq!(rules(&kernel, Table::Nat, "KUBE-SERVICES"), Some(vec![]));
    kernel.flush_table(V4, Table::Nat);
    assert_eq!(rules(&kernel, Table::Nat, "KUBE-SERVICES"), None);
    assert_eq!(rules(&kernel, Table::Nat, "POSTROUTING"), Some(vec![]));
}
