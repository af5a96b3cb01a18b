//! Each fact about IPVS in the tracer's documentation, with hand-written servers, sets and rules.

use super::*;
use crate::kernel::ipset::{Entry, SetName, SetSpec, SetType};
use crate::kernel::ipvs::{Forwarding, RealServer, Scheduler, ServerFlags, VirtualServer, VirtualServerKey};
use crate::kernel::xtables::Direction;

const VIP: &str = "172.30.0.41";
const POD: &str = "10.180.0.1";

fn virtual_server() -> VirtualServer {
    VirtualServer { scheduler: Scheduler::round_robin(), flags: ServerFlags::default(), timeout: 0, prefix: 32 }
}

fn key(protocol: Protocol, address: &str) -> VirtualServerKey {
    VirtualServerKey::new(protocol, ip(address), 80)
}

/// Puts a virtual server on port 80 of the address, which is on the service device; weights with the real servers.
fn serve(mut rules: Ruleset, address: &str, real_servers: &[(&str, u32)]) -> Ruleset {
    let list = real_servers.iter().map(|(ip, weight)| (endpoint(ip, 8080), RealServer::active(*weight))).collect();
    rules.servers.insert(key(Protocol::Tcp, address), (virtual_server(), list));
    rules.addresses.insert(ip(address));
    rules
}

fn set(rules: &mut Ruleset, set_type: SetType, entries: impl IntoIterator<Item = Entry>) {
    let spec = SetSpec { set_type, family: Family::V4, comments: false };
    let entries = entries.into_iter().map(|entry| (entry, None)).collect();
    rules.sets.insert(SetName::new("SET"), (spec, entries));
}

fn in_set(directions: &[Direction]) -> Match {
    Match::Set { invert: false, set: SetName::new("SET"), directions: directions.into() }
}

const DST: Direction = Direction::Destination;
const SRC: Direction = Direction::Source;

/// Every built-in chain counts a packet to the virtual server by its original and by its new destination; what rules
/// matched, in order.
fn tables_met(host_network: bool, packet: &Packet) -> Vec<String> {
    let to = if host_network { "192.168.0.1" } else { POD };
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[(to, 1)]);
    for hook in ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"] {
        for table in Table::ALL {
            // Marks differ by nothing: a target makes the step show in the path.
            let seen = rule(Target::Mark { value: 0, mask: 0 });
            rules.insert(table, name(hook), [seen.clone().to(VIP).dport(80), seen.to(to).dport(8080)]);
        }
    }
    let trace = trace(&rules, &host(), packet).unwrap();
    let [branch] = trace.branches.as_slice() else { panic!("{trace:?}") };
    assert_eq!(branch.scheduled_by, Some(key(Protocol::Tcp, VIP)));
    let sees = |step: &Step| if step.index == 0 { "service" } else { "endpoint" };
    branch.path.iter().map(|step| format!("{} {} {}", step.table, step.chain, sees(step))).collect()
}

#[test]
fn what_comes_in_is_scheduled_after_filter_input_and_goes_out_by_output() {
    let met = [
        "mangle PREROUTING service",
        "nat PREROUTING service",
        "mangle INPUT service",
        "filter INPUT service",
        "mangle OUTPUT endpoint",
        "filter OUTPUT endpoint",
        "mangle POSTROUTING endpoint",
        "nat POSTROUTING endpoint",
    ];
    assert_eq!(tables_met(false, &from_outside(VIP, 80)), met);
}

#[test]
fn what_comes_in_for_an_endpoint_on_this_node_stays_in_input() {
    let met = [
        "mangle PREROUTING service",
        "nat PREROUTING service",
        "mangle INPUT service",
        "filter INPUT service",
        "nat INPUT endpoint",
    ];
    assert_eq!(tables_met(true, &from_outside(VIP, 80)), met);
}

#[test]
fn what_is_made_here_is_scheduled_after_nat_output_and_meets_mangle_output_again() {
    let met = [
        "mangle OUTPUT service",
        "nat OUTPUT service",
        "mangle OUTPUT endpoint",
        "filter OUTPUT endpoint",
        "mangle POSTROUTING endpoint",
        "nat POSTROUTING endpoint",
    ];
    assert_eq!(tables_met(false, &made_here(VIP, 80)), met);
}

#[test]
fn what_is_made_here_for_an_endpoint_on_this_node_comes_back_in() {
    let met = [
        "mangle OUTPUT service",
        "nat OUTPUT service",
        "filter OUTPUT endpoint",
        "mangle POSTROUTING endpoint",
        "nat POSTROUTING endpoint",
        "mangle PREROUTING endpoint",
        "mangle INPUT endpoint",
        "filter INPUT endpoint",
    ];
    assert_eq!(tables_met(true, &made_here(VIP, 80)), met);
}

#[test]
fn a_mark_from_before_ipvs_masquerades_after_it() {
    for (packet, hook) in [(from_outside(VIP, 80), "PREROUTING"), (made_here(VIP, 80), "OUTPUT")] {
        let mut rules = serve(masquerade(Ruleset::new(Family::V4)), VIP, &[(POD, 1)]);
        assert_eq!(verdict(&rules, &packet), served(POD, 8080, false));
        rules.insert(Table::Nat, name(hook), [set_mark().to(VIP)]);
        assert_eq!(verdict(&rules, &packet), served(POD, 8080, true));
    }
}

#[test]
fn what_comes_in_and_stays_is_never_masqueraded() {
    let mut rules = serve(masquerade(Ruleset::new(Family::V4)), VIP, &[("192.168.0.1", 1)]);
    rules.insert(Table::Nat, name("PREROUTING"), [set_mark()]);
    rules.insert(Table::Nat, name("OUTPUT"), [set_mark()]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), served("192.168.0.1", 8080, false));
    assert_eq!(verdict(&rules, &made_here(VIP, 80)), served("192.168.0.1", 8080, true));
}

#[test]
fn the_state_of_a_scheduled_connection_is_new_and_not_dnat() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[(POD, 1)]);
    rules.insert(Table::Filter, name("OUTPUT"), [rule(Target::Drop).if_(state(CtStates::DNAT))]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), served(POD, 8080, false));
    rules.insert(Table::Filter, name("OUTPUT"), [rule(Target::Drop).if_(state(CtStates::NEW))]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Drop);
}

#[test]
fn weights_are_probabilities_and_weight_0_gets_nothing() {
    let rules = serve(Ruleset::new(Family::V4), VIP, &[("10.0.0.1", 1), ("10.0.0.2", 3), ("10.0.0.3", 0)]);
    let outcome = |ip| Outcome { endpoint: endpoint(ip, 8080), masqueraded: false };
    let expected = Verdict::Serve(BTreeMap::from([(outcome("10.0.0.1"), 0.25), (outcome("10.0.0.2"), 0.75)]));
    for packet in [from_outside(VIP, 80), made_here(VIP, 80)] {
        let trace = trace(&rules, &host(), &packet).unwrap();
        assert!(trace.verdict.agrees_with(&expected), "{trace:?}");
        let branches: Vec<f64> = trace.branches.iter().map(|branch| branch.probability).collect();
        assert_eq!(branches, [0.25, 0.75]);
    }
}

#[test]
fn without_a_usable_real_server_the_answer_is_port_unreachable() {
    for list in [&[][..], &[(POD, 0)]] {
        let rules = serve(Ruleset::new(Family::V4), VIP, list);
        assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Reject);
        assert_eq!(verdict(&rules, &made_here(VIP, 80)), Verdict::Reject);
    }
}

#[test]
fn filter_input_judges_what_comes_in_and_mangle_output_what_is_made_here_before_ipvs() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[]);
    rules.insert(Table::Filter, name("INPUT"), [rule(Target::Drop).to(VIP)]);
    rules.insert(Table::Filter, name("OUTPUT"), [rule(Target::Drop).to(VIP)]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Drop);
    assert_eq!(verdict(&rules, &made_here(VIP, 80)), Verdict::Reject, "IPVS comes before filter OUTPUT");
    rules.insert(Table::Mangle, name("OUTPUT"), [rule(Target::Drop).to(VIP)]);
    assert_eq!(verdict(&rules, &made_here(VIP, 80)), Verdict::Drop);
}

/// REJECT is a target of the filter table only (`net/ipv4/netfilter/ipt_REJECT.c`).
#[test]
fn mangle_output_cannot_reject() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[]);
    rules.insert(Table::Mangle, name("OUTPUT"), [rule(Target::Reject).to(VIP)]);
    let error = trace(&rules, &host(), &made_here(VIP, 80)).unwrap_err();
    assert!(matches!(error, TraceError::Misplaced { target: "REJECT", .. }), "{error}");
}

#[test]
fn what_is_forwarded_is_not_scheduled() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[(POD, 1)]);
    rules.addresses.clear();
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Untouched);
    assert_eq!(verdict(&rules, &made_here(VIP, 80)), served(POD, 8080, false));
}

#[test]
fn a_virtual_server_on_an_address_of_another_device_is_one_all_the_same() {
    let mut rules = serve(Ruleset::new(Family::V4), "192.168.0.1", &[(POD, 1)]);
    rules.addresses.clear();
    assert_eq!(verdict(&rules, &from_outside("192.168.0.1", 80)), served(POD, 8080, false));
    assert_eq!(verdict(&rules, &made_here("192.168.0.1", 80)), served(POD, 8080, false));
}

#[test]
fn other_ports_and_protocols_of_a_service_address_are_this_nodes() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[(POD, 1)]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 22)), Verdict::Untouched);
    let udp = Packet { protocol: Protocol::Udp, ..from_outside(VIP, 80) };
    assert_eq!(verdict(&rules, &udp), Verdict::Untouched);
    rules.insert(Table::Filter, name("INPUT"), [rule(Target::Reject).if_(local(None, Some(false)))]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 22)), Verdict::Reject);
    assert_eq!(verdict(&rules, &made_here(VIP, 22)), Verdict::Reject, "it comes back in");
}

#[test]
fn loopback_addresses_do_not_leave_the_node_and_are_not_reached_from_elsewhere() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[(POD, 1), ("192.168.0.1", 1)]);
    let from_loopback = |to: &str| Packet { source: ip("127.0.0.1"), ..made_here(to, 80) };
    let mixed = trace(&rules, &host(), &from_loopback(VIP)).unwrap_err();
    assert!(matches!(&mixed, TraceError::Mixed(fates) if fates[0].0 == Fate::Drop && fates.len() == 2), "{mixed}");
    rules = serve(rules, VIP, &[("192.168.0.1", 1)]);
    assert_eq!(verdict(&rules, &from_loopback(VIP)), served("192.168.0.1", 8080, false));
    rules = serve(rules, VIP, &[("127.0.0.1", 1)]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Drop);
    assert_eq!(verdict(&rules, &made_here(VIP, 80)), served("127.0.0.1", 8080, false));
}

#[test]
fn what_cannot_be_followed_is_an_error() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[("192.168.0.1", 1)]);
    rules.addresses.clear();
    let error = trace(&rules, &host(), &made_here(VIP, 80)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the virtual server 172.30.0.41:80/TCP is on no device, but has a real server on this node: the tracer does not \
         follow its packets"
    );
    let tunnel = RealServer { forwarding: Forwarding::Tunnel, ..RealServer::active(1) };
    let list = BTreeMap::from([(endpoint(POD, 80), tunnel)]);
    rules.servers.insert(key(Protocol::Tcp, VIP), (virtual_server(), list));
    let error = trace(&rules, &host(), &made_here(VIP, 80)).unwrap_err();
    assert!(matches!(error, TraceError::Ipvs { .. }), "{error}");
}

/// Rules in filter INPUT that drop what is in the set.
fn drops(set_type: SetType, entries: impl IntoIterator<Item = Entry>, directions: &[Direction]) -> Ruleset {
    let mut rules = Ruleset::new(Family::V4);
    rules.addresses.insert(ip(VIP));
    set(&mut rules, set_type, entries);
    rules.insert(Table::Filter, name("INPUT"), [rule(Target::Drop).if_(in_set(directions))]);
    rules
}

#[test]
fn sets_are_looked_up_by_their_parts() {
    let (vip, client) = (ip(VIP), ip("192.168.0.99"));
    let (tcp, net) = (Protocol::Tcp, "192.168.0.0/24".parse().unwrap());
    let ip_port_net = [Entry::IpPortNet(vip, tcp, 80, "192.168.0.96/28".parse().unwrap())];
    for (set_type, entry, directions) in [
        (SetType::HashIp, Entry::Ip(vip), &[DST][..]),
        (SetType::HashIp, Entry::Ip(client), &[SRC]),
        (SetType::HashIp, Entry::Ip(vip), &[DST, DST]),
        (SetType::HashNet, Entry::Net(net), &[SRC]),
        (SetType::HashIpPort, Entry::IpPort(vip, tcp, 80), &[DST, DST]),
        (SetType::HashIpPort, Entry::IpPort(client, tcp, 80), &[SRC, DST]),
        (SetType::HashIpPortIp, Entry::IpPortIp(vip, tcp, 80, client), &[DST, DST, SRC]),
        (SetType::HashIpPortIp, Entry::IpPortIp(vip, tcp, 80, vip), &[DST, DST, DST]),
        (SetType::HashIpPortNet, ip_port_net[0], &[DST, DST, SRC]),
        (SetType::BitmapPort, Entry::Port(80), &[DST]),
    ] {
        let rules = drops(set_type, [entry], directions);
        assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Drop, "{set_type} {entry} {directions:?}");
        let other = Packet { protocol: Protocol::Udp, source: ip("10.9.9.9"), ..from_outside("192.168.0.1", 81) };
        assert_eq!(verdict(&rules, &other), Verdict::Untouched, "{set_type} {entry} {directions:?}");
        let mut inverted = rules.clone();
        let condition = Match::Set { invert: true, set: SetName::new("SET"), directions: directions.into() };
        inverted.insert(Table::Filter, name("INPUT"), [rule(Target::Drop).if_(condition)]);
        assert_eq!(verdict(&inverted, &from_outside(VIP, 80)), Verdict::Untouched);
        assert_eq!(verdict(&inverted, &other), Verdict::Drop);
    }
}

#[test]
fn a_bitmap_of_ports_knows_no_sctp() {
    let sctp = Packet { protocol: Protocol::Sctp, ..from_outside(VIP, 80) };
    assert_eq!(verdict(&drops(SetType::BitmapPort, [Entry::Port(80)], &[DST]), &sctp), Verdict::Untouched);
    let entry = Entry::IpPort(ip(VIP), Protocol::Sctp, 80);
    assert_eq!(verdict(&drops(SetType::HashIpPort, [entry], &[DST, DST]), &sctp), Verdict::Drop);
    let udp = Packet { protocol: Protocol::Udp, ..sctp };
    assert_eq!(verdict(&drops(SetType::BitmapPort, [Entry::Port(80)], &[DST]), &udp), Verdict::Drop);
}

#[test]
fn with_too_few_directions_or_another_family_nothing_is_found() {
    let entry = Entry::IpPort(ip(VIP), Protocol::Tcp, 80);
    let mut rules = drops(SetType::HashIpPort, [entry], &[DST]);
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Untouched);
    assert_eq!(lint(&rules), ["filter INPUT rule 1: 1 directions, entries of SET have 2 parts"]);
    rules = drops(SetType::HashIpPort, [entry], &[DST, DST]);
    assert_eq!(lint(&rules), [""; 0]);
    rules.sets.values_mut().for_each(|(spec, _)| spec.family = Family::V6);
    assert_eq!(verdict(&rules, &from_outside(VIP, 80)), Verdict::Untouched);
    assert_eq!(lint(&rules), ["filter INPUT rule 1: the set SET is for IPv6"]);
}

#[test]
fn a_set_that_is_not_there_and_source_ports_are_errors() {
    let mut rules = drops(SetType::HashIpPort, [], &[DST, SRC]);
    let error = trace(&rules, &host(), &from_outside(VIP, 80)).unwrap_err();
    assert_eq!(error.to_string(), "filter INPUT rule 1: looks at the source port, which the tracer does not know");
    rules.sets.clear();
    let error = trace(&rules, &host(), &from_outside(VIP, 80)).unwrap_err();
    assert_eq!(error.to_string(), "filter INPUT rule 1: looks into the set SET, which the tracer was not given");
    assert_eq!(lint(&rules), ["filter INPUT rule 1: looks into the set SET, which does not exist"]);
}

/// Hairpin: the set is looked up with the endpoint's address and port, after IPVS.
#[test]
fn a_set_of_endpoints_is_found_in_postrouting() {
    let mut rules = serve(Ruleset::new(Family::V4), VIP, &[(POD, 1)]);
    set(&mut rules, SetType::HashIpPortIp, [Entry::IpPortIp(ip(POD), Protocol::Tcp, 8080, ip(POD))]);
    let hairpin = rule(Target::Masquerade { random_fully: true }).if_(in_set(&[DST, DST, SRC]));
    rules.insert(Table::Nat, name("POSTROUTING"), [hairpin]);
    let packet = |source: &str| Packet { source: ip(source), ..from_outside(VIP, 80) };
    assert_eq!(verdict(&rules, &packet(POD)), served(POD, 8080, true));
    assert_eq!(verdict(&rules, &packet("10.180.0.2")), served(POD, 8080, false));
}
