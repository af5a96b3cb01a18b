mod ipvs;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;
use crate::kernel::xtables::{
    AddrTypeMatch, CtStates, InterfaceMatch, Match, NetMatch, ObservedRule, PortRange, RecentAction, Rule, Target,
};
use crate::net::{Endpoint, Family, Protocol};

const MARK: u32 = 0x4000;

fn name(text: &str) -> ChainName {
    ChainName::new(text)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint::new(ip(address), port)
}

fn rule(target: Target) -> Rule {
    Rule { target: Some(target), ..Rule::default() }
}

fn jump(to: &str) -> Rule {
    rule(Target::Jump(name(to)))
}

fn net(text: &str, invert: bool) -> Option<NetMatch> {
    let net = text.parse().unwrap_or_else(|_| ip(text).into());
    Some(NetMatch { invert, net })
}

/// Adds what the tests need to a rule, in the manner of a command line.
trait With: Sized {
    fn to(self, net: &str) -> Self;
    fn from(self, net: &str) -> Self;
    fn dport(self, port: u16) -> Self;
    fn if_(self, condition: Match) -> Self;
}

impl With for Rule {
    fn to(mut self, text: &str) -> Self {
        self.destination = net(text, false);
        self
    }

    fn from(mut self, text: &str) -> Self {
        self.source = net(text, false);
        self
    }

    fn dport(mut self, port: u16) -> Self {
        self.protocol = Some(Protocol::Tcp);
        self.if_(Match::Ports { protocol: Protocol::Tcp, source: None, destination: Some(PortRange::one(port)) })
    }

    fn if_(mut self, condition: Match) -> Self {
        self.matches.push(condition);
        self
    }
}

fn dnat(address: &str, port: u16) -> Rule {
    Rule { protocol: Some(Protocol::Tcp), ..rule(Target::Dnat(endpoint(address, port))) }
}

fn random(parts: f64) -> Match {
    Match::Random { probability: (2_147_483_648.0 / parts).round() as u32 }
}

fn marked(invert: bool) -> Match {
    Match::Mark { invert, value: MARK, mask: MARK }
}

fn set_mark() -> Rule {
    rule(Target::Mark { value: MARK, mask: MARK })
}

fn state(states: CtStates) -> Match {
    Match::CtState { invert: false, states }
}

fn local(source: Option<bool>, destination: Option<bool>) -> Match {
    Match::AddrType(AddrTypeMatch { source_local: source, destination_local: destination })
}

fn rules<const N: usize>(chains: [(Table, &str, Vec<Rule>); N]) -> Ruleset {
    let mut rules = Ruleset::new(Family::V4);
    for (table, chain, list) in chains {
        rules.insert(table, name(chain), list);
    }
    rules
}

/// The masquerade chain as every service proxy has it, and a way into it.
fn masquerade(mut rules: Ruleset) -> Ruleset {
    rules.insert(
        Table::Nat,
        name("POST"),
        [
            rule(Target::Return).if_(marked(true)),
            rule(Target::Mark { value: MARK, mask: 0 }),
            rule(Target::Masquerade { random_fully: true }),
        ],
    );
    rules.insert(Table::Nat, name("POSTROUTING"), [jump("POST")]);
    rules
}

fn host() -> Host {
    Host { addresses: vec![ip("192.168.0.1")] }
}

fn from_outside(destination: &str, port: u16) -> Packet {
    Packet {
        source: ip("192.168.0.99"),
        destination: ip(destination),
        protocol: Protocol::Tcp,
        port,
        in_interface: Some("eth0".into()),
    }
}

fn made_here(destination: &str, port: u16) -> Packet {
    Packet { source: ip("192.168.0.1"), in_interface: None, ..from_outside(destination, port) }
}

fn verdict(rules: &Ruleset, packet: &Packet) -> Verdict {
    trace(rules, &host(), packet).unwrap().verdict
}

fn served(address: &str, port: u16, masqueraded: bool) -> Verdict {
    Verdict::Serve(BTreeMap::from([(Outcome { endpoint: endpoint(address, port), masqueraded }, 1.0)]))
}

#[test]
fn no_rules_leave_every_packet_alone() {
    let none = Ruleset::new(Family::V4);
    let traced = trace(&none, &host(), &from_outside("10.0.0.1", 80)).unwrap();
    assert_eq!(traced.verdict, Verdict::Untouched);
    assert_eq!(traced.rules_tested, RulesTested { min: 0, max: 0, expected: 0.0 });
    assert_eq!(verdict(&none, &made_here("127.0.0.1", 80)), Verdict::Untouched);
}

#[test]
fn addresses_ports_and_protocol_decide() {
    let set = rules([(Table::Nat, "PREROUTING", vec![dnat("10.1.0.1", 8080).to("10.0.0.1/32").dport(80)])]);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), served("10.1.0.1", 8080, false));
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 81)), Verdict::Untouched);
    assert_eq!(verdict(&set, &from_outside("10.0.0.2", 80)), Verdict::Untouched);
    let udp = Packet { protocol: Protocol::Udp, ..from_outside("10.0.0.1", 80) };
    assert_eq!(verdict(&set, &udp), Verdict::Untouched);
    assert_eq!(verdict(&set, &made_here("10.0.0.1", 80)), Verdict::Untouched, "OUTPUT has no rule");
}

#[test]
fn inverted_matches_turn_round() {
    let port = |first, last, invert| Match::Ports {
        protocol: Protocol::Tcp,
        source: None,
        destination: Some(PortRange { invert, first, last }),
    };
    let reject = |source: &str, condition| Rule {
        source: net(source, true),
        protocol: Some(Protocol::Tcp),
        ..rule(Target::Reject).if_(condition)
    };
    let cases = [
        (reject("192.168.0.0/24", port(1, 100, false)), Verdict::Untouched),
        (reject("172.16.0.0/12", port(1, 100, false)), Verdict::Reject),
        (reject("172.16.0.0/12", port(81, 100, false)), Verdict::Untouched),
        (reject("172.16.0.0/12", port(81, 100, true)), Verdict::Reject),
        (reject("172.16.0.0/12", port(80, 80, true)), Verdict::Untouched),
    ];
    for (rule, expected) in cases {
        let set = rules([(Table::Filter, "FORWARD", vec![rule.clone()])]);
        assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), expected, "{rule:?}");
    }
}

#[test]
fn dnat_ends_the_nat_table_and_decides_the_route() {
    let set = rules([
        (Table::Nat, "PREROUTING", vec![jump("A"), dnat("10.9.9.9", 1)]),
        (Table::Nat, "A", vec![dnat("10.1.0.1", 8080), dnat("10.8.8.8", 1)]),
        (Table::Filter, "INPUT", vec![rule(Target::Drop)]),
        (Table::Filter, "FORWARD", vec![rule(Target::Reject).to("10.9.9.9/32")]),
    ]);
    // The packet was for this node, and is forwarded to the endpoint.
    assert_eq!(verdict(&set, &from_outside("192.168.0.1", 80)), served("10.1.0.1", 8080, false));
    let to_self = rules([
        (Table::Nat, "PREROUTING", vec![dnat("192.168.0.1", 8080)]),
        (Table::Filter, "INPUT", vec![rule(Target::Drop).to("192.168.0.1/32").dport(8080)]),
    ]);
    assert_eq!(verdict(&to_self, &from_outside("10.0.0.1", 80)), Verdict::Drop);
}

#[test]
fn the_filter_sees_the_address_after_dnat() {
    let set = rules([
        (Table::Nat, "PREROUTING", vec![dnat("10.1.0.1", 8080).to("10.0.0.1/32")]),
        (Table::Filter, "FORWARD", vec![rule(Target::Drop).to("10.0.0.1/32"), rule(Target::Reject).to("10.2.0.0/16")]),
    ]);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), served("10.1.0.1", 8080, false));
    assert_eq!(verdict(&set, &from_outside("10.2.0.1", 80)), Verdict::Reject);
}

#[test]
fn marks_lead_to_masquerade() {
    let set = |before: Vec<Rule>| {
        let mut list = before;
        list.push(dnat("10.1.0.1", 8080));
        masquerade(rules([(Table::Nat, "PREROUTING", list.clone()), (Table::Nat, "OUTPUT", list)]))
    };
    for packet in [from_outside("10.0.0.1", 80), made_here("10.0.0.1", 80)] {
        assert_eq!(verdict(&set(vec![set_mark()]), &packet), served("10.1.0.1", 8080, true));
        assert_eq!(verdict(&set(vec![]), &packet), served("10.1.0.1", 8080, false));
        // Set, then cleared; a bit beside the mark; the mark beside another bit.
        let clear = rule(Target::Mark { value: MARK, mask: 0 });
        assert_eq!(verdict(&set(vec![set_mark(), clear]), &packet), served("10.1.0.1", 8080, false));
        let beside = rule(Target::Mark { value: 1, mask: u32::MAX });
        assert_eq!(verdict(&set(vec![beside.clone()]), &packet), served("10.1.0.1", 8080, false));
        assert_eq!(verdict(&set(vec![beside, set_mark()]), &packet), served("10.1.0.1", 8080, true));
    }
}

#[test]
fn set_xmark_clears_the_mask_then_flips_the_value() {
    let set = rules([(
        Table::Filter,
        "FORWARD",
        vec![
            rule(Target::Mark { value: 0xff, mask: u32::MAX }),
            rule(Target::Mark { value: 0x3, mask: 0xf0 }),
            rule(Target::Drop).if_(Match::Mark { invert: false, value: 0x0c, mask: u32::MAX }),
        ],
    )]);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), Verdict::Drop);
}

#[test]
fn a_packet_that_comes_in_and_stays_is_not_masqueraded() {
    let list = vec![set_mark(), dnat("192.168.0.1", 8080)];
    let set = masquerade(rules([(Table::Nat, "PREROUTING", list.clone()), (Table::Nat, "OUTPUT", list)]));
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), served("192.168.0.1", 8080, false));
    assert_eq!(verdict(&set, &made_here("10.0.0.1", 80)), served("192.168.0.1", 8080, true));
}

#[test]
fn masquerade_without_service_is_an_error() {
    let set = masquerade(rules([(Table::Nat, "PREROUTING", vec![set_mark()])]));
    let error = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap_err();
    assert!(matches!(&error, TraceError::MasqueradedOnly { .. }), "{error}");
    assert!(error.to_string().contains("nat POST rule 3"), "{error}");
}

#[test]
fn locally_made_packets_meet_input_when_they_stay() {
    let reject = |destination: &str| vec![rule(Target::Reject).to(destination)];
    let set =
        rules([(Table::Filter, "INPUT", reject("192.168.0.1/32")), (Table::Filter, "FORWARD", reject("0.0.0.0/1"))]);
    assert_eq!(verdict(&set, &made_here("192.168.0.1", 80)), Verdict::Reject);
    assert_eq!(verdict(&set, &made_here("10.0.0.1", 80)), Verdict::Untouched);
    let output = rules([(Table::Filter, "OUTPUT", reject("10.0.0.1/32"))]);
    assert_eq!(verdict(&output, &made_here("10.0.0.1", 80)), Verdict::Reject);
    assert_eq!(verdict(&output, &from_outside("10.0.0.1", 80)), Verdict::Untouched);
}

#[test]
fn locally_made_packets_do_not_meet_nat_prerouting() {
    let set = rules([(Table::Nat, "PREROUTING", vec![dnat("10.1.0.1", 1)])]);
    assert_eq!(verdict(&set, &made_here("127.0.0.1", 80)), Verdict::Untouched);
}

#[test]
fn return_goes_back_and_the_end_of_a_chain_too() {
    let set = rules([
        (Table::Filter, "FORWARD", vec![jump("A"), jump("B"), rule(Target::Reject)]),
        (Table::Filter, "A", vec![rule(Target::Return), rule(Target::Drop)]),
        (Table::Filter, "B", vec![]),
    ]);
    let traced = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap();
    assert_eq!(traced.verdict, Verdict::Reject);
    let path: Vec<String> = traced.branches[0].path.iter().map(Step::to_string).collect();
    assert_eq!(path, ["filter FORWARD rule 1", "filter A rule 1", "filter FORWARD rule 2", "filter FORWARD rule 3"]);
    assert_eq!(traced.branches[0].rules_tested, 4);
    assert!(matches!(
        set.rule(&traced.branches[0].path[3]),
        Some(ObservedRule::Known(Rule { target: Some(Target::Reject), .. }))
    ));
}

#[test]
fn return_in_a_builtin_chain_ends_the_table() {
    let set = rules([
        (Table::Nat, "PREROUTING", vec![rule(Target::Return), dnat("10.1.0.1", 1)]),
        (Table::Filter, "FORWARD", vec![rule(Target::Return), rule(Target::Drop)]),
    ]);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), Verdict::Untouched);
}

#[test]
fn goto_returns_to_the_caller_of_the_chain_it_left() {
    let goto = |to: &str| rule(Target::Goto(name(to)));
    let set = rules([
        (Table::Filter, "FORWARD", vec![jump("A"), rule(Target::Reject)]),
        (Table::Filter, "A", vec![goto("B"), rule(Target::Drop)]),
        (Table::Filter, "B", vec![goto("C"), rule(Target::Drop)]),
        (Table::Filter, "C", vec![rule(Target::Return), rule(Target::Drop)]),
    ]);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), Verdict::Reject);
    let from_builtin =
        rules([(Table::Filter, "FORWARD", vec![goto("B"), rule(Target::Drop)]), (Table::Filter, "B", vec![])]);
    assert_eq!(verdict(&from_builtin, &from_outside("10.0.0.1", 80)), Verdict::Untouched);
}

#[test]
fn statistic_is_followed_both_ways() {
    let set = masquerade(rules([
        (Table::Nat, "PREROUTING", vec![jump("SVC")]),
        (Table::Nat, "SVC", vec![jump("E1").if_(random(3.0)), jump("E2").if_(random(2.0)), jump("E3")]),
        (Table::Nat, "E1", vec![set_mark(), dnat("10.1.0.1", 80)]),
        (Table::Nat, "E2", vec![dnat("10.1.0.2", 80)]),
        (Table::Nat, "E3", vec![dnat("10.1.0.3", 80)]),
    ]));
    let traced = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap();
    let outcome = |address, masqueraded| Outcome { endpoint: endpoint(address, 80), masqueraded };
    let third = 1.0 / 3.0;
    let expected = Verdict::Serve(BTreeMap::from([
        (outcome("10.1.0.1", true), third),
        (outcome("10.1.0.2", false), third),
        (outcome("10.1.0.3", false), third),
    ]));
    assert!(traced.verdict.agrees_with(&expected), "{:?}", traced.verdict);
    // PREROUTING, SVC, E and the two or four of POSTROUTING.
    let tested: Vec<usize> = traced.branches.iter().map(|branch| branch.rules_tested).collect();
    assert_eq!(tested, [1 + 1 + 2 + 4, 1 + 2 + 1 + 2, 1 + 3 + 1 + 2]);
    assert_eq!((traced.rules_tested.min, traced.rules_tested.max), (6, 8));
    assert!((traced.rules_tested.expected - 7.0).abs() < 1e-6, "{:?}", traced.rules_tested);
    let fate = Fate::Serve(outcome("10.1.0.2", false));
    let path: Vec<String> = traced.branches_to(fate).flat_map(|b| &b.path).map(Step::to_string).collect();
    assert_eq!(path[..3], ["nat PREROUTING rule 1", "nat SVC rule 2", "nat E2 rule 1"]);
}

#[test]
fn the_same_endpoint_by_several_ways_adds_up() {
    let set = rules([
        (Table::Nat, "PREROUTING", vec![jump("A").if_(random(2.0)), jump("A")]),
        (Table::Nat, "A", vec![dnat("10.1.0.1", 80).if_(random(2.0)), dnat("10.1.0.1", 80)]),
    ]);
    let traced = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap();
    assert_eq!(traced.branches.len(), 4);
    assert!(traced.verdict.agrees_with(&served("10.1.0.1", 80, false)));
}

#[test]
fn a_gap_between_endpoints_is_an_error() {
    let set = rules([(Table::Nat, "PREROUTING", vec![dnat("10.1.0.1", 80).if_(random(2.0))])]);
    let error = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap_err();
    assert!(matches!(&error, TraceError::Mixed(fates) if fates.len() == 2), "{error}");
    // A probability of one leaves no gap, and one of zero is no way.
    for (probability, expected) in [(1 << 31, served("10.1.0.1", 80, false)), (0, Verdict::Untouched)] {
        let rule = dnat("10.1.0.1", 80).if_(Match::Random { probability });
        assert_eq!(verdict(&rules([(Table::Nat, "PREROUTING", vec![rule])]), &from_outside("10.0.0.1", 80)), expected);
    }
}

#[test]
fn recent_is_empty_until_set() {
    let recent = |list: &str, action| Match::Recent { name: list.into(), action };
    let check = RecentAction::Check { seconds: 10800, reap: true };
    let set = rules([
        (
            Table::Nat,
            "PREROUTING",
            vec![jump("E1").if_(recent("E1", check)), jump("E2").if_(recent("E2", check)), jump("E1")],
        ),
        (Table::Nat, "E1", vec![dnat("10.1.0.1", 80).if_(recent("E1", RecentAction::Set))]),
        (Table::Nat, "E2", vec![dnat("10.1.0.2", 80).if_(recent("E2", RecentAction::Set))]),
    ]);
    let packet = from_outside("10.0.0.1", 80);
    let first = trace(&set, &host(), &packet).unwrap();
    assert_eq!(first.verdict, served("10.1.0.1", 80, false));
    assert_eq!(first.branches[0].recent, BTreeSet::from(["E1".into()]));
    let again = trace_with(&set, &host(), &packet, &BTreeSet::from(["E2".into()])).unwrap();
    assert_eq!(again.verdict, served("10.1.0.2", 80, false));
    assert_eq!(again.branches[0].path[0].index, 1);
}

#[test]
fn addrtype_asks_the_host() {
    let cases = [
        (local(None, Some(false)), "192.168.0.1", Verdict::Drop),
        (local(None, Some(false)), "127.0.0.5", Verdict::Drop),
        (local(None, Some(false)), "10.0.0.1", Verdict::Untouched),
        (local(None, Some(true)), "10.0.0.1", Verdict::Drop),
        (local(Some(false), None), "10.0.0.1", Verdict::Drop),
        (local(Some(true), None), "10.0.0.1", Verdict::Untouched),
        (local(Some(false), Some(true)), "10.0.0.1", Verdict::Drop),
        (local(Some(false), Some(true)), "192.168.0.1", Verdict::Untouched),
    ];
    for (condition, destination, expected) in cases {
        let set = rules([(Table::Filter, "OUTPUT", vec![rule(Target::Drop).if_(condition.clone())])]);
        assert_eq!(verdict(&set, &made_here(destination, 80)), expected, "{condition:?} {destination}");
    }
}

#[test]
fn conntrack_states_are_new_then_nat() {
    let established = CtStates::ESTABLISHED.with(CtStates::RELATED);
    let set = |condition| {
        rules([
            (Table::Nat, "PREROUTING", vec![dnat("10.1.0.1", 80).to("10.0.0.1/32")]),
            (Table::Filter, "FORWARD", vec![rule(Target::Drop).if_(condition)]),
        ])
    };
    let (service, other) = (from_outside("10.0.0.1", 80), from_outside("10.0.0.2", 80));
    assert_eq!(verdict(&set(state(CtStates::NEW)), &service), Verdict::Drop);
    assert_eq!(verdict(&set(state(established)), &service), served("10.1.0.1", 80, false));
    assert_eq!(verdict(&set(state(CtStates::INVALID)), &other), Verdict::Untouched);
    assert_eq!(verdict(&set(state(established.with(CtStates::DNAT))), &service), Verdict::Drop);
    assert_eq!(verdict(&set(state(established.with(CtStates::DNAT))), &other), Verdict::Untouched);
    let inverted = Match::CtState { invert: true, states: established.with(CtStates::DNAT) };
    assert_eq!(verdict(&set(inverted.clone()), &service), served("10.1.0.1", 80, false));
    assert_eq!(verdict(&set(inverted), &other), Verdict::Drop);
}

#[test]
fn interfaces_match_by_name_prefix_and_absence() {
    let from = |text: &str, invert, chain| {
        let in_interface = Some(InterfaceMatch { invert, name: text.into() });
        rules([(Table::Filter, chain, vec![Rule { in_interface, ..rule(Target::Drop) }])])
    };
    let outside = from_outside("10.0.0.1", 80);
    let own = made_here("10.0.0.1", 80);
    let own_local = made_here("192.168.0.1", 80);
    let cases = [
        (from("eth0", false, "FORWARD"), &outside, true),
        (from("eth", false, "FORWARD"), &outside, false),
        (from("eth+", false, "FORWARD"), &outside, true),
        (from("veth+", false, "FORWARD"), &outside, false),
        (from("veth+", true, "FORWARD"), &outside, true),
        (from("eth0", false, "OUTPUT"), &own, false),
        (from("eth0", true, "OUTPUT"), &own, true),
        (from("lo", false, "INPUT"), &own_local, true),
        (from("eth+", false, "INPUT"), &own_local, false),
    ];
    for (set, packet, drops) in cases {
        let expected = if drops { Verdict::Drop } else { Verdict::Untouched };
        assert_eq!(verdict(&set, packet), expected, "{set:?}");
    }
}

#[test]
fn comments_and_counters_match_all() {
    let comment = || Match::Comment("only a comment".into());
    let set = rules([(
        Table::Filter,
        "FORWARD",
        vec![
            Rule { matches: vec![comment()], ..Rule::default() },
            rule(Target::Drop).if_(comment()).if_(Match::Nfacct("counter".into())),
        ],
    )]);
    let traced = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap();
    assert_eq!(traced.verdict, Verdict::Drop);
    assert_eq!(traced.branches[0].path.len(), 1, "a rule without target decides nothing");
    assert_eq!(traced.branches[0].rules_tested, 2);
}

#[test]
fn accepting_below_input_is_a_verdict_of_its_own() {
    let set = rules([
        (Table::Filter, "INPUT", vec![jump("NODEPORTS"), rule(Target::Accept), rule(Target::Drop)]),
        (Table::Filter, "NODEPORTS", vec![rule(Target::Accept).dport(32000)]),
        (Table::Filter, "FORWARD", vec![jump("NODEPORTS"), rule(Target::Drop)]),
    ]);
    assert_eq!(verdict(&set, &from_outside("192.168.0.1", 32000)), Verdict::Accept);
    assert_eq!(verdict(&set, &made_here("192.168.0.1", 32000)), Verdict::Accept);
    assert_eq!(verdict(&set, &from_outside("192.168.0.1", 32001)), Verdict::Untouched);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 32000)), Verdict::Untouched, "not through INPUT");
}

#[test]
fn the_source_range_firewall_drops_what_was_not_served() {
    let set = rules([
        (Table::Nat, "PREROUTING", vec![jump("FW").to("10.0.0.1/32").dport(80)]),
        (Table::Nat, "FW", vec![dnat("10.1.0.1", 80).from("192.168.0.0/24"), Rule::default()]),
        (Table::Filter, "FORWARD", vec![rule(Target::Drop).to("10.0.0.1/32").dport(80)]),
    ]);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), served("10.1.0.1", 80, false));
    let other = Packet { source: ip("172.16.0.1"), ..from_outside("10.0.0.1", 80) };
    assert_eq!(verdict(&set, &other), Verdict::Drop);
}

#[test]
fn the_mangle_table_comes_first() {
    let set = rules([
        (Table::Mangle, "PREROUTING", vec![set_mark()]),
        (Table::Nat, "PREROUTING", vec![dnat("10.1.0.1", 80).if_(marked(false))]),
    ]);
    assert_eq!(verdict(&set, &from_outside("10.0.0.1", 80)), served("10.1.0.1", 80, false));
    assert_eq!(
        verdict(&rules([(Table::Mangle, "OUTPUT", vec![rule(Target::Drop)])]), &made_here("10.0.0.1", 80)),
        Verdict::Drop
    );
}

#[test]
fn ipv6_is_the_same() {
    let mut set = Ruleset::new(Family::V6);
    let to_service = Rule { destination: net("fd00::1/128", false), ..dnat("fd00:1::1", 80) };
    set.append(Table::Nat, name("PREROUTING"), to_service.if_(local(None, Some(true))));
    let packet = Packet { source: ip("fd00:2::2"), ..from_outside("fd00::1", 80) };
    assert_eq!(verdict(&set, &packet), served("fd00:1::1", 80, false));
    let error = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap_err();
    assert!(matches!(error, TraceError::Family { .. }), "{error}");
}

#[test]
fn what_cannot_be_followed_is_named() {
    let packet = from_outside("10.0.0.1", 80);
    let failure = |set: &Ruleset| trace(set, &host(), &packet).unwrap_err().to_string();

    let mut verbatim = Ruleset::new(Family::V4);
    verbatim.insert(Table::Filter, name("FORWARD"), [ObservedRule::Verbatim("-m u32 -j DROP".into())]);
    assert!(failure(&verbatim).starts_with("filter FORWARD rule 1: "), "{}", failure(&verbatim));
    assert!(failure(&verbatim).ends_with("-m u32 -j DROP"));

    let out = Rule { out_interface: Some(InterfaceMatch { invert: false, name: "eth0".into() }), ..rule(Target::Drop) };
    let source_port = Rule { protocol: Some(Protocol::Tcp), ..rule(Target::Drop) }.if_(Match::Ports {
        protocol: Protocol::Tcp,
        source: Some(PortRange::one(53)),
        destination: None,
    });
    let cases = [
        (rules([(Table::Filter, "FORWARD", vec![out])]), "outgoing interface"),
        (rules([(Table::Filter, "FORWARD", vec![source_port])]), "source port"),
        (rules([(Table::Filter, "FORWARD", vec![jump("GONE")])]), "GONE, which does not exist"),
        (rules([(Table::Nat, "POSTROUTING", vec![dnat("10.1.0.1", 1)])]), "DNAT has no place"),
        (rules([(Table::Nat, "PREROUTING", vec![rule(Target::Masquerade { random_fully: false })])]), "MASQUERADE"),
        (rules([(Table::Nat, "PREROUTING", vec![rule(Target::Reject)])]), "REJECT has no place in the nat table"),
        (rules([(Table::Nat, "PREROUTING", vec![rule(Target::Drop)])]), "DROP has no place in the nat table"),
    ];
    for (set, expected) in cases {
        assert!(failure(&set).contains(expected), "{} should say {expected}", failure(&set));
    }
}

#[test]
fn loops_end_in_an_error() {
    let goto = |to: &str| rule(Target::Goto(name(to)));
    for back in [jump("A"), goto("A"), jump("FORWARD")] {
        let set = rules([
            (Table::Filter, "FORWARD", vec![jump("A")]),
            (Table::Filter, "A", vec![goto("B")]),
            (Table::Filter, "B", vec![back]),
        ]);
        let error = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap_err();
        assert!(matches!(&error, TraceError::Loop { step, .. } if step.chain.as_str() == "B"), "{error}");
    }
}

/// FORWARD, then `below` chains under each other; the last one drops.
fn nested(below: usize) -> Ruleset {
    let mut set = Ruleset::new(Family::V4);
    set.append(Table::Filter, name("FORWARD"), jump("C1"));
    for depth in 1..below {
        set.append(Table::Filter, name(&format!("C{depth}")), jump(&format!("C{}", depth + 1)));
    }
    set.append(Table::Filter, name(&format!("C{below}")), rule(Target::Drop));
    set
}

#[test]
fn depth_is_limited_as_the_kernel_limits_it() {
    let packet = from_outside("10.0.0.1", 80);
    assert_eq!(verdict(&nested(MAX_DEPTH), &packet), Verdict::Drop);
    assert_eq!(lint(&nested(MAX_DEPTH)), Vec::<String>::new());
    let error = trace(&nested(MAX_DEPTH + 1), &host(), &packet).unwrap_err();
    assert!(matches!(&error, TraceError::TooDeep { target, .. } if target.as_str() == "C16"), "{error}");
    assert_eq!(lint(&nested(MAX_DEPTH + 1)), ["filter C16: 16 chains below a built-in one, 15 are allowed"]);
}

#[test]
fn a_thousand_endpoints_are_followed() {
    let mut set = Ruleset::new(Family::V4);
    for n in 0..1000_u32 {
        let to = dnat(&format!("10.1.{}.{}", n / 250, n % 250 + 1), 80);
        set.append(Table::Nat, name("PREROUTING"), to.if_(random(f64::from(1000 - n))));
    }
    let traced = trace(&set, &host(), &from_outside("10.0.0.1", 80)).unwrap();
    let Verdict::Serve(outcomes) = &traced.verdict else { panic!("{:?}", traced.verdict) };
    assert_eq!(outcomes.len(), 1000);
    assert!(outcomes.values().all(|p| (p - 0.001).abs() < 1e-6));
    assert_eq!((traced.rules_tested.min, traced.rules_tested.max), (1, 1000));
    assert!((traced.rules_tested.expected - 500.5).abs() < 0.01);
}

#[test]
fn j18_lint_finds_what_a_kernel_refuses() {
    let clean = masquerade(rules([
        (Table::Nat, "PREROUTING", vec![jump("A"), jump("B")]),
        (Table::Nat, "A", vec![jump("B")]),
        (Table::Nat, "B", vec![dnat("10.1.0.1", 80).dport(80).if_(Match::Comment("c".repeat(255).into()))]),
    ]));
    assert_eq!(lint(&clean), Vec::<String>::new());

    let one = |rule: Rule| rules([(Table::Nat, "A", vec![rule])]);
    let wrong_port = Match::Ports { protocol: Protocol::Udp, source: None, destination: None };
    let no_protocol = rule(Target::Dnat(endpoint("10.1.0.1", 80)));
    let cases = [
        (one(jump("GONE")), "nat A rule 1: jumps to GONE, which does not exist"),
        (one(rule(Target::Goto(name("GONE")))), "nat A rule 1: jumps to GONE, which does not exist"),
        (one(jump("INPUT")), "nat A rule 1: jumps to the built-in chain INPUT"),
        (
            one(Rule::default().if_(Match::Comment("c".repeat(256).into()))),
            "nat A rule 1: the comment has 256 bytes, 255 are allowed",
        ),
        (one(Rule::default().if_(wrong_port)), "nat A rule 1: matches ports of udp without -p udp"),
        (one(no_protocol), "nat A rule 1: DNAT to a port without -p"),
        (one(dnat("fd00::1", 80)), "nat A rule 1: DNAT to [fd00::1]:80, which is no IPv4 address"),
        (one(rule(Target::Return).to("fd00::/64")), "nat A rule 1: fd00::/64 is no IPv4 network"),
        (one(jump("A")), "nat: jumps go round in a loop among A"),
    ];
    for (set, expected) in cases {
        assert_eq!(lint(&set), [expected]);
    }

    let mut twice = one(rule(Target::Return));
    twice.insert(Table::Nat, name("A"), Vec::<Rule>::new());
    assert_eq!(lint(&twice), ["nat A: the chain is there more than once"]);

    let mut findings = Vec::new();
    lint::name_length(Table::Nat, &"N".repeat(28), &mut findings);
    assert!(findings.is_empty());
    lint::name_length(Table::Nat, &"N".repeat(29), &mut findings);
    assert_eq!(findings.len(), 1);
}

#[test]
fn j18_lint_names_the_chains_of_a_loop_only() {
    let set = rules([
        (Table::Filter, "FORWARD", vec![jump("A")]),
        (Table::Filter, "A", vec![jump("B")]),
        (Table::Filter, "B", vec![jump("C")]),
        (Table::Filter, "C", vec![jump("B"), jump("D")]),
        (Table::Filter, "D", vec![]),
    ]);
    assert_eq!(lint(&set), ["filter: jumps go round in a loop among B, C"]);
}
