//! What must become of a packet, from the model alone: the specification that planned rules, simulated and real
//! kernels are judged by.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::net::{Endpoint, Protocol};

/// The first packet of a new flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// Destination port.
    pub port: u16,
    /// The interface that it came in by; `None` if this node made it.
    pub in_interface: Option<String>,
}

/// What the verdict depends on beside model and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Addresses of this node's interfaces; 127.0.0.0/8 and ::1 are always local and need not be here.
    pub addresses: Vec<IpAddr>,
}

impl Host {
    /// The kernel takes the address for its own (address type LOCAL).
    pub fn is_local(&self, ip: &IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(ip)
    }
}

/// Where a packet that is served goes, and with which source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Outcome {
    pub endpoint: Endpoint,
    /// The source becomes the node's address.
    pub masqueraded: bool,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// No service: the packet goes on as if there were no rules.
    Untouched,
    /// A rule lets it through on purpose (health check node port).
    Accept,
    /// ICMP port unreachable.
    Reject,
    Drop,
    /// One of these, with its probability; they add up to 1.
    Serve(BTreeMap<Outcome, f64>),
}

impl Verdict {
    /// Whether two verdicts are the same, probabilities within what the kernel's 2^-31 steps allow.
    pub fn agrees_with(&self, other: &Verdict) -> bool {
        match (self, other) {
            (Verdict::Serve(a), Verdict::Serve(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((oa, pa), (ob, pb))| oa == ob && (pa - pb).abs() < 1e-6)
            }
            _ => self == other,
        }
    }
}
