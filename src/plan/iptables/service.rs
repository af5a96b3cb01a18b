//! What one service port owns: its chains, and its entries in the dispatchers (contract 3.4).

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::balance::{self, Choice, Shared, Targets, Way};
use super::dispatch::{Key, Tree};
use super::hairpin;
use super::names::{self, ServiceChains};
use crate::kernel::xtables::{ChainName, Match, RecentAction, Rule, Target};
use crate::model::{EndpointFlags, ModelEndpoint, ServicePort, Settings};
use crate::plan::build::{Build, commented, rule};
use crate::state::TrafficPolicy;

/// Accounting object that counts accepted connections to node ports on loopback (contract 3.2).
pub const NFACCT_LOCALHOST: &str = "localhost_nps_accepted_pkts";

/// The chains that a service port owns, all in the nat table. Those that it has in common with `other`, another version
/// of it, are left out where that is cheap to tell: what an endpoint change costs must not depend on how many endpoints
/// stay.
pub fn chains(port: &ServicePort, settings: &Settings, other: Option<&ServicePort>) -> Vec<(ChainName, Vec<Rule>)> {
    if !port.has_any_endpoint {
        return Vec::new();
    }
    let names = ServiceChains::new(&port.key);
    // Affinity is the only thing beside the choice itself that an endpoint's chain depends on.
    let other = other.filter(|other| other.has_any_endpoint && other.affinity_seconds == port.affinity_seconds);
    let mut out = Vec::new();
    let mut choices =
        Choices { port, settings, names: &names, targets: Targets::new(&names, port.key.name.protocol), out: &mut out };
    choices.push(TrafficPolicy::Cluster, other);
    choices.push(TrafficPolicy::Local, other);
    choices.push_endpoints(other);
    if port.externally_accessible() {
        out.push((names.external(), external_rules(port, settings, &names)));
        if uses_firewall(port) {
            out.push((names.firewall(), firewall_rules(port, settings, &names)));
        }
    }
    out
}

/// Whether the chain is one that the service port owns, told by name.
pub fn owns(port: &ServicePort, chain: &ChainName) -> bool {
    let names = ServiceChains::new(&port.key);
    let of_service = [names.cluster(), names.local(), names.external(), names.firewall()];
    // The chains of groups have the name of the chain that they belong to at their head.
    of_service.iter().any(|own| chain.as_str().starts_with(own.as_str()))
        || port.reachable_endpoints().any(|endpoint| names.endpoint(&endpoint.to_string()) == *chain)
}

/// The chains that choose endpoints, and those of the endpoints, under way.
struct Choices<'a> {
    port: &'a ServicePort,
    settings: &'a Settings,
    names: &'a ServiceChains,
    targets: Targets<'a>,
    out: &'a mut Vec<(ChainName, Vec<Rule>)>,
}

impl Choices<'_> {
    /// The chain of one policy, if it has endpoints, and its groups.
    fn push(&mut self, policy: TrafficPolicy, other: Option<&ServicePort>) {
        let endpoints = choices(self.port, self.settings, policy);
        if endpoints.is_empty() {
            return;
        }
        let chain = if policy == TrafficPolicy::Local { self.names.local() } else { self.names.cluster() };
        let mut rules = Vec::new();
        if policy == self.port.internal_policy && self.port.has_internal_endpoints() {
            rules.extend(internal_masquerade(self.port, self.settings, self.names));
        }
        if let Some(seconds) = self.port.affinity_seconds {
            balance::push_affinity(&endpoints, seconds, &mut self.targets, &mut rules);
        }
        match balance::groups(&endpoints) {
            None => balance::push_flat(&endpoints, &mut self.targets, &mut rules),
            Some(groups) => {
                balance::push_groups(&groups, &chain, self.names, &mut rules);
                let same =
                    other.and_then(|other| balance::groups(&choices(other, self.settings, policy))).unwrap_or_default();
                for group in groups.iter().filter(|group| !same.contains(group)) {
                    let mut members = Vec::new();
                    balance::push_flat(&group.1, &mut self.targets, &mut members);
                    self.out.push((names::group(&chain, group.0), members));
                }
            }
        }
        self.out.push((chain, rules));
    }

    /// The chain of each endpoint that needs one and has not the same in the other version.
    fn push_endpoints(&mut self, other: Option<&ServicePort>) {
        let theirs: HashSet<Choice> = other.into_iter().flat_map(|other| with_chains(other, self.settings)).collect();
        let comment: Arc<str> = self.names.text().into();
        for choice in with_chains(self.port, self.settings).filter(|choice| !theirs.contains(choice)) {
            let Shared { chain: Some(chain), .. } = self.targets.get(&choice).clone() else { continue };
            let rules = endpoint_rules(self.port, &choice, &chain, &comment);
            self.out.push((chain, rules));
        }
    }
}

/// The names of its endpoints' chains, one at a time: each costs a SHA-256.
pub fn endpoint_chains<'a>(
    port: &'a ServicePort,
    settings: &'a Settings,
    names: &'a ServiceChains,
) -> impl Iterator<Item = ChainName> + 'a {
    with_chains(port, settings).map(|choice| names.endpoint(&choice.endpoint.to_string()))
}

/// The endpoints that have chains, in order.
fn with_chains<'a>(port: &'a ServicePort, settings: &'a Settings) -> impl Iterator<Item = Choice> + 'a {
    let reachable = EndpointFlags::CLUSTER.with(EndpointFlags::LOCAL);
    let choices = port.with_any_flag(reachable).map(|endpoint| choice(port, settings, endpoint));
    choices.filter(|choice| choice.way != Way::Direct)
}

fn choice(port: &ServicePort, settings: &Settings, endpoint: &ModelEndpoint) -> Choice {
    let hairpin = hairpin::is_possible(port, settings, endpoint);
    let needs_chain = hairpin || port.affinity_seconds.is_some();
    let way = if needs_chain { Way::Chain { hairpin } } else { Way::Direct };
    Choice { endpoint: endpoint.endpoint, way }
}

/// The endpoints of a policy, none if the service port has no use for it.
fn choices(port: &ServicePort, settings: &Settings, policy: TrafficPolicy) -> Vec<Choice> {
    let with = |flag| port.with_any_flag(flag).map(|endpoint| choice(port, settings, endpoint)).collect();
    match policy {
        TrafficPolicy::Cluster if port.uses_cluster_endpoints() => with(EndpointFlags::CLUSTER),
        TrafficPolicy::Local if port.uses_local_endpoints() => with(EndpointFlags::LOCAL),
        _ => Vec::new(),
    }
}

/// Marks traffic to the cluster IP that must not keep its source. `None` if nothing tells such traffic.
fn internal_masquerade(port: &ServicePort, settings: &Settings, names: &ServiceChains) -> Option<Rule> {
    let rule = commented(format!("{} cluster IP", names.text())).to_ip(port.cluster_ip).to_ports(
        port.key.name.protocol,
        port.port,
        port.port,
    );
    let rule = if settings.masquerade_all { rule } else { rule.detected(settings.detector.get(port.family()), false)? };
    Some(rule.jump(mark_masq()))
}

fn external_rules(port: &ServicePort, settings: &Settings, names: &ServiceChains) -> Vec<Rule> {
    let text = names.text();
    let mut rules = Vec::new();
    if port.external_policy == TrafficPolicy::Cluster {
        rules.push(commented(format!("masquerade traffic for {text} external destinations")).jump(mark_masq()));
    } else {
        // Pods and the node itself reach any endpoint: the policy is about traffic from outside (contract 2.7). There
        // is nothing to jump to if only other nodes' Local endpoints could serve it.
        if port.cluster_endpoints().next().is_some() {
            let pods = commented(format!("pod traffic for {text} external destinations"));
            rules.extend(
                pods.detected(settings.detector.get(port.family()), true).map(|rule| rule.jump(names.cluster())),
            );
            rules.push(
                commented(format!("masquerade LOCAL traffic for {text} external destinations"))
                    .source_local()
                    .jump(mark_masq()),
            );
            rules.push(
                commented(format!("route LOCAL traffic for {text} external destinations"))
                    .source_local()
                    .jump(names.cluster()),
            );
        }
    }
    if port.has_external_endpoints() {
        let local = port.external_policy == TrafficPolicy::Local;
        let has_chain = local || port.cluster_endpoints().next().is_some();
        if has_chain {
            rules.push(rule().jump(if local { names.local() } else { names.cluster() }));
        }
    }
    rules
}

fn uses_firewall(port: &ServicePort) -> bool {
    port.has_any_endpoint && !port.load_balancer_ips.is_empty() && !port.source_ranges.is_empty()
}

fn firewall_rules(port: &ServicePort, settings: &Settings, names: &ServiceChains) -> Vec<Rule> {
    let text = names.text();
    let comment: Arc<str> = format!("{text} loadbalancer IP").into();
    let allow = |from: IpNet| commented(comment.clone()).source_net(from).jump(names.external());
    let mut rules: Vec<Rule> = port.source_ranges.iter().map(|range| allow(*range)).collect();
    // A node that has the VIP as an address of its own uses it as the source of its connections to it.
    let node_ip = settings.node_ips.get(port.family());
    if node_ip.is_some_and(|ip| port.source_ranges.iter().any(|range| range.contains(&ip))) {
        rules.extend(port.load_balancer_ips.iter().map(|vip| allow(IpNet::from(*vip))));
    }
    rules.push(commented(format!("other traffic to {text} will be dropped by KUBE-PROXY-FIREWALL")));
    rules
}

fn endpoint_rules(port: &ServicePort, choice: &Choice, chain: &ChainName, comment: &Arc<str>) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(2);
    if choice.way == (Way::Chain { hairpin: true }) {
        // An endpoint that reaches itself must not see its own address as the source.
        rules.push(commented(comment.clone()).source_net(IpNet::from(choice.endpoint.ip)).jump(mark_masq()));
    }
    let mut dnat = commented(comment.clone());
    if port.affinity_seconds.is_some() {
        dnat = dnat.recent(chain.shared(), RecentAction::Set);
    }
    rules.push(dnat.any_port(port.key.name.protocol).target(Target::Dnat(choice.endpoint)));
    rules
}

fn mark_masq() -> ChainName {
    ChainName::new(names::MARK_MASQ)
}

/// What an entry of a dispatcher does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    ClusterIp,
    ExternalIp,
    LoadBalancerIp,
    NodePort,
    /// Rejects or drops traffic to a cluster IP.
    ClusterIpRefused,
    /// The same for external IPs, VIPs and node ports.
    ExternalRefused,
    /// Drops what the source ranges did not let through.
    Firewall,
    /// Accepts health checks.
    HealthCheck,
}

/// The entries of a service port in the dispatchers: which tree, where in it, and what it does there.
pub fn entries(port: &ServicePort) -> Vec<(Tree, Key, Role)> {
    let protocol = port.key.name.protocol;
    let at = |ip: &IpAddr| Key::address(*ip, protocol, port.port);
    let mut out = Vec::with_capacity(2);
    if port.has_internal_endpoints() {
        out.push((Tree::NatServices, at(&port.cluster_ip), Role::ClusterIp));
    } else {
        out.push((Tree::FilterServices, at(&port.cluster_ip), Role::ClusterIpRefused));
    }
    let external = port.has_external_endpoints();
    for ip in &port.external_ips {
        if port.has_any_endpoint {
            out.push((Tree::NatServices, at(ip), Role::ExternalIp));
        }
        if !external {
            out.push((Tree::FilterExternal, at(ip), Role::ExternalRefused));
        }
    }
    for vip in &port.load_balancer_ips {
        if port.has_any_endpoint {
            out.push((Tree::NatServices, at(vip), Role::LoadBalancerIp));
        }
        if uses_firewall(port) {
            out.push((Tree::FilterFirewall, at(vip), Role::Firewall));
        }
        if !external {
            out.push((Tree::FilterExternal, at(vip), Role::ExternalRefused));
        }
    }
    if port.node_port != 0 {
        let key = Key::node_port(protocol, port.node_port);
        if port.has_any_endpoint {
            out.push((Tree::NatNodePorts, key, Role::NodePort));
        }
        if !external {
            out.push((Tree::FilterExternal, key, Role::ExternalRefused));
        }
    }
    if port.health_check_node_port != 0 {
        let key = Key::node_port(crate::net::Protocol::Tcp, port.health_check_node_port);
        out.push((Tree::FilterNodePorts, key, Role::HealthCheck));
    }
    out
}

/// The rules of one entry.
pub fn entry_rules(port: &ServicePort, settings: &Settings, key: &Key, role: Role) -> Vec<Rule> {
    let names = ServiceChains::new(&port.key);
    let text = names.text();
    let frontend = |rule: Rule| match key.ip(port.family()) {
        Some(ip) => rule.to_ip(ip).to_ports(port.key.name.protocol, port.port, port.port),
        None => rule.to_ports(port.key.name.protocol, key.port(), key.port()),
    };
    match role {
        Role::ClusterIp => {
            let local = port.internal_policy == TrafficPolicy::Local;
            let chain = if local { names.local() } else { names.cluster() };
            vec![frontend(commented(format!("{text} cluster IP"))).jump(chain)]
        }
        Role::ExternalIp => vec![frontend(commented(format!("{text} external IP"))).jump(names.external())],
        Role::LoadBalancerIp => {
            let chain = if uses_firewall(port) { names.firewall() } else { names.external() };
            vec![frontend(commented(format!("{text} loadbalancer IP"))).jump(chain)]
        }
        Role::NodePort => node_port_rules(port, settings, &names),
        Role::ClusterIpRefused => vec![frontend(commented(refusal(port, text))).target(refusal_target(port))],
        Role::ExternalRefused => {
            let rule = commented(refusal(port, text));
            let rule = if key.is_node_port() { rule.destination_local() } else { rule };
            vec![frontend(rule).target(refusal_target(port))]
        }
        Role::Firewall => {
            let comment = format!("{text} traffic not accepted by {}", names.firewall());
            vec![frontend(commented(comment)).target(Target::Drop)]
        }
        Role::HealthCheck => {
            let rule = commented(format!("{text} health check node port"));
            let hc = port.health_check_node_port;
            vec![rule.to_ports(crate::net::Protocol::Tcp, hc, hc).target(Target::Accept)]
        }
    }
}

fn node_port_rules(port: &ServicePort, settings: &Settings, names: &ServiceChains) -> Vec<Rule> {
    let protocol = port.key.name.protocol;
    let to_port = |rule: Rule| rule.to_ports(protocol, port.node_port, port.node_port);
    let mut rules = Vec::with_capacity(2);
    if settings.localhost_node_ports(port.family()) && settings.nfacct_localhost_node_ports {
        rules.push(
            to_port(commented(names.text()).to_net(loopback()))
                .matching(Match::Nfacct(NFACCT_LOCALHOST.into()))
                .jump(names.external()),
        );
    }
    rules.push(to_port(commented(names.text())).jump(names.external()));
    rules
}

/// 127.0.0.0/8
pub fn loopback() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8))
}

fn refusal(port: &ServicePort, text: &str) -> String {
    if port.has_any_endpoint { format!("{text} has no local endpoints") } else { format!("{text} has no endpoints") }
}

fn refusal_target(port: &ServicePort) -> Target {
    if port.has_any_endpoint { Target::Drop } else { Target::Reject }
}
