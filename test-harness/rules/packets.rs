//! Random settings, and packets to frontends and to what nearly is one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weir::model::oracle::{Host, Packet};
use weir::model::{EndpointFlags, LocalDetector, NodePortAddresses, ServicePort, Settings};
use weir::net::{Family, PerFamily, Protocol};
use weir::sim::scenario::Fixture;

use crate::cluster::Random;

/// The fixture's host.
pub fn host() -> Host {
    Host { addresses: Fixture::host_addresses() }
}

/// Settings of every shape that `weir proxy` can settle on.
pub fn settings(random: &mut Random) -> Settings {
    let own: PerFamily<Vec<IpAddr>> =
        PerFamily::new(|family| Fixture::host_addresses().into_iter().filter(|ip| Family::of(ip) == family).collect());
    let localhost_node_ports = random.chance(70);
    let detector = random.below(10);
    let all_addresses = random.chance(60);
    let with_node_ips = random.chance(90);
    let addresses = |family: Family, random: &mut Random| {
        let mut some = random.some_of(50, own.get(family));
        if family == Family::V4 && localhost_node_ports {
            some.push(Ipv4Addr::LOCALHOST.into());
        }
        some.sort_unstable();
        if all_addresses { NodePortAddresses::All } else { NodePortAddresses::Only(some.into()) }
    };
    Settings {
        masquerade_bit: *random.pick(&[14, 14, 0, 31]),
        masquerade_all: random.chance(20),
        detector: PerFamily::new(|family| match detector {
            0..6 => LocalDetector::Cidr(Fixture::pod_network(family)),
            6 => LocalDetector::Interface("cbr0".into()),
            7 => LocalDetector::InterfacePrefix("veth".into()),
            _ => LocalDetector::None,
        }),
        node_ips: PerFamily::new(|family| own.get(family).first().copied().filter(|_| with_node_ips)),
        node_port_addresses: PerFamily::new(|family| addresses(family, random)),
        localhost_node_ports,
        random_fully: random.chance(50),
        drop_invalid: random.chance(70),
        nfacct_ct_invalid: random.chance(50),
        nfacct_localhost_node_ports: random.chance(50),
        local_addresses: PerFamily::new(|family| {
            let mut own = own.get(family).clone();
            own.sort_unstable();
            own.into()
        }),
        ..Settings::default()
    }
}

/// A packet of the family: mostly to something that a service answers to.
pub fn packet(random: &mut Random, model: &[Arc<ServicePort>], family: Family) -> Packet {
    let of_family: Vec<&Arc<ServicePort>> = model.iter().filter(|port| port.family() == family).collect();
    let port = (!of_family.is_empty()).then(|| *random.pick(&of_family));
    let (mut destination, mut protocol, mut number) = match port {
        Some(port) if random.chance(95) => frontend(random, port),
        _ => (foreign(random, family), Protocol::Tcp, 80),
    };
    if random.chance(20) {
        (destination, protocol, number) = near_miss(random, destination, protocol, number);
    }
    let (mut source, mut in_interface) = source(random, family, port, destination);
    if is_elsewhere(model, source) {
        in_interface = Some(Fixture::OUTER_INTERFACE);
        if model.iter().any(|port| port.cluster_ip == destination) {
            // Its own node has sent it to an endpoint. A pod of this node may send the same.
            (source, in_interface) = (pod(family), Some(Fixture::POD_INTERFACE));
        }
    }
    Packet { source, destination, protocol, port: number, in_interface: in_interface.map(str::to_owned) }
}

/// The packet as a node in IPVS mode would send it: a process that does not ask for a source gets the address that it
/// sends to, if that is an address of the node. Nobody asks for a loopback address.
pub fn with_own_source(packet: Packet, model: &[Arc<ServicePort>]) -> Packet {
    let destination = packet.destination;
    let is_own = || host().is_local(&destination) || model.iter().any(|port| has_address(port, &destination));
    if packet.in_interface.is_none() && packet.source.is_loopback() && is_own() {
        return Packet { source: destination, ..packet };
    }
    packet
}

fn has_address(port: &ServicePort, ip: &IpAddr) -> bool {
    port.cluster_ip == *ip || port.external_ips.contains(ip) || port.load_balancer_ips.contains(ip)
}

/// An endpoint on another node.
fn is_elsewhere(model: &[Arc<ServicePort>], ip: IpAddr) -> bool {
    let mut endpoints = model.iter().flat_map(|port| &port.endpoints);
    endpoints.any(|e| e.endpoint.ip == ip && e.flags.contains(EndpointFlags::ELSEWHERE))
}

fn pod(family: Family) -> IpAddr {
    Fixture::client("pod", family).map_or(loopback(family), |(_, ip)| ip)
}

/// Something that the service answers to.
fn frontend(random: &mut Random, port: &ServicePort) -> (IpAddr, Protocol, u16) {
    let protocol = port.key.name.protocol;
    let mut all = vec![(port.cluster_ip, protocol, port.port)];
    all.extend(port.external_ips.iter().chain(&port.load_balancer_ips).map(|ip| (*ip, protocol, port.port)));
    let mut here: Vec<IpAddr> = host().addresses.into_iter().filter(|ip| Family::of(ip) == port.family()).collect();
    here.push(loopback(port.family()));
    let here = *random.pick(&here);
    if port.node_port != 0 {
        all.push((here, protocol, port.node_port));
    }
    if port.health_check_node_port != 0 {
        all.push((here, Protocol::Tcp, port.health_check_node_port));
    }
    *random.pick(&all)
}

fn near_miss(random: &mut Random, ip: IpAddr, protocol: Protocol, port: u16) -> (IpAddr, Protocol, u16) {
    match random.below(4) {
        0 => (flip(random, ip), protocol, port),
        1 => (ip, *random.pick(&Protocol::ALL), port),
        2 => (ip, protocol, port ^ (1 << random.below(16)) | 1),
        _ => (ip, protocol, *random.pick(&[80, 53, 443, 9, 30_001, 31_501])),
    }
}

/// Another address that differs in one bit. A loopback address stays one: nothing else is routed to the node itself.
fn flip(random: &mut Random, ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) ^ 1 << random.below(24)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) ^ 1 << random.below(100)).into(),
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

fn foreign(random: &mut Random, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(0x0800_0000 | random.next() as u32 & 0x00ff_ffff).into(),
        Family::V6 => Ipv6Addr::from((0x2606_u128 << 112) | u128::from(random.next())).into(),
    }
}

/// Who sends it: a pod, an endpoint of the service itself, the node, or somebody outside. `None`: no interface.
fn source(
    random: &mut Random,
    family: Family,
    port: Option<&Arc<ServicePort>>,
    destination: IpAddr,
) -> (IpAddr, Option<&'static str>) {
    const POD: Option<&str> = Some(Fixture::POD_INTERFACE);
    const OUTER: Option<&str> = Some(Fixture::OUTER_INTERFACE);
    let client = |name| Fixture::client(name, family).map_or(loopback(family), |(_, ip)| ip);
    let own: Vec<IpAddr> = host().addresses.into_iter().filter(|ip| Family::of(ip) == family).collect();
    let endpoints = port.map(|port| &port.endpoints[..]).unwrap_or_default();
    match random.below(12) {
        0..2 => (client("pod"), POD),
        2 => (client("pod"), Some("cbr0")),
        3..5 if !endpoints.is_empty() => {
            let ip = random.pick(endpoints).endpoint.ip;
            (ip, if host().is_local(&ip) { None } else { *random.pick(&[POD, OUTER]) })
        }
        5 => (client("node"), None),
        6 => (*random.pick(&own), None),
        7 => (client("localhost"), None),
        8 => (client("blocked"), OUTER),
        // What a node sends to an address of its own has that address as its source.
        9 if host().is_local(&destination) => (destination, None),
        10 => (random_source(random, family), OUTER),
        _ => (client("external"), OUTER),
    }
}

/// Inside or just outside of source ranges.
fn random_source(random: &mut Random, family: Family) -> IpAddr {
    let texts: &[&str] = match family {
        Family::V4 => &["198.18.0.0", "198.18.0.1", "198.18.0.2", "192.168.0.77", "10.9.9.9", "203.0.113.127"],
        Family::V6 => &["2001:db8::77", "2600:5200::7", "2600:5200::8", "fd00:10::9"],
    };
    random.pick(texts).parse().unwrap()
}
