//! The lab as a whole: who is there and how they are connected.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::address::{
    LAN, NODE_PODS, NODE2_PODS, Nets, default_route, default_service_networks, host_net, numbered, with_length,
};
use super::links::{Links, Via, configure};
use super::{Failure, Host, LabError, Probe};
use crate::model::oracle;
use crate::net::{Family, PerFamily};

/// How the pods of a node reach it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNetwork {
    /// Every pod has a link of its own to the node, `veth1`, `veth2` and so on, and the node routes between them.
    #[default]
    Routed,
    /// All pods are on the node's bridge `cbr0`, in hairpin mode. Services between pods of one node need the kernel
    /// module `br_netfilter`, because answers go straight over the bridge.
    Bridge,
}

/// What lab to build.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// Pods on `node`: `pod1`, `pod2` and so on.
    pub pods: usize,
    /// Pods on `node2`, numbered on.
    pub node2_pods: usize,
    pub pod_network: PodNetwork,
    /// Cluster IPs, external IPs, load balancer VIPs: the outside clients send what is meant for these to `node`.
    pub service_networks: Vec<IpNet>,
    /// Lets `node` route what comes from or goes to 127.0.0.0/8.
    pub route_localnet: bool,
}

impl Default for LabConfig {
    /// Three pods on the node and two on the other; cluster IPs 10.96.0.0/12 and fd00:10:96::/108, external IPs
    /// 203.0.113.0/24 and 2001:db8:203::/64, VIPs 198.51.100.0/24 and 2001:db8:51::/64.
    fn default() -> Self {
        LabConfig {
            pods: 3,
            node2_pods: 2,
            pod_network: PodNetwork::default(),
            service_networks: default_service_networks(),
            route_localnet: false,
        }
    }
}

/// The lab. Dropping it takes everything down.
#[derive(Debug)]
pub struct Lab {
    gateway: Host,
    node: Host,
    node2: Host,
    client: Host,
    blocked: Host,
    pods: Vec<Host>,
    node2_pods: Vec<Host>,
    /// Addresses of `node` on the side of its pods.
    pod_gateway: Vec<IpAddr>,
}

/// The bridge of a node in [`PodNetwork::Bridge`].
const POD_BRIDGE: &str = "cbr0";
/// The link of every host but the gateway to its network.
const UPLINK: &str = "eth0";

/// Who is on the lan, with the number of its address.
const ON_LAN: [(&str, u128); 5] =
    [("gateway", GATEWAY), ("node", 10), ("node2", 20), ("client", 100), ("blocked", 200)];

/// No one listens here.
const CLOSED_PORT: u16 = 9;
/// How long a gateway may take to answer, and how long to wait for one packet.
const READY: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);

/// Number of the gateway in every network. That of the pods is their node; the pods come after it.
const GATEWAY: u128 = 1;

impl Lab {
    /// Builds the lab. See the [module](super) for what is where, and for the rights that it needs.
    pub fn new(config: &LabConfig) -> Result<Lab, LabError> {
        let families = families();
        let mut wanted: Vec<(String, PerFamily<IpAddr>)> = Vec::new();
        for (name, number) in ON_LAN {
            wanted.push((name.to_owned(), numbered(&LAN, number)?));
        }
        let mut pod = 0;
        for (nets, count) in [(&NODE_PODS, config.pods), (&NODE2_PODS, config.node2_pods)] {
            for on_its_node in 0..count as u128 {
                pod += 1;
                wanted.push((format!("pod{pod}"), numbered(nets, GATEWAY + 1 + on_its_node)?));
            }
        }
        let mut hosts = create_all(wanted, &families)?.into_iter();
        let gone = || LabError::Gone { host: "lab".to_owned() };
        let mut next = || hosts.next().ok_or_else(gone);
        let (gateway, node, node2, client, blocked) = (next()?, next()?, next()?, next()?, next()?);
        let mut pods: Vec<Host> = hosts.collect();
        let node2_pods = pods.split_off(config.pods.min(pods.len()));
        let on_pod_side = numbered(&NODE_PODS, GATEWAY)?;
        let pod_gateway = families.iter().map(|family| *on_pod_side.get(*family)).collect();
        let lab = Lab { gateway, node, node2, client, blocked, pods, node2_pods, pod_gateway };
        lab.wire(config, &families)?;
        Ok(lab)
    }

    /// The node where the proxy under test runs.
    pub fn node(&self) -> &Host {
        &self.node
    }

    /// The other node. It has no proxy.
    pub fn node2(&self) -> &Host {
        &self.node2
    }

    /// An outside client, 192.168.99.100.
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// Another outside client, 192.168.99.200, to be left out of source ranges such as 192.168.99.64/26.
    pub fn blocked(&self) -> &Host {
        &self.blocked
    }

    /// Where packets end that no one answers for.
    pub fn gateway(&self) -> &Host {
        &self.gateway
    }

    /// The pods on `node`, in order.
    pub fn pods(&self) -> &[Host] {
        &self.pods
    }

    /// The pods on `node2`, in order.
    pub fn node2_pods(&self) -> &[Host] {
        &self.node2_pods
    }

    /// Everyone.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        [&self.gateway, &self.node, &self.node2, &self.client, &self.blocked]
            .into_iter()
            .chain(&self.pods)
            .chain(&self.node2_pods)
    }

    /// A host by name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts().find(|host| host.name() == name)
    }

    /// `node` as the oracle and the tracer see it: its address on the lan and its address towards the pods.
    pub fn oracle_host(&self) -> oracle::Host {
        oracle::Host { addresses: self.node.addresses().chain(self.pod_gateway.iter().copied()).collect() }
    }

    fn wire(&self, config: &LabConfig, families: &[Family]) -> Result<(), LabError> {
        let members = [&self.node, &self.node2, &self.client, &self.blocked];
        configure(&self.gateway, async |links| {
            let lan = links.add_bridge("lan").await?;
            add_addresses(links, lan, &self.gateway, &LAN).await?;
            for (number, host) in (1..).zip(members) {
                let port = links.add_veth(number, host.name(), UPLINK, host).await?;
                links.add_port(port, lan, false).await?;
            }
            Ok(())
        })?;
        for host in members {
            configure(host, async |links| add_addresses(links, links.set_up(UPLINK).await?, host, &LAN).await)?;
        }
        self.route_lan(config, families)?;
        if config.route_localnet {
            self.node.set_sysctl("net/ipv4/conf/all/route_localnet", "1")?;
        }
        let nodes = [(&self.node, &self.pods, &NODE_PODS), (&self.node2, &self.node2_pods, &NODE2_PODS)];
        for (node, pods, nets) in nodes {
            let gateway = numbered(nets, GATEWAY)?;
            let gateway: Vec<IpAddr> = families.iter().map(|family| *gateway.get(*family)).collect();
            match config.pod_network {
                PodNetwork::Routed => wire_routed(node, pods, &gateway)?,
                PodNetwork::Bridge => wire_bridge(node, pods, &gateway, nets)?,
            }
        }
        self.wait_until_ready(families)
    }

    fn wait_until_ready(&self, families: &[Family]) -> Result<(), LabError> {
        for host in self.hosts() {
            configure(host, async |links| links.wait_until_ready().await)?;
        }
        let on_lan = [&self.node, &self.node2, &self.client, &self.blocked].into_iter().map(|host| (host, &LAN));
        let on_node = self.pods.iter().map(|pod| (pod, &NODE_PODS));
        let on_node2 = self.node2_pods.iter().map(|pod| (pod, &NODE2_PODS));
        for (host, nets) in on_lan.chain(on_node).chain(on_node2) {
            let gateway = numbered(nets, GATEWAY)?;
            for family in families {
                reach(host, *gateway.get(*family))?;
            }
        }
        Ok(())
    }

    /// Routes on the lan: pods by way of their node, services by way of `node`, all else by way of the gateway.
    fn route_lan(&self, config: &LabConfig, families: &[Family]) -> Result<(), LabError> {
        for host in [&self.gateway, &self.node, &self.node2, &self.client, &self.blocked] {
            let mut routes: Vec<(IpNet, Via)> = Vec::new();
            for family in families.iter().copied() {
                let via = |to: &Host| to.address(family).filter(|_| to.name() != host.name()).map(Via::Gateway);
                routes.extend(via(&self.node).map(|via| (*NODE_PODS.get(family), via)));
                routes.extend(via(&self.node2).map(|via| (*NODE2_PODS.get(family), via)));
                routes.push((default_route(family), via(&self.gateway).unwrap_or(Via::Unreachable)));
                if [self.client.name(), self.blocked.name()].contains(&host.name()) {
                    let services = config.service_networks.iter().filter(|net| Family::of_net(net) == family);
                    routes.extend(services.filter_map(|net| Some((*net, via(&self.node)?))));
                }
            }
            configure(host, async |links| {
                for (net, via) in routes {
                    links.add_route(net, via).await?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Waits until packets pass between a host and its gateway, and each knows the other's link address.
fn reach(host: &Host, gateway: IpAddr) -> Result<(), LabError> {
    let patience = Instant::now() + READY;
    let probe = Probe::tcp(SocketAddr::new(gateway, CLOSED_PORT)).timeout(RETRY);
    while probe.run(host) != Err(Failure::Refused) {
        if Instant::now() > patience {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Err(LabError::io(host.name(), format!("reach its gateway {gateway}"))(late));
        }
    }
    Ok(())
}

/// Families that the kernel has.
fn families() -> Vec<Family> {
    if Path::new("/proc/sys/net/ipv6").exists() {
        return Family::ALL.to_vec();
    }
    tracing::warn!("the kernel has no IPv6: the lab is built for IPv4 only");
    vec![Family::V4]
}

/// Makes the namespaces, all at the same time.
fn create_all(wanted: Vec<(String, PerFamily<IpAddr>)>, families: &[Family]) -> Result<Vec<Host>, LabError> {
    thread::scope(|scope| {
        let threads: Vec<_> = wanted
            .into_iter()
            .map(|(name, addresses)| {
                let addresses = PerFamily::new(|family| families.contains(&family).then_some(*addresses.get(family)));
                scope.spawn(move || create(&name, addresses))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// Makes one namespace and sets what must be set before it has links.
fn create(name: &str, addresses: PerFamily<Option<IpAddr>>) -> Result<Host, LabError> {
    let host = Host::create(name, addresses)?;
    for (path, value) in sysctls(&host) {
        host.set_sysctl(&path, value)?;
    }
    configure(&host, async |links| links.set_up("lo").await)?;
    Ok(host)
}

/// All hosts forward: it does no harm to those that have one link. ICMP errors are not held back, because they are
/// what tells a reject from a drop: a rate of 0 lifts the limit for each destination, and a mask without types the one
/// for all of them together (1000 in a second, 50 at once).
fn sysctls(host: &Host) -> Vec<(String, &'static str)> {
    let mut list = vec![
        ("net/ipv4/ip_forward".to_owned(), "1"),
        ("net/ipv4/icmp_ratelimit".to_owned(), "0"),
        ("net/ipv4/icmp_ratemask".to_owned(), "0"),
    ];
    for scope in ["all", "default"] {
        list.extend([
            (format!("net/ipv4/conf/{scope}/rp_filter"), "0"),
            (format!("net/ipv4/conf/{scope}/send_redirects"), "0"),
        ]);
    }
    if host.address(Family::V6).is_some() {
        list.push(("net/ipv6/icmp/ratelimit".to_owned(), "0"));
        // The mask cannot be empty: a type that nobody has.
        list.push(("net/ipv6/icmp/ratemask".to_owned(), "250"));
        for scope in ["all", "default"] {
            list.extend([
                (format!("net/ipv6/conf/{scope}/disable_ipv6"), "0"),
                (format!("net/ipv6/conf/{scope}/forwarding"), "1"),
                (format!("net/ipv6/conf/{scope}/accept_ra"), "0"),
                (format!("net/ipv6/conf/{scope}/accept_dad"), "0"),
            ]);
        }
    }
    list
}

async fn add_addresses(links: &Links<'_>, link: u32, host: &Host, nets: &Nets) -> Result<(), LabError> {
    for address in host.addresses() {
        links.add_address(link, with_length(address, nets.get(Family::of(&address)))).await?;
    }
    Ok(())
}

/// The addresses of the same family as one.
fn same_family<'a>(addresses: &'a [IpAddr], as_in: &IpNet) -> impl Iterator<Item = IpAddr> + 'a {
    let family = Family::of_net(as_in);
    addresses.iter().copied().filter(move |address| Family::of(address) == family)
}

fn wire_routed(node: &Host, pods: &[Host], gateway: &[IpAddr]) -> Result<(), LabError> {
    configure(node, async |links| {
        for (number, pod) in (1..).zip(pods) {
            let link = links.add_veth(number, &format!("veth{number}"), UPLINK, pod).await?;
            for address in gateway {
                links.add_address(link, host_net(*address)).await?;
            }
            for address in pod.addresses() {
                links.add_route(host_net(address), Via::Link(link)).await?;
            }
        }
        Ok(())
    })?;
    for pod in pods {
        configure(pod, async |links| {
            let link = links.set_up(UPLINK).await?;
            for address in pod.addresses() {
                let family = Family::of(&address);
                links.add_address(link, host_net(address)).await?;
                for gateway in same_family(gateway, &default_route(family)) {
                    links.add_route(host_net(gateway), Via::Link(link)).await?;
                    links.add_route(default_route(family), Via::Gateway(gateway)).await?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn wire_bridge(node: &Host, pods: &[Host], gateway: &[IpAddr], nets: &Nets) -> Result<(), LabError> {
    configure(node, async |links| {
        let bridge = links.add_bridge(POD_BRIDGE).await?;
        for address in gateway {
            links.add_address(bridge, with_length(*address, nets.get(Family::of(address)))).await?;
        }
        for (number, pod) in (1..).zip(pods) {
            let link = links.add_veth(number, &format!("veth{number}"), UPLINK, pod).await?;
            links.add_port(link, bridge, true).await?;
        }
        Ok(())
    })?;
    for pod in pods {
        configure(pod, async |links| {
            let link = links.set_up(UPLINK).await?;
            add_addresses(links, link, pod, nets).await?;
            for gateway in gateway {
                links.add_route(default_route(Family::of(gateway)), Via::Gateway(*gateway)).await?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
