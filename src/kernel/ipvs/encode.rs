//! Requests as bytes.

use std::net::{IpAddr, Ipv4Addr};

use super::request::{Command, Request};
use super::wire::{VERSION, command, dest, service, top};
use super::{Forwarding, RealServer, ServerFlags, VirtualServer, VirtualServerKey};
use crate::kernel::netlink::{Batch, Body, flags, generic};
use crate::net::{Endpoint, Family};

/// All bits of the flags are meant (`struct ip_vs_flags`).
const ALL_FLAGS: u32 = u32::MAX;

/// Appends a request that writes; it is acknowledged. `family` is the number of IPVS.
pub fn write(batch: &mut Batch, family: u16, request: &Request<'_>) {
    let number = match request.command {
        Command::NewServer(_) => command::NEW_SERVICE,
        Command::SetServer(_) => command::SET_SERVICE,
        Command::DeleteServer => command::DEL_SERVICE,
        Command::NewReal(..) => command::NEW_DEST,
        Command::SetReal(..) => command::SET_DEST,
        Command::DeleteReal(_) => command::DEL_DEST,
    };
    message(batch, family, number, |body| {
        body.nest(top::SERVICE, |body| {
            key(body, &request.key);
            if let Command::NewServer(server) | Command::SetServer(server) = request.command {
                virtual_server(body, request.key.family(), server);
            }
        });
        match request.command {
            Command::NewReal(endpoint, real) | Command::SetReal(endpoint, real) => {
                body.nest(top::DEST, |body| {
                    address(body, &endpoint);
                    real_server(body, &real);
                });
            }
            Command::DeleteReal(endpoint) => {
                body.nest(top::DEST, |body| address(body, &endpoint));
            }
            Command::NewServer(_) | Command::SetServer(_) | Command::DeleteServer => {}
        }
    });
}

/// Appends the request for all virtual servers.
pub fn list_servers(batch: &mut Batch, family: u16) {
    read(batch, family, command::GET_SERVICE, None);
}

/// Appends the request for one virtual server. ESRCH if it is not there.
pub fn get_server(batch: &mut Batch, family: u16, server: &VirtualServerKey) {
    read(batch, family, command::GET_SERVICE, Some(server));
}

/// Appends the request for the real servers of one virtual server. They are none if it is not there.
pub fn list_real_servers(batch: &mut Batch, family: u16, server: &VirtualServerKey) {
    read(batch, family, command::GET_DEST, Some(server));
}

/// Appends the request for the version of IPVS.
pub fn get_info(batch: &mut Batch, family: u16) {
    read(batch, family, command::GET_INFO, None);
}

/// Appends the request to set those timeouts that are not 0, in seconds. The others stay.
pub fn set_timeouts(batch: &mut Batch, family: u16, tcp: u32, tcp_fin: u32, udp: u32) {
    message(batch, family, command::SET_CONFIG, |body| {
        for (kind, seconds) in [(top::TIMEOUT_TCP, tcp), (top::TIMEOUT_TCP_FIN, tcp_fin), (top::TIMEOUT_UDP, udp)] {
            if seconds != 0 {
                body.put_u32(kind, seconds);
            }
        }
    });
}

fn message(batch: &mut Batch, family: u16, number: u8, fill: impl FnOnce(&mut Body<'_>)) {
    batch.message(family, flags::ACK, |body| {
        body.raw(&generic::header(number, VERSION));
        fill(body);
    });
}

fn read(batch: &mut Batch, family: u16, number: u8, server: Option<&VirtualServerKey>) {
    message(batch, family, number, |body| {
        if let Some(server) = server {
            body.nest(top::SERVICE, |body| key(body, server));
        }
    });
}

fn key(body: &mut Body<'_>, server: &VirtualServerKey) {
    body.put_u16(service::AF, family_number(server.family()))
        .put_u16(service::PROTOCOL, u16::from(server.protocol.number()))
        .put(service::ADDR, &sixteen(server.address))
        .put_u16_be(service::PORT, server.port);
}

fn virtual_server(body: &mut Body<'_>, family: Family, server: &VirtualServer) {
    // The kernel takes the flag that is its own from nobody: a new virtual server that has it cannot be hashed.
    let [a, b, c, d] = (server.flags.0 & !ServerFlags::HASHED).to_ne_bytes();
    let [e, f, g, h] = ALL_FLAGS.to_ne_bytes();
    body.put_text(service::SCHED_NAME, server.scheduler.as_str())
        .put(service::FLAGS, &[a, b, c, d, e, f, g, h])
        .put_u32(service::TIMEOUT, server.timeout);
    match family {
        Family::V4 => body.put_u32_be(service::NETMASK, mask(server.prefix)),
        Family::V6 => body.put_u32(service::NETMASK, u32::from(server.prefix)),
    };
}

fn address(body: &mut Body<'_>, endpoint: &Endpoint) {
    body.put(dest::ADDR, &sixteen(endpoint.ip))
        .put_u16_be(dest::PORT, endpoint.port)
        .put_u16(dest::ADDR_FAMILY, family_number(Family::of(&endpoint.ip)));
}

fn real_server(body: &mut Body<'_>, real: &RealServer) {
    body.put_u32(dest::FWD_METHOD, forwarding_number(real.forwarding))
        .put_u32(dest::WEIGHT, real.weight)
        .put_u32(dest::U_THRESH, real.upper_threshold)
        .put_u32(dest::L_THRESH, real.lower_threshold);
}

/// `IP_VS_CONN_F_*`.
const fn forwarding_number(forwarding: Forwarding) -> u32 {
    match forwarding {
        Forwarding::Masquerade => 0,
        Forwarding::LocalNode => 1,
        Forwarding::Tunnel => 2,
        Forwarding::DirectRoute => 3,
        Forwarding::Bypass => 4,
    }
}

const fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => libc::AF_INET as u16,
        Family::V6 => libc::AF_INET6 as u16,
    }
}

/// `union nf_inet_addr`: an IPv4 address is in the first four bytes.
fn sixteen(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// The IPv4 network mask of a prefix length.
pub(super) fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(u32::from(prefix))).unwrap_or(0)
}

/// The same as text: `255.255.255.0`.
pub(super) fn mask_text(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(mask(prefix))
}
