//! What the tools write is read through netlink as what our text decoder reads from their own listing.

use weir::kernel::xtables::ObservedRule;
use weir::kernel::xtables::decode::RuleParser;
use weir::kernel::xtables::encode::rule_text;
use weir::kernel::xtables::{ChainName, Match, PortRange, Rule};

use crate::cases::{self, CHAIN, Cases, printed_rules};
use crate::kernel;
use crate::tools::{Tools, make_accounting_objects, with_each_version};

fn restore(tools: &Tools, cases: &Cases, lines: &[String]) {
    tools.run(cases.family, "-restore", &[], &cases.script(lines)).unwrap_or_else(|error| panic!("{error}"));
}

/// Compares the two ways to see the rules of the chain; returns what was seen.
fn observe(tools: &Tools, cases: &Cases) -> Vec<ObservedRule> {
    let seen = kernel::read(cases.family, cases.table, CHAIN);
    let printed = printed_rules(&tools.save(cases.family, cases.table));
    assert_eq!(seen.len(), printed.len());
    for (seen, (_, text)) in seen.iter().zip(printed) {
        let parsed = RuleParser::new(cases.family).parse(&text, &|name| Some(ChainName::new(name)));
        match (seen, parsed) {
            (ObservedRule::Known(seen), Some(parsed)) => assert_eq!(*seen, parsed, "{} {text}", tools.version),
            (ObservedRule::Verbatim(_), None) => {}
            (ObservedRule::Verbatim(_), Some(parsed)) if is_miswritten(&parsed) => {}
            (seen, parsed) => panic!("{} {}: {text}\n{seen:?}\n{parsed:?}", tools.version, cases.family),
        }
    }
    seen
}

/// `! --sport A ! --dport B`: 1.8.8 and newer write "not both" and print "neither". Nobody writes such rules here.
fn is_miswritten(rule: &Rule) -> bool {
    let one = |range: &Option<PortRange>| range.is_some_and(|range| range.invert && range.first == range.last);
    rule.matches.iter().any(|item| match item {
        Match::Ports { source, destination, .. } => one(source) && one(destination),
        _ => false,
    })
}

#[test]
fn rules_that_the_tools_write_are_the_same_rules() {
    with_each_version(|tools| {
        let mut all = cases::shapes(make_accounting_objects());
        all.extend(cases::random(400));
        for cases in all {
            restore(tools, &cases, &cases.lines());
            for (seen, rule) in observe(tools, &cases).iter().zip(&cases.rules) {
                assert!(
                    seen == rule || is_miswritten(rule),
                    "{} {}: {seen:?}",
                    tools.version,
                    rule_text(cases.family, rule)
                );
            }
        }
    });
}
