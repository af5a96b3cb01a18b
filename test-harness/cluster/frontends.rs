//! Services: what they answer to, and their policies.
//!
//! Addresses and ports are chosen so that no endpoint's address and port are a frontend's: what the kernel does with
//! such a packet twice is not the model's business.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use weir::net::{Family, ObjectName, Protocol};
use weir::state::{ClusterIp, IpMode, LoadBalancerIngress, Service, ServicePort, ServiceType, TrafficPolicy};

use super::{Random, families, spread_bits};

/// How cluster IPs lie in their network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terrain {
    /// One after the other.
    Dense,
    /// As an allocator that chooses at random leaves them.
    Scattered,
    /// Parting in every half byte.
    Forked,
}

impl Terrain {
    pub fn any(random: &mut Random) -> Self {
        *random.pick(&[Terrain::Dense, Terrain::Scattered, Terrain::Forked])
    }

    /// The cluster IP of service number `i`, unique to it.
    fn cluster_ip(self, family: Family, i: usize) -> IpAddr {
        let v6 = 0xfd00_0172_0030_u128 << 80;
        match (family, self) {
            (Family::V4, Terrain::Dense) => Ipv4Addr::from(0xac1e_0001 + i as u32).into(),
            (Family::V4, Terrain::Scattered) => Ipv4Addr::from(0xac1e_0000 + (i as u32 * 40_503) % 0xffff).into(),
            (Family::V4, Terrain::Forked) => Ipv4Addr::from(0x2000_0000 | spread_bits(i) as u32 & 0x0fff_ffff).into(),
            (Family::V6, Terrain::Dense) => Ipv6Addr::from(v6 + i as u128).into(),
            (Family::V6, Terrain::Scattered) => Ipv6Addr::from(v6 + ((i as u128 * 0x9e37_79b9) << 16)).into(),
            (Family::V6, Terrain::Forked) => Ipv6Addr::from(v6 + (spread_bits(i) << 8)).into(),
        }
    }
}

const POLICIES: [TrafficPolicy; 2] = [TrafficPolicy::Cluster, TrafficPolicy::Local];

pub fn name(i: usize) -> ObjectName {
    ObjectName::new(format!("ns{}", i % 3), format!("svc{i}"))
}

/// Some service number `i`. What must be unique in a cluster (cluster IP, node ports) follows from the number.
pub fn service(random: &mut Random, terrain: Terrain, i: usize) -> Service {
    let families = families(random);
    let ips: Vec<IpAddr> = families.iter().map(|family| terrain.cluster_ip(*family, i)).collect();
    let service_type = *random.pick(&[
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
        ServiceType::LoadBalancer,
    ]);
    let cluster_ip = match random.below(40) {
        0 => ClusterIp::Headless,
        1 => ClusterIp::Unset,
        _ => ClusterIp::Ip(ips[0]),
    };
    let balanced = service_type == ServiceType::LoadBalancer;
    Service {
        name: name(i),
        service_type,
        cluster_ip,
        cluster_ips: ips.iter().copied().map(Some).collect(),
        ip_families: families.into(),
        ports: ports(random, service_type, i),
        external_ips: if random.chance(30) { external_ips(random, i) } else { Box::default() },
        load_balancer: if balanced && random.chance(85) { ingress(random, i) } else { Box::default() },
        source_ranges: if balanced && random.chance(40) { ranges(random) } else { Box::default() },
        affinity_seconds: random.chance(25).then_some(10_800),
        internal_policy: *random.pick(&POLICIES),
        external_policy: *random.pick(&POLICIES),
        tuning: None,
        health_check_node_port: if balanced { 31_500 + i as u16 } else { 0 },
    }
}

fn ports(random: &mut Random, service_type: ServiceType, i: usize) -> Box<[ServicePort]> {
    let count = *random.pick(&[1, 1, 1, 2, 3]);
    let has_node_port = match service_type {
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => random.chance(75),
        ServiceType::ClusterIp | ServiceType::ExternalName => false,
    };
    let first = random.below(4);
    (0..count)
        .map(|k| {
            let (port, protocol) =
                [(80, Protocol::Tcp), (53, Protocol::Udp), (443, Protocol::Tcp), (9, Protocol::Sctp)][(first + k) % 4];
            // With an external IP that is the node's, somebody else's node port.
            let port = if random.chance(8) && k == 0 { 30_000 + 4 * random.below(4) as u16 } else { port };
            let name = if count == 1 && random.chance(50) { String::new() } else { format!("p{port}") };
            let node_port = if has_node_port { 30_000 + (i * 4 + k) as u16 } else { 0 };
            ServicePort { name: name.into(), protocol, port, node_port }
        })
        .collect()
}

fn parse<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap()
}

/// Addresses of the node, and addresses elsewhere, some of them shared with other services.
fn external_ips(random: &mut Random, i: usize) -> Box<[IpAddr]> {
    let own: IpAddr = Ipv4Addr::new(198, 51, 100, i as u8).into();
    let own6: IpAddr = Ipv6Addr::from((0x2001_0db8_0051_u128 << 80) + i as u128).into();
    let all =
        [own, own6, parse("192.168.99.11"), parse("203.0.113.200"), parse("2001:db8:1::2"), parse("2600:5200::c8")];
    random.some_of(35, &all).into()
}

fn ingress(random: &mut Random, i: usize) -> Box<[LoadBalancerIngress]> {
    let own: IpAddr = Ipv4Addr::new(1, 2, 4, i as u8).into();
    let own6: IpAddr = Ipv6Addr::from((0x2001_0db8_0102_u128 << 80) + i as u128).into();
    let all = [own, own6, parse("1.2.3.4"), parse("5.6.7.8"), parse("192.168.1.2"), parse("2001:db8:9::9")];
    let ips = random.some_of(40, &all);
    ips.into_iter()
        .map(|ip| LoadBalancerIngress { ip, mode: if random.chance(12) { IpMode::Proxy } else { IpMode::Vip } })
        .collect()
}

/// With and without the node's address, pods, a range for everyone, one family only.
fn ranges(random: &mut Random) -> Box<[IpNet]> {
    let all: [IpNet; 8] = [
        parse("192.168.0.0/24"),
        parse("203.0.113.0/25"),
        parse("10.0.0.0/8"),
        parse("198.18.0.1/32"),
        parse("2001:db8::/64"),
        parse("2600:5200::/125"),
        parse("fd00:10::/64"),
        if random.chance(10) { parse("0.0.0.0/0") } else { parse("198.18.0.0/31") },
    ];
    random.some_of(35, &all).into()
}
