//! Sets and what is in them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::net::{Family, Protocol};

/// The name of a set: at most 31 bytes (`IPSET_MAXNAMELEN` of uapi `linux/netfilter/ipset/ip_set.h` less the NUL).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetName(Arc<str>);

impl SetName {
    /// The longest name, in bytes.
    pub const MAX: usize = 31;

    /// `name` must not be longer than [`SetName::MAX`]; names that weir makes never are, and names that the kernel told
    /// cannot be.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        debug_assert!(name.len() <= Self::MAX, "set name {name:?} is too long");
        SetName(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The family that the name tells: sets of IPv6 begin with `KUBE-6-` or `WEIR-6-` (contract 4.4). Only for sets that
    /// have none themselves, which are bitmaps.
    pub fn family(&self) -> Family {
        if self.0.split('-').nth(1) == Some("6") { Family::V6 } else { Family::V4 }
    }

    /// The shared text.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The types of sets that weir makes (contract 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetType {
    HashIp,
    HashNet,
    HashIpPort,
    HashIpPortIp,
    HashIpPortNet,
    /// Of all ports, 0 to 65535. Has no family.
    BitmapPort,
}

impl SetType {
    pub const ALL: [SetType; 6] = [
        SetType::HashIp,
        SetType::HashNet,
        SetType::HashIpPort,
        SetType::HashIpPortIp,
        SetType::HashIpPortNet,
        SetType::BitmapPort,
    ];

    /// The kernel's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            SetType::HashIp => "hash:ip",
            SetType::HashNet => "hash:net",
            SetType::HashIpPort => "hash:ip,port",
            SetType::HashIpPortIp => "hash:ip,port,ip",
            SetType::HashIpPortNet => "hash:ip,port,net",
            SetType::BitmapPort => "bitmap:port",
        }
    }
}

impl fmt::Display for SetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a set is, without what is in it. How much room it has is the driver's business: it makes more when it is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SetSpec {
    pub set_type: SetType,
    /// Of the addresses in it. A bitmap of ports has one as well, and only in its name.
    pub family: Family,
    /// Each entry may have a comment.
    pub comments: bool,
}

/// An entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    Ip(IpAddr),
    /// The address is the network's first. Never `/0`, which the kernel refuses.
    Net(IpNet),
    IpPort(IpAddr, Protocol, u16),
    IpPortIp(IpAddr, Protocol, u16, IpAddr),
    IpPortNet(IpAddr, Protocol, u16, IpNet),
    Port(u16),
}

impl fmt::Display for Entry {
    /// As `ipset save` prints it: `10.0.0.1,tcp:80,10.0.0.1`; a network of one address is that address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Ip(ip) => write!(f, "{ip}"),
            Entry::Net(net) => f.write_str(&network(net)),
            Entry::IpPort(ip, protocol, port) => write!(f, "{ip},{}:{port}", protocol.lower()),
            Entry::IpPortIp(ip, protocol, port, second) => write!(f, "{ip},{}:{port},{second}", protocol.lower()),
            Entry::IpPortNet(ip, protocol, port, net) => {
                write!(f, "{ip},{}:{port},{}", protocol.lower(), network(net))
            }
            Entry::Port(port) => write!(f, "{port}"),
        }
    }
}

fn network(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// What is in a set, each with its comment.
pub type Entries = BTreeMap<Entry, Option<Arc<str>>>;

/// A set as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedSet {
    pub name: SetName,
    /// What it is; the text, such as `list:set`, if it is something that weir does not make.
    pub spec: Result<SetSpec, Box<str>>,
    pub entries: Entries,
}
