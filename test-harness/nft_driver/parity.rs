//! Whatever is written by netlink, the tools read as the same; and the other way round.

use std::collections::BTreeMap;

use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{BuiltinChange, ChainChange, ChainKey, ObservedRule, Rule, Table, Target, Xtables};
use weir::sim::SimKernel;

use crate::generate::{Random, World};
use crate::namespace::{alone, beside_the_tools, jump, nat, observe, written};

type Chains = BTreeMap<ChainKey, Vec<ObservedRule>>;

/// Names the first rule that differs: whole tables are too long to read.
fn same(left: &Chains, right: &Chains, what: &str) {
    assert!(left.keys().eq(right.keys()), "{what}: {:?} and {:?}", left.keys(), right.keys());
    for ((key, left), right) in left.iter().zip(right.values()) {
        assert_eq!(left.len(), right.len(), "{what}: rules of {key}");
        for (left, right) in left.iter().zip(right) {
            assert_eq!(left, right, "{what}: a rule of {key}");
        }
    }
}

/// Any state to any state, in turns by netlink and with the tools, each reading what the other wrote.
#[test]
fn random_changes_are_the_same_by_netlink_with_the_tools_and_in_the_simulated_kernel() {
    for seed in [42, 4711] {
        beside_the_tools("parity", |mut netlink, mut tools| {
            let mut simulated = SimKernel::new(Variant::Nft);
            let mut world = World::default();
            let mut random = Random(seed);
            for step in 0..60 {
                let changes = world.change(&mut random);
                let applied = if step % 3 == 2 { tools.apply(&changes) } else { netlink.apply(&changes) };
                applied.unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
                simulated.apply(&changes).unwrap();
                let seen = observe(&mut netlink);
                same(
                    &seen,
                    &observe(&mut tools),
                    &format!("seed {seed}, step {step}: netlink reads what the tools read"),
                );
                same(&seen, &observe(&mut simulated), &format!("seed {seed}, step {step}: as simulated"));
                world.assert_holds(&seen);
            }
            assert!(world.chains.len() > 10, "the generator made too little");
        });
    }
}

/// 30,000 rules in 2,500 chains come, change and go: several transactions.
#[test]
fn a_large_change_arrives_whole() {
    alone("large change", |mut driver| {
        let names: Vec<String> = (0..2_500).map(|i| format!("KUBE-SVC-{i:016}")).collect();
        let leaf = |i: u32| vec![Rule { target: Some(Target::Mark { value: i, mask: i }), ..Rule::default() }; 12];
        let mut chains: Vec<_> = names.iter().map(|name| (nat(name), leaf(1))).collect();
        chains.push((nat("KUBE-SERVICES"), names.iter().map(|name| jump(name)).collect()));
        let mut changes = written(chains);
        changes.builtin.push(BuiltinChange::Insert(nat("PREROUTING"), jump("KUBE-SERVICES")));
        driver.apply(&changes).unwrap();
        let seen = observe(&mut driver);
        assert_eq!(seen.len(), 2_502);
        assert_eq!(seen.values().map(Vec::len).sum::<usize>(), 2_500 * 12 + 2_500 + 1);
        assert!(driver.written().transactions >= 2, "{:?}", driver.written());

        // Again: nothing to do, and nothing is written.
        changes.builtin.clear();
        let before = driver.written();
        driver.apply(&changes).unwrap();
        assert_eq!(driver.written(), before);
        assert_eq!(observe(&mut driver), seen);

        for (key, change) in &mut changes.chains {
            *change = ChainChange { before: Some(seen[key].clone()), after: None };
        }
        changes.builtin = vec![BuiltinChange::Delete(nat("PREROUTING"), jump("KUBE-SERVICES"))];
        driver.apply(&changes).unwrap();
        assert_eq!(observe(&mut driver), BTreeMap::new());
    });
}

/// A look must not create a table.
#[test]
fn observing_leaves_an_empty_namespace_empty() {
    alone("observe nothing", |mut driver| {
        assert_eq!(observe(&mut driver), BTreeMap::new());
        assert_eq!(observe(&mut driver), BTreeMap::new());
        let names = [nat("PREROUTING").name, nat("KUBE-SERVICES").name].into();
        let mut visited = 0;
        driver.observe_chains(weir::net::Family::V4, Table::Nat, &names, &mut |_| visited += 1).unwrap();
        assert_eq!(visited, 0);
    });
}

/// Single chains are read as they are in the whole table.
#[test]
fn single_chains_are_those_of_the_table() {
    alone("single chains", |mut driver| {
        let mut world = World::default();
        let mut random = Random(7);
        for _ in 0..10 {
            driver.apply(&world.change(&mut random)).unwrap();
        }
        let all = observe(&mut driver);
        for (key, rules) in &all {
            let mut found = Vec::new();
            let names = [key.name.clone(), nat("KUBE-SVC-ABSENT").name].into();
            driver.observe_chains(key.family, key.table, &names, &mut |chain| found.push(chain)).unwrap();
            assert_eq!(found.len(), 1, "{key}");
            assert_eq!((&found[0].name, &found[0].rules), (&key.name, rules));
        }
    });
}
