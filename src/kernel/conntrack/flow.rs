//! Entries of the connection tracking table, and which of them to list.

use std::fmt;
use std::net::IpAddr;

use crate::net::{Endpoint, Family, Protocol};

/// One direction of a flow. Ports are 0 for protocols that have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub source: Endpoint,
    pub destination: Endpoint,
}

/// The zone that an entry is in: the same addresses and ports may be tracked once in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Zone {
    /// Zone 0, where everything is unless told otherwise.
    #[default]
    Default,
    Both(u16),
    /// For the direction of the first packet only.
    Original(u16),
    /// For the direction of the answers only.
    Reply(u16),
}

/// An entry: a flow, as its first packet came and as its answers look.
///
/// Where the destination was translated (DNAT) the answers come from the new destination, so `reply.source` differs
/// from `original.destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    pub family: Family,
    /// `IPPROTO_*` of uapi `linux/in.h`.
    pub protocol: u8,
    pub zone: Zone,
    /// Tells this entry from a later one with the same tuple.
    pub id: u32,
    /// `IPS_*` of uapi `linux/netfilter/nf_conntrack_common.h`.
    pub status: u32,
    pub original: Tuple,
    pub reply: Tuple,
}

impl Flow {
    pub fn is(&self, protocol: Protocol) -> bool {
        self.protocol == protocol.number()
    }

    /// The destination was translated.
    pub fn destination_translated(&self) -> bool {
        self.reply.source != self.original.destination
    }
}

impl fmt::Display for Flow {
    /// `17 10.0.0.1:4000 -> 10.96.0.10:53, answered by 10.1.0.5:5353`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Protocol::from_number(self.protocol) {
            Some(protocol) => protocol.fmt(f)?,
            None => self.protocol.fmt(f)?,
        }
        let Tuple { source, destination } = &self.original;
        write!(f, " {source} -> {destination}, answered by {}", self.reply.source)
    }
}

/// Which entries to list: of one family and protocol, optionally by the destination of the first packet.
///
/// A filter that lets everything through cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Filter {
    pub family: Family,
    pub protocol: Protocol,
    pub destination_ip: Option<IpAddr>,
    pub destination_port: Option<u16>,
}

impl Filter {
    /// All UDP entries of a family.
    pub const fn udp(family: Family) -> Self {
        Filter { family, protocol: Protocol::Udp, destination_ip: None, destination_port: None }
    }

    /// UDP entries to a port of any address.
    pub const fn udp_port(family: Family, port: u16) -> Self {
        Filter { destination_port: Some(port), ..Filter::udp(family) }
    }

    /// UDP entries to an address and port.
    pub fn udp_to(destination: Endpoint) -> Self {
        let family = Family::of(&destination.ip);
        Filter { destination_ip: Some(destination.ip), ..Filter::udp_port(family, destination.port) }
    }

    /// The filter lets the entry through. Scenario S47.
    pub fn matches(&self, flow: &Flow) -> bool {
        let Endpoint { ip, port } = flow.original.destination;
        flow.family == self.family
            && flow.is(self.protocol)
            && self.destination_ip.is_none_or(|wanted| wanted == ip)
            && self.destination_port.is_none_or(|wanted| wanted == port)
    }
}
