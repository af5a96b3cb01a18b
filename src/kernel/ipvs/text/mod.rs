//! Virtual servers in the syntax of `ipvsadm -Sn`, both ways: what `weir diff` prints, what golden files hold, and what
//! a saved file of another node says.
//!
//! ```text
//! -A -t 10.96.0.1:443 -s rr -p 10800
//! -a -t 10.96.0.1:443 -r 192.168.1.10:6443 -m -w 1
//! ```
//!
//! Lines are those of ipvsadm 1.31, with two more options where they are not 0: `-x` and `-y`, the thresholds of a real
//! server, which `ipvsadm -S` leaves out and `ipvsadm -R` reads.

mod parse;

use std::fmt::Write as _;

use super::encode::mask_text;
use super::{Forwarding, ObservedVirtualServer, RealServer, Scheduler, ServerFlags, VirtualServer, VirtualServerKey};
use crate::net::{Endpoint, Family, Protocol};

pub use parse::{Problem, TextError, parse};

/// The line that adds a virtual server, without its end. A persistence engine and other things that weir does not know
/// are not in it.
pub fn server_line(key: &VirtualServerKey, server: &VirtualServer) -> String {
    let mut line = format!("-A {} -s {}", service(key), server.scheduler);
    if server.flags.contains(ServerFlags::PERSISTENT) {
        put(&mut line, format_args!(" -p {}", server.timeout));
        if server.prefix != key.family().bits() {
            match key.family() {
                Family::V4 => put(&mut line, format_args!(" -M {}", mask_text(server.prefix))),
                Family::V6 => put(&mut line, format_args!(" -M {}", server.prefix)),
            }
        }
    }
    if server.flags.contains(ServerFlags::ONE_PACKET) {
        line.push_str(" -o");
    }
    let names = flag_names(&server.scheduler);
    let set = names.iter().filter(|(flag, _)| server.flags.contains(*flag)).map(|(_, name)| *name);
    let set = set.collect::<Vec<_>>().join(",");
    if !set.is_empty() {
        put(&mut line, format_args!(" -b {set}"));
    }
    line
}

/// The line that adds a real server, without its end. ipvsadm knows three ways of forwarding and writes `-g`, direct
/// routing, for the two others.
pub fn real_server_line(key: &VirtualServerKey, endpoint: &Endpoint, real: &RealServer) -> String {
    let forwarding = match real.forwarding {
        Forwarding::Masquerade => "-m",
        Forwarding::Tunnel => "-i",
        Forwarding::DirectRoute | Forwarding::LocalNode | Forwarding::Bypass => "-g",
    };
    let mut line = format!("-a {} -r {endpoint} {forwarding} -w {}", service(key), real.weight);
    for (option, threshold) in [("-x", real.upper_threshold), ("-y", real.lower_threshold)] {
        if threshold != 0 {
            put(&mut line, format_args!(" {option} {threshold}"));
        }
    }
    if real.forwarding == Forwarding::Tunnel {
        line.push_str(" --tun-type ipip");
    }
    line
}

/// All lines of a virtual server: first itself, then its real servers by address.
pub fn lines(server: &ObservedVirtualServer) -> impl Iterator<Item = String> {
    let key = &server.key;
    let reals = server.real_servers.iter().map(|(endpoint, real)| real_server_line(key, endpoint, &real.server));
    std::iter::once(server_line(key, &server.server)).chain(reals)
}

/// `-t 10.0.0.1:80`: what names a virtual server in every command.
pub fn service(key: &VirtualServerKey) -> String {
    format!("{} {}", protocol_option(key.protocol), Endpoint::new(key.address, key.port))
}

const fn protocol_option(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "-t",
        Protocol::Udp => "-u",
        Protocol::Sctp => "--sctp-service",
    }
}

/// The names that the flags of a scheduler have.
fn flag_names(scheduler: &Scheduler) -> [(ServerFlags, &'static str); 3] {
    let [first, second, third] = match scheduler.as_str() {
        "sh" => ["sh-fallback", "sh-port", "flag-3"],
        "mh" => ["mh-fallback", "mh-port", "flag-3"],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    [(ServerFlags::SCHED_1, first), (ServerFlags::SCHED_2, second), (ServerFlags::SCHED_3, third)]
}

fn put(line: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = line.write_fmt(what);
}
