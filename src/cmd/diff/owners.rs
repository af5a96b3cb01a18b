//! Whom an object of IPVS mode is there for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::grouping::About;
use crate::kernel::ipset::{Entry, SetName};
use crate::kernel::ipvs::VirtualServerKey;
use crate::model::ServicePort;
use crate::net::{Endpoint, Family, Protocol, ServicePortName};
use crate::plan::ipvs::{Planner, Set};

/// Which service port an object is there for. Where several want the same one, it is the first of them: an address by
/// its lowest port, everything else by the name of the service port.
pub struct Owners<'a> {
    planner: &'a Planner,
    addresses: HashMap<IpAddr, &'a ServicePortName>,
    node_ports: HashMap<(Family, Protocol, u16), &'a ServicePortName>,
    health_check_ports: HashMap<(Family, u16), &'a ServicePortName>,
    endpoints: HashMap<(Endpoint, Protocol), &'a ServicePortName>,
    sets: HashMap<SetName, Set>,
}

impl<'a> Owners<'a> {
    /// The planner knows the model, which is sorted.
    pub fn of(planner: &'a Planner, model: &'a [Arc<ServicePort>]) -> Self {
        let sets = planner.families().iter().flat_map(|family| Set::ALL.map(|set| (set.name(*family), set)));
        let mut owners = Owners {
            planner,
            addresses: HashMap::new(),
            node_ports: HashMap::new(),
            health_check_ports: HashMap::new(),
            endpoints: HashMap::new(),
            sets: sets.collect(),
        };
        for (key, _) in planner.wanted() {
            if let Some(owner) = planner.owner(&key) {
                owners.addresses.entry(key.address).or_insert(&owner.name);
            }
        }
        for port in model {
            let (name, family) = (&port.key.name, port.family());
            if port.node_port != 0 {
                owners.node_ports.entry((family, name.protocol, port.node_port)).or_insert(name);
            }
            if port.health_check_node_port != 0 {
                owners.health_check_ports.entry((family, port.health_check_node_port)).or_insert(name);
            }
            for endpoint in &*port.endpoints {
                owners.endpoints.entry((endpoint.endpoint, name.protocol)).or_insert(name);
            }
        }
        owners
    }

    pub fn of_server(&self, key: &VirtualServerKey) -> About {
        about(self.planner.owner(key).map(|owner| &owner.name))
    }

    /// An address of the service device.
    pub fn of_address(&self, address: &IpAddr) -> About {
        about(self.addresses.get(address).copied())
    }

    /// An entry of a set. Sets that are not those of services are the base's.
    pub fn of_entry(&self, family: Family, set: &SetName, entry: &Entry) -> About {
        let Some(set) = self.sets.get(set) else { return About::Base };
        match *entry {
            Entry::Net(_) => About::Base,
            Entry::Ip(ip) => self.of_address(&ip),
            Entry::IpPortIp(ip, protocol, port, _) if *set == Set::LoopBack => {
                about(self.endpoints.get(&(Endpoint::new(ip, port), protocol)).copied())
            }
            Entry::IpPort(ip, protocol, port)
            | Entry::IpPortIp(ip, protocol, port, _)
            | Entry::IpPortNet(ip, protocol, port, _) => self.of_server(&VirtualServerKey::new(protocol, ip, port)),
            Entry::Port(port) => about(self.of_port(family, *set, port)),
        }
    }

    fn of_port(&self, family: Family, set: Set, port: u16) -> Option<&'a ServicePortName> {
        let node_port = |protocol| self.node_ports.get(&(family, protocol, port)).copied();
        match set {
            Set::NodePortTcp | Set::NodePortLocalTcp => node_port(Protocol::Tcp),
            Set::NodePortUdp | Set::NodePortLocalUdp => node_port(Protocol::Udp),
            Set::HealthCheckNodePort => self.health_check_ports.get(&(family, port)).copied(),
            _ => None,
        }
    }
}

fn about(name: Option<&ServicePortName>) -> About {
    name.map_or(About::Unknown, |name| About::Service(name.to_string()))
}
