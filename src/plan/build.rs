//! A rule, written left to right.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::kernel::ipset::SetName;
use crate::kernel::xtables::{
    AddrTypeMatch, ChainName, CtStates, Direction, InterfaceMatch, Match, NetMatch, PortRange, RecentAction, Rule,
    Target,
};
use crate::model::LocalDetector;
use crate::net::Protocol;

/// Starts a rule with a comment.
pub fn commented(text: impl Into<Arc<str>>) -> Rule {
    // Nearly every rule has one match more.
    let mut matches = Vec::with_capacity(2);
    matches.push(Match::Comment(text.into()));
    Rule { matches, ..Rule::default() }
}

/// Starts a rule without a comment.
pub fn rule() -> Rule {
    Rule::default()
}

/// Builder methods; each adds one part.
pub trait Build: Sized {
    fn source_net(self, net: IpNet) -> Self;
    fn to_net(self, net: IpNet) -> Self;
    fn not_to_net(self, net: IpNet) -> Self;
    fn to_ip(self, ip: IpAddr) -> Self;
    fn protocol(self, protocol: Protocol) -> Self;
    /// `-p PROTOCOL -m PROTOCOL --dport FIRST:LAST`
    fn to_ports(self, protocol: Protocol, first: u16, last: u16) -> Self;
    /// `-p PROTOCOL -m PROTOCOL`
    fn any_port(self, protocol: Protocol) -> Self;
    fn matching(self, what: Match) -> Self;
    fn mark(self, invert: bool, mark: u32) -> Self;
    fn ct_state(self, invert: bool, states: CtStates) -> Self;
    fn destination_local(self) -> Self;
    fn destination_elsewhere(self) -> Self;
    fn source_local(self) -> Self;
    fn source_elsewhere(self) -> Self;
    /// `-m set [!] --match-set SET src,dst`, a direction for each part of an entry.
    fn in_set<const N: usize>(self, invert: bool, set: SetName, directions: [Direction; N]) -> Self;
    fn recent(self, name: Arc<str>, action: RecentAction) -> Self;
    /// Matches what the detector takes for local pods (or the opposite). `None` if there is no detector, or nothing to
    /// match: with a `/0` everything is local. The tools do not take `! -s 0.0.0.0/0`, and do not print `-s 0.0.0.0/0`.
    fn detected(self, detector: &LocalDetector, local: bool) -> Option<Self>;
    fn target(self, target: Target) -> Self;
    fn jump(self, chain: ChainName) -> Self;
}

impl Build for Rule {
    fn source_net(mut self, net: IpNet) -> Self {
        self.source = Some(NetMatch { invert: false, net });
        self
    }

    fn to_net(mut self, net: IpNet) -> Self {
        self.destination = Some(NetMatch { invert: false, net });
        self
    }

    fn not_to_net(mut self, net: IpNet) -> Self {
        self.destination = Some(NetMatch { invert: true, net });
        self
    }

    fn to_ip(self, ip: IpAddr) -> Self {
        self.to_net(IpNet::from(ip))
    }

    fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = Some(protocol);
        self
    }

    fn to_ports(self, protocol: Protocol, first: u16, last: u16) -> Self {
        let destination = Some(PortRange { invert: false, first, last });
        self.protocol(protocol).matching(Match::Ports { protocol, source: None, destination })
    }

    fn any_port(self, protocol: Protocol) -> Self {
        self.protocol(protocol).matching(Match::Ports { protocol, source: None, destination: None })
    }

    fn matching(mut self, what: Match) -> Self {
        self.matches.push(what);
        self
    }

    fn mark(self, invert: bool, mark: u32) -> Self {
        self.matching(Match::Mark { invert, value: mark, mask: mark })
    }

    fn ct_state(self, invert: bool, states: CtStates) -> Self {
        self.matching(Match::CtState { invert, states })
    }

    fn destination_local(self) -> Self {
        self.matching(Match::AddrType(AddrTypeMatch { source_local: None, destination_local: Some(false) }))
    }

    fn destination_elsewhere(self) -> Self {
        self.matching(Match::AddrType(AddrTypeMatch { source_local: None, destination_local: Some(true) }))
    }

    fn source_local(self) -> Self {
        self.matching(Match::AddrType(AddrTypeMatch { source_local: Some(false), destination_local: None }))
    }

    fn source_elsewhere(self) -> Self {
        self.matching(Match::AddrType(AddrTypeMatch { source_local: Some(true), destination_local: None }))
    }

    fn in_set<const N: usize>(self, invert: bool, set: SetName, directions: [Direction; N]) -> Self {
        self.matching(Match::Set { invert, set, directions: directions.into() })
    }

    fn recent(self, name: Arc<str>, action: RecentAction) -> Self {
        self.matching(Match::Recent { name, action })
    }

    fn detected(mut self, detector: &LocalDetector, local: bool) -> Option<Self> {
        match detector {
            LocalDetector::None => return None,
            LocalDetector::Cidr(net) if net.prefix_len() == 0 => return local.then_some(self),
            LocalDetector::Cidr(net) => self.source = Some(NetMatch { invert: !local, net: *net }),
            LocalDetector::Interface(name) => {
                self.in_interface = Some(InterfaceMatch { invert: !local, name: name.clone() });
            }
            LocalDetector::InterfacePrefix(prefix) => {
                self.in_interface = Some(InterfaceMatch { invert: !local, name: format!("{prefix}+").into() });
            }
        }
        Some(self)
    }

    fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn jump(self, chain: ChainName) -> Self {
        self.target(Target::Jump(chain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_network_of_everything_all_is_local() {
        for net in ["0.0.0.0/0", "::/0"] {
            let detector = LocalDetector::Cidr(net.parse().unwrap());
            assert_eq!(rule().detected(&detector, true), Some(rule()), "{net}");
            assert_eq!(rule().detected(&detector, false), None, "{net}");
        }
        let net: IpNet = "10.0.0.0/8".parse().unwrap();
        let source = |invert| Some(Rule { source: Some(NetMatch { invert, net }), ..rule() });
        assert_eq!(rule().detected(&LocalDetector::Cidr(net), true), source(false));
        assert_eq!(rule().detected(&LocalDetector::Cidr(net), false), source(true));
        assert_eq!(rule().detected(&LocalDetector::None, true), None);
    }

    /// Rows Q67 to Q69: what a detector is to iptables, for local traffic and for the other.
    #[test]
    fn q69_texts_of_detectors() {
        use crate::kernel::xtables::encode::rule_text;
        use crate::net::Family;
        let cidr = |text: &str| LocalDetector::Cidr(text.parse().unwrap());
        for (detector, local, other) in [
            (cidr("10.0.0.0/14"), "-s 10.0.0.0/14", "! -s 10.0.0.0/14"),
            (cidr("2002:0:0:1234::/64"), "-s 2002:0:0:1234::/64", "! -s 2002:0:0:1234::/64"),
            (LocalDetector::Interface("eth".into()), "-i eth", "! -i eth"),
            (
                LocalDetector::Interface("1234567890123456789".into()),
                "-i 1234567890123456789",
                "! -i 1234567890123456789",
            ),
            (LocalDetector::InterfacePrefix("eth".into()), "-i eth+", "! -i eth+"),
            (LocalDetector::InterfacePrefix("1234567890".into()), "-i 1234567890+", "! -i 1234567890+"),
        ] {
            let family = if local.contains("::") { Family::V6 } else { Family::V4 };
            let text = |is_local| rule_text(family, &rule().detected(&detector, is_local).unwrap());
            assert_eq!((text(true).trim(), text(false).trim()), (local, other), "{detector:?}");
        }
    }
}
