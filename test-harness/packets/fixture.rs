//! The host of `rules/scenarios` made of namespaces.
//!
//! It is the lab with more addresses: the scenarios' node addresses on `node`, their outside clients in the namespace
//! `client`, their pods in the pods' namespaces. A pod that is a client of its own has a namespace to itself: an answer
//! to a client in the same namespace would not pass the node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use weir::lab::{EchoServer, Host, Lab, LabConfig};
use weir::model::oracle::{self, Mode, Verdict};
use weir::net::{Family, Protocol};
use weir::sim::scenario::{Client, Fixture, Flow};

use super::variants::{has_sctp, ip};

/// Name of the server on the node that answers where a packet is let in on purpose.
pub const WITNESS: &str = "node";

/// The scenarios' host.
pub struct Real {
    pub lab: Lab,
    /// Which pod has a pod network's address.
    pods: BTreeMap<IpAddr, usize>,
    _servers: Vec<EchoServer>,
}

impl Real {
    /// Builds all that these flows need in this mode.
    pub fn new(flows: &[&Flow], mode: Mode) -> Real {
        let pods = place(flows, mode);
        let service_networks: BTreeSet<IpNet> =
            flows.iter().map(|flow| flow.packet.destination).filter(|ip| !ip.is_loopback()).map(IpNet::from).collect();
        let config = LabConfig {
            pods: pods.values().max().unwrap() + 1,
            node2_pods: 0,
            service_networks: service_networks.into_iter().collect(),
            // Always on, so that it is rules alone which keep others from services on loopback.
            route_localnet: true,
            ..LabConfig::default()
        };
        let lab = Lab::new(&config).unwrap();
        address(&lab, &pods, flows);
        let servers = serve(&lab, &pods, flows, mode);
        Real { lab, pods, _servers: servers }
    }

    /// Where the client of a flow is.
    pub fn client(&self, flow: &Flow) -> &Host {
        match flow.client {
            Client::Node => self.lab.node(),
            Client::Pod => &self.lab.pods()[self.pods[&flow.packet.source]],
            Client::Outside => self.lab.client(),
        }
    }

    /// Every address of the node: the scenarios' and the lab's own.
    pub fn node(&self) -> oracle::Host {
        let mut host = self.lab.oracle_host();
        host.addresses.extend(Fixture::host_addresses());
        host
    }

    /// Whether the kernel has the family of a flow.
    pub fn has_family(&self, flow: &Flow) -> bool {
        self.lab.node().address(Family::of(&flow.packet.destination)).is_some()
    }

    /// Runs `work` while the node has these addresses too.
    pub fn with_addresses(&self, more: &[IpAddr], work: impl FnOnce()) {
        let each = |verb: &str| more.iter().map(|ip| format!("addr {verb} {} dev eth0\n", IpNet::from(*ip))).collect();
        let (add, remove): (String, String) = (each("add"), each("del"));
        ip(self.lab.node(), &add);
        work();
        ip(self.lab.node(), &remove);
    }
}

/// Gives each pod that is a client a namespace of its own, and all others the last one.
fn place(flows: &[&Flow], mode: Mode) -> BTreeMap<IpAddr, usize> {
    let in_pods = |flow: &&&Flow| flow.client == Client::Pod;
    let clients: BTreeSet<IpAddr> = flows.iter().filter(in_pods).map(|flow| flow.packet.source).collect();
    let mut pods: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for family in Family::ALL {
        let of_family = clients.iter().filter(|ip| Family::of(ip) == family);
        pods.extend(of_family.enumerate().map(|(number, ip)| (*ip, number)));
    }
    let last = pods.values().max().unwrap() + 1;
    for (_, endpoint) in endpoints(flows, mode) {
        pods.entry(endpoint.ip()).or_insert(last);
    }
    pods
}

/// Every endpoint that a flow may reach.
fn endpoints(flows: &[&Flow], mode: Mode) -> BTreeSet<(Protocol, SocketAddr)> {
    let of = |flow: &&Flow| match flow.expected(mode) {
        Verdict::Serve(outcomes) => outcomes
            .keys()
            .map(|outcome| (flow.packet.protocol, SocketAddr::new(outcome.endpoint.ip, outcome.endpoint.port)))
            .collect(),
        _ => Vec::new(),
    };
    flows.iter().flat_map(of).collect()
}

/// Adds the scenarios' addresses and the ways to them.
fn address(lab: &Lab, pods: &BTreeMap<IpAddr, usize>, flows: &[&Flow]) {
    let usable = |ip: &IpAddr| lab.node().address(Family::of(ip)).is_some();
    let add = |ip: &IpAddr| {
        let nodad = if ip.is_ipv6() { "nodad" } else { "" };
        format!("addr add {} dev eth0 {nodad}\n", IpNet::from(*ip))
    };
    let from_outside = flows.iter().filter(|flow| flow.client == Client::Outside);
    let outside: BTreeSet<IpAddr> = from_outside.map(|flow| flow.packet.source).filter(usable).collect();
    let to_node = |net: &IpNet| {
        let via = lab.node().address(Family::of_net(net)).unwrap();
        format!("route add {net} via {via}\n")
    };

    let mut node: String = Fixture::host_addresses().iter().filter(|ip| usable(ip)).map(add).collect();
    node.extend(outside.iter().map(|ip| format!("route add {} dev eth0\n", IpNet::from(*ip))));
    // The lab calls the link to its first pod veth1.
    let on_link = |(ip, pod): (&IpAddr, &usize)| format!("route add {} dev veth{}\n", IpNet::from(*ip), pod + 1);
    node.extend(pods.iter().filter(|(ip, _)| usable(ip)).map(on_link));
    ip(lab.node(), &node);

    for (number, pod) in lab.pods().iter().enumerate() {
        let own = pods.iter().filter(|(ip, n)| **n == number && usable(ip));
        ip(pod, &own.map(|(ip, _)| add(ip)).collect::<String>());
    }
    ip(lab.client(), &outside.iter().map(add).collect::<String>());
    send_loopback_to_node(lab);
    let mut gateway: String = outside.iter().map(|ip| format!("route add {} dev lan\n", IpNet::from(*ip))).collect();
    let beyond = Fixture::host_addresses().into_iter().map(IpNet::from).chain(Family::ALL.map(Fixture::pod_network));
    gateway.extend(beyond.filter(|net| usable(&net.addr()) && !is_on_lan(net)).map(|net| to_node(&net)));
    ip(lab.gateway(), &gateway);
}

fn is_on_lan(net: &IpNet) -> bool {
    [IpNet::V4(weir::lab::LAN_V4), IpNet::V6(weir::lab::LAN_V6)].iter().any(|lan| lan.contains(net))
}

/// Makes the outside client a bad neighbour, that sends what is for 127.0.0.1 to the node.
fn send_loopback_to_node(lab: &Lab) {
    // It also takes what the node says from that address.
    lab.client().set_sysctl("net/ipv4/conf/all/route_localnet", "1").unwrap();
    lab.client().set_sysctl("net/ipv4/conf/all/accept_local", "1").unwrap();
    let node = lab.node().address(Family::V4).unwrap();
    let loopback = IpNet::new(Ipv4Addr::LOCALHOST.into(), 8).unwrap().trunc();
    ip(
        lab.client(),
        &format!(
            "route del local {loopback} dev lo table local\nroute del local 127.0.0.1 dev lo table local\n\
             route add {loopback} via {node}\n"
        ),
    );
}

/// Starts a server for each endpoint, under the endpoint's name, and the witness.
fn serve(lab: &Lab, pods: &BTreeMap<IpAddr, usize>, flows: &[&Flow], mode: Mode) -> Vec<EchoServer> {
    let usable = |ip: IpAddr| lab.node().address(Family::of(&ip)).is_some();
    let can = |protocol: Protocol| protocol != Protocol::Sctp || has_sctp();
    let mut servers = Vec::new();
    for (protocol, at) in endpoints(flows, mode).into_iter().filter(|(protocol, at)| can(*protocol) && usable(at.ip()))
    {
        let pod = &lab.pods()[pods[&at.ip()]];
        servers.push(EchoServer::start_on(pod, &at.to_string(), &[(protocol, at)]).unwrap());
    }
    let accepted = flows.iter().filter(|flow| *flow.expected(mode) == Verdict::Accept);
    let accepted: BTreeSet<(Protocol, SocketAddr)> = accepted
        .map(|flow| (flow.packet.protocol, SocketAddr::new(flow.packet.destination, flow.packet.port)))
        .collect();
    // In IPVS mode it also answers at addresses of services, which the node does not have yet.
    if mode == Mode::Ipvs {
        for family in Family::ALL.into_iter().filter(|family| lab.node().address(*family).is_some()) {
            let name = family.as_str().to_lowercase();
            lab.node().set_sysctl(&format!("net/{name}/ip_nonlocal_bind"), "1").unwrap();
        }
    }
    servers.push(EchoServer::start_on(lab.node(), WITNESS, &Vec::from_iter(accepted)).unwrap());
    servers
}
