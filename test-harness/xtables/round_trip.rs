//! What is written through the real tools is read back as the same values.

use std::process::Command;

use weir::kernel::ipset::SetName;
use weir::kernel::xtables::encode::ONE;
use weir::kernel::xtables::{
    ApplyErrorKind, ChainChange, ChainKey, ChainName, Changes, Direction, Match, ObservedRule, Rule, Table, Xtables,
};
use weir::net::Family;

use crate::generate::Random;
use crate::namespace::with_each_variant;
use crate::parity::observe;

fn write_and_read(driver: &mut dyn Xtables, family: Family, rules: &[Rule]) -> Vec<ObservedRule> {
    let key = ChainKey { family, table: Table::Nat, name: ChainName::new("KUBE-SVC-ALL") };
    let change = ChainChange { before: None, after: Some(rules.to_vec()) };
    driver.apply(&Changes { chains: [(key.clone(), change)].into(), builtin: Vec::new() }).unwrap();
    observe(driver).remove(&key).unwrap()
}

/// The text of a probability reads as exactly the same 32 bits in the kernel: the smallest and the greatest, 1/N for
/// every N that a service of 2,000 endpoints has, and random ones.
#[test]
fn j6_probabilities_are_stored_exactly() {
    let mut values: Vec<u32> = vec![0, 1, 2, 3, ONE - 2, ONE - 1, ONE, ONE / 2, ONE / 2 + 1];
    values.extend((2..2_000u32).map(|n| (f64::from(ONE) / f64::from(n)).round() as u32));
    let mut random = Random(1);
    values.extend((0..2_000).map(|_| random.next() as u32 % ONE));
    let rule = |probability| Rule { matches: vec![Match::Random { probability }], ..Rule::default() };
    let rules: Vec<Rule> = values.into_iter().map(rule).collect();
    with_each_variant("probabilities", |variant, mut driver| {
        assert!(write_and_read(&mut driver, Family::V4, &rules) == rules, "{variant}");
    });
}

#[test]
fn rules_of_every_shape_come_back() {
    with_each_variant("rule shapes", |variant, mut driver| {
        for family in driver.tools().families() {
            let mut random = Random(2);
            let rules: Vec<Rule> = (0..2_000).map(|_| random.rule(family, Table::Nat, &[])).collect();
            let seen = write_and_read(&mut driver, family, &rules);
            assert_eq!(seen.len(), rules.len());
            for (seen, rule) in seen.iter().zip(&rules) {
                assert_eq!(seen, rule, "{variant} {family}");
            }
        }
    });
}

/// Rules that look in sets; a set that is not there is named, with the chain.
#[test]
fn lookups_in_sets_come_back() {
    let ipset = |input: &str| {
        let arguments = input.split(' ');
        Command::new("ipset").args(arguments).status().is_ok_and(|status| status.success())
    };
    let lookup = |invert, name: &str, directions: &[Direction]| Rule {
        matches: vec![Match::Set { invert, set: SetName::new(name), directions: directions.into() }],
        ..Rule::default()
    };
    let (source, destination) = (Direction::Source, Direction::Destination);
    with_each_variant("lookups", |variant, mut driver| {
        if !ipset("create KUBE-LOOP-BACK hash:ip,port,ip") {
            return eprintln!("SKIPPED: lookups: ipset is not installed, or the kernel has no sets");
        }
        assert!(ipset("create KUBE-IPVS-IPS hash:ip"));
        let rules = [
            lookup(false, "KUBE-LOOP-BACK", &[destination, destination, source]),
            lookup(true, "KUBE-IPVS-IPS", &[destination]),
        ];
        assert_eq!(write_and_read(&mut driver, Family::V4, &rules), rules, "{variant}");

        let key = ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new("KUBE-SVC-ALL") };
        let change = ChainChange { before: None, after: Some(vec![lookup(false, "KUBE-GONE", &[source])]) };
        let changes = Changes { chains: [(key.clone(), change)].into(), builtin: Vec::new() };
        let error = driver.apply(&changes).unwrap_err();
        assert_eq!((error.kind, &error.chain), (ApplyErrorKind::Refused, &Some(key)), "{variant}: {error}");
        assert!(error.message.contains("KUBE-GONE"), "{variant}: {error}");
    });
}
