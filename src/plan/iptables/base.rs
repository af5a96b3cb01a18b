//! What is there without any service: fixed chains, and jumps from the built-in chains (contract 3.2, 3.3).

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

use super::names;
use super::service::loopback;
use crate::kernel::xtables::{ChainKey, ChainName, CtStates, Match, Rule, Table, Target};
use crate::model::{NodePortAddresses, Settings};
use crate::net::Family;
use crate::plan::build::{Build, commented, rule};
use crate::plan::egress;

/// Accounting object that counts packets dropped in conntrack state INVALID (contract 3.2).
pub const NFACCT_CT_INVALID: &str = "ct_state_invalid_dropped_pkts";

/// Where a rule goes in a chain that is not ours alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Head,
    Tail,
}

/// A rule that must be in a chain which is not ours alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltinRule {
    pub chain: ChainKey,
    pub rule: Rule,
    pub place: Place,
}

/// Chains with fixed content, by table.
pub fn chains(settings: &Settings, family: Family) -> Vec<(Table, ChainName, Vec<Rule>)> {
    let mark = settings.masquerade_mark();
    let canaries = Table::ALL.map(|table| (table, ChainName::new(names::CANARY), Vec::new()));
    let mut out = Vec::from(canaries);
    out.push((Table::Filter, ChainName::new(names::FORWARD), forward_rules(settings)));
    let set_mark = Target::Mark { value: mark, mask: mark };
    out.push((Table::Nat, ChainName::new(names::MARK_MASQ), vec![rule().target(set_mark)]));
    out.push((
        Table::Nat,
        ChainName::new(names::POSTROUTING),
        vec![
            rule().mark(true, mark).target(Target::Return),
            // The mark has done its work: clear it, so that nothing behind us mistakes it for its own.
            rule().target(Target::Mark { value: mark, mask: 0 }),
            commented("kubernetes service traffic requiring SNAT")
                .target(Target::Masquerade { random_fully: settings.random_fully }),
        ],
    ));
    out.extend(egress::chain(settings, family));
    out
}

fn forward_rules(settings: &Settings) -> Vec<Rule> {
    let mut rules = Vec::with_capacity(3);
    if settings.drop_invalid {
        let mut invalid = rule().ct_state(false, CtStates::INVALID);
        if settings.nfacct_ct_invalid {
            invalid = invalid.matching(Match::Nfacct(NFACCT_CT_INVALID.into()));
        }
        rules.push(invalid.target(Target::Drop));
    }
    let mark = settings.masquerade_mark();
    rules.push(commented("kubernetes forwarding rules").mark(false, mark).target(Target::Accept));
    rules.push(
        commented("kubernetes forwarding conntrack rule")
            .ct_state(false, CtStates::RELATED.with(CtStates::ESTABLISHED))
            .target(Target::Accept),
    );
    rules
}

/// The end of nat KUBE-SERVICES: what is for this node goes on to the node ports.
pub fn node_port_tail(settings: &Settings, family: Family) -> Vec<Rule> {
    let start = || commented("kubernetes service nodeports; NOTE: this must be the last rule in this chain");
    let end = |rule: Rule| rule.jump(ChainName::new(names::NODE_PORTS));
    match settings.node_port_addresses.get(family) {
        NodePortAddresses::Only(ips) => ips.iter().map(|ip| end(start().to_ip(*ip))).collect(),
        NodePortAddresses::All => {
            let mut all = start();
            if family == Family::V6 {
                all = all.not_to_net(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)));
            } else if !settings.localhost_node_ports(family) {
                all = all.not_to_net(loopback());
            }
            vec![end(all.destination_local())]
        }
    }
}

/// The jumps from built-in chains, and our rule in the chain shared with the kubelet, in the order in which they are
/// made: each is inserted at the head, so a clean host has the last one on top (contract 3.2).
pub fn builtin_rules(settings: &Settings, family: Family) -> Vec<BuiltinRule> {
    use names::{EXTERNAL_SERVICES, FIREWALL, FORWARD, NODE_PORTS, POSTROUTING, PROXY_FIREWALL, SERVICES};
    const PORTALS: &str = "kubernetes service portals";
    const EXTERNAL: &str = "kubernetes externally-visible service portals";
    const BALANCER: &str = "kubernetes load balancer firewall";
    let jumps: [(Table, &str, &str, bool, Option<&str>); 14] = [
        (Table::Filter, "INPUT", EXTERNAL_SERVICES, true, Some(EXTERNAL)),
        (Table::Filter, "FORWARD", EXTERNAL_SERVICES, true, Some(EXTERNAL)),
        (Table::Filter, "INPUT", NODE_PORTS, false, Some("kubernetes health check service ports")),
        (Table::Filter, "FORWARD", SERVICES, true, Some(PORTALS)),
        (Table::Filter, "OUTPUT", SERVICES, true, Some(PORTALS)),
        (Table::Filter, "FORWARD", FORWARD, false, Some("kubernetes forwarding rules")),
        (Table::Filter, "INPUT", PROXY_FIREWALL, true, Some(BALANCER)),
        (Table::Filter, "OUTPUT", PROXY_FIREWALL, true, Some(BALANCER)),
        (Table::Filter, "FORWARD", PROXY_FIREWALL, true, Some(BALANCER)),
        (Table::Nat, "OUTPUT", SERVICES, false, Some(PORTALS)),
        (Table::Nat, "PREROUTING", SERVICES, false, Some(PORTALS)),
        (Table::Nat, "POSTROUTING", POSTROUTING, false, Some("kubernetes postrouting rules")),
        (Table::Filter, "INPUT", FIREWALL, false, None),
        (Table::Filter, "OUTPUT", FIREWALL, false, None),
    ];
    let key = |table, name: &str| ChainKey { family, table, name: ChainName::new(name) };
    let mut rules: Vec<BuiltinRule> = jumps
        .into_iter()
        .map(|(table, from, to, new_only, comment)| {
            let mut jump = rule();
            if new_only {
                jump = jump.ct_state(false, CtStates::NEW);
            }
            if let Some(comment) = comment {
                jump = jump.matching(Match::Comment(comment.into()));
            }
            BuiltinRule { chain: key(table, from), rule: jump.jump(ChainName::new(to)), place: Place::Head }
        })
        .collect();
    if settings.localhost_node_ports(family) {
        rules.push(BuiltinRule { chain: key(Table::Filter, FIREWALL), rule: martian_rule(), place: Place::Tail });
    }
    rules.extend(egress::jump(settings, family));
    rules
}

/// Node ports on loopback need `route_localnet`, which would let neighbours reach services that listen on 127.0.0.1
/// only (CVE-2020-8558). The kubelet writes the same rule.
fn martian_rule() -> Rule {
    let mut martian = commented("block incoming localnet connections")
        .to_net(loopback())
        .ct_state(true, CtStates::RELATED.with(CtStates::ESTABLISHED).with(CtStates::DNAT))
        .target(Target::Drop);
    martian.source = Some(crate::kernel::xtables::NetMatch { invert: true, net: loopback() });
    martian
}
