//! The tables that kube-proxy in nftables mode has, as input of `nft`: written from the contract (5.2 to 5.6), not from what
//! weir plans.

use std::fmt::Write;
use std::net::IpAddr;

use weir::net::{Family, base32_sha256};

use crate::shared::kube_proxy::{Service, endpoint_ip};

/// The words of a family.
struct Words {
    ip: &'static str,
    address: &'static str,
    pods: &'static str,
    localhost: &'static str,
}

fn words(family: Family) -> Words {
    match family {
        Family::V4 => Words { ip: "ip", address: "ipv4_addr", pods: "10.244.0.0/16", localhost: "127.0.0.0/8" },
        Family::V6 => Words { ip: "ip6", address: "ipv6_addr", pods: "fd00:10:244::/48", localhost: "::1" },
    }
}

/// The name of a chain or set: a hash of what it is about, and that.
fn name(prefix: &str, about: &str) -> String {
    format!("{prefix}-{}-{about}", &base32_sha256(&[about.as_bytes()])[..8])
}

fn about(service: &Service) -> String {
    format!("{}/{}/tcp/p80", service.namespace, service.name)
}

/// A table in the making.
struct Table {
    family: Family,
    node: IpAddr,
    chains: String,
    cluster_ips: Vec<String>,
    service_ips: Vec<String>,
    node_ports: Vec<String>,
    refused_ips: Vec<String>,
    refused_ports: Vec<String>,
    firewalls: Vec<String>,
    hairpins: Vec<String>,
    sets: String,
}

/// What makes the table of a family for these services, all of whose endpoints are on this node; in place of one that is
/// there, as kube-proxy's first sync after a start.
pub fn write(family: Family, services: &[Service], node: IpAddr) -> String {
    let mut table = Table {
        family,
        node,
        chains: String::new(),
        cluster_ips: Vec::new(),
        service_ips: Vec::new(),
        node_ports: Vec::new(),
        refused_ips: Vec::new(),
        refused_ports: Vec::new(),
        firewalls: Vec::new(),
        hairpins: Vec::new(),
        sets: String::new(),
    };
    services.iter().for_each(|service| table.service(service));
    table.finish()
}

const MARK: &str = "0x00004000";

impl Table {
    fn service(&mut self, service: &Service) {
        let (family, about) = (self.family, about(service));
        let at = |ip: IpAddr| format!("{ip} . tcp . 80");
        let cluster_ip = service.cluster_ip(family);
        self.cluster_ips.push(cluster_ip.to_string());
        let mut outside = Vec::new();
        if service.external_ip {
            outside.push(service.external_ip(family));
        }
        if service.vip {
            outside.push(service.vip(family));
        }
        if service.endpoints.is_empty() {
            let refused = |key: String| format!("{key} : goto reject-chain");
            self.refused_ips.extend(std::iter::once(cluster_ip).chain(outside).map(|ip| refused(at(ip))));
            if service.node_port != 0 {
                self.refused_ports.push(refused(format!("tcp . {}", service.node_port)));
            }
            return;
        }
        let (serve, external) = (name("service", &about), name("external", &about));
        self.service_ips.push(format!("{} : goto {serve}", at(cluster_ip)));
        self.service_ips.extend(outside.iter().map(|ip| format!("{} : goto {external}", at(*ip))));
        if service.node_port != 0 {
            self.node_ports.push(format!("tcp . {} : goto {external}", service.node_port));
        }
        if service.source_ranges {
            let firewall = name("firewall", &about);
            self.firewalls.push(format!("{} : goto {firewall}", at(service.vip(family))));
            let Words { ip, .. } = words(family);
            self.chain(&firewall, &[format!("{ip} saddr != {{ {} }} drop", Service::range(family))]);
        }
        self.choose(service, &serve);
        if !outside.is_empty() || service.node_port != 0 {
            self.external(service, &external, &serve);
        }
        let own = |number: &u8| {
            let ip = endpoint_ip(family, *number);
            format!("{ip} . {ip} . tcp . 80")
        };
        let own: Vec<String> = service.endpoints.iter().map(own).filter(|own| !self.hairpins.contains(own)).collect();
        self.hairpins.extend(own);
    }

    fn external(&mut self, service: &Service, external: &str, serve: &str) {
        let Words { ip, pods, .. } = words(self.family);
        let local = name("local", &about(service));
        if !service.external_policy_local {
            return self.chain(external, &[format!("mark set mark or {MARK}"), format!("goto {serve}")]);
        }
        self.choose(service, &local);
        self.chain(
            external,
            &[
                format!("{ip} saddr {pods} goto {serve}"),
                format!("fib saddr type local mark set mark or {MARK}"),
                format!("fib saddr type local goto {serve}"),
                format!("goto {local}"),
            ],
        );
    }

    /// The chain that chooses an endpoint.
    fn choose(&mut self, service: &Service, chain: &str) {
        let Words { ip, address, .. } = words(self.family);
        let endpoints: Vec<IpAddr> = service.endpoints.iter().map(|n| endpoint_ip(self.family, *n)).collect();
        let count = endpoints.len();
        if !service.affinity {
            let list: Vec<String> = endpoints.iter().enumerate().map(|(i, to)| format!("{i} : {to} . 80")).collect();
            let list = list.join(", ");
            let rule = format!("meta l4proto tcp dnat {ip} addr . port to numgen random mod {count} map {{ {list} }}");
            return self.chain(chain, &[rule]);
        }
        let mut rules = Vec::new();
        let mut choices = Vec::new();
        for (i, to) in endpoints.iter().enumerate() {
            let about = format!("{}__{}/80", about(service), to.to_string().replace(':', "."));
            let (set, endpoint) = (name("affinity", &about), name("endpoint", &about));
            writeln!(self.sets, "set {set} {{ type {address}; flags dynamic,timeout; timeout 10800s; }}").unwrap();
            let bracketed = if to.is_ipv6() { format!("[{to}]") } else { to.to_string() };
            self.chain(
                &endpoint,
                &[format!("update @{set} {{ {ip} saddr }}"), format!("meta l4proto tcp dnat to {bracketed}:80")],
            );
            rules.push(format!("{ip} saddr @{set} goto {endpoint}"));
            choices.push(format!("{i} : goto {endpoint}"));
        }
        rules.push(format!("numgen random mod {count} vmap {{ {} }}", choices.join(", ")));
        self.chain(chain, &rules);
    }

    fn chain(&mut self, name: &str, rules: &[String]) {
        writeln!(self.chains, "chain {name} {{\n{}\n}}", rules.join("\n")).unwrap();
    }

    fn finish(self) -> String {
        let Words { ip, address, pods, localhost } = words(self.family);
        let key = format!("{address} . inet_proto . inet_service");
        let elements = |all: &[String]| {
            if all.is_empty() { String::new() } else { format!("elements = {{ {} }}", all.join(", ")) }
        };
        let set = |name: &str, kind: &str, all: &[String]| format!("set {name} {{ type {kind}; {} }}\n", elements(all));
        let map = |name: &str, kind: &str, all: &[String]| {
            format!("map {name} {{ type {kind} : verdict; {} }}\n", elements(all))
        };
        let port = "inet_proto . inet_service";
        let lookup = format!("{ip} daddr . meta l4proto . th dport vmap");
        let sets = [
            set("cluster-ips", address, &self.cluster_ips),
            set("nodeport-ips", address, &[self.node.to_string()]),
            set("hairpin-connections", &format!("{address} . {key}"), &self.hairpins),
            self.sets,
            map("service-ips", &key, &self.service_ips),
            map("service-nodeports", port, &self.node_ports),
            map("no-endpoint-services", &key, &self.refused_ips),
            map("no-endpoint-nodeports", port, &self.refused_ports),
            map("firewall-ips", &key, &self.firewalls),
        ]
        .concat();
        // A chain must be there before a verdict leads to it.
        let table = format!("{ip} kube-proxy");
        let names = self.chains.lines().filter_map(|line| line.strip_prefix("chain ")?.strip_suffix(" {"));
        let fixed = ["reject-chain", "services", "masquerading", "service-endpoints-check", "nodeport-endpoints-check"];
        let fixed = fixed.into_iter().chain(["firewall-check", "cluster-ips-check"]);
        let declared: String =
            fixed.chain(names).fold(String::new(), |text, name| text + "add chain " + &table + " " + name + "\n");
        format!(
            "add table {table} {{ comment \"rules for kube-proxy\"; }}\ndelete table {table}\nadd table {table} {{ comment \
             \"rules for kube-proxy\"; }}\n{declared}table {table} {{\n{sets}{}\
             chain reject-chain {{ reject\n }}\n\
             chain services {{\n{ip} daddr @cluster-ips {ip} saddr != {pods} mark set mark or {MARK}\n\
             {lookup} @service-ips\n\
             {ip} daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n }}\n\
             chain masquerading {{\nmark and {MARK} != 0 mark set mark xor {MARK} masquerade fully-random\n\
             ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random\n }}\n\
             chain service-endpoints-check {{\n{lookup} @no-endpoint-services\n }}\n\
             chain nodeport-endpoints-check {{\n{ip} daddr @nodeport-ips {ip} daddr != {localhost} meta l4proto . th dport vmap @no-endpoint-nodeports\n }}\n\
             chain firewall-check {{\n{lookup} @firewall-ips\n }}\n\
             chain cluster-ips-check {{\n{ip} daddr @cluster-ips reject\n }}\n{BASE}}}\n",
            self.chains
        )
    }
}

/// The base chains and their jumps (contract 5.2).
const BASE: &str = "\
chain filter-prerouting-pre-dnat { type filter hook prerouting priority -110;
ct state new jump firewall-check
}
chain filter-output-pre-dnat { type filter hook output priority -110;
ct state new jump firewall-check
}
chain filter-input { type filter hook input priority 0;
ct state new jump nodeport-endpoints-check
ct state new jump service-endpoints-check
}
chain filter-forward { type filter hook forward priority 0;
ct state new jump service-endpoints-check
ct state new jump cluster-ips-check
}
chain filter-output { type filter hook output priority 0;
ct state new jump service-endpoints-check
ct state new jump cluster-ips-check
}
chain nat-prerouting { type nat hook prerouting priority -100;
jump services
}
chain nat-output { type nat hook output priority -100;
jump services
}
chain nat-postrouting { type nat hook postrouting priority 100;
jump masquerading
}
";
