mod applying;
mod codec;
mod lines;
mod probing;

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::net::{Endpoint, Family, Protocol};

/// A virtual server's key from `10.96.0.1:80/TCP`.
fn key(text: &str) -> VirtualServerKey {
    let (address, protocol) = text.split_once('/').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    VirtualServerKey::new(protocol.parse().unwrap(), address.ip(), address.port())
}

fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip(), address.port())
}

fn scheduled(name: &str) -> VirtualServer {
    VirtualServer { scheduler: Scheduler::new(name).unwrap(), flags: ServerFlags::default(), timeout: 0, prefix: 32 }
}

fn keys() -> impl Strategy<Value = VirtualServerKey> {
    let protocol = prop::sample::select(&Protocol::ALL[..]);
    (protocol, any::<std::net::IpAddr>(), any::<u16>())
        .prop_map(|(protocol, address, port)| VirtualServerKey::new(protocol, address, port))
}

fn schedulers() -> impl Strategy<Value = Scheduler> {
    "[a-z_][a-z0-9_-]{0,14}".prop_map(|name| Scheduler::new(&name).unwrap())
}

/// What the kernel may hold of a family: an IPv6 mask has at least one bit.
fn virtual_servers(family: Family) -> impl Strategy<Value = VirtualServer> {
    let first = u8::from(family == Family::V6);
    (schedulers(), any::<u32>(), any::<u32>(), first..=family.bits()).prop_map(|(scheduler, flags, timeout, prefix)| {
        let flags = ServerFlags(flags & !ServerFlags::HASHED);
        VirtualServer { scheduler, flags, timeout, prefix }
    })
}

fn real_servers() -> impl Strategy<Value = RealServer> {
    let forwarding = prop::sample::select(vec![
        Forwarding::Masquerade,
        Forwarding::LocalNode,
        Forwarding::Tunnel,
        Forwarding::DirectRoute,
        Forwarding::Bypass,
    ]);
    (forwarding, 0..=i32::MAX as u32, any::<u32>(), any::<u32>()).prop_map(|(forwarding, weight, upper, lower)| {
        RealServer { forwarding, weight, upper_threshold: upper, lower_threshold: lower }
    })
}

fn endpoints() -> impl Strategy<Value = Endpoint> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| Endpoint::new(ip, port))
}

/// L69.
#[test]
fn l69_text_of_a_virtual_server() {
    for text in ["1.2.3.4:80/TCP", "[2012::beef]:80/UDP", "[::]:0/SCTP"] {
        assert_eq!(key(text).to_string(), text);
    }
}

/// L67: what makes two virtual servers different.
#[test]
fn l67_each_field_counts() {
    let base = (key("1.2.3.4:80/TCP"), scheduled("rr"));
    assert_eq!(base.clone(), (key("1.2.3.4:80/TCP"), scheduled("rr")));
    let other = |change: fn(&mut VirtualServer)| {
        let mut server = base.1.clone();
        change(&mut server);
        (base.0, server)
    };
    for (field, different) in [
        ("address", (key("1.2.3.5:80/TCP"), base.1.clone())),
        ("port", (key("1.2.3.4:81/TCP"), base.1.clone())),
        ("protocol", (key("1.2.3.4:80/UDP"), base.1.clone())),
        ("scheduler", other(|server| server.scheduler = Scheduler::new("wlc").unwrap())),
        ("flags", other(|server| server.flags = ServerFlags::PERSISTENT)),
        ("timeout", other(|server| server.timeout = 10_800)),
    ] {
        assert_ne!(base, different, "{field}");
    }
}
