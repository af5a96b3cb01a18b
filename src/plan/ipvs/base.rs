//! The rules around virtual servers (contract 4.5, 4.6). They are the same whatever services there are: they look
//! frontends up in sets. A change of services changes entries, not rules.
//!
//! Where a packet meets what, with the priorities of uapi `linux/netfilter_ipv4.h`:
//!
//! | it | marks | refusals | IPVS |
//! |---|---|---|---|
//! | comes in | nat PREROUTING | filter INPUT | behind both, at LOCAL_IN |
//! | is made here | nat OUTPUT | mangle OUTPUT | behind both, at LOCAL_OUT: filter OUTPUT would see an endpoint already |

use super::sets::Set;
use crate::kernel::xtables::{ChainKey, ChainName, CtStates, Direction, Rule, Table, Target};
use crate::model::{LocalDetector, Settings};
use crate::net::{Family, Protocol};
use crate::plan::build::{Build, commented, rule};
use crate::plan::egress;
use crate::plan::iptables::{BuiltinRule, Place};

const SERVICES: &str = "KUBE-SERVICES";
const LOAD_BALANCER: &str = "KUBE-LOAD-BALANCER";
const NODE_PORT: &str = "KUBE-NODE-PORT";
const POSTROUTING: &str = "KUBE-POSTROUTING";
const MARK_MASQ: &str = "KUBE-MARK-MASQ";
const FORWARD: &str = "KUBE-FORWARD";
const PROXY_FIREWALL: &str = "KUBE-PROXY-FIREWALL";
const SOURCE_RANGES: &str = "KUBE-SOURCE-RANGES-FIREWALL";
const FILTER: &str = "KUBE-IPVS-FILTER";
const OUT_FILTER: &str = "KUBE-IPVS-OUT-FILTER";

/// The chain that a packet to a service comes through: without it nothing leads to services.
pub const ENTRANCE: (Table, &str) = (Table::Nat, SERVICES);

/// All chains of a family, with their rules.
pub fn chains(settings: &Settings, family: Family) -> Vec<(Table, ChainName, Vec<Rule>)> {
    let base = Base { settings, family };
    let filter = |name, rules| (Table::Filter, ChainName::new(name), rules);
    let nat = |name, rules| (Table::Nat, ChainName::new(name), rules);
    let mangle = |name, rules| (Table::Mangle, ChainName::new(name), rules);
    let mut chains = vec![
        mangle(OUT_FILTER, base.out_filter()),
        mangle(SOURCE_RANGES, base.source_ranges()),
        filter(FORWARD, base.forward()),
        filter(FILTER, base.filter()),
        filter(NODE_PORT, base.health_checks()),
        filter(PROXY_FIREWALL, base.proxy_firewall()),
        filter(SOURCE_RANGES, base.source_ranges()),
        nat(SERVICES, base.services()),
        nat(LOAD_BALANCER, base.load_balancer()),
        nat(NODE_PORT, base.node_ports()),
        nat(POSTROUTING, base.postrouting()),
        nat(MARK_MASQ, vec![rule().target(Target::Mark { value: base.mark(), mask: base.mark() })]),
    ];
    chains.extend(egress::chain(settings, family));
    chains
}

/// The jumps from built-in chains, in the order in which they are made: each is inserted at the head (contract 4.5).
pub fn builtin_rules(settings: &Settings, family: Family) -> Vec<BuiltinRule> {
    const PORTALS: &str = "kubernetes service portals";
    const FIREWALL: &str = "kube-proxy firewall rules";
    const ACCESS: &str = "kubernetes ipvs access filter";
    let jumps: [(Table, &str, &str, &str); 9] = [
        (Table::Nat, "OUTPUT", SERVICES, PORTALS),
        (Table::Nat, "PREROUTING", SERVICES, PORTALS),
        (Table::Nat, "POSTROUTING", POSTROUTING, "kubernetes postrouting rules"),
        (Table::Filter, "FORWARD", FORWARD, "kubernetes forwarding rules"),
        (Table::Filter, "INPUT", NODE_PORT, "kubernetes health check rules"),
        (Table::Filter, "INPUT", PROXY_FIREWALL, FIREWALL),
        (Table::Filter, "FORWARD", PROXY_FIREWALL, FIREWALL),
        (Table::Filter, "INPUT", FILTER, ACCESS),
        (Table::Mangle, "OUTPUT", OUT_FILTER, ACCESS),
    ];
    let jump = |(table, from, to, comment): (Table, &str, &str, &str)| BuiltinRule {
        chain: ChainKey { family, table, name: ChainName::new(from) },
        rule: commented(comment).jump(ChainName::new(to)),
        place: Place::Head,
    };
    jumps.into_iter().map(jump).chain(egress::jump(settings, family)).collect()
}

/// What the comment of a rule says of the set that it looks up (contract 4.4).
const fn about(set: Set) -> &'static str {
    match set {
        Set::LoopBack => "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose",
        Set::ClusterIp => "Kubernetes service cluster ip + port for masquerade purpose",
        Set::ExternalIp => "Kubernetes service external ip + port for masquerade and filter purpose",
        Set::ExternalIpLocal => "Kubernetes service external ip + port with externalTrafficPolicy=local",
        Set::LoadBalancer => "Kubernetes service lb portal",
        Set::LoadBalancerLocal => "Kubernetes service load balancer ip + port with externalTrafficPolicy=local",
        Set::LoadBalancerFw => "Kubernetes service load balancer ip + port for load balancer with sourceRange",
        Set::LoadBalancerSourceCidr => {
            "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"
        }
        Set::LoadBalancerSourceIp => "Kubernetes service load balancer ip + port + source IP for packet filter purpose",
        Set::NodePortTcp => "Kubernetes nodeport TCP port for masquerade purpose",
        Set::NodePortLocalTcp => "Kubernetes nodeport TCP port with externalTrafficPolicy=local",
        Set::NodePortUdp => "Kubernetes nodeport UDP port for masquerade purpose",
        Set::NodePortLocalUdp => "Kubernetes nodeport UDP port with externalTrafficPolicy=local",
        Set::NodePortSctp => "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
        Set::NodePortLocalSctp => {
            "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"
        }
        Set::HealthCheckNodePort => "Kubernetes health check node port",
        Set::IpvsIps => "Addresses on the ipvs interface",
        Set::VirtualServers => "virtual servers of weir",
        Set::Reject => "services without endpoints",
        Set::Drop => "services without endpoints that may be used here",
        Set::DropOutside => "services without endpoints here for clients from outside",
    }
}

struct Base<'a> {
    settings: &'a Settings,
    family: Family,
}

impl Base<'_> {
    fn mark(&self) -> u32 {
        self.settings.masquerade_mark()
    }

    /// A rule about packets to what is in a set.
    fn to(&self, set: Set) -> Rule {
        self.looked_up(commented(about(set)), set)
    }

    /// A rule about new connections to what is in a set. Every packet of a connection comes here, those to endpoints
    /// that drain too, and must go on.
    fn new_to(&self, set: Set) -> Rule {
        self.looked_up(commented(about(set)).ct_state(false, CtStates::NEW), set)
    }

    fn looked_up(&self, rule: Rule, set: Set) -> Rule {
        use Direction::{Destination, Source};
        let name = set.name(self.family);
        match set {
            Set::LoopBack | Set::LoadBalancerSourceCidr | Set::LoadBalancerSourceIp => {
                rule.in_set(false, name, [Destination, Destination, Source])
            }
            Set::NodePortTcp
            | Set::NodePortLocalTcp
            | Set::NodePortUdp
            | Set::NodePortLocalUdp
            | Set::HealthCheckNodePort
            | Set::IpvsIps => rule.in_set(false, name, [Destination]),
            _ => rule.in_set(false, name, [Destination, Destination]),
        }
    }

    /// What an address of the node itself sends to a service may have the service's address as its source, which is on
    /// the service device: an answer to that would not leave the endpoint's node. It takes the node's address.
    fn services(&self) -> Vec<Rule> {
        let masquerade = |rule: Rule| rule.jump(ChainName::new(MARK_MASQ));
        let loopback = match self.family {
            Family::V4 => ipnet::IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8)),
            Family::V6 => ipnet::IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128)),
        };
        let mut rules = vec![rule().source_net(loopback).target(Target::Return)];
        rules.push(self.to(Set::LoadBalancer).jump(ChainName::new(LOAD_BALANCER)));
        rules.extend(self.to_cluster_ips().map(masquerade));
        rules.push(masquerade(self.to(Set::ExternalIp)));
        rules.push(self.to(Set::ExternalIp).target(Target::Accept));
        rules.push(masquerade(self.to(Set::ExternalIpLocal).source_local()));
        rules.push(self.to(Set::ExternalIpLocal).target(Target::Accept));
        rules.push(self.to_node_ports().jump(ChainName::new(NODE_PORT)));
        for set in [Set::ClusterIp, Set::LoadBalancer] {
            rules.push(self.looked_up(rule(), set).target(Target::Accept));
        }
        rules
    }

    /// A bitmap of ports does not know addresses: a service may have another one's node port as its port, and so may a
    /// daemon of the host at an address that takes no node ports. A node port is a virtual server that is nothing else;
    /// those of external IPs are accepted before.
    fn to_node_ports(&self) -> Rule {
        let frontend = [Direction::Destination, Direction::Destination];
        let local = rule().destination_local();
        let not_others = [Set::ClusterIp, Set::LoadBalancer]
            .into_iter()
            .fold(local, |rule, set| rule.in_set(true, set.name(self.family), frontend));
        self.looked_up(not_others, Set::VirtualServers)
    }

    /// Which packets to cluster IPs are masqueraded. `None` where all clients are local pods.
    fn to_cluster_ips(&self) -> Option<Rule> {
        let set = Set::ClusterIp;
        if self.settings.masquerade_all {
            return Some(self.to(set));
        }
        let detector = self.settings.detector.get(self.family);
        match detector {
            // What the node sends with the service's address as its source.
            LocalDetector::None => {
                let directions = [Direction::Source, Direction::Destination];
                Some(commented(about(set)).in_set(false, set.name(self.family), directions))
            }
            _ => self.to(set).detected(detector, false),
        }
    }

    fn load_balancer(&self) -> Vec<Rule> {
        let masquerade = |rule: Rule| rule.jump(ChainName::new(MARK_MASQ));
        vec![
            masquerade(self.to(Set::LoadBalancerLocal).source_local()),
            self.to(Set::LoadBalancerLocal).target(Target::Return),
            masquerade(rule()),
        ]
    }

    fn node_ports(&self) -> Vec<Rule> {
        let sets = [
            (Protocol::Tcp, Set::NodePortLocalTcp, Set::NodePortTcp),
            (Protocol::Udp, Set::NodePortLocalUdp, Set::NodePortUdp),
            (Protocol::Sctp, Set::NodePortLocalSctp, Set::NodePortSctp),
        ];
        let rules = sets.map(|(protocol, local, all)| {
            let of = |set| self.to(set).protocol(protocol);
            [
                of(local).source_local().jump(ChainName::new(MARK_MASQ)),
                of(local).target(Target::Return),
                of(all).jump(ChainName::new(MARK_MASQ)),
            ]
        });
        rules.into_iter().flatten().collect()
    }

    fn postrouting(&self) -> Vec<Rule> {
        let masquerade = Target::Masquerade { random_fully: self.settings.random_fully };
        vec![
            self.to(Set::LoopBack).target(masquerade.clone()),
            rule().mark(true, self.mark()).target(Target::Return),
            // The mark has done its work: clear it, so that nothing behind us mistakes it for its own.
            rule().target(Target::Mark { value: self.mark(), mask: 0 }),
            commented("kubernetes service traffic requiring SNAT").target(masquerade),
        ]
    }

    fn forward(&self) -> Vec<Rule> {
        let related = CtStates::RELATED.with(CtStates::ESTABLISHED);
        vec![
            commented("kubernetes forwarding rules").mark(false, self.mark()).target(Target::Accept),
            commented("kubernetes forwarding conntrack rule").ct_state(false, related).target(Target::Accept),
        ]
    }

    fn health_checks(&self) -> Vec<Rule> {
        vec![self.to(Set::HealthCheckNodePort).protocol(Protocol::Tcp).target(Target::Accept)]
    }

    fn proxy_firewall(&self) -> Vec<Rule> {
        vec![self.to(Set::LoadBalancerFw).jump(ChainName::new(SOURCE_RANGES))]
    }

    fn source_ranges(&self) -> Vec<Rule> {
        vec![
            self.to(Set::LoadBalancerSourceCidr).target(Target::Return),
            self.to(Set::LoadBalancerSourceIp).target(Target::Return),
            rule().target(Target::Drop),
        ]
    }

    /// What comes in for a service that cannot serve it is refused, and so is what would reach a daemon of the host at
    /// an address of a service.
    fn filter(&self) -> Vec<Rule> {
        let mut rules =
            vec![self.new_to(Set::Reject).target(Target::Reject), self.new_to(Set::Drop).target(Target::Drop)];
        rules.extend(self.outsiders().map(|rule| rule.target(Target::Drop)));
        let served = [Set::LoadBalancer, Set::ClusterIp, Set::ExternalIp, Set::ExternalIpLocal];
        rules.extend(served.map(|set| self.looked_up(rule(), set).target(Target::Return)));
        // A bitmap of ports does not know protocols, and health checks are TCP.
        let health_check = self.looked_up(rule().protocol(Protocol::Tcp), Set::HealthCheckNodePort);
        rules.push(health_check.target(Target::Return));
        // By protocol, so that an echo request is answered.
        rules.extend(Protocol::ALL.map(|protocol| {
            let new = rule().protocol(protocol).ct_state(false, CtStates::NEW);
            self.looked_up(new, Set::IpvsIps).target(Target::Reject)
        }));
        rules
    }

    /// Packets to frontends that serve only this node and its pods, from elsewhere.
    fn outsiders(&self) -> Option<Rule> {
        let outside = self.new_to(Set::DropOutside).source_elsewhere();
        match self.settings.detector.get(self.family) {
            LocalDetector::None => Some(outside),
            detector => outside.detected(detector, false),
        }
    }

    /// What the node sends to a service that cannot serve it. Where there is no endpoint at all, IPVS itself answers.
    fn out_filter(&self) -> Vec<Rule> {
        vec![
            self.new_to(Set::Drop).target(Target::Drop),
            self.to(Set::LoadBalancerFw).jump(ChainName::new(SOURCE_RANGES)),
        ]
    }
}
