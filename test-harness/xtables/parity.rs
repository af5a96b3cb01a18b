//! The same changes through the real tools and through the simulated kernel leave the same chains.

use std::collections::BTreeMap;

use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::{
    ApplyErrorKind, BuiltinChange, ChainChange, ChainKey, ChainName, Changes, Match, ObservedRule, Rule, Table, Target,
    Xtables,
};
use weir::net::Family;
use weir::sim::SimKernel;

use crate::generate::{Random, World};
use crate::namespace::with_each_variant;

/// All chains but empty built-in ones, which a table may have or not.
pub fn observe(kernel: &mut dyn Xtables) -> BTreeMap<ChainKey, Vec<ObservedRule>> {
    let mut found = BTreeMap::new();
    for family in Family::ALL {
        for table in Table::ALL {
            kernel
                .observe(family, table, &mut |chain| {
                    if !chain.builtin || !chain.rules.is_empty() {
                        found.insert(ChainKey { family, table, name: chain.name }, chain.rules);
                    }
                })
                .unwrap();
        }
    }
    found
}

fn both_families(driver: &RestoreDriver, what: &str) -> bool {
    let enough = driver.tools().families() == Family::ALL;
    if !enough {
        eprintln!("SKIPPED: {what}: {:?}", driver.tools().binaries);
    }
    enough
}

#[test]
fn random_changes_do_the_same_to_the_real_and_the_simulated_kernel() {
    with_each_variant("parity", |variant, mut real| {
        if !both_families(&real, "parity") {
            return;
        }
        let mut simulated = SimKernel::new(variant);
        let mut world = World::default();
        let mut random = Random(42);
        for step in 0..40 {
            let changes = world.change(&mut random);
            real.apply(&changes).unwrap_or_else(|error| panic!("{variant}, step {step}: {error}"));
            simulated.apply(&changes).unwrap_or_else(|error| panic!("{variant}, step {step}, simulated: {error}"));
            let seen = observe(&mut real);
            assert_eq!(observe(&mut simulated), seen, "{variant}, step {step}");
            world.assert_holds(&seen);
        }
        assert!(world.chains.len() > 10, "the generator made too little");
    });
}

fn key(table: Table, name: &str) -> ChainKey {
    ChainKey { family: Family::V4, table, name: ChainName::new(name) }
}

fn jump(name: &str) -> Rule {
    Rule { target: Some(Target::Jump(ChainName::new(name))), ..Rule::default() }
}

fn written(chains: Vec<(ChainKey, Vec<Rule>)>) -> Changes {
    let change = |rules| ChainChange { before: None, after: Some(rules) };
    Changes { chains: chains.into_iter().map(|(key, rules)| (key, change(rules))).collect(), builtin: Vec::new() }
}

/// 2,500 chains come and go; through nft that takes several COMMITs.
#[test]
fn a_large_change_arrives_whole() {
    with_each_variant("large change", |variant, mut driver| {
        let names: Vec<String> = (0..2_500).map(|i| format!("KUBE-SVC-{i:016}")).collect();
        let leaf = Rule { target: Some(Target::Return), ..Rule::default() };
        let mut chains: Vec<_> = names.iter().map(|name| (key(Table::Nat, name), vec![leaf.clone()])).collect();
        chains.push((key(Table::Nat, "KUBE-SERVICES"), names.iter().map(|name| jump(name)).collect()));
        let mut changes = written(chains);
        changes.builtin.push(BuiltinChange::Insert(key(Table::Nat, "PREROUTING"), jump("KUBE-SERVICES")));
        driver.apply(&changes).unwrap();
        let seen = observe(&mut driver);
        assert_eq!(seen.len(), 2_502, "{variant}");
        assert_eq!(seen[&key(Table::Nat, "KUBE-SERVICES")].len(), 2_500);

        for (key, change) in &mut changes.chains {
            *change = ChainChange { before: Some(seen[key].clone()), after: None };
        }
        changes.builtin = vec![BuiltinChange::Delete(key(Table::Nat, "PREROUTING"), jump("KUBE-SERVICES"))];
        driver.apply(&changes).unwrap();
        assert_eq!(observe(&mut driver), BTreeMap::new(), "{variant}");
    });
}

/// The refusals that tests rely on are those of the real tools: same kind, and the chain where the tool names it.
#[test]
fn refusals_are_the_same_in_the_real_and_the_simulated_kernel() {
    let services = || key(Table::Nat, "KUBE-SERVICES");
    let reject = Rule { target: Some(Target::Reject), ..Rule::default() };
    let builtin = |change| Changes { builtin: vec![change], ..Changes::default() };
    let input = || key(Table::Filter, "INPUT");
    let cases = [
        ("unknown target", written(vec![(services(), vec![jump("NOPE")])])),
        ("target of another table", written(vec![(services(), vec![Rule::default(), reject])])),
        ("no such rule", builtin(BuiltinChange::Delete(input(), jump("KUBE-FIREWALL")))),
        ("no such chain", builtin(BuiltinChange::Insert(key(Table::Filter, "NOPE"), Rule::default()))),
    ];
    with_each_variant("refusals", |variant, mut real| {
        let mut simulated = SimKernel::new(variant);
        let create = builtin(BuiltinChange::CreateChain(key(Table::Filter, "KUBE-FIREWALL")));
        real.apply(&create).unwrap();
        simulated.apply(&create).unwrap();
        for (what, changes) in cases.iter().chain([&("chain exists", create)]) {
            let before = observe(&mut real);
            let expected = real.apply(changes).unwrap_err();
            let found = simulated.apply(changes).unwrap_err();
            assert_eq!((found.kind, &found.chain), (expected.kind, &expected.chain), "{variant} {what}: {expected}");
            assert_eq!(observe(&mut real), before, "{variant} {what}");
            assert_eq!(observe(&mut simulated), before, "{variant} {what}");
        }
    });
}

/// A rule that only the kernel can refuse: the counter that it names does not exist.
#[test]
fn a_rule_that_the_kernel_refuses_is_named_where_the_tool_names_it() {
    with_each_variant("kernel refusal", |variant, mut driver| {
        let rule = Rule { matches: vec![Match::Nfacct("absent".into())], ..Rule::default() };
        let forward = key(Table::Filter, "KUBE-FORWARD");
        let mut simulated = SimKernel::new(variant);
        simulated.refuse_if(|rule| rule.matches.iter().any(|item| matches!(item, Match::Nfacct(_))));
        let changes = written(vec![(forward.clone(), vec![rule])]);
        let error = driver.apply(&changes).unwrap_err();
        let expected = (variant == weir::kernel::xtables::variant::Variant::Nft).then_some(forward);
        assert_eq!((error.kind, &error.chain), (ApplyErrorKind::Refused, &expected), "{error}");
        let found = simulated.apply(&changes).unwrap_err();
        assert_eq!((found.kind, found.chain), (error.kind, error.chain));
    });
}

/// A look must not create a table.
#[test]
fn observing_leaves_an_empty_namespace_empty() {
    with_each_variant("observe nothing", |variant, mut driver| {
        assert_eq!(observe(&mut driver), BTreeMap::new());
        if variant == weir::kernel::xtables::variant::Variant::Legacy {
            let names = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
            assert_eq!(names, "");
        }
    });
}
