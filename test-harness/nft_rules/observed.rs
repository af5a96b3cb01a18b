//! What the tools write is read through netlink as what our text decoder reads from their own listing.

use weir::kernel::xtables::ObservedRule;
use weir::kernel::xtables::decode::RuleParser;
use weir::kernel::xtables::encode::rule_text;
use weir::kernel::xtables::{ChainName, Match, PortRange, Rule, Table, Target};
use weir::net::Family;

use crate::cases::{self, CHAIN, Cases, printed_rules};
use crate::kernel;
use crate::tools::{Tools, ipset, make_accounting_objects, with_each_version};

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

/// Sets are swapped: a rule looks in the one that has the name now.
#[test]
fn lookups_that_the_tools_write_are_the_same_lookups() {
    with_each_version(|tools| {
        for family in Family::ALL {
            let (cases, sets) = cases::lookups(family);
            if ipset(&["restore"], &sets) {
                restore(tools, &cases, &cases.lines());
                assert_eq!(observe(tools, &cases), cases.rules);
                ipset(&["restore"], &sets.replace("IPS ", "OTHER ").lines().next().unwrap().replace('\n', ""));
                ipset(&["swap", "IPS", "OTHER"], "");
                assert_eq!(observe(tools, &cases), cases.rules);
                tools.run(family, "", &["-F", CHAIN], "").unwrap();
                ipset(&["destroy"], "");
            }
        }
    });
}

/// What people and other programs write, with what is near to a rule of ours and is none.
const OTHERS: &str = "
    -i + -j ACCEPT
    ! -i + -j ACCEPT
    -i eth+ -o lo
    -s 10.1.0.0/16 -d 10.0.0.0/9 -j RETURN
    -d 10.0.0.0/255.0.255.0
    -f
    -p icmp
    -p 47
    ! -p tcp
    -p tcp -m tcp
    -p tcp -m tcp -m tcp
    -p tcp -m tcp --sport 5 --dport 6
    -p tcp -m tcp --sport 5 ! --dport 6
    -p tcp -m tcp ! --sport 5:7 --dport 6
    -p udp -m udp ! --sport 5:7 ! --dport 6:9
    -p udp -m udp --sport :5 --dport 6:
    -p udp -m udp --dport 0
    -p sctp -m sctp --sport 5 --dport 6
    -p sctp -m sctp ! --sport 5:7
    -p sctp -m sctp --chunk-types any INIT
    -p tcp -m comment --comment x -m tcp --sport 5 -m comment --comment y -m tcp --dport 6
    -p tcp -m mark --mark 1 -m tcp --dport 6 -m mark ! --mark 1/3
    -p tcp -m tcp --tcp-flags SYN,ACK SYN --dport 5
    -p tcp -m tcp --syn
    -p tcp -m multiport --dports 80,443
    -m mark --mark 5/3
    -m mark ! --mark 0
    -m state --state NEW
    -m conntrack --ctstate NEW,UNTRACKED
    -m conntrack --ctstate NEW --ctproto 6
    -m conntrack --ctstatus CONFIRMED
    -m limit --limit 3/sec
    -m addrtype --src-type LOCAL ! --dst-type LOCAL
    -m addrtype --src-type UNICAST
    -m addrtype --dst-type LOCAL --limit-iface-in
    -m recent --update --seconds 5 --name X
    -m recent --rcheck --name X
    -m recent ! --rcheck --seconds 5 --name X
    -m recent --rcheck --seconds 5 --hitcount 2 --name X
    -m recent --rcheck --seconds 5 --name X
    -m recent --set --name X --rdest
    -m recent --set --name X --mask 255.255.255.0
    -m recent --set --name X --mask 255.255.255.255
    -m recent --set
    -m statistic --mode nth --every 3 --packet 0
    -m statistic --mode random ! --probability 0.25
    -m statistic --mode random --probability 1
    -m comment --comment \"\"
    -j MARK --set-mark 4
    -j LOG --log-prefix x
    -j REJECT
    -j REJECT --reject-with icmp-host-unreachable
    -p tcp -j REJECT --reject-with tcp-reset
    -g KUBE-OTHER
    -j KUBE-OTHER
    -m comment --comment counts";

/// The same in table nat.
const OTHERS_NAT: &str = "
    -j MASQUERADE
    -j MASQUERADE --random
    -j MASQUERADE --random-fully
    -p tcp -j MASQUERADE --to-ports 5-6
    -j DNAT --to-destination 10.0.0.1
    -p tcp -j DNAT --to-destination 10.0.0.1:80
    -p tcp -j DNAT --to-destination :80
    -p tcp -j DNAT --to-destination 10.0.0.1:80 --random
    -p tcp -j DNAT --to-destination 10.0.0.1:80 --persistent
    -p tcp -j DNAT --to-destination 10.0.0.1:80-90
    -p tcp -j DNAT --to-destination 10.0.0.1-10.0.0.9:80
    -j SNAT --to-source 10.0.0.1
    -p tcp -j REDIRECT --to-ports 80";

#[test]
fn what_is_not_ours_is_told_apart_as_in_the_listing() {
    with_each_version(|tools| {
        for (table, others) in [(Table::Filter, OTHERS), (Table::Nat, OTHERS_NAT)] {
            let lines: Vec<String> = others.lines().skip(1).map(|line| format!("-A {CHAIN} {}", line.trim())).collect();
            let jump = Rule { target: Some(Target::Jump(ChainName::new("KUBE-OTHER"))), ..Rule::default() };
            let cases = Cases { family: Family::V4, table, rules: vec![jump] };
            restore(tools, &cases, &lines);
            let seen = observe(tools, &cases);
            let known = seen.iter().filter(|rule| matches!(rule, ObservedRule::Known(_))).count();
            assert!(known > 2 && seen.len() - known > 8, "{} {table}: {seen:?}", tools.version);
            for rule in seen {
                let ObservedRule::Verbatim(text) = rule else { continue };
                assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
            }
        }
    });
}
