//! A node where kube-proxy in IPVS mode has been: weir starts over what it left, while clients connect. Then kube-proxy
//! comes back.

use std::net::{IpAddr, SocketAddr};

use weir::cmd::options::ProxyMode::Ipvs;
use weir::kernel::xtables::variant::Variant;
use weir::lab::{EchoServer, Flow, Host, Probe};
use weir::net::Family;

use super::shared::kube_proxy::{Service, endpoint_ip};
use super::shared::manifests::facts;
use super::shared::node::{Weir, wait_until};
use super::shared::served::{add_endpoints, more, objects, six};
use super::shared::stream::while_connecting;
use super::shared::variants::restore;
use super::shared::world::{FLAGS, SELDOM, Setup, World};
use super::switching_tools::{beside_rules, difference, rules};
use super::takeover_left::{self as left, Left};

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("weir_takes_over_and_kube_proxy_comes_back_nft", || there_and_back(Variant::Nft)),
        ("weir_takes_over_and_kube_proxy_comes_back_legacy", || there_and_back(Variant::Legacy)),
    ]
}

/// How long connections to what is stale are waited for.
const DRAIN: &str = "--ipvs-drain-timeout=30s";

fn serve(world: &World) -> Weir {
    let weir = world.start(Ipvs, &[DRAIN], SELDOM);
    weir.tell(facts(&objects(&six())));
    weir
}

/// All there is on a node that has had no other proxy than weir.
fn fresh(setup: Setup) -> Option<(Vec<String>, Vec<String>)> {
    let world = World::without_weir(setup)?;
    let _servers = add_endpoints(&world);
    let weir = serve(&world);
    let all = (beside_rules(&world), rules(&world));
    weir.stop();
    Some(all)
}

/// A node with what kube-proxy left of these services.
pub(super) struct Node {
    pub(super) world: World,
    _servers: Vec<EchoServer>,
}

impl Node {
    pub(super) fn new(setup: Setup, services: &[Service]) -> Option<Node> {
        let world = World::without_weir(setup)?;
        let servers = add_endpoints(&world);
        let node = Node { world, _servers: servers };
        let host = node.host();
        host.check("ip", &["link", "add", "kube-ipvs0", "type", "dummy"], "").unwrap();
        host.check("ipvsadm", &["-Ln"], "").unwrap();
        host.set_sysctl("net/ipv4/vs/conntrack", "1").unwrap();
        let addresses: Vec<IpAddr> = node.world.lab.oracle_host().addresses.into_iter().collect();
        for family in node.world.families() {
            let left = Left::of(family, services, &addresses);
            host.check("ipset", &["restore"], &left.sets).unwrap();
            host.check("ip", &["-batch", "-"], &left.addresses).unwrap();
            host.check("ipvsadm", &["-R"], &left.servers).unwrap();
            node.write_rules(family);
            restore(host, &node.world.driver, family, left::JUMPS);
        }
        Some(node)
    }

    pub(super) fn host(&self) -> &Host {
        self.world.lab.node()
    }

    fn write_rules(&self, family: Family) {
        let cidrs = FLAGS[0].trim_start_matches("--cluster-cidr=").split(',');
        let pods = cidrs.filter(|cidr| cidr.contains(':') == (family == Family::V6)).collect::<String>();
        let guarded: Vec<IpAddr> = six().iter().filter(|s| s.source_ranges).map(|s| s.vip(family)).collect();
        restore(self.host(), &self.world.driver, family, &left::rules(family, &pods, &guarded));
    }

    /// Virtual servers that somebody else has: at an address of his own, which another node has now, and at this node's.
    pub(super) fn add_others(&self) {
        for family in self.world.families() {
            let own = if family == Family::V4 { "198.18.0.1" } else { "2001:db8:18::1" };
            let own = SocketAddr::new(own.parse().unwrap(), 443);
            let node = SocketAddr::new(self.world.node_ip(family), 6443);
            let real = SocketAddr::new(endpoint_ip(family, 1), 443);
            let lines = [own, node].map(|to| format!("-A -t {to} -s wlc\n-a -t {to} -r {real} -m -w 100\n"));
            self.host().check("ipvsadm", &["-R"], &lines.concat()).unwrap();
        }
    }

    /// What somebody else has.
    fn others(&self) -> Vec<String> {
        let all = beside_rules(&self.world);
        all.into_iter().filter(|line| [":443 ", ":6443 "].iter().any(|port| line.contains(port))).collect()
    }

    fn clients(&self) -> Vec<(&Host, SocketAddr)> {
        let six = six();
        let of = |family: Family| {
            let node = self.world.node_ip(family);
            [
                ("client", (six[3].vip(family), 80)),
                ("client", (six[4].vip(family), 80)),
                ("client", (node, 30002)),
                ("client", (node, 30003)),
                ("client", (six[1].external_ip(family), 80)),
                ("pod3", (six[0].cluster_ip(family), 80)),
                ("pod1", (six[3].external_ip(family), 80)),
                ("node", (six[3].cluster_ip(family), 80)),
            ]
            .map(|(from, to)| (self.world.host(from), SocketAddr::from(to)))
        };
        self.world.families().into_iter().flat_map(of).collect()
    }

    /// What kube-proxy does when it starts again: its sets must be as it would make them, its chains are written anew.
    fn give_back(&self) {
        for family in self.world.families() {
            self.host().check("ipset", &["restore"], &left::make_sets(family)).unwrap();
            self.write_rules(family);
        }
    }
}

/// Services that went while nobody was there, with connections; a real server that was left at weight 0, and one that is
/// not wanted any more.
fn there_and_back(variant: Variant) {
    let setup = Setup { variant, mode: Ipvs };
    let Some((beside, base)) = fresh(setup) else { return };
    let stale = more().split_off(37);
    let Some(node) = Node::new(setup, &[six(), stale.clone()].concat()) else { return };
    for family in node.world.families() {
        let at = |service: &Service, number| {
            (SocketAddr::new(service.cluster_ip(family), 80), SocketAddr::new(endpoint_ip(family, number), 80))
        };
        let ((kept, one), (gone, other)) = (at(&six()[3], 4), at(&six()[2], 5));
        let lines = format!("-e -t {kept} -r {one} -m -w 0\n-a -t {gone} -r {other} -m -w 0\n");
        node.host().check("ipvsadm", &["-R"], &lines).unwrap();
    }
    node.add_others();
    let others = node.others();
    assert_eq!(others.len(), 4 * node.world.families().len(), "{others:?}");
    let open = |service: &Service, family| {
        let to = SocketAddr::new(service.cluster_ip(family), 80);
        Flow::open(node.world.host("pod3"), &Probe::tcp(to)).unwrap()
    };
    let mut flows: Vec<Flow> = Vec::new();
    for service in [&six()[0], &stale[0]] {
        flows.extend(node.world.families().into_iter().map(|family| open(service, family)));
    }
    flows.iter_mut().for_each(|flow| drop(flow.ask().unwrap()));

    let clients = node.clients();
    let compare = || {
        let mut found = beside_rules(&node.world);
        found.retain(|line| !others.contains(line));
        difference(&beside, &found)
    };
    let (weir, there) = while_connecting(&clients, || serve(&node.world));
    flows.iter_mut().for_each(|flow| drop(flow.ask().expect("also to what is stale")));
    println!("there for connections to what is stale:\n{}", compare().join("\n"));
    // Its last connections are ended by the deadline.
    wait_until("what is stale is gone", || compare().is_empty());
    assert_eq!(difference(&base, &rules(&node.world)), [""; 0]);
    assert_eq!(node.others(), others);
    weir.stop();

    let ((), back) = while_connecting(&clients, || node.give_back());
    let (weir, again) = while_connecting(&clients, || serve(&node.world));
    assert_eq!(compare(), [""; 0]);
    assert_eq!(difference(&base, &rules(&node.world)), [""; 0]);
    assert_eq!(node.others(), others);
    weir.stop();
    flows[0].ask().expect("a connection that was open all the time");
    println!("{variant}: {there} connections on the way there, {back} on the way back, {again} at the second time");
}
