//! What is written through the real tools is read back as the same values.

use weir::kernel::xtables::encode::ONE;
use weir::kernel::xtables::{ChainChange, ChainKey, ChainName, Changes, Match, ObservedRule, Rule, Table, Xtables};
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
