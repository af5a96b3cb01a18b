//! What the flags mean on this host: asks the system, once, and checks what belongs together.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Failure;
use super::accounting::Accounting;
use super::options::{DetectLocalMode, NodePortAddress, RuleOptions, SourceOptions};
use crate::model::{LocalDetector, NodePortAddresses, Settings};
use crate::net::{Family, PerFamily};
use crate::state::Node;

/// The name of this node: the flag, or the host's name; trimmed and in lower case (contract 1.7).
pub fn node_name(source: &SourceOptions) -> Result<Arc<str>, Failure> {
    let name = match source.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        Some(name) if name.trim().is_empty() => {
            return Err(Failure::new(format!(
                "--hostname-override {name:?}: empty hostname-override is invalid: give the node's name"
            )));
        }
        Some(name) => name.to_owned(),
        None => nix::unistd::gethostname()
            .map_err(|errno| Failure::new(format!("cannot read the host's name: {errno}; use --hostname-override")))?
            .to_string_lossy()
            .into_owned(),
    };
    let name = name.trim().to_lowercase();
    if name.is_empty() { Err(Failure::new("this host has no name: use --hostname-override")) } else { Ok(name.into()) }
}

/// The flags checked against each other (contract 1.6): what cannot be told from one flag alone.
///
/// # Errors
/// One line that names the flags and values.
pub fn check(rules: &RuleOptions) -> Result<(), Failure> {
    match rules.detect_local_mode {
        DetectLocalMode::ClusterCidr => check_cluster_cidr(&rules.cluster_cidr)?,
        DetectLocalMode::NodeCidr => {}
        DetectLocalMode::BridgeInterface => {
            check_interface("BridgeInterface", "--pod-bridge-interface", &rules.pod_bridge_interface, 15)?;
        }
        DetectLocalMode::InterfaceNamePrefix => {
            let flag = "--pod-interface-name-prefix";
            check_interface("InterfaceNamePrefix", flag, &rules.pod_interface_name_prefix, 14)?;
        }
    }
    let addresses: Vec<NodePortAddress> = rules.node_port_addresses().collect();
    if addresses.len() > 1 && addresses.contains(&NodePortAddress::Primary) {
        return Err(Failure::new(
            "--nodeport-addresses: can't use both 'primary' and CIDRs: give `primary` alone, or CIDRs alone",
        ));
    }
    Ok(())
}

/// An interface's name or the beginning of one, as the kernel allows it: `IFNAMSIZ` of uapi `linux/if.h` is 16, of which
/// one is the NUL, and another one the `+` after a prefix.
fn check_interface(mode: &str, flag: &str, value: &Option<String>, longest: usize) -> Result<(), Failure> {
    let Some(name) = value.as_deref().filter(|name| !name.is_empty()) else {
        return Err(Failure::new(format!("--detect-local-mode {mode} needs {flag}")));
    };
    if name.len() > longest {
        return Err(Failure::new(format!("{flag} {name:?}: an interface has at most {longest} bytes here")));
    }
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || "/:+!\"'\\".contains(c);
    match name.chars().find(|c| is_bad(*c)) {
        Some(bad) => Err(Failure::new(format!("{flag} {name:?}: an interface's name has no {bad:?}"))),
        None => Ok(()),
    }
}

/// What can only be told once the host is known: networks of pods that no family can use (contract 1.13).
///
/// # Errors
/// All of `--cluster-cidr` is of families that this host does not serve.
pub fn check_families(rules: &RuleOptions, families: &[Family]) -> Result<(), Failure> {
    let served = |net: &IpNet| families.contains(&Family::of_net(net));
    let is_used = rules.detect_local_mode == DetectLocalMode::ClusterCidr && !rules.cluster_cidr.is_empty();
    if is_used && !rules.cluster_cidr.iter().any(served) {
        let families: Vec<&str> = families.iter().map(|family| family.as_str()).collect();
        return Err(Failure::new(format!(
            "--cluster-cidr {:?}: this host serves {} only: give a CIDR of that family",
            joined(&rules.cluster_cidr),
            families.join(" and ")
        )));
    }
    Ok(())
}

fn joined(nets: &[IpNet]) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// One network, or one of each family.
fn check_cluster_cidr(cidrs: &[IpNet]) -> Result<(), Failure> {
    match cidrs {
        [] | [_] => Ok(()),
        [a, b] if Family::of_net(a) != Family::of_net(b) => Ok(()),
        _ => Err(Failure::new(format!(
            "--cluster-cidr {:?}: expected one CIDR, or one IPv4 and one IPv6 CIDR",
            joined(cidrs)
        ))),
    }
}

/// What of the host rules depend on.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// Addresses of all interfaces, sorted.
    pub addresses: Vec<IpAddr>,
    /// `nf_conntrack_tcp_be_liberal` was set when the process started (contract 3.3).
    pub conntrack_liberal: bool,
    /// Accounting objects that rules can name.
    pub accounting: Accounting,
}

impl HostFacts {
    /// Reads the addresses of this network namespace's interfaces and the conntrack setting.
    ///
    /// # Errors
    /// See [`interface_addresses`].
    pub fn read() -> Result<Self, Failure> {
        let liberal = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal");
        Ok(HostFacts {
            addresses: interface_addresses()?,
            conntrack_liberal: liberal.is_ok_and(|value| value.trim() != "0"),
            accounting: Accounting::default(),
        })
    }
}

/// Addresses of this network namespace's interfaces, sorted.
///
/// # Errors
/// The kernel does not tell them.
pub fn interface_addresses() -> Result<Vec<IpAddr>, Failure> {
    let interfaces = nix::ifaddrs::getifaddrs()
        .map_err(|errno| Failure::new(format!("cannot list the addresses of this host: {errno}")))?;
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// The settings that rules are planned with: from the flags, the node as the source tells it, and the host.
pub fn settings(rules: &RuleOptions, node: Option<&Node>, host: &HostFacts) -> Settings {
    let node_ips = node_ips(rules, node);
    let cidrs = node_port_cidrs(rules, &node_ips);
    Settings {
        masquerade_bit: rules.iptables_masquerade_bit,
        masquerade_all: rules.masquerade_all,
        detector: PerFamily::new(|family| detector(rules, node, family)),
        localhost_node_ports: rules.iptables_localhost_nodeports && contains_loopback(&cidrs),
        node_port_addresses: PerFamily::new(|family| {
            let loopback_works =
                family == Family::V4 && rules.iptables_localhost_nodeports && contains_loopback(&cidrs);
            node_port_addresses(&cidrs, &host.addresses, family, loopback_works)
        }),
        node_ips,
        // Every iptables that weir drives knows it (1.8.2 and newer), and so do the kernels that those run on.
        random_fully: true,
        drop_invalid: !host.conntrack_liberal,
        nfacct_ct_invalid: host.accounting.ct_invalid,
        nfacct_localhost_node_ports: host.accounting.localhost_node_ports,
        ..Settings::default()
    }
}

/// Contract 1.15.
fn detector(rules: &RuleOptions, node: Option<&Node>, family: Family) -> LocalDetector {
    let first = |nets: &[IpNet]| {
        let net = nets.iter().find(|net| Family::of_net(net) == family);
        net.map_or(LocalDetector::None, |net| LocalDetector::Cidr(*net))
    };
    match rules.detect_local_mode {
        DetectLocalMode::ClusterCidr => first(&rules.cluster_cidr),
        DetectLocalMode::NodeCidr => first(node.map(|node| &*node.pod_cidrs).unwrap_or_default()),
        DetectLocalMode::BridgeInterface => {
            rules.pod_bridge_interface.as_deref().map_or(LocalDetector::None, |n| LocalDetector::Interface(n.into()))
        }
        DetectLocalMode::InterfaceNamePrefix => rules
            .pod_interface_name_prefix
            .as_deref()
            .map_or(LocalDetector::None, |prefix| LocalDetector::InterfacePrefix(prefix.into())),
    }
}

/// The node's address of each family: the Node object's first, overridden by a bind address that says one
/// (contract 1.11). Loopback stands for "unknown" upstream; here it is `None`.
fn node_ips(rules: &RuleOptions, node: Option<&Node>) -> PerFamily<Option<IpAddr>> {
    let mut ips =
        PerFamily::new(|family| node.and_then(|node| node.ips.iter().find(|ip| Family::of(ip) == family).copied()));
    if let Some(ip) = rules.bind_address.filter(|ip| !ip.is_unspecified()) {
        *ips.get_mut(Family::of(&ip)) = Some(ip);
    }
    ips
}

/// The networks of `--nodeport-addresses`, `primary` replaced by the node's addresses (contract 1.12).
fn node_port_cidrs(rules: &RuleOptions, node_ips: &PerFamily<Option<IpAddr>>) -> Vec<IpNet> {
    rules
        .node_port_addresses()
        .flat_map(|address| match address {
            NodePortAddress::Net(net) => vec![net],
            NodePortAddress::Primary => node_ips.iter().filter_map(|(_, ip)| ip.map(IpNet::from)).collect(),
        })
        .collect()
}

/// Contract 3.11: node ports on loopback need an IPv4 network that is loopback or contains its first address; no IPv4
/// network at all means every address.
pub fn contains_loopback(cidrs: &[IpNet]) -> bool {
    let mut v4 = cidrs.iter().filter(|net| Family::of_net(net) == Family::V4).peekable();
    let first = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 0));
    v4.peek().is_none() || v4.any(|net| net.addr().is_loopback() || net.contains(&first))
}

/// Contract 3.12: no network of the family, or one of `/0`, means every address; otherwise those of the host's
/// addresses that the networks contain. Loopback is left out where it cannot work.
pub fn node_port_addresses(
    cidrs: &[IpNet],
    addresses: &[IpAddr],
    family: Family,
    loopback_works: bool,
) -> NodePortAddresses {
    let own: Vec<&IpNet> = cidrs.iter().filter(|net| Family::of_net(net) == family).collect();
    if own.is_empty() || own.iter().any(|net| net.prefix_len() == 0) {
        return NodePortAddresses::All;
    }
    let mut selected: Vec<IpAddr> = addresses
        .iter()
        .filter(|ip| own.iter().any(|net| net.contains(*ip)))
        .filter(|ip| loopback_works || !ip.is_loopback())
        .copied()
        .collect();
    selected.sort();
    selected.dedup();
    NodePortAddresses::Only(selected.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Rows E30 to E42: networks, addresses of the host, what the IPv4 and the IPv6 instance accept.
    #[test]
    fn e30_to_e42_addresses_of_node_ports() {
        let all = NodePortAddresses::All;
        let only = |texts: &[&str]| NodePortAddresses::Only(ips(texts).into());
        let host = ["10.20.30.51", "100.200.201.1", "127.0.0.1", "127.0.1.1", "1.2.3.4", "2001:db8::1", "::1"];
        type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], NodePortAddresses, NodePortAddresses);
        let cases: Vec<Row<'_>> = vec![
            ("E30", &["10.20.30.0/24"], &host, only(&["10.20.30.51"]), all.clone()),
            ("E31", &["0.0.0.0/0"], &host, all.clone(), all.clone()),
            ("E32", &["2001:db8::/64", "::1/128"], &host, all.clone(), only(&["2001:db8::1", "::1"])),
            ("E33", &["::/0"], &host, all.clone(), all.clone()),
            ("E34", &["127.0.0.1/32"], &host, only(&["127.0.0.1"]), all.clone()),
            ("E35", &["127.0.0.0/8"], &["127.0.1.1"], only(&["127.0.1.1"]), all.clone()),
            (
                "E36",
                &["10.20.30.0/24", "100.200.201.0/24"],
                &host,
                only(&["10.20.30.51", "100.200.201.1"]),
                all.clone(),
            ),
            ("E37", &["10.20.30.0/24", "100.200.201.0/24"], &["192.168.1.2"], only(&[]), all.clone()),
            ("E38", &[], &["192.168.1.2"], all.clone(), all.clone()),
            ("E39", &[], &["2001:db8::1"], all.clone(), all.clone()),
            ("E40", &["1.2.3.0/24", "0.0.0.0/0"], &host, all.clone(), all.clone()),
            ("E41", &["0.0.0.0/0", "1.2.3.0/24", "2001:db8::1/128"], &host, all.clone(), only(&["2001:db8::1"])),
            ("E42", &["::/0", "1.2.3.0/24", "2001:db8::1/128"], &host, only(&["1.2.3.4"]), all.clone()),
        ];
        for (row, cidrs, host, v4, v6) in cases {
            // The helper of these rows knows nothing of loopback: with it working, nothing is left out.
            let get = |family| node_port_addresses(&nets(cidrs), &ips(host), family, true);
            let sorted = |a: NodePortAddresses| match a {
                NodePortAddresses::Only(ips) => {
                    let mut ips = ips.into_vec();
                    ips.sort();
                    NodePortAddresses::Only(ips.into())
                }
                NodePortAddresses::All => NodePortAddresses::All,
            };
            assert_eq!((get(Family::V4), get(Family::V6)), (sorted(v4), sorted(v6)), "{row}");
        }
    }

    #[test]
    fn e43_to_e50_contains_loopback() {
        let base = ["224.0.0.0/24", "192.168.0.0/16", "fd00:1:d::/64"];
        assert!(contains_loopback(&[]), "E43");
        for (row, extra, expected) in [
            ("E44", "0.0.0.0/0", true),
            ("E45", "::/0", false),
            ("E46", "127.0.0.0/8", true),
            ("E47", "::1/128", false),
            ("E48", "127.0.2.0/28", true),
            ("E49", "64.0.0.0/2", true),
            ("E50", "128.0.2.0/28", false),
        ] {
            let cidrs = nets(&[base[0], base[1], base[2], extra]);
            assert_eq!(contains_loopback(&cidrs), expected, "{row}");
        }
    }

    #[test]
    fn e3_loopback_is_left_out_where_it_cannot_work() {
        let cidrs = nets(&["192.168.0.0/24", "127.0.0.1/32"]);
        let host = ips(&["127.0.0.1", "192.168.0.2"]);
        let got = node_port_addresses(&cidrs, &host, Family::V4, false);
        assert_eq!(got, NodePortAddresses::Only(ips(&["192.168.0.2"]).into()));
    }
}
