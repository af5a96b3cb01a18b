//! A test for each difference, by its number.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::{Host, Mode, Outcome, Packet, Verdict, judge_in};
use crate::model::{EndpointFlags, LocalDetector, ModelEndpoint, ServicePort, ServicePortKey, Settings};
use crate::net::{Endpoint, Family, ObjectName, PerFamily, Protocol, ServicePortName};
use crate::state::TrafficPolicy;

const CLUSTER_IP: &str = "172.30.0.41";
const VIP: &str = "1.2.3.4";
const EXTERNAL_IP: &str = "5.6.7.8";
const NODE: &str = "192.168.0.2";
const HERE: &str = "10.180.0.1";
const THERE: &str = "10.180.2.1";

const ALL_LISTS: EndpointFlags = EndpointFlags::CLUSTER.with(EndpointFlags::LOCAL);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(address: &str, flags: EndpointFlags, weight: u16) -> ModelEndpoint {
    ModelEndpoint { weight, ..ModelEndpoint::new(Endpoint::new(ip(address), 80), flags) }
}

/// Every kind of frontend; one endpoint here and one on another node.
fn service(name: &str) -> ServicePort {
    ServicePort {
        key: ServicePortKey {
            family: Family::V4,
            name: ServicePortName::new(ObjectName::new("ns", name), "p", Protocol::Tcp),
        },
        cluster_ip: ip(CLUSTER_IP),
        port: 80,
        node_port: 3001,
        external_ips: [ip(EXTERNAL_IP)].into(),
        load_balancer_ips: [ip(VIP)].into(),
        source_ranges: Box::default(),
        affinity_seconds: None,
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        health_check_node_port: 0,
        endpoints: [endpoint(HERE, ALL_LISTS, 1), endpoint(THERE, EndpointFlags::CLUSTER, 1)].into(),
        has_any_endpoint: true,
        tuning: None,
    }
}

fn local(name: &str) -> ServicePort {
    ServicePort { external_policy: TrafficPolicy::Local, ..service(name) }
}

fn only_there(port: ServicePort) -> ServicePort {
    ServicePort { endpoints: [endpoint(THERE, EndpointFlags::CLUSTER, 1)].into(), ..port }
}

fn without_endpoints(port: ServicePort) -> ServicePort {
    ServicePort { endpoints: Box::default(), has_any_endpoint: false, ..port }
}

fn settings(detector: LocalDetector) -> Settings {
    Settings { detector: PerFamily::new(|_| detector.clone()), ..Settings::default() }
}

fn pods() -> LocalDetector {
    LocalDetector::Cidr("10.0.0.0/8".parse().unwrap())
}

fn packet(source: &str, destination: &str, port: u16, in_interface: Option<&str>) -> Packet {
    Packet {
        source: ip(source),
        destination: ip(destination),
        protocol: Protocol::Tcp,
        port,
        in_interface: in_interface.map(str::to_owned),
    }
}

fn outside(to: &str, port: u16) -> Packet {
    packet("203.0.113.2", to, port, Some("eth0"))
}

fn pod(to: &str, port: u16) -> Packet {
    packet("10.0.0.2", to, port, Some("veth1"))
}

fn node(to: &str, port: u16) -> Packet {
    packet(NODE, to, port, None)
}

fn judge_with(mode: Mode, services: &[ServicePort], settings: &Settings, packet: &Packet) -> Verdict {
    judge_in(mode, services.iter(), settings, &Host { addresses: vec![ip(NODE)] }, packet)
}

/// Both modes, with pods told by their network.
fn both(services: &[ServicePort], packet: &Packet) -> [Verdict; 2] {
    Mode::ALL.map(|mode| judge_with(mode, services, &settings(pods()), packet))
}

fn ipvs(services: &[ServicePort], packet: &Packet) -> Verdict {
    judge_with(Mode::Ipvs, services, &settings(pods()), packet)
}

fn served(outcomes: &[(&str, f64)], masqueraded: bool) -> Verdict {
    let outcome = |address: &str| Outcome { endpoint: Endpoint::new(ip(address), 80), masqueraded };
    Verdict::Serve(outcomes.iter().map(|(address, p)| (outcome(address), *p)).collect::<BTreeMap<_, _>>())
}

fn one(address: &str, masqueraded: bool) -> Verdict {
    served(&[(address, 1.0)], masqueraded)
}

#[test]
fn difference_1_the_first_service_has_the_virtual_server() {
    let mut second = service("b");
    second.cluster_ip = ip("172.30.0.42");
    let services = [without_endpoints(service("a")), second];
    let halves = |masqueraded| served(&[(HERE, 0.5), (THERE, 0.5)], masqueraded);
    assert_eq!(both(&services, &outside(EXTERNAL_IP, 80)), [halves(true), Verdict::Reject]);
    assert_eq!(both(&services, &pod("172.30.0.42", 80)), [halves(false), halves(false)]);
    // The order of the keys decides, not the order in which they come.
    let [first, second] = services;
    assert_eq!(ipvs(&[second.clone(), first.clone()], &outside(EXTERNAL_IP, 80)), Verdict::Reject);
    // Addresses come before node ports.
    let mut third = service("c");
    (third.external_ips, third.port) = ([ip(NODE)].into(), 3001);
    assert_eq!(ipvs(&[first, third.clone()], &outside(NODE, 3001)), halves(true));
    assert_eq!(ipvs(&[second, without_endpoints(third)], &outside(NODE, 3001)), Verdict::Reject);
    // Within a service a VIP that is an external IP as well has no source ranges.
    let mut twice = ServicePort { source_ranges: ["198.51.100.0/24".parse().unwrap()].into(), ..service("a") };
    assert_eq!(ipvs(&[twice.clone()], &outside(VIP, 80)), Verdict::Drop);
    twice.external_ips = [ip(VIP)].into();
    assert_eq!(ipvs(&[twice], &outside(VIP, 80)), halves(true));
}

#[test]
fn difference_2_ports_that_no_service_has_are_refused_on_service_addresses() {
    let service = ServicePort { health_check_node_port: 30000, ..local("a") };
    for address in [CLUSTER_IP, EXTERNAL_IP, VIP] {
        for packet in [outside(address, 22), pod(address, 22), node(address, 22)] {
            assert_eq!(both(std::slice::from_ref(&service), &packet), [Verdict::Untouched, Verdict::Reject]);
        }
        let health_check = outside(address, 30000);
        assert_eq!(both(std::slice::from_ref(&service), &health_check), [Verdict::Untouched, Verdict::Accept]);
        assert_eq!(ipvs(std::slice::from_ref(&service), &outside(address, 3001)), Verdict::Reject, "a node port");
    }
    assert_eq!(ipvs(std::slice::from_ref(&service), &outside(NODE, 22)), Verdict::Untouched);
    assert_eq!(ipvs(std::slice::from_ref(&service), &outside("1.2.3.5", 80)), Verdict::Untouched);
    // An address that the node has on another device has the host's ports, too.
    let on_node = ServicePort { external_ips: [ip(NODE)].into(), ..service };
    assert_eq!(ipvs(std::slice::from_ref(&on_node), &outside(NODE, 22)), Verdict::Untouched);
    assert_eq!(ipvs(&[on_node], &outside(NODE, 80)), one(HERE, false));
}

#[test]
fn difference_3_the_node_is_refused_like_everyone() {
    let nothing = [without_endpoints(service("a"))];
    for address in [EXTERNAL_IP, VIP] {
        assert_eq!(both(&nothing, &node(address, 80)), [Verdict::Untouched, Verdict::Reject]);
        assert_eq!(both(&nothing, &outside(address, 80)), [Verdict::Reject, Verdict::Reject]);
    }
    assert_eq!(both(&nothing, &node(CLUSTER_IP, 80)), [Verdict::Reject, Verdict::Reject]);
    assert_eq!(both(&nothing, &node(NODE, 3001)), [Verdict::Reject, Verdict::Reject]);
}

#[test]
fn difference_4_weights_are_probabilities() {
    let with = |here, there| {
        let endpoints = [endpoint(HERE, ALL_LISTS, here), endpoint(THERE, EndpointFlags::CLUSTER, there)];
        [ServicePort { endpoints: endpoints.into(), ..service("a") }]
    };
    let halves = served(&[(HERE, 0.5), (THERE, 0.5)], false);
    let packet = pod(CLUSTER_IP, 80);
    assert_eq!(both(&with(1, 3), &packet), [halves.clone(), served(&[(HERE, 0.25), (THERE, 0.75)], false)]);
    assert_eq!(both(&with(0, 3), &packet), [halves.clone(), one(THERE, false)]);
    assert_eq!(both(&with(0, 0), &packet), [halves.clone(), halves]);
}

#[test]
fn difference_5_the_local_policy_has_one_list() {
    let service = [local("a")];
    for (to, port) in [(EXTERNAL_IP, 80), (VIP, 80), (NODE, 3001)] {
        for (packet, masqueraded) in [(pod(to, port), false), (node(to, port), true)] {
            let everywhere = served(&[(HERE, 0.5), (THERE, 0.5)], masqueraded);
            assert_eq!(both(&service, &packet), [everywhere, one(HERE, masqueraded)]);
        }
        assert_eq!(both(&service, &outside(to, port)), [one(HERE, false), one(HERE, false)]);

        let elsewhere = [only_there(local("a"))];
        assert_eq!(both(&elsewhere, &pod(to, port)), [one(THERE, false), one(THERE, false)]);
        assert_eq!(both(&elsewhere, &node(to, port)), [one(THERE, true), one(THERE, true)]);
        assert_eq!(both(&elsewhere, &outside(to, port)), [Verdict::Drop, Verdict::Drop]);

        let nowhere = [without_endpoints(local("a"))];
        assert_eq!(ipvs(&nowhere, &pod(to, port)), Verdict::Reject);
        assert_eq!(ipvs(&nowhere, &outside(to, port)), Verdict::Reject);
    }
    // The internal policy never leaks.
    let internal = |port| ServicePort { internal_policy: TrafficPolicy::Local, ..port };
    assert_eq!(both(&[internal(service[0].clone())], &pod(CLUSTER_IP, 80)), [one(HERE, false), one(HERE, false)]);
    let elsewhere = [internal(only_there(local("a")))];
    for packet in [pod(CLUSTER_IP, 80), node(CLUSTER_IP, 80), outside(CLUSTER_IP, 80)] {
        assert_eq!(both(&elsewhere, &packet), [Verdict::Drop, Verdict::Drop]);
    }
    // Without a detector nobody is known to be a pod.
    let found = judge_with(Mode::Ipvs, &[only_there(local("a"))], &settings(LocalDetector::None), &pod(VIP, 80));
    assert_eq!(found, Verdict::Drop);
}

#[test]
fn difference_6_nothing_is_served_on_loopback_addresses() {
    let services = [service("a")];
    let from_loopback = |to, port| packet("127.0.0.1", to, port, None);
    let halves = served(&[(HERE, 0.5), (THERE, 0.5)], true);
    assert_eq!(both(&services, &from_loopback("127.0.0.1", 3001)), [halves, Verdict::Untouched]);
    assert_eq!(both(&services, &outside("127.0.0.1", 8080)), [Verdict::Drop, Verdict::Untouched]);
    assert_eq!(ipvs(&services, &from_loopback(CLUSTER_IP, 80)), Verdict::Drop);
    let own = [ServicePort { endpoints: [endpoint(NODE, ALL_LISTS, 1)].into(), ..service("a") }];
    assert_eq!(ipvs(&own, &from_loopback(CLUSTER_IP, 80)), one(NODE, false));
    assert_eq!(ipvs(&own, &node(CLUSTER_IP, 80)), one(NODE, true));
    assert_eq!(ipvs(&own, &outside(CLUSTER_IP, 80)), one(NODE, false), "it stays here");
}

#[test]
fn difference_7_a_service_address_as_source_is_masqueraded() {
    let services = [only_there(service("a"))];
    let no_detector = settings(LocalDetector::None);
    let from = |source: &str| {
        let packet = packet(source, CLUSTER_IP, 80, None);
        Mode::ALL.map(|mode| judge_with(mode, &services, &no_detector, &packet))
    };
    assert_eq!(from(NODE), [one(THERE, false), one(THERE, false)]);
    assert_eq!(from(CLUSTER_IP), [one(THERE, false), one(THERE, true)]);
    let external = packet(VIP, VIP, 80, None);
    assert_eq!(judge_with(Mode::Ipvs, &[local("a")], &no_detector, &external), one(HERE, true));
}

#[test]
fn difference_8_endpoints_of_other_nodes_are_not_known_as_their_own_clients() {
    let with = |flags| [ServicePort { endpoints: [endpoint(THERE, ALL_LISTS.with(flags), 1)].into(), ..service("a") }];
    let itself = packet(THERE, CLUSTER_IP, 80, Some("veth1"));
    assert_eq!(both(&with(EndpointFlags::ON_NODE), &itself), [one(THERE, true), one(THERE, true)]);
    assert_eq!(both(&with(EndpointFlags::default()), &itself), [one(THERE, true), one(THERE, true)]);
    assert_eq!(both(&with(EndpointFlags::ELSEWHERE), &itself), [one(THERE, true), one(THERE, false)]);
}

#[test]
fn source_ranges_hold_everywhere_as_in_iptables_mode() {
    let mut ranged = ServicePort { source_ranges: ["203.0.113.0/24".parse().unwrap()].into(), ..local("a") };
    for packet in [pod(VIP, 80), node(VIP, 80), packet("198.51.100.1", VIP, 80, Some("eth0"))] {
        assert_eq!(both(std::slice::from_ref(&ranged), &packet), [Verdict::Drop, Verdict::Drop]);
    }
    assert_eq!(ipvs(std::slice::from_ref(&ranged), &outside(VIP, 80)), one(HERE, false));
    // The VIP itself is let in where the node is.
    let own_vip = packet(VIP, VIP, 80, None);
    assert_eq!(ipvs(std::slice::from_ref(&ranged), &own_vip), Verdict::Drop);
    ranged.source_ranges = ["192.168.0.0/24".parse().unwrap()].into();
    let here = Settings { node_ips: PerFamily::new(|_| Some(ip(NODE))), ..settings(pods()) };
    assert_eq!(judge_with(Mode::Ipvs, &[ranged], &here, &own_vip), one(HERE, true));
}
