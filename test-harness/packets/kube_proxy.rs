//! What kube-proxy leaves on a node, and the kubelet: restore input, written from the contract (3.2 to 3.5), not from
//! what weir plans.

use std::fmt::Write;
use std::net::IpAddr;

use weir::net::{Endpoint, Family, base32_sha256};

/// A service as the rules need it. Everything is TCP port 80, under the port name `p80`.
#[derive(Clone, Default)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Of its addresses.
    pub number: u8,
    pub external_ip: bool,
    pub vip: bool,
    pub node_port: u16,
    pub external_policy_local: bool,
    pub health_check_node_port: u16,
    pub affinity: bool,
    pub source_ranges: bool,
    /// Numbers of its endpoints, all on this node.
    pub endpoints: Vec<u8>,
}

/// Its default.
const AFFINITY_SECONDS: u32 = 10_800;

impl Service {
    pub fn address(&self, family: Family, sort: u8) -> IpAddr {
        let number = self.number;
        match family {
            Family::V4 => format!("10.96.{number}.{sort}").parse().unwrap(),
            Family::V6 => format!("fd00:10:96::{number:x}{sort:02x}").parse().unwrap(),
        }
    }

    pub fn cluster_ip(&self, family: Family) -> IpAddr {
        self.address(family, 1)
    }

    pub fn external_ip(&self, family: Family) -> IpAddr {
        self.address(family, 2)
    }

    pub fn vip(&self, family: Family) -> IpAddr {
        self.address(family, 3)
    }

    /// The ranges of a family.
    pub fn range(family: Family) -> &'static str {
        match family {
            Family::V4 => "192.168.99.64/26",
            Family::V6 => "2001:db8:99::100/120",
        }
    }

    fn text(&self) -> String {
        format!("{}/{}:p80", self.namespace, self.name)
    }

    fn chain(&self, prefix: &str) -> String {
        format!("KUBE-{prefix}-{}", base32_sha256(&[self.text().as_bytes(), b"tcp"]))
    }
}

/// The address of an endpoint.
pub fn endpoint_ip(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => format!("10.180.0.{number}").parse().unwrap(),
        Family::V6 => format!("fd00:10:180::{number}").parse().unwrap(),
    }
}

fn pods(family: Family) -> &'static str {
    match family {
        Family::V4 => "10.244.0.0/16",
        Family::V6 => "fd00:10:244::/48",
    }
}

/// Rules in the making.
pub struct Book {
    family: Family,
    /// Without them on the way to endpoints: a large cluster (contract 3.5).
    comments: bool,
    filter: Vec<String>,
    nat: Vec<String>,
    /// Chains of services, in nat.
    chains: Vec<String>,
}

impl Book {
    /// The restore input for these services, written in their order.
    pub fn write(family: Family, services: &[Service], comments: bool) -> String {
        let mut book = Book { family, comments, filter: Vec::new(), nat: Vec::new(), chains: Vec::new() };
        for service in services {
            book.service(service);
        }
        book.finish()
    }

    fn service(&mut self, service: &Service) {
        if service.endpoints.is_empty() {
            return self.refuse(service);
        }
        self.dispatch(service);
        self.cluster_chain(service);
        if service.external_policy_local {
            self.chain(&service.chain("SVL"));
            self.choose(service, &service.chain("SVL"));
        }
        if service.external_ip || service.vip || service.node_port != 0 {
            self.external_chain(service);
        }
        if service.source_ranges {
            self.firewall_chain(service);
        }
        for number in &service.endpoints {
            self.endpoint_chain(service, *number);
        }
    }

    fn refuse(&mut self, service: &Service) {
        let why = comment(&format!("{} has no endpoints", service.text()));
        let (cluster_ip, vip) = (service.cluster_ip(self.family), service.vip(self.family));
        self.filter.push(format!("KUBE-SERVICES {why} {} -j REJECT", to(cluster_ip)));
        if service.vip {
            self.filter.push(format!("KUBE-EXTERNAL-SERVICES {why} {} -j REJECT", to(vip)));
        }
        if service.node_port != 0 {
            let local = "-m addrtype --dst-type LOCAL -m tcp -p tcp --dport";
            self.filter.push(format!("KUBE-EXTERNAL-SERVICES {why} {local} {} -j REJECT", service.node_port));
        }
    }

    fn dispatch(&mut self, service: &Service) {
        let (n, external) = (service.text(), service.chain("EXT"));
        let said = |what: &str| comment(&format!("{n} {what}"));
        let cluster_ip = to(service.cluster_ip(self.family));
        self.nat.push(format!("KUBE-SERVICES {} {cluster_ip} -j {}", said("cluster IP"), service.chain("SVC")));
        if service.external_ip {
            let ip = to(service.external_ip(self.family));
            self.nat.push(format!("KUBE-SERVICES {} {ip} -j {external}", said("external IP")));
        }
        if service.vip {
            let (ip, firewall) = (to(service.vip(self.family)), service.chain("FW"));
            let target = if service.source_ranges { &firewall } else { &external };
            self.nat.push(format!("KUBE-SERVICES {} {ip} -j {target}", said("loadbalancer IP")));
            if service.source_ranges {
                let why = said(&format!("traffic not accepted by {firewall}"));
                self.filter.push(format!("KUBE-PROXY-FIREWALL {why} {ip} -j DROP"));
            }
        }
        if service.node_port != 0 {
            let port = format!("-m tcp -p tcp --dport {}", service.node_port);
            if self.family == Family::V4 {
                let counter = "-m nfacct --nfacct-name localhost_nps_accepted_pkts";
                self.nat.push(format!("KUBE-NODEPORTS {} -d 127.0.0.0/8 {port} {counter} -j {external}", comment(&n)));
            }
            self.nat.push(format!("KUBE-NODEPORTS {} {port} -j {external}", comment(&n)));
        }
        if service.health_check_node_port != 0 {
            let port = format!("-m tcp -p tcp --dport {}", service.health_check_node_port);
            self.filter.push(format!("KUBE-NODEPORTS {} {port} -j ACCEPT", said("health check node port")));
        }
    }

    fn cluster_chain(&mut self, service: &Service) {
        let chain = service.chain("SVC");
        self.chain(&chain);
        let said = comment(&format!("{} cluster IP", service.text()));
        let (ip, pods) = (to(service.cluster_ip(self.family)), pods(self.family));
        self.nat.push(format!("{chain} {said} {ip} ! -s {pods} -j KUBE-MARK-MASQ"));
        self.choose(service, &chain);
    }

    fn choose(&mut self, service: &Service, chain: &str) {
        let hop = |number: u8| {
            let endpoint = self.endpoint(number);
            let said = self.said(&format!("{} -> {endpoint}", service.text()));
            (said, self.endpoint_name(service, number))
        };
        let mut rules = Vec::new();
        if service.affinity {
            for (said, to) in service.endpoints.iter().map(|number| hop(*number)) {
                let recent = format!("-m recent --name {to} --rcheck --seconds {AFFINITY_SECONDS} --reap");
                rules.push(format!("{chain} {said} {recent} -j {to}"));
            }
        }
        for (i, (said, to)) in service.endpoints.iter().map(|number| hop(*number)).enumerate() {
            let left = service.endpoints.len() - i;
            let chance = match left {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10}", 1.0 / left as f64),
            };
            rules.push(format!("{chain} {said} {chance} -j {to}"));
        }
        self.nat.extend(rules);
    }

    fn external_chain(&mut self, service: &Service) {
        let (chain, n) = (service.chain("EXT"), service.text());
        self.chain(&chain);
        let said = |what: &str| comment(&format!("{what} traffic for {n} external destinations"));
        if !service.external_policy_local {
            self.nat.push(format!("{chain} {} -j KUBE-MARK-MASQ", said("masquerade")));
            self.nat.push(format!("{chain} -j {}", service.chain("SVC")));
            return;
        }
        let cluster = service.chain("SVC");
        let local = "-m addrtype --src-type LOCAL";
        self.nat.push(format!("{chain} {} -s {} -j {cluster}", said("pod"), pods(self.family)));
        self.nat.push(format!("{chain} {} {local} -j KUBE-MARK-MASQ", said("masquerade LOCAL")));
        self.nat.push(format!("{chain} {} {local} -j {cluster}", said("route LOCAL")));
        self.nat.push(format!("{chain} -j {}", service.chain("SVL")));
    }

    fn firewall_chain(&mut self, service: &Service) {
        let (chain, n) = (service.chain("FW"), service.text());
        self.chain(&chain);
        let range = Service::range(self.family);
        let said = comment(&format!("{n} loadbalancer IP"));
        self.nat.push(format!("{chain} {said} -s {range} -j {}", service.chain("EXT")));
        let rest = comment(&format!("other traffic to {n} will be dropped by KUBE-PROXY-FIREWALL"));
        self.nat.push(format!("{chain} {rest}"));
    }

    fn endpoint_chain(&mut self, service: &Service, number: u8) {
        let chain = self.endpoint_name(service, number);
        self.chain(&chain);
        let (endpoint, said) = (self.endpoint(number), self.said(&service.text()));
        self.nat.push(format!("{chain} {said} -s {} -j KUBE-MARK-MASQ", endpoint.ip));
        let remember = if service.affinity { format!("-m recent --name {chain} --set") } else { String::new() };
        self.nat.push(format!("{chain} {said} {remember} -m tcp -p tcp -j DNAT --to-destination {endpoint}"));
    }

    fn chain(&mut self, name: &str) {
        self.chains.push(name.to_owned());
    }

    /// A comment that large clusters go without.
    fn said(&self, text: &str) -> String {
        if self.comments { comment(text) } else { String::new() }
    }

    fn endpoint(&self, number: u8) -> Endpoint {
        Endpoint::new(endpoint_ip(self.family, number), 80)
    }

    fn endpoint_name(&self, service: &Service, number: u8) -> String {
        let endpoint = self.endpoint(number).to_string();
        format!("KUBE-SEP-{}", base32_sha256(&[service.text().as_bytes(), b"tcp", endpoint.as_bytes()]))
    }

    fn finish(self) -> String {
        let mut text = String::from("*mangle\n:KUBE-PROXY-CANARY - [0:0]\n");
        text.push_str(":KUBE-IPTABLES-HINT - [0:0]\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n*filter\n");
        text.push_str(&declare(&FILTER_CHAINS));
        text.push_str(KUBELET_AND_ADMIN_FILTER);
        if self.family == Family::V4 {
            text.push_str(MARTIANS);
        }
        text.push_str(FILTER_JUMPS);
        text.push_str(&append(&self.filter));
        text.push_str(FORWARD);
        text.push_str("COMMIT\n*nat\n");
        text.push_str(&declare(&NAT_CHAINS));
        text.push_str(&declare(&self.chains.iter().map(String::as_str).collect::<Vec<_>>()));
        text.push_str(NAT_FIXED);
        text.push_str(&append(&self.nat));
        let not_loopback = if self.family == Family::V6 { "! -d ::1/128" } else { "" };
        let tail = comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain");
        writeln!(text, "-A KUBE-SERVICES {tail} -m addrtype --dst-type LOCAL {not_loopback} -j KUBE-NODEPORTS")
            .unwrap();
        text.push_str("COMMIT\n");
        text
    }
}

fn comment(text: &str) -> String {
    format!("-m comment --comment {text:?}")
}

fn to(ip: IpAddr) -> String {
    format!("-m tcp -p tcp -d {ip} --dport 80")
}

fn declare(chains: &[&str]) -> String {
    chains.iter().map(|chain| format!(":{chain} - [0:0]\n")).collect()
}

fn append(rules: &[String]) -> String {
    rules.iter().map(|rule| format!("-A {rule}\n")).collect()
}

const FILTER_CHAINS: [&str; 10] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-FIREWALL",
    "KUBE-KUBELET-CANARY",
    "ADMIN",
    "CNI-FORWARD",
];

const NAT_CHAINS: [&str; 8] = [
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-PROXY-CANARY",
    "KUBE-KUBELET-CANARY",
    "CNI-HOSTPORT",
    "ADMIN-NAT",
];

/// The kubelet's chain with a rule that weir has not, and rules of others.
const KUBELET_AND_ADMIN_FILTER: &str = "\
-A KUBE-FIREWALL -m comment --comment \"kubernetes firewall for dropping marked packets\" -m mark --mark 0x8000/0x8000 -j DROP
-A ADMIN -p tcp -m tcp --dport 23 -j DROP
-A ADMIN -j RETURN
-A CNI-FORWARD -j ACCEPT
";

const MARTIANS: &str = "\
-A KUBE-FIREWALL -m comment --comment \"block incoming localnet connections\" -d 127.0.0.0/8 ! -s 127.0.0.0/8 \
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
";

const FILTER_JUMPS: &str = "\
-A INPUT -j KUBE-FIREWALL
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check service ports\" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j ADMIN
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A FORWARD -m conntrack --ctstate NEW -m comment --comment \"kubernetes externally-visible service portals\" -j KUBE-EXTERNAL-SERVICES
-A FORWARD -j CNI-FORWARD
-A OUTPUT -j KUBE-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
";

const FORWARD: &str = "\
-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x00004000/0x00004000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
";

const NAT_FIXED: &str = "\
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A POSTROUTING -j ADMIN-NAT
-A KUBE-POSTROUTING -m mark ! --mark 0x00004000/0x00004000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x00004000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x00004000
";
