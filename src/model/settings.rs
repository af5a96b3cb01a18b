//! What rules depend on beside the services: the base fragment's inputs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::net::{Family, PerFamily};

/// How traffic of local pods is told from other traffic (contract 1.15).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum LocalDetector {
    /// Not known: rules that need it are left out.
    #[default]
    None,
    /// By source network (ClusterCIDR, NodeCIDR).
    Cidr(IpNet),
    /// By the bridge that pods hang on.
    Interface(Box<str>),
    /// By the prefix of the pods' interface names, without `+`.
    InterfacePrefix(Box<str>),
}

/// Where node ports are accepted (contract 2.9, 3.12).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum NodePortAddresses {
    /// Every local address.
    #[default]
    All,
    /// These local addresses, sorted. Loopback addresses are here only where they can work.
    Only(Box<[IpAddr]>),
}

/// Settings of this node. Everything here is the same for all services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The bit that marks packets to masquerade, 0..=31; kube-proxy's is 14 (`0x4000`).
    pub masquerade_bit: u8,
    /// Masquerade all traffic to cluster IPs.
    pub masquerade_all: bool,
    pub detector: PerFamily<LocalDetector>,
    /// Our address per family: a source range that contains it lets the VIP itself through (contract 2.8).
    pub node_ips: PerFamily<Option<IpAddr>>,
    pub node_port_addresses: PerFamily<NodePortAddresses>,
    /// Node ports answer on 127.0.0.0/8: the option is on *and* loopback is among the addresses (contract 3.11).
    /// IPv4 only.
    pub localhost_node_ports: bool,
    /// `--random-fully` is understood by the kernel and by the tool that writes the rules.
    pub random_fully: bool,
    /// Write the rule that drops packets in conntrack state INVALID: unless conntrack is liberal (contract 3.3).
    pub drop_invalid: bool,
    /// The accounting object `ct_state_invalid_dropped_pkts` can be named in rules.
    pub nfacct_ct_invalid: bool,
    /// The accounting object `localhost_nps_accepted_pkts` can be named in rules.
    pub nfacct_localhost_node_ports: bool,
    /// Addresses of this node on devices other than the one for service addresses, without loopback addresses and
    /// link-local ones of IPv6, sorted. Read by IPVS mode.
    pub local_addresses: PerFamily<Box<[IpAddr]>>,
    pub ipvs: IpvsSettings,
    /// Traffic that pods send out of the cluster leaves with the node's address.
    pub egress: Option<Egress>,
}

/// Settings of IPVS mode.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IpvsSettings {
    /// Of services that do not ask for another one.
    pub scheduler: Arc<str>,
    /// How long an endpoint that goes keeps its connections, seconds, where the service does not say.
    pub drain_seconds: u32,
    /// Virtual servers with these addresses are never removed (contract 4.3).
    pub exclude_cidrs: Box<[IpNet]>,
    /// Schedulers that the kernel does not have.
    pub missing_schedulers: BTreeSet<Arc<str>>,
}

impl Default for IpvsSettings {
    fn default() -> Self {
        IpvsSettings {
            scheduler: "rr".into(),
            drain_seconds: 900,
            exclude_cidrs: Box::default(),
            missing_schedulers: BTreeSet::new(),
        }
    }
}

/// What of the traffic of local pods is masqueraded on its way out: all that is not for one of these networks. Which
/// sources are local pods, the detector says, which must be one by networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Egress {
    /// Sorted, each once, none within another.
    pub non_masquerade: PerFamily<Box<[IpNet]>>,
}

impl Default for Settings {
    /// kube-proxy's defaults, without accounting objects.
    fn default() -> Self {
        Settings {
            masquerade_bit: 14,
            masquerade_all: false,
            detector: PerFamily::default(),
            node_ips: PerFamily::default(),
            node_port_addresses: PerFamily::default(),
            localhost_node_ports: true,
            random_fully: true,
            drop_invalid: true,
            nfacct_ct_invalid: false,
            nfacct_localhost_node_ports: false,
            local_addresses: PerFamily::default(),
            ipvs: IpvsSettings::default(),
            egress: None,
        }
    }
}

impl Settings {
    /// The masquerade mark: value and mask are the same.
    pub fn masquerade_mark(&self) -> u32 {
        1 << (self.masquerade_bit & 31)
    }

    /// Node ports answer on loopback in this family.
    pub fn localhost_node_ports(&self, family: Family) -> bool {
        self.localhost_node_ports && family == Family::V4
    }
}
