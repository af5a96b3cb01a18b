//! Any state to any state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::collection::btree_map;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::net::Protocol;
use crate::sim::SimSets;

/// Few, so that states have entries in common; with those that have a special text or none.
fn ip(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => prop_oneof![0x0a00_0001u32..0x0a00_0010, 1u32..5, Just(u32::MAX)]
            .prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits)))
            .boxed(),
        Family::V6 => prop_oneof![
            (0xfdu128 << 120)..(0xfdu128 << 120) + 16,
            1u128..5,
            (0xffff_0a00_0000u128..0xffff_0a00_0005),
            Just(0x0a00_0001u128),
            Just(u128::MAX)
        ]
        .prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits)))
        .boxed(),
    }
}

fn net(family: Family) -> impl Strategy<Value = IpNet> {
    let length = prop_oneof![1..=family.bits(), Just(family.bits())];
    (ip(family), length).prop_map(|(ip, length)| IpNet::new(ip, length).unwrap().trunc())
}

fn an_entry(set_type: SetType, family: Family) -> BoxedStrategy<Entry> {
    let protocol = || proptest::sample::select(&Protocol::ALL[..]);
    let port = || prop_oneof![Just(0u16), Just(53), Just(80), Just(u16::MAX)];
    match set_type {
        SetType::HashIp => ip(family).prop_map(Entry::Ip).boxed(),
        SetType::HashNet => net(family).prop_map(Entry::Net).boxed(),
        SetType::HashIpPort => (ip(family), protocol(), port()).prop_map(|(a, b, c)| Entry::IpPort(a, b, c)).boxed(),
        SetType::HashIpPortIp => {
            (ip(family), protocol(), port(), ip(family)).prop_map(|(a, b, c, d)| Entry::IpPortIp(a, b, c, d)).boxed()
        }
        SetType::HashIpPortNet => {
            (ip(family), protocol(), port(), net(family)).prop_map(|(a, b, c, d)| Entry::IpPortNet(a, b, c, d)).boxed()
        }
        SetType::BitmapPort => prop_oneof![0..10u16, 65_530..=u16::MAX].prop_map(Entry::Port).boxed(),
    }
}

fn set(set_type: SetType, family: Family) -> impl Strategy<Value = (SetSpec, Entries)> {
    any::<bool>().prop_flat_map(move |comments| {
        let comment = match comments {
            true => proptest::option::of("[a-z ,:']{1,20}|[a-z]{255}").prop_map(|text| text.map(Arc::from)).boxed(),
            false => Just(None).boxed(),
        };
        let entries = btree_map(an_entry(set_type, family), comment, 0..40);
        (Just(SetSpec { set_type, family, comments }), entries)
    })
}

/// Each of a dozen names is of one type and family for good.
fn wanted() -> impl Strategy<Value = Wanted> {
    let kinds = SetType::ALL.into_iter().flat_map(|set_type| Family::ALL.map(|family| (set_type, family)));
    let sets: Vec<_> = kinds
        .map(|(set_type, family)| {
            let six = if family == Family::V6 { "6-" } else { "" };
            let name = SetName::new(format!("KUBE-{six}{}", set_type.as_str().replace([':', ','], "-").to_uppercase()));
            proptest::option::of(set(set_type, family)).prop_map(move |set| set.map(|set| (name.clone(), set)))
        })
        .collect();
    sets.prop_map(|sets| sets.into_iter().flatten().collect())
}

/// The kernel, the tool and the simulated kernel see the same after each change.
#[test]
fn any_state_becomes_any_other() {
    beside_the_tool("any state", |driver| {
        let both = std::sync::Mutex::new((driver, SimSets::new()));
        let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&wanted(), |wanted| {
            let (driver, simulated) = &mut *both.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let changes = difference(&wanted, &observe(driver));
            assert_eq!(difference(&wanted, &observe(simulated)), changes);
            driver.apply(&changes).unwrap();
            simulated.apply(&changes).unwrap();
            let found = observe(driver);
            assert_holds(&found, &wanted, "netlink");
            assert_holds(&observe(simulated), &wanted, "simulated");
            assert_eq!(saved(), found, "the tool");
            assert!(difference(&wanted, &found).is_empty());
            // Once more, as from nowhere: nobody knows of any set.
            let anew = difference(&wanted, &BTreeMap::new());
            driver.apply(&anew).unwrap();
            simulated.apply(&anew).unwrap();
            assert_eq!(observe(driver), found, "once more");
            assert_eq!(observe(simulated), found, "once more, simulated");
            Ok(())
        });
        outcome.unwrap();
    });
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(wanted in wanted()) {
        let mut text = String::new();
        for (name, (spec, entries)) in &wanted {
            check(name, spec, entries).unwrap();
            push_set(&mut text, name, spec, entries);
        }
        let found = parse(&text).unwrap().into_iter().map(|set| (set.name.clone(), set)).collect();
        assert_holds(&found, &wanted, "text");
    }
}

/// The tool reads what is printed.
#[test]
fn what_is_printed_is_restored() {
    beside_the_tool("restore", |mut driver| {
        let mut runner = TestRunner::new(Config { cases: 8, failure_persistence: None, ..Config::default() });
        let driver = std::sync::Mutex::new(&mut driver);
        let outcome = runner.run(&wanted(), |wanted| {
            let mut text = String::new();
            wanted.iter().for_each(|(name, (spec, entries))| push_set(&mut text, name, spec, entries));
            ipset("destroy", "").unwrap();
            ipset("restore", &text).unwrap();
            assert_holds(&observe(&mut **driver.lock().unwrap()), &wanted, "restored");
            Ok(())
        });
        outcome.unwrap();
    });
}
