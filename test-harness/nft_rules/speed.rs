//! How long a rule takes. `cargo test --release --test nft_rules speed -- --ignored --nocapture`

use std::time::Instant;

use weir::kernel::netlink::{Attributes, Batch};
use weir::kernel::xtables::ObservedRule;
use weir::kernel::xtables::nft::expression::{put_rule, read_rule};
use weir::kernel::xtables::nft::sets::SetIndexes;

use crate::cases;

const ROUNDS: usize = 2_000;

#[test]
#[ignore = "a measurement"]
fn encode_and_decode() {
    let none = SetIndexes::default();
    for cases in cases::shapes(true) {
        let mut batch = Batch::new("measure");
        // The buffer grows only once.
        let fill = |batch: &mut Batch| {
            batch.clear();
            for rule in &cases.rules {
                batch.message(0, 0, |body| put_rule(body, cases.family, rule, &none));
            }
        };
        fill(&mut batch);
        let start = Instant::now();
        for _ in 0..ROUNDS {
            fill(&mut batch);
        }
        let rules = (ROUNDS * cases.rules.len()) as f64;
        let encoded = start.elapsed().as_nanos() as f64 / rules;

        let dumped: Vec<Vec<u8>> = cases
            .rules
            .iter()
            .map(|rule| {
                let mut batch = Batch::new("measure");
                batch.message(0, 0, |body| put_rule(body, cases.family, rule, &none));
                Attributes::new(&batch.bytes()[16..]).find(4).unwrap().payload.to_vec()
            })
            .collect();
        let start = Instant::now();
        for _ in 0..ROUNDS {
            for (bytes, rule) in dumped.iter().zip(&cases.rules) {
                let found = read_rule(cases.family, Attributes::new(bytes), &none);
                assert!(matches!(&found, ObservedRule::Known(found) if found.matches.len() == rule.matches.len()));
            }
        }
        let decoded = start.elapsed().as_nanos() as f64 / rules;
        let bytes = batch.size() / cases.rules.len();
        eprintln!(
            "{} {}: {} shapes, {bytes} bytes each, encode {encoded:.0} ns, decode {decoded:.0} ns",
            cases.family,
            cases.table,
            cases.rules.len()
        );
    }
}
