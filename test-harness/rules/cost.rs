//! What a packet costs in a large cluster, in rules that are tested.
//!
//! kube-proxy tests a packet against every service: 30,000 rules and more in nat alone. Here the tree of prefixes has
//! some four levels below KUBE-SERVICES, each a chain of at most some 48 rules, of which half are tested on average.
//! The rest is the same for everyone: 14 jumps from built-in chains and the rules of fixed chains (some 20), and the
//! service's own chains (some 5 and half of its endpoints, in two steps above 32).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use weir::kernel::xtables::{ChainName, Table};
use weir::model::oracle::{Packet, Verdict};
use weir::model::{EndpointFlags, LocalDetector, ModelEndpoint, ServicePort, ServicePortKey, Settings};
use weir::net::{Endpoint, Family, ObjectName, Protocol, ServicePortName};
use weir::plan::iptables::{Desired, Place};
use weir::sim::scenario::Fixture;
use weir::sim::trace::{RulesTested, Ruleset, lint, trace};

use crate::cluster::Random;
use crate::packets::host;

const SERVICES: u32 = 30_000;
const NODE_PORTS: u32 = 3_000;
/// The service with so many endpoints that they are chosen in groups.
const LARGE: u32 = 7_777;

/// No packet to a service with few endpoints meets more (79 when this was written).
const MOST: usize = 90;
/// On average (56 for a cluster IP from a pod).
const AVERAGE: f64 = 60.0;
/// Choosing one of 1,000 endpoints takes two chains of some 33 and 45 rules instead of one with a single rule.
const MOST_OF_1000: usize = MOST + 33 + 45;
/// Traffic that is no service's business meets the fixed chains, and what leads to them (23).
const FOREIGN: usize = 25;

/// Addresses as the API server's allocator leaves them in 10.96.0.0/12: anywhere.
fn cluster_ip(i: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a60_0000 | (i.wrapping_mul(2_654_435_761) >> 12))
}

fn node_port(i: u32) -> u16 {
    if i < NODE_PORTS { (30_000 + i * 2_767 / NODE_PORTS) as u16 } else { 0 }
}

/// 2,768 node ports are all that the usual range has; the others are UDP.
fn protocol(i: u32) -> Protocol {
    if i.is_multiple_of(5) { Protocol::Udp } else { Protocol::Tcp }
}

fn service(i: u32) -> ServicePort {
    let flags = EndpointFlags::CLUSTER.with(EndpointFlags::READY).with(EndpointFlags::SERVING);
    let count = if i == LARGE { 1_000 } else { 2 };
    // 100 services whose endpoints are all gone.
    let count = if i % 300 == 299 { 0 } else { count };
    let endpoint = |e| Endpoint::new(Ipv4Addr::from(0x0b00_0000 + i * 1024 + e).into(), 8080);
    let mut endpoints: Vec<ModelEndpoint> = (0..count).map(|e| ModelEndpoint::new(endpoint(e), flags)).collect();
    endpoints.sort_by_key(|e| e.endpoint.to_string());
    ServicePort {
        node_port: node_port(i),
        has_any_endpoint: !endpoints.is_empty(),
        endpoints: endpoints.into(),
        ..ServicePort::new(
            ServicePortKey {
                family: Family::V4,
                name: ServicePortName::new(ObjectName::new("ns", format!("svc-{i}")), "http", protocol(i)),
            },
            cluster_ip(i).into(),
            80,
        )
    }
}

/// The planned rules, made once for all tests here.
fn rules() -> &'static Ruleset {
    static RULES: OnceLock<Ruleset> = OnceLock::new();
    RULES.get_or_init(|| {
        let mut settings = Settings::default();
        settings.detector.v4 = LocalDetector::Cidr(Fixture::pod_network(Family::V4));
        let model: Vec<_> = (0..SERVICES).map(|i| Arc::new(service(i))).collect();
        let (desired, _) = Desired::plan(&Arc::new(settings), &[Family::V4], &model);
        let mut rules = Ruleset::new(Family::V4);
        for (key, chain) in desired.chains() {
            rules.insert(key.table, key.name.clone(), chain.iter().cloned());
        }
        rules.insert::<weir::kernel::xtables::Rule>(Table::Filter, ChainName::new("KUBE-FIREWALL"), []);
        for wanted in desired.builtin() {
            let (table, chain, rule) = (wanted.chain.table, wanted.chain.name.clone(), wanted.rule.clone());
            match wanted.place {
                Place::Head => rules.prepend(table, chain, rule),
                Place::Tail => rules.append(table, chain, rule),
            }
        }
        rules
    })
}

fn packet(from: &str, to: IpAddr, protocol: Protocol, port: u16) -> Packet {
    let (client, source) = Fixture::client(from, Family::V4).unwrap();
    let in_interface = (client != weir::sim::scenario::Client::Node).then(|| "eth0".to_owned());
    Packet { source, destination: to, protocol, port, in_interface }
}

fn tested(packet: &Packet, serves: bool) -> RulesTested {
    let traced = trace(rules(), &host(), packet).unwrap();
    assert_eq!(matches!(traced.verdict, Verdict::Serve(_)), serves, "{packet:?}: {:?}", traced.verdict);
    traced.rules_tested
}

/// The largest and the average figure of many packets.
#[derive(Default)]
struct Figures {
    packets: usize,
    most: usize,
    sum: f64,
}

impl Figures {
    fn add(&mut self, tested: RulesTested) {
        self.packets += 1;
        self.most = self.most.max(tested.max);
        self.sum += tested.expected;
    }

    fn average(&self) -> f64 {
        self.sum / self.packets as f64
    }
}

fn served(i: u32) -> bool {
    i % 300 != 299
}

/// At 30,000 services and 3,000 node ports, every packet meets some tens of rules in all tables together.
#[test]
fn packets_meet_tens_of_rules_at_30_000_services() {
    let mut figures: BTreeMap<&str, Figures> = BTreeMap::new();
    let node: IpAddr = "192.168.0.2".parse().unwrap();
    for i in (0..SERVICES).step_by(97) {
        let of = |from| packet(from, cluster_ip(i).into(), protocol(i), 80);
        figures.entry("cluster IP from a pod").or_default().add(tested(&of("pod"), served(i)));
        figures.entry("cluster IP from the node").or_default().add(tested(&of("node"), served(i)));
    }
    for i in (0..NODE_PORTS).step_by(7) {
        let of = |from| packet(from, node, protocol(i), node_port(i));
        figures.entry("node port from outside").or_default().add(tested(&of("external"), served(i)));
    }
    let large = packet("pod", cluster_ip(LARGE).into(), protocol(LARGE), 80);
    figures.entry("service with 1,000 endpoints").or_default().add(tested(&large, true));
    let mut random = Random::new(1);
    for _ in 0..300 {
        let elsewhere = Ipv4Addr::from(0x2000_0000 | random.next() as u32);
        let foreign = packet("pod", elsewhere.into(), Protocol::Tcp, 443);
        figures.entry("foreign traffic").or_default().add(tested(&foreign, false));
        let here = packet("external", node, Protocol::Tcp, random.next() as u16 % 29_999);
        figures.entry("to the node itself").or_default().add(tested(&here, false));
    }
    for (what, figures) in &figures {
        println!(
            "{what}: {} packets, {:.1} rules on average, {} at most",
            figures.packets,
            figures.average(),
            figures.most
        );
        let large = *what == "service with 1,000 endpoints";
        let (most, average) = if large { (MOST_OF_1000, AVERAGE + 39.0) } else { (MOST, AVERAGE) };
        assert!(figures.most <= most, "{what}: {} rules", figures.most);
        assert!(figures.average() <= average, "{what}: {:.1} rules on average", figures.average());
    }
    assert!(figures["foreign traffic"].most <= FOREIGN, "{}", figures["foreign traffic"].most);
}

/// Row J18 for a large cluster: every target exists, nothing nests too deep, no chain twice.
#[test]
fn j18_a_large_cluster_has_nothing_that_a_kernel_refuses() {
    let findings = lint(rules());
    assert!(findings.is_empty(), "{} findings, the first: {}", findings.len(), findings[0]);
}
