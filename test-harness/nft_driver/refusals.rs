//! What the kernel refuses is told by what to do about it, with the chain.

use weir::kernel::xtables::{ApplyErrorKind, BuiltinChange, Changes, Match, Rule, Table, Target, Xtables};

use crate::namespace::{alone, jump, key, nat, note, tool, written};

#[test]
fn a_rule_that_names_what_is_not_there_is_told_with_its_chain() {
    alone("nfacct", |mut driver| {
        let rule = Rule { matches: vec![Match::Nfacct("absent".into())], ..Rule::default() };
        let forward = key(Table::Filter, "KUBE-FORWARD");
        let error = driver.apply(&written(vec![(forward.clone(), vec![rule])])).unwrap_err();
        assert_eq!((error.kind, &error.chain), (ApplyErrorKind::Refused, &Some(forward)), "{error}");
        assert!(error.message.contains("KUBE-FORWARD") && error.message.contains("remedy"), "{error}");
    });
}

#[test]
fn a_target_of_another_table_is_refused() {
    alone("table", |mut driver| {
        let reject = Rule { target: Some(Target::Reject), ..Rule::default() };
        let mut changes = written(vec![(nat("KUBE-SVC-A"), vec![reject])]);
        changes.builtin.push(BuiltinChange::Insert(nat("OUTPUT"), jump("KUBE-SVC-A")));
        let error = driver.apply(&changes).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Refused, "{error}");
    });
}

/// Chains that are nested deeper than the kernel follows.
#[test]
fn chains_too_deep_are_refused_and_nothing_stays() {
    alone("depth", |mut driver| {
        let name = |i: u32| format!("KUBE-SVC-{i:016}");
        let mut chains: Vec<_> = (0..20).map(|i| (nat(&name(i)), vec![jump(&name(i + 1))])).collect();
        chains.push((nat(&name(20)), vec![note("end")]));
        let mut changes = written(chains);
        changes.builtin.push(BuiltinChange::Insert(nat("OUTPUT"), jump(&name(0))));
        let error = driver.apply(&changes).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Refused, "{error}");
        assert!(error.message.contains("nested deeper"), "{error}");
    });
}

#[test]
fn a_built_in_chain_on_another_hook_is_told_with_the_remedy() {
    if std::process::Command::new("nft").arg("--version").output().is_err() {
        return weir::lab::skipped("another hook: nft is not installed");
    }
    alone("another hook", |mut driver| {
        tool("nft", &["-f", "-"], "add table ip nat\nadd chain ip nat OUTPUT { type nat hook output priority 7; }\n");
        let changes = Changes { builtin: vec![BuiltinChange::Insert(nat("OUTPUT"), note("x"))], ..Changes::default() };
        let error = driver.apply(&changes).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Refused);
        assert!(error.message.contains("another hook or priority"), "{error}");
    });
}

/// A policy that an admin has set stays.
#[test]
fn a_policy_of_drop_stays() {
    if std::process::Command::new("iptables-nft").arg("--version").output().is_err() {
        return weir::lab::skipped("policy: iptables-nft is not installed");
    }
    alone("policy", |mut driver| {
        tool("iptables-nft", &["-P", "FORWARD", "DROP"], "");
        let changes = Changes {
            builtin: vec![BuiltinChange::Insert(key(Table::Filter, "FORWARD"), note("x"))],
            ..Changes::default()
        };
        driver.apply(&changes).unwrap();
        let saved = tool("iptables-nft-save", &["-t", "filter"], "");
        assert!(saved.contains(":FORWARD DROP") && saved.contains("-A FORWARD -m comment --comment x"), "{saved}");
    });
}
