//! Virtual servers and real servers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::net::{Endpoint, Family, Protocol};

/// Identity of a virtual server: protocol, address and port. Servers by firewall mark are never ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualServerKey {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

impl VirtualServerKey {
    pub fn new(protocol: Protocol, address: IpAddr, port: u16) -> Self {
        VirtualServerKey { address, port, protocol }
    }

    pub fn family(&self) -> Family {
        Family::of(&self.address)
    }
}

impl fmt::Display for VirtualServerKey {
    /// `1.2.3.4:80/TCP`, `[2012::beef]:80/UDP` (scenario L69).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", SocketAddr::new(self.address, self.port), self.protocol.upper())
    }
}

/// The name of a scheduler: at most 15 bytes (`IP_VS_SCHEDNAME_MAXLEN` of uapi `linux/ip_vs.h` less the NUL).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scheduler(Arc<str>);

impl Scheduler {
    /// The longest name, in bytes.
    pub const MAX: usize = 15;

    /// Those that the kernel has had since 6.1. Others may be loaded; their names are taken as they are.
    pub const KNOWN: [&str; 13] =
        ["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh", "lblc", "lblcr", "fo", "ovf"];

    /// `None` if the kernel can have no scheduler of that name.
    pub fn new(name: &str) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= Self::MAX;
        let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        (fits && is_word).then(|| Scheduler(name.into()))
    }

    /// Round robin, the default (contract 4.1).
    pub fn round_robin() -> Self {
        Scheduler("rr".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Flags of a virtual server (`IP_VS_SVC_F_*` of uapi `linux/ip_vs.h`), without `HASHED`, which is the kernel's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerFlags(pub u32);

impl ServerFlags {
    pub const PERSISTENT: ServerFlags = ServerFlags(0x1);
    pub const ONE_PACKET: ServerFlags = ServerFlags(0x4);
    /// Of sh and mh: *fallback*, another server if the chosen one has weight 0.
    pub const SCHED_1: ServerFlags = ServerFlags(0x8);
    /// Of sh and mh: *port*, the source port is hashed too.
    pub const SCHED_2: ServerFlags = ServerFlags(0x10);
    pub const SCHED_3: ServerFlags = ServerFlags(0x20);

    /// `IP_VS_SVC_F_HASHED`: set by the kernel on every virtual server that it lists.
    pub const HASHED: u32 = 0x2;

    pub const fn contains(self, other: ServerFlags) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: ServerFlags) -> ServerFlags {
        ServerFlags(self.0 | other.0)
    }
}

/// What a virtual server is, without its real servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VirtualServer {
    pub scheduler: Scheduler,
    pub flags: ServerFlags,
    /// Persistence, seconds; 0 unless [`ServerFlags::PERSISTENT`].
    pub timeout: u32,
    /// Clients within one network of this prefix length count as one for persistence: 32 or 128 is each by itself.
    pub prefix: u8,
}

/// How packets reach a real server (`IP_VS_CONN_F_*`, the lowest three bits). Ours are all masqueraded (NAT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarding {
    #[default]
    Masquerade,
    LocalNode,
    Tunnel,
    DirectRoute,
    Bypass,
}

/// What a real server is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealServer {
    pub forwarding: Forwarding,
    /// 0: no new connections. At most `i32::MAX`.
    pub weight: u32,
    /// Connections above which it gets no more until it has fewer than `lower_threshold`; 0 = none. While it drains,
    /// ours says here until when, see [`crate::plan::ipvs`].
    pub upper_threshold: u32,
    pub lower_threshold: u32,
}

impl RealServer {
    /// One that serves.
    pub fn active(weight: u32) -> Self {
        RealServer { weight, ..RealServer::default() }
    }
}

/// A real server as the kernel holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObservedRealServer {
    pub server: RealServer,
    /// Connections that are established.
    pub active: u32,
    /// Connections in other states, those that just ended among them.
    pub inactive: u32,
    /// Persistence templates that lead to it.
    pub persistent: u32,
}

impl ObservedRealServer {
    /// Connections that would notice if it went.
    pub fn connections(&self) -> u32 {
        self.active.saturating_add(self.inactive)
    }
}

/// A virtual server as the kernel holds it, with its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedVirtualServer {
    pub key: VirtualServerKey,
    pub server: VirtualServer,
    /// Has something that weir does not know, a persistence engine say: never equal to what is wanted.
    pub unknown: bool,
    pub real_servers: BTreeMap<Endpoint, ObservedRealServer>,
}
