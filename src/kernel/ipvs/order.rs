//! The order of requests: what is added before what goes, and which real server comes first.

use std::net::IpAddr;

use super::request::{Command, Request};
use super::{Changes, VirtualServerChange, VirtualServerKey};
use crate::net::{Endpoint, stable_hash64};

/// What there is to add or to set: each virtual server before its real servers. Sides that are equal need no request.
///
/// The kernel puts a new real server at the head of the list, where round robin begins (`ip_vs_add_dest`,
/// `ip_vs_rr_init_svc`). Were they added in the same order on all nodes, the first connection of each node would go to
/// the same endpoint. So the order depends on the seed; the same seed gives the same order.
pub fn additions(changes: &Changes, order_seed: u64) -> Vec<Request<'_>> {
    let mut requests = Vec::new();
    for (key, change) in &changes.servers {
        let Some(after) = &change.after else { continue };
        let server = match &change.before {
            None => Some(Command::NewServer(after)),
            Some(before) => (before != after).then_some(Command::SetServer(after)),
        };
        let mut real_servers: Vec<(Endpoint, Command<'_>)> = real_servers(change).collect();
        if real_servers.len() > 1 {
            real_servers.sort_by_cached_key(|(endpoint, _)| (rank(order_seed, key, endpoint), *endpoint));
        }
        let commands = server.into_iter().chain(real_servers.into_iter().map(|(_, command)| command));
        requests.extend(commands.map(|command| Request { key: *key, command }));
    }
    requests
}

/// What goes: virtual servers with all they have, and single real servers of those that stay.
pub fn removals(changes: &Changes) -> Vec<Request<'_>> {
    let mut requests = Vec::new();
    for (key, change) in &changes.servers {
        let request = |command| Request { key: *key, command };
        match (&change.before, &change.after) {
            (Some(_), None) => requests.push(request(Command::DeleteServer)),
            (None, None) => {}
            (_, Some(_)) => {
                let gone = change.real_servers.iter().filter(|(_, real)| real.before.is_some() && real.after.is_none());
                requests.extend(gone.map(|(endpoint, _)| request(Command::DeleteReal(*endpoint))));
            }
        }
    }
    requests
}

/// The real servers of a virtual server that are to be added or set.
fn real_servers(change: &VirtualServerChange) -> impl Iterator<Item = (Endpoint, Command<'static>)> {
    change.real_servers.iter().filter_map(|(endpoint, real)| {
        let after = real.after.filter(|after| real.before != Some(*after))?;
        let command = match real.before {
            None => Command::NewReal(*endpoint, after),
            Some(_) => Command::SetReal(*endpoint, after),
        };
        Some((*endpoint, command))
    })
}

/// The number that a node gives to a real server of a virtual server: evenly spread, and always the same.
fn rank(order_seed: u64, key: &VirtualServerKey, endpoint: &Endpoint) -> u64 {
    let mut bytes = Vec::with_capacity(48);
    bytes.extend(order_seed.to_be_bytes());
    bytes.push(key.protocol.number());
    for (ip, port) in [(key.address, key.port), (endpoint.ip, endpoint.port)] {
        match ip {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
        bytes.extend(port.to_be_bytes());
    }
    stable_hash64(&bytes)
}
