//! What kube-proxy in IPVS mode leaves on a node, as input of the tools: written from the contract (4.2 to 4.6), not from
//! what weir plans.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use weir::net::Family;

use super::shared::kube_proxy::{Service, endpoint_ip};

/// What the tools are given for one family.
#[derive(Default)]
pub struct Left {
    /// `ipset restore`.
    pub sets: String,
    /// `ipvsadm -R`.
    pub servers: String,
    /// `ip -batch -`; the device is there.
    pub addresses: String,
}

/// Sets of a family with their types (contract 4.4).
const SETS: [(&str, &str); 17] = [
    ("LOOP-BACK", "hash:ip,port,ip"),
    ("CLUSTER-IP", "hash:ip,port"),
    ("EXTERNAL-IP", "hash:ip,port"),
    ("EXTERNAL-IP-LOCAL", "hash:ip,port"),
    ("LOAD-BALANCER", "hash:ip,port"),
    ("LOAD-BALANCER-LOCAL", "hash:ip,port"),
    ("LOAD-BALANCER-FW", "hash:ip,port"),
    ("LOAD-BALANCER-SOURCE-CIDR", "hash:ip,port,net"),
    ("LOAD-BALANCER-SOURCE-IP", "hash:ip,port,ip"),
    ("NODE-PORT-TCP", "bitmap:port"),
    ("NODE-PORT-LOCAL-TCP", "bitmap:port"),
    ("NODE-PORT-UDP", "bitmap:port"),
    ("NODE-PORT-LOCAL-UDP", "bitmap:port"),
    ("NODE-PORT-SCTP-HASH", "hash:ip,port"),
    ("NODE-PORT-LOCAL-SCTP-HASH", "hash:ip,port"),
    ("HEALTH-CHECK-NODE-PORT", "bitmap:port"),
    ("IPVS-IPS", "hash:ip"),
];

/// A set's name in a family, cut to what the kernel takes.
fn set(family: Family, name: &str) -> String {
    let mut full = match family {
        Family::V4 => format!("KUBE-{name}"),
        Family::V6 => format!("KUBE-6-{name}"),
    };
    full.truncate(31);
    full
}

/// How kube-proxy makes its sets, each time it syncs: with `-exist`, which another set of the name must agree with.
pub fn make_sets(family: Family) -> String {
    let inet = if family == Family::V4 { "inet" } else { "inet6" };
    let create = |(name, kind): &(&str, &str)| match *kind {
        "bitmap:port" => format!("create {} bitmap:port range 0-65535 -exist\n", set(family, name)),
        kind => format!("create {} {kind} family {inet} hashsize 1024 maxelem 65536 -exist\n", set(family, name)),
    };
    SETS.iter().map(create).collect()
}

impl Left {
    /// All that there is for these services on a node with these addresses.
    pub fn of(family: Family, services: &[Service], node: &[IpAddr]) -> Left {
        let mut left = Left { sets: make_sets(family), ..Left::default() };
        for service in services {
            left.service(family, service, node);
        }
        left
    }

    fn service(&mut self, family: Family, service: &Service, node: &[IpAddr]) {
        let local = service.external_policy_local;
        self.bound(family, service, service.cluster_ip(family), &["CLUSTER-IP"]);
        if service.external_ip {
            let set = if local { "EXTERNAL-IP-LOCAL" } else { "EXTERNAL-IP" };
            self.bound(family, service, service.external_ip(family), &[set]);
        }
        if service.vip {
            let vip = service.vip(family);
            let more = [(local, "LOAD-BALANCER-LOCAL"), (service.source_ranges, "LOAD-BALANCER-FW")];
            let more = more.into_iter().filter_map(|(is, name)| is.then_some(name));
            let sets: Vec<&str> = std::iter::once("LOAD-BALANCER").chain(more).collect();
            self.bound(family, service, vip, &sets);
            if service.source_ranges {
                self.add(family, "LOAD-BALANCER-SOURCE-CIDR", &format!("{vip},tcp:80,{}", Service::range(family)));
            }
        }
        if service.node_port != 0 {
            for ip in node.iter().filter(|ip| Family::of(ip) == family) {
                self.server(family, service, SocketAddr::new(*ip, service.node_port));
            }
            self.add(family, "NODE-PORT-TCP", &service.node_port.to_string());
            if local {
                self.add(family, "NODE-PORT-LOCAL-TCP", &service.node_port.to_string());
            }
        }
        if service.health_check_node_port != 0 {
            self.add(family, "HEALTH-CHECK-NODE-PORT", &service.health_check_node_port.to_string());
        }
        for number in &service.endpoints {
            let ip = endpoint_ip(family, *number);
            self.add(family, "LOOP-BACK", &format!("{ip},tcp:80,{ip}"));
        }
    }

    /// A frontend whose address is on the device.
    fn bound(&mut self, family: Family, service: &Service, ip: IpAddr, sets: &[&str]) {
        self.server(family, service, SocketAddr::new(ip, 80));
        writeln!(self.addresses, "address replace {ip} dev kube-ipvs0").unwrap();
        self.add(family, "IPVS-IPS", &ip.to_string());
        for set in sets {
            self.add(family, set, &format!("{ip},tcp:80"));
        }
    }

    fn server(&mut self, family: Family, service: &Service, at: SocketAddr) {
        let persistent = if service.affinity { " -p 10800" } else { "" };
        writeln!(self.servers, "-A -t {at} -s rr{persistent}").unwrap();
        for number in &service.endpoints {
            let endpoint = SocketAddr::new(endpoint_ip(family, *number), 80);
            writeln!(self.servers, "-a -t {at} -r {endpoint} -m -w 1").unwrap();
        }
    }

    fn add(&mut self, family: Family, name: &str, entry: &str) {
        writeln!(self.sets, "add {} {entry} -exist", set(family, name)).unwrap();
    }
}

/// The rules of a family, as far as its sets are not empty, for services with everything (contract 4.5, 4.6).
/// `guarded` are VIPs that this node may not use.
pub fn rules(family: Family, pods: &str, guarded: &[IpAddr]) -> String {
    let name = |set: &str| self::set(family, set);
    let to = |set: &str, directions: &str| format!("-m set --match-set {} {directions}", name(set));
    let both = |set: &str| to(set, "dst,dst");
    let loopback = if family == Family::V4 { "127.0.0.0/8" } else { "::1/128" };
    let bridged = "-m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT";
    let here = "-m addrtype --dst-type LOCAL -j ACCEPT";
    let mut nat = vec![
        format!("KUBE-SERVICES -s {loopback} -j RETURN"),
        format!("KUBE-SERVICES {} -j KUBE-LOAD-BALANCER", both("LOAD-BALANCER")),
        format!("KUBE-SERVICES {} ! -s {pods} -j KUBE-MARK-MASQ", both("CLUSTER-IP")),
        format!("KUBE-SERVICES {} -j KUBE-MARK-MASQ", both("EXTERNAL-IP")),
    ];
    for set in ["EXTERNAL-IP", "EXTERNAL-IP-LOCAL"] {
        nat.extend([bridged, here].map(|rest| format!("KUBE-SERVICES {} {rest}", both(set))));
    }
    nat.extend([
        "KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT".to_owned(),
        format!("KUBE-SERVICES {} -j ACCEPT", both("CLUSTER-IP")),
        format!("KUBE-SERVICES {} -j ACCEPT", both("LOAD-BALANCER")),
        format!("KUBE-LOAD-BALANCER {} -j RETURN", both("LOAD-BALANCER-LOCAL")),
        "KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ".to_owned(),
        format!("KUBE-NODE-PORT -p tcp {} -j RETURN", to("NODE-PORT-LOCAL-TCP", "dst")),
        format!("KUBE-NODE-PORT -p tcp {} -j KUBE-MARK-MASQ", to("NODE-PORT-TCP", "dst")),
        format!("KUBE-POSTROUTING {} -j MASQUERADE", to("LOOP-BACK", "dst,dst,src")),
    ]);
    let mut filter = vec![
        format!("KUBE-PROXY-FIREWALL {} -j KUBE-SOURCE-RANGES-FIREWALL", both("LOAD-BALANCER-FW")),
        format!("KUBE-SOURCE-RANGES-FIREWALL {} -j RETURN", to("LOAD-BALANCER-SOURCE-CIDR", "dst,dst,src")),
        "KUBE-SOURCE-RANGES-FIREWALL -j DROP".to_owned(),
        format!("KUBE-NODE-PORT {} -j ACCEPT", to("HEALTH-CHECK-NODE-PORT", "dst")),
    ];
    let vips = guarded.iter();
    filter.extend(
        vips.map(|ip| format!("KUBE-IPVS-OUT-FILTER -s {ip} -m ipvs --vaddr {ip} --vproto tcp --vport 80 -j DROP")),
    );
    let served = ["LOAD-BALANCER", "CLUSTER-IP", "EXTERNAL-IP", "EXTERNAL-IP-LOCAL"];
    filter.extend(served.map(|set| format!("KUBE-IPVS-FILTER {} -j RETURN", both(set))));
    filter.push(format!("KUBE-IPVS-FILTER {} -j RETURN", to("HEALTH-CHECK-NODE-PORT", "dst")));
    filter.push(format!("KUBE-IPVS-FILTER -m conntrack --ctstate NEW {} -j REJECT", to("IPVS-IPS", "dst")));
    let lines = |rules: Vec<String>| rules.iter().map(|rule| format!("-A {rule}\n")).collect::<String>();
    format!(
        "*nat\n{NAT_CHAINS}{}{NAT_FIXED}COMMIT\n*filter\n{FILTER_CHAINS}{}{FILTER_FIXED}COMMIT\n",
        lines(nat),
        lines(filter)
    )
}

/// The jumps, which kube-proxy inserts where they are missing.
pub const JUMPS: &str = "\
*nat
-I OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
COMMIT
*filter
-I FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-I INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT
-I INPUT -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-I FORWARD -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-I INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-I OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER
COMMIT
";

const NAT_CHAINS: &str = "\
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
:KUBE-MARK-MASQ - [0:0]
";

const NAT_FIXED: &str = "\
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
";

const FILTER_CHAINS: &str = "\
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
";

const FILTER_FIXED: &str = "\
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
";
