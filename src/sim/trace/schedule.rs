//! What IPVS does with the first packet of a connection.

use super::TraceError;
use super::ruleset::Servers;
use crate::kernel::ipvs::{Forwarding, VirtualServerKey};
use crate::net::{Endpoint, Protocol};

/// The answer of IPVS.
pub(super) enum Scheduled {
    /// The packet is for no virtual server and goes on.
    NotMine,
    /// It is for a virtual server that has nobody to send it to: ICMP port unreachable (`ip_vs_leave`).
    Refused,
    /// One of these gets it, with its probability; at least one.
    To(VirtualServerKey, Vec<(Endpoint, f64)>),
}

/// Looks the destination up among the virtual servers. Every scheduler is taken for one that chooses by chance and
/// weight; none sends new connections to a real server of weight 0.
pub(super) fn schedule(servers: &Servers, protocol: Protocol, to: Endpoint) -> Result<Scheduled, TraceError> {
    let key = VirtualServerKey::new(protocol, to.ip, to.port);
    let Some((_, real_servers)) = servers.get(&key) else { return Ok(Scheduled::NotMine) };
    if real_servers.values().any(|server| server.forwarding != Forwarding::Masquerade) {
        return Err(TraceError::Ipvs { server: key, what: "forwards without NAT" });
    }
    let total: f64 = real_servers.values().map(|server| f64::from(server.weight)).sum();
    let usable = real_servers.iter().filter(|(_, server)| server.weight > 0);
    let chosen: Vec<(Endpoint, f64)> =
        usable.map(|(endpoint, server)| (*endpoint, f64::from(server.weight) / total)).collect();
    Ok(if chosen.is_empty() { Scheduled::Refused } else { Scheduled::To(key, chosen) })
}
