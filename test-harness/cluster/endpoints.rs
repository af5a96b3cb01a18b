//! Endpoint slices of every shape.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weir::net::{Family, ObjectName};
use weir::sim::scenario::Fixture;
use weir::state::{Conditions, EndpointSlice, Hints, Service, SliceEndpoint, SlicePort};

use super::Random;

/// Slices for all families of the service, or for none.
pub fn slices(random: &mut Random, service: &Service, i: usize, most: usize) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for family in [Family::V4, Family::V6] {
        if service.ip_families.contains(&family) || random.chance(5) {
            slices.extend(of_family(random, service, family, i, most));
        }
    }
    slices
}

/// How many endpoints: mostly few, sometimes so many that they are chosen in groups.
fn count(random: &mut Random) -> usize {
    match random.below(100) {
        0..15 => 0,
        15..75 => 1 + random.below(5),
        75..92 => 6 + random.below(27),
        92..97 => 33 + random.below(8),
        _ => 41 + random.below(160),
    }
}

fn of_family(random: &mut Random, service: &Service, family: Family, i: usize, most: usize) -> Vec<EndpointSlice> {
    let count = count(random).min(most);
    let all_ready = random.chance(60);
    let hints = Hinting::any(random);
    let all_here = random.chance(10);
    let mut endpoints: Vec<SliceEndpoint> = (0..count)
        .map(|e| {
            let ip = address(random, family, i, e);
            let conditions = if all_ready { Conditions::default() } else { conditions(random) };
            let node = if all_here { Some(Fixture::NODE.into()) } else { node(random) };
            // What has an address of our node is not said to be on another.
            let is_here = Fixture::host_addresses().contains(&ip);
            let node = node.filter(|name| !is_here || **name == *Fixture::NODE);
            SliceEndpoint::new(ip, conditions, node, hints.hints(random))
        })
        .collect();
    random.shuffle(&mut endpoints);
    spread(random, service, family, endpoints, i)
}

/// Over one to three slices; some endpoints are in two, as while a controller moves them.
fn spread(
    random: &mut Random,
    service: &Service,
    family: Family,
    endpoints: Vec<SliceEndpoint>,
    i: usize,
) -> Vec<EndpointSlice> {
    let pieces = 1 + random.below(3);
    let mut parts: Vec<Vec<SliceEndpoint>> = vec![Vec::new(); pieces];
    for endpoint in endpoints {
        if random.chance(5) {
            let mut twin = endpoint.clone();
            twin.conditions = conditions(random);
            parts[random.below(pieces)].push(twin);
        }
        parts[random.below(pieces)].push(endpoint);
    }
    let ports: Box<[SlicePort]> = service
        .ports
        .iter()
        .filter(|_| !random.chance(4))
        .map(|port| SlicePort { name: port.name.clone(), protocol: port.protocol, port: target_port(port.port, i) })
        .collect();
    let name = |part: usize| format!("{}-{}{part}", service.name.name, family.as_str().to_lowercase());
    parts
        .into_iter()
        .enumerate()
        .map(|(part, endpoints)| EndpointSlice {
            name: ObjectName::new(service.name.namespace.clone(), name(part)),
            service: service.name.name.clone(),
            family,
            ports: ports.clone(),
            endpoints: endpoints.into(),
            trigger_time: None,
        })
        .collect()
}

/// Never the number of a frontend or node port, because endpoints may have the node's address.
fn target_port(port: u16, i: usize) -> u16 {
    8_000 + port + 1_000 * (i as u16 % 8)
}

fn address(random: &mut Random, family: Family, i: usize, e: usize) -> IpAddr {
    let (i, e) = (i as u32, e as u32);
    // Pods of the host network: here, and on a node outside of the pod network.
    let host = random.chance(4).then(|| random.below(2));
    match (family, host) {
        (Family::V4, None) => Ipv4Addr::from(0x0ab4_0000 + i * 256 + e).into(),
        (Family::V4, Some(0)) => Ipv4Addr::new(192, 168, 0, 2).into(),
        (Family::V4, Some(_)) => Ipv4Addr::from(0xc0a8_0500 + e % 256).into(),
        (Family::V6, None) => Ipv6Addr::from((0xfd00_0010_u128 << 96) + u128::from(0x18_0000 + i * 256 + e)).into(),
        (Family::V6, Some(0)) => Ipv6Addr::from((0x2001_0db8_u128 << 96) + 1).into(),
        (Family::V6, Some(_)) => Ipv6Addr::from((0x2001_0db8_0005_u128 << 80) + u128::from(e)).into(),
    }
}

fn conditions(random: &mut Random) -> Conditions {
    let (ready, serving, terminating) = *random.pick(&[
        (true, true, false),
        (true, true, false),
        (false, true, true),
        (false, true, true),
        (false, false, true),
        (false, false, false),
        // Of a service that publishes addresses that are not ready.
        (true, false, true),
    ]);
    Conditions { ready, serving, terminating }
}

fn node(random: &mut Random) -> Option<Arc<str>> {
    match random.below(10) {
        0..3 => Some(Fixture::NODE.into()),
        3..9 => Some("remote-node".into()),
        _ => None,
    }
}

/// Which hints the endpoints of a service have.
#[derive(Clone, Copy)]
enum Hinting {
    None,
    Zones,
    Nodes,
    /// Half written.
    Some,
}

impl Hinting {
    fn any(random: &mut Random) -> Self {
        match random.below(10) {
            0..6 => Hinting::None,
            6..8 => Hinting::Zones,
            8 => Hinting::Nodes,
            _ => Hinting::Some,
        }
    }

    fn hints(self, random: &mut Random) -> Option<Arc<Hints>> {
        let zone: Arc<str> = (*random.pick(&["a", "b", "c"])).into();
        let node: Arc<str> = (*random.pick(&[Fixture::NODE, "remote-node"])).into();
        let hints =
            |zones: &[Arc<str>], nodes: &[Arc<str>]| Some(Arc::new(Hints { zones: zones.into(), nodes: nodes.into() }));
        match self {
            Hinting::None => None,
            Hinting::Zones => hints(&[zone], &[]),
            Hinting::Nodes => hints(&[zone], &[node]),
            Hinting::Some => random.chance(50).then(|| hints(&[zone], &[])).flatten(),
        }
    }
}
