//! | module | what it checks |
//! |---|---|
//! | `blobs` | the structures of extensions, byte for byte |
//! | `dialects` | what other versions write, and what is near to it |
//! | `damage` | arbitrary and damaged bytes |

mod blobs;
mod damage;
mod dialects;

use proptest::prelude::*;

use super::*;
use crate::kernel::ipset::SetName;
use crate::kernel::netlink::Batch;
use crate::kernel::xtables::decode::RuleParser;
use crate::kernel::xtables::testing::family_and_rule;
use crate::kernel::xtables::{ChainName, encode};

/// The attributes that are written.
fn written(fill: impl FnOnce(&mut Body<'_>)) -> Vec<u8> {
    const HEADER: usize = 16;
    let mut batch = Batch::new("test");
    batch.message(0, 0, fill);
    assert!(!batch.too_long());
    batch.bytes()[HEADER..].to_vec()
}

/// The sets that a rule names, each with an index.
fn sets(rule: &Rule) -> SetIndexes {
    let mut sets = SetIndexes::default();
    for (item, index) in rule.matches.iter().zip(7..) {
        if let Match::Set { set, .. } = item
            && sets.index(set).is_none()
        {
            sets.insert(set.clone(), index);
        }
    }
    sets
}

/// Reads a rule where no set is known.
fn read_rule(family: Family, expressions: Attributes<'_>) -> ObservedRule {
    super::read_rule(family, expressions, &SetIndexes::default())
}

/// The expressions of a rule.
fn expressions(family: Family, rule: &Rule) -> Vec<u8> {
    let bytes = written(|body| put_rule(body, family, rule, &sets(rule)));
    Attributes::new(&bytes).find(wire::rule::EXPRESSIONS).unwrap().payload.to_vec()
}

/// The names of expressions; with an extension its own.
fn names(bytes: &[u8]) -> Vec<String> {
    let name = |element: crate::kernel::netlink::Attribute<'_>| {
        let [name, data] = [1, 2].map(|kind| element.nested().find(kind).unwrap());
        match name.text().unwrap() {
            kind @ ("match" | "target") => format!("{kind} {}", data.nested().find(1).unwrap().text().unwrap()),
            other => other.to_owned(),
        }
    };
    Attributes::new(bytes).map(name).collect()
}

/// The rule of a text as `iptables-save` prints it.
fn rule(family: Family, text: &str) -> Rule {
    RuleParser::new(family).parse(text, &|name| Some(ChainName::new(name))).unwrap_or_else(|| panic!("{text}"))
}

proptest! {
    #[test]
    fn what_is_written_reads_back((family, rule) in family_and_rule()) {
        prop_assume!(unwritable(family, &rule).is_none());
        let bytes = expressions(family, &rule);
        prop_assert_eq!(super::read_rule(family, Attributes::new(&bytes), &sets(&rule)), rule);
    }

    /// Part by part, as for a rule that is not understood: nothing but the order may differ.
    #[test]
    fn a_known_rule_is_described_in_the_words_of_the_tools((family, rule) in family_and_rule()) {
        prop_assume!(unwritable(family, &rule).is_none());
        let bytes = expressions(family, &rule);
        let text = describe::text(family, Attributes::new(&bytes), &sets(&rule));
        let sorted = |text: &str| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        let expected = encode::rule_text(family, &rule);
        prop_assume!(!expected.contains(char::is_control));
        prop_assert_eq!(sorted(&text), sorted(&expected));
    }
}

/// The form that every version of the tools reads, and what the kernel wants to know beside it.
#[test]
fn the_order_of_expressions() {
    let text = "-s 10.1.0.0/16 -d 10.96.0.10/32 -i cni0 -o veth+ -p tcp -m comment --comment x -m tcp --dport 80 -j A";
    for (family, text, expected) in [
        (
            Family::V4,
            text.to_owned(),
            "meta cmp meta cmp payload bitwise cmp payload cmp payload cmp match comment match tcp counter immediate",
        ),
        (
            Family::V6,
            text.replace("10.1.0.0/16", "fd00::/56").replace("10.96.0.10/32", "fd00::a/128"),
            "meta cmp meta cmp meta cmp payload bitwise cmp payload cmp match comment match tcp counter immediate",
        ),
        (
            Family::V4,
            "-p udp -m udp -j DNAT --to-destination 10.0.0.1:53".to_owned(),
            "payload cmp match udp counter target DNAT",
        ),
        (Family::V6, "-m mark ! --mark 0x4000/0x4000 -j RETURN".to_owned(), "match mark counter immediate"),
        (Family::V4, "-m comment --comment x".to_owned(), "match comment counter"),
        (Family::V4, String::new(), "counter"),
    ] {
        let rule = rule(family, &text);
        assert_eq!(names(&expressions(family, &rule)).join(" "), expected, "{text}");
        let bytes = written(|body| put_rule(body, family, &rule, &sets(&rule)));
        let kinds: Vec<u16> = Attributes::new(&bytes).map(|attribute| attribute.kind).collect();
        assert_eq!(kinds, [wire::rule::EXPRESSIONS, wire::rule::COMPAT]);
        let compat = Attributes::new(&bytes).find(wire::rule::COMPAT).unwrap();
        let number = |kind| compat.nested().find(kind).and_then(|value| value.u32_be());
        let protocol = rule.protocol.map_or(0, |protocol| u32::from(protocol.number()));
        assert_eq!((number(wire::compat::PROTOCOL), number(wire::compat::FLAGS)), (Some(protocol), Some(0)), "{text}");
    }
}
