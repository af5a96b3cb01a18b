use proptest::prelude::*;

use super::*;
use crate::kernel::netlink::Batch;
use crate::kernel::xtables::testing::family_and_rule;

/// The attributes of a rule.
fn written(family: Family, rule: &Rule) -> Vec<u8> {
    let mut batch = Batch::new("test");
    batch.message(0, 0, |body| put_rule(body, family, rule));
    batch.bytes()[16..].to_vec()
}

/// The payload of its expressions.
fn expressions(family: Family, rule: &Rule) -> Vec<u8> {
    let bytes = written(family, rule);
    Attributes::new(&bytes).find(wire::rule::EXPRESSIONS).unwrap().payload.to_vec()
}

proptest! {
    #[test]
    fn what_is_written_reads_back((family, rule) in family_and_rule()) {
        prop_assume!(unwritable(family, &rule).is_none());
        let bytes = expressions(family, &rule);
        prop_assert_eq!(read_rule(family, Attributes::new(&bytes)), rule);
    }
}
