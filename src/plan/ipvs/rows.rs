//! Rows of the scenario catalogue that say what is in the kernel, one by one.

use std::net::IpAddr;
use std::sync::Arc;

use super::testing::{moves, settings, simple};
use super::*;
use crate::kernel::ipvs::{ServerFlags, VirtualServerKey};
use crate::kernel::xtables::{ChainName, Rule, Table, encode};
use crate::model::{EndpointFlags, LocalDetector, ModelEndpoint, NodePortAddresses, ServicePort, Settings};
use crate::net::{Endpoint, Family, PerFamily, Protocol};
use crate::state::TrafficPolicy;

const NODE: [u8; 4] = [192, 168, 0, 2];
const VIP: [u8; 4] = [1, 2, 3, 4];
const EXTERNAL: [u8; 4] = [50, 60, 70, 81];

/// Everything that is wanted for some services.
struct Wanted(Desired);

impl Wanted {
    fn of(ports: &[ServicePort]) -> Wanted {
        Wanted::with(&settings(), ports)
    }

    fn with(settings: &Arc<Settings>, ports: &[ServicePort]) -> Wanted {
        let model: Vec<_> = ports.iter().cloned().map(Arc::new).collect();
        Wanted(Desired::plan(settings, &Family::ALL, &model).0)
    }

    /// The entries of a set of IPv4, as text.
    fn set(&self, set: Set) -> Vec<String> {
        self.0.sets[&set.name(Family::V4)].1.keys().map(ToString::to_string).collect()
    }

    /// How many real servers a TCP virtual server has; `None` if it is not there.
    fn reals(&self, ip: [u8; 4], port: u16) -> Option<usize> {
        self.of_protocol(Protocol::Tcp, ip, port)
    }

    fn of_protocol(&self, protocol: Protocol, ip: [u8; 4], port: u16) -> Option<usize> {
        Some(self.0.servers.get(&VirtualServerKey::new(protocol, ip.into(), port))?.1.len())
    }

    /// The rules of a chain, as text.
    fn rules(&self, family: Family, table: Table, name: &str) -> Vec<String> {
        let of = |(key, _): &(&crate::kernel::xtables::ChainKey, &Vec<Rule>)| {
            key.family == family && key.table == table && key.name == ChainName::new(name)
        };
        let (_, rules) = self.0.chains.iter().find(of).unwrap_or_else(|| panic!("{table} {name}"));
        rules.iter().map(|rule| encode::rule_text(family, rule)).collect()
    }
}

fn base() -> ServicePort {
    (*simple(1, &[])).clone()
}

fn with_endpoints(port: ServicePort, endpoints: &[(u8, EndpointFlags)]) -> ServicePort {
    let endpoint =
        |(n, flags): &(u8, EndpointFlags)| ModelEndpoint::new(Endpoint::new([10, 0, 0, *n].into(), 8080), *flags);
    let endpoints: Box<[_]> = endpoints.iter().map(endpoint).collect();
    ServicePort { has_any_endpoint: !endpoints.is_empty(), endpoints, ..port }
}

const HERE: EndpointFlags = EndpointFlags::CLUSTER.with(EndpointFlags::LOCAL).with(EndpointFlags::ON_NODE);
const THERE: EndpointFlags = EndpointFlags::CLUSTER.with(EndpointFlags::ELSEWHERE);

fn balanced(port: ServicePort) -> ServicePort {
    ServicePort { load_balancer_ips: Box::new([VIP.into()]), ..port }
}

fn node_port(port: ServicePort, protocol: Protocol) -> ServicePort {
    let mut port = ServicePort { node_port: 3001, ..port };
    port.key.name.protocol = protocol;
    port
}

fn local(port: ServicePort) -> ServicePort {
    ServicePort { external_policy: TrafficPolicy::Local, ..port }
}

fn text(ip: [u8; 4], rest: &str) -> String {
    format!("{},{rest}", IpAddr::from(ip))
}

/// A7, A8, B12, E21: virtual servers of services without endpoints.
#[test]
fn a7_a8_b12_e21_services_without_endpoints_have_virtual_servers() {
    let port = ServicePort { external_ips: Box::new([EXTERNAL.into()]), ..node_port(balanced(base()), Protocol::Tcp) };
    let wanted = Wanted::of(&[port]);
    for (ip, number) in [([172, 30, 0, 1], 80), (EXTERNAL, 80), (VIP, 80), (NODE, 3001)] {
        assert_eq!(wanted.reals(ip, number), Some(0));
    }
    assert_eq!(wanted.set(Set::ClusterIp), ["172.30.0.1,tcp:80"]);
    assert_eq!(wanted.set(Set::Reject).len(), 5, "two addresses of the node have the node port");
}

/// C14, C15: load balancers with and without source ranges.
#[test]
fn c14_c15_source_ranges() {
    let open = with_endpoints(balanced(base()), &[(1, HERE)]);
    let wanted = Wanted::of(std::slice::from_ref(&open));
    assert_eq!(wanted.set(Set::LoadBalancer), [text(VIP, "tcp:80")], "C15");
    for set in [Set::LoadBalancerFw, Set::LoadBalancerSourceCidr, Set::LoadBalancerSourceIp] {
        assert!(wanted.set(set).is_empty(), "C15");
    }
    let nat = |name| wanted.rules(Family::V4, Table::Nat, name);
    assert!(nat("KUBE-SERVICES").iter().any(|rule| rule.contains("KUBE-LOAD-BALANCER dst,dst -j KUBE-LOAD-BALANCER")));
    assert!(nat("KUBE-LOAD-BALANCER").last().unwrap().ends_with("-j KUBE-MARK-MASQ"), "C15");
    let ranges = |text: &str| ServicePort { source_ranges: Box::new([text.parse().unwrap()]), ..open.clone() };
    let wanted = Wanted::of(&[ranges("203.0.113.0/25")]);
    assert_eq!(wanted.set(Set::LoadBalancerFw), [text(VIP, "tcp:80")], "C14");
    assert_eq!(wanted.set(Set::LoadBalancerSourceCidr), [text(VIP, "tcp:80,203.0.113.0/25")], "C14");
    assert!(wanted.set(Set::LoadBalancerSourceIp).is_empty(), "C14: the node is in no range");
    let firewall = wanted.rules(Family::V4, Table::Filter, "KUBE-SOURCE-RANGES-FIREWALL");
    assert!(firewall.last().unwrap().ends_with("-j DROP"), "C14: {firewall:?}");
    let wanted = Wanted::of(&[ranges("192.168.0.0/24")]);
    assert!(!wanted.set(Set::LoadBalancerSourceIp).is_empty(), "the node is in the range");
}

/// E19 to E24: node ports, by protocol and policy, on every address of the node.
#[test]
fn e19_to_e24_node_ports() {
    let both = [(1, HERE), (2, THERE)];
    let of = |port: ServicePort| Wanted::of(&[with_endpoints(port, &both)]);
    let tcp = of(node_port(base(), Protocol::Tcp));
    assert_eq!((tcp.reals(NODE, 3001), tcp.reals([192, 168, 99, 11], 3001)), (Some(2), Some(2)), "E19");
    assert_eq!(tcp.set(Set::NodePortTcp), ["3001"], "E19");
    let udp = of(node_port(base(), Protocol::Udp));
    assert_eq!(udp.of_protocol(Protocol::Udp, NODE, 3001), Some(2), "E20");
    assert_eq!((udp.set(Set::NodePortUdp), udp.set(Set::NodePortTcp)), (vec!["3001".to_owned()], vec![]), "E20");
    let sctp = of(node_port(base(), Protocol::Sctp));
    assert_eq!(sctp.set(Set::NodePortSctp).len(), 2, "E22: an entry for each address");
    let sctp = of(local(node_port(base(), Protocol::Sctp)));
    assert_eq!(sctp.set(Set::NodePortLocalSctp).len(), 2, "E23");
    assert_eq!(sctp.of_protocol(Protocol::Sctp, NODE, 3001), Some(1), "E23: only local endpoints");
    let tcp = of(local(node_port(base(), Protocol::Tcp)));
    assert_eq!(
        (tcp.set(Set::NodePortTcp), tcp.set(Set::NodePortLocalTcp)),
        (vec!["3001".to_owned()], vec!["3001".to_owned()]),
        "E24"
    );
    let rules = tcp.rules(Family::V4, Table::Nat, "KUBE-NODE-PORT");
    let place = |what: &str| rules.iter().position(|rule| rule.contains(what)).unwrap();
    assert!(place("-LOCAL-TCP dst -j RETURN") < place("NODE-PORT-TCP dst -j KUBE-MARK-MASQ"), "E24: {rules:?}");
}

/// Chosen addresses only, and never loopback.
#[test]
fn node_ports_on_chosen_addresses() {
    let only = |ips: &[[u8; 4]]| {
        let mut settings = (*settings()).clone();
        let chosen = NodePortAddresses::Only(ips.iter().copied().map(IpAddr::from).collect());
        settings.node_port_addresses = PerFamily { v4: chosen, v6: NodePortAddresses::All };
        Wanted::with(&Arc::new(settings), &[node_port(base(), Protocol::Tcp)])
    };
    let wanted = only(&[NODE, [127, 0, 0, 1]]);
    assert_eq!((wanted.reals(NODE, 3001), wanted.reals([127, 0, 0, 1], 3001)), (Some(0), None));
    assert_eq!(wanted.reals([192, 168, 99, 11], 3001), None);
}

/// F21 to F23: external IPs and load balancers, by policy.
#[test]
fn f21_to_f23_external_policies() {
    let both = [(1, HERE), (2, THERE)];
    let external = ServicePort { external_ips: Box::new([EXTERNAL.into()]), ..base() };
    let wanted = Wanted::of(&[with_endpoints(local(external.clone()), &both)]);
    assert_eq!(wanted.set(Set::ExternalIpLocal), [text(EXTERNAL, "tcp:80")], "F21");
    assert_eq!((wanted.reals(EXTERNAL, 80), wanted.reals([172, 30, 0, 1], 80)), (Some(1), Some(2)), "F21");
    let wanted = Wanted::of(&[with_endpoints(external, &both)]);
    assert_eq!(wanted.set(Set::ExternalIp), [text(EXTERNAL, "tcp:80")], "F22");
    let services = wanted.rules(Family::V4, Table::Nat, "KUBE-SERVICES");
    assert!(services.iter().any(|rule| rule.contains("KUBE-EXTERNAL-IP dst,dst -j KUBE-MARK-MASQ")), "F22");
    let wanted = Wanted::of(&[with_endpoints(local(balanced(base())), &both)]);
    assert_eq!(wanted.set(Set::LoadBalancer), wanted.set(Set::LoadBalancerLocal), "F23");
    assert_eq!((wanted.reals(VIP, 80), wanted.reals([172, 30, 0, 1], 80)), (Some(1), Some(2)), "F23");
    let balancer = wanted.rules(Family::V4, Table::Nat, "KUBE-LOAD-BALANCER");
    assert!(balancer.iter().any(|rule| rule.contains("-LOCAL dst,dst -j RETURN")), "F23");
}

/// G4, G5, H11: which endpoints serve where none is on this node.
#[test]
fn g4_g5_h11_no_local_endpoint() {
    let remote = [(2, THERE), (3, THERE)];
    let wanted = Wanted::of(&[with_endpoints(base(), &remote)]);
    assert_eq!(wanted.reals([172, 30, 0, 1], 80), Some(2), "G5");
    let inner = ServicePort { internal_policy: TrafficPolicy::Local, ..base() };
    let wanted = Wanted::of(&[with_endpoints(inner, &remote)]);
    assert_eq!(wanted.reals([172, 30, 0, 1], 80), Some(0), "G4");
    assert_eq!(wanted.set(Set::Drop), ["172.30.0.1,tcp:80"], "G4, and not an answer that nobody is there");
    let wanted = Wanted::of(&[with_endpoints(local(balanced(base())), &remote)]);
    assert_eq!(wanted.reals(VIP, 80), Some(2), "H11: for pods and the node");
    assert_eq!(wanted.set(Set::DropOutside), [text(VIP, "tcp:80")], "H11: and nobody else");
}

/// L1 to L5: what the rules say, and affinity.
#[test]
fn l1_to_l5_rules_and_affinity() {
    for (random_fully, expected) in [(false, "-j MASQUERADE"), (true, "-j MASQUERADE --random-fully")] {
        let settings = Arc::new(Settings { random_fully, ..(*settings()).clone() });
        let rules = Wanted::with(&settings, &[]).rules(Family::V4, Table::Nat, "KUBE-POSTROUTING");
        assert!(rules.last().unwrap().ends_with(expected), "L1: {rules:?}");
    }
    let empty = Wanted::of(&[]);
    for (family, first, last) in [
        (Family::V4, "-s 127.0.0.0/8 -j RETURN", ["KUBE-CLUSTER-IP", "KUBE-LOAD-BALANCER"]),
        (Family::V6, "-s ::1/128 -j RETURN", ["KUBE-6-CLUSTER-IP", "KUBE-6-LOAD-BALANCER"]),
    ] {
        let rules = empty.rules(family, Table::Nat, "KUBE-SERVICES");
        assert_eq!(rules[0], first, "L3, L4");
        let ends: Vec<&String> = rules.iter().rev().take(2).collect();
        assert!(ends[1].contains(last[0]) && ends[0].contains(last[1]), "L2: {ends:?}");
        assert!(ends.iter().all(|rule| rule.ends_with("dst,dst -j ACCEPT")), "L2: {ends:?}");
    }
    let sticky = ServicePort { affinity_seconds: Some(10_800), ..node_port(base(), Protocol::Tcp) };
    let wanted = Wanted::of(&[sticky]);
    assert_eq!(wanted.0.servers.len(), 3);
    for (server, _) in wanted.0.servers.values() {
        assert_eq!((server.flags, server.timeout), (ServerFlags::PERSISTENT, 10_800), "L5");
    }
}

/// L14: an address that is on the device is not put there again.
#[test]
fn l14_a_bound_address_is_left_alone() {
    let (before, after) = ([simple(1, &[1])], [simple(1, &[1, 2])]);
    let (_, mut planner) = Desired::plan(&settings(), &Family::ALL, &before);
    assert!(planner.replan(&moves(&before, &after), 1).links.is_empty());
}

/// L21: entries and real servers follow endpoints; one that is not ready is not in the model's lists.
#[test]
fn l21_entries_follow_endpoints() {
    let loop_back = |endpoints: &[(u8, EndpointFlags)]| {
        let wanted = Wanted::of(&[with_endpoints(base(), endpoints)]);
        (wanted.set(Set::LoopBack), wanted.reals([172, 30, 0, 1], 80))
    };
    let entry = |n: u8| format!("10.0.0.{n},tcp:8080,10.0.0.{n}");
    assert_eq!(loop_back(&[]), (vec![], Some(0)));
    assert_eq!(loop_back(&[(1, HERE), (2, THERE)]), (vec![entry(1)], Some(2)));
    assert_eq!(loop_back(&[(1, HERE), (3, EndpointFlags::SERVING)]), (vec![entry(1)], Some(1)));
}

/// L22, L23: the health check node port.
#[test]
fn l22_l23_health_check_node_port() {
    let checked = ServicePort { health_check_node_port: 30_900, ..local(balanced(base())) };
    assert_eq!(Wanted::of(std::slice::from_ref(&checked)).set(Set::HealthCheckNodePort), ["30900"], "L22");
    let (before, after) = (vec![Arc::new(checked)], vec![]);
    let (_, mut planner) = Desired::plan(&settings(), &Family::ALL, &before);
    let gone = planner.replan(&moves(&before, &after), 1);
    assert_eq!(gone.sets.sets[&Set::HealthCheckNodePort.name(Family::V4)].remove.len(), 1, "L22");
    assert!(Wanted::of(&[balanced(base())]).set(Set::HealthCheckNodePort).is_empty(), "L23");
}

/// L58: the chains and jumps of contract 4.5; those of the node's own packets are in mangle.
#[test]
fn l58_chains_and_jumps() {
    let wanted = Wanted::of(&[]);
    let chains = [
        (Table::Nat, "KUBE-SERVICES"),
        (Table::Nat, "KUBE-POSTROUTING"),
        (Table::Nat, "KUBE-NODE-PORT"),
        (Table::Nat, "KUBE-LOAD-BALANCER"),
        (Table::Nat, "KUBE-MARK-MASQ"),
        (Table::Filter, "KUBE-FORWARD"),
        (Table::Filter, "KUBE-NODE-PORT"),
        (Table::Filter, "KUBE-PROXY-FIREWALL"),
        (Table::Filter, "KUBE-SOURCE-RANGES-FIREWALL"),
        (Table::Filter, "KUBE-IPVS-FILTER"),
        (Table::Mangle, "KUBE-IPVS-OUT-FILTER"),
        (Table::Mangle, "KUBE-SOURCE-RANGES-FIREWALL"),
    ];
    for family in Family::ALL {
        assert!(chains.iter().all(|(table, name)| !wanted.rules(family, *table, name).is_empty()));
        let jumps = wanted.0.builtin.iter().filter(|rule| rule.chain.family == family);
        let mut jumps: Vec<String> = jumps.map(|rule| format!("{} {}", rule.chain.table, rule.chain.name)).collect();
        jumps.sort();
        let expected = [
            "filter FORWARD",
            "filter FORWARD",
            "filter INPUT",
            "filter INPUT",
            "filter INPUT",
            "mangle OUTPUT",
            "nat OUTPUT",
            "nat POSTROUTING",
            "nat PREROUTING",
        ];
        assert_eq!(jumps, expected);
    }
    assert_eq!(wanted.0.chains.len(), 2 * chains.len());
}

/// The detector tells who is masqueraded to cluster IPs.
#[test]
fn masquerade_to_cluster_ips() {
    let rules =
        |settings: Settings| Wanted::with(&Arc::new(settings), &[]).rules(Family::V4, Table::Nat, "KUBE-SERVICES");
    let found =
        |rules: Vec<String>| rules.into_iter().find(|r| r.contains("KUBE-CLUSTER-IP") && r.contains("MARK-MASQ"));
    let plain = (*settings()).clone();
    assert!(found(rules(plain.clone())).unwrap().contains("src,dst"), "nobody knows who is a pod: the VIP as a source");
    let all = Settings { masquerade_all: true, ..plain.clone() };
    assert!(found(rules(all)).unwrap().contains("KUBE-CLUSTER-IP dst,dst"));
    let mut cidr = plain.clone();
    cidr.detector.v4 = LocalDetector::Cidr("10.0.0.0/8".parse().unwrap());
    assert!(found(rules(cidr)).unwrap().starts_with("! -s 10.0.0.0/8 "));
    let mut everything = plain;
    everything.detector.v4 = LocalDetector::Cidr("0.0.0.0/0".parse().unwrap());
    assert_eq!(found(rules(everything)), None, "everybody is a pod");
}
