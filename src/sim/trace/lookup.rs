//! Looking a packet up in a set.
//!
//! Facts: `ip_set_test` of `net/netfilter/ipset/ip_set_core.c`, and the `kadt` functions of the types beside it.

use std::net::IpAddr;

use super::matching::{Obstacle, View};
use crate::kernel::ipset::{Entries, Entry, SetSpec, SetType};
use crate::kernel::xtables::Direction;
use crate::net::{Family, Protocol};

/// How many parts the type's entries have.
pub(super) const fn parts(set_type: SetType) -> usize {
    match set_type {
        SetType::HashIp | SetType::HashNet | SetType::BitmapPort => 1,
        SetType::HashIpPort => 2,
        SetType::HashIpPortIp | SetType::HashIpPortNet => 3,
    }
}

/// Whether what the directions choose of the packet is in the set.
///
/// With fewer directions than entries have parts nothing is ever found, as is with a set of the other family;
/// directions beyond the parts are not looked at.
pub(super) fn contains(
    (spec, entries): &(SetSpec, Entries),
    directions: &[Direction],
    view: &View<'_>,
) -> Result<bool, Obstacle> {
    let family_fits = spec.set_type == SetType::BitmapPort || spec.family == Family::of(&view.source);
    if directions.len() < parts(spec.set_type) || !family_fits {
        return Ok(false);
    }
    let packet = Parts { directions, view };
    Ok(match spec.set_type {
        SetType::HashIp => entries.contains_key(&Entry::Ip(packet.address(0))),
        SetType::HashNet => holds_network(entries, |entry| match entry {
            Entry::Net(net) => net.contains(&packet.address(0)),
            _ => false,
        }),
        SetType::HashIpPort => entries.contains_key(&Entry::IpPort(packet.address(0), view.protocol, packet.port(1)?)),
        SetType::HashIpPortIp => {
            let port = packet.port(1)?;
            entries.contains_key(&Entry::IpPortIp(packet.address(0), view.protocol, port, packet.address(2)))
        }
        SetType::HashIpPortNet => {
            let (address, port) = (packet.address(0), packet.port(1)?);
            holds_network(entries, |entry| match entry {
                Entry::IpPortNet(ip, protocol, number, net) => {
                    (*ip, *protocol, *number) == (address, view.protocol, port) && net.contains(&packet.address(2))
                }
                _ => false,
            })
        }
        // `ip_set_get_ip_port` of ip_set_bitmap_port.c knows no other protocols, SCTP among them.
        SetType::BitmapPort if view.protocol == Protocol::Sctp => false,
        SetType::BitmapPort => entries.contains_key(&Entry::Port(packet.port(0)?)),
    })
}

/// The kernel tries all prefix lengths, the longest first; as entries cannot say `nomatch`, any that contains the
/// address will do.
fn holds_network(entries: &Entries, is_found: impl Fn(&Entry) -> bool) -> bool {
    entries.keys().any(is_found)
}

struct Parts<'a> {
    directions: &'a [Direction],
    view: &'a View<'a>,
}

impl Parts<'_> {
    fn is_source(&self, part: usize) -> bool {
        self.directions.get(part) == Some(&Direction::Source)
    }

    fn address(&self, part: usize) -> IpAddr {
        if self.is_source(part) { self.view.source } else { self.view.destination }
    }

    fn port(&self, part: usize) -> Result<u16, Obstacle> {
        if self.is_source(part) { Err(Obstacle::Unknown("the source port")) } else { Ok(self.view.port) }
    }
}
