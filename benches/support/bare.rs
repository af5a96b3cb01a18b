//! What the kernel alone takes for a change of one rule, in the tables as a proxy left them: the bound of what any proxy
//! can reach.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use weir::kernel::netlink::nfnetlink::{Subsystem, header, message_type};
use weir::kernel::netlink::{Batch, Body, flags};
use weir::lab::Host;
use weir::net::Family;

use crate::measure::{median_p99, timed};

const ROUNDS: usize = 9;
const CHAIN: &str = "WEIR-BENCH";

/// Which tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    Nft,
    Legacy,
}

/// The median of some changes of one rule in the nat table of IPv4.
///
/// # Errors
/// The table is not there, or the kernel refuses.
pub fn one_rule(node: &Host, tables: Tables) -> io::Result<Duration> {
    let samples = match tables {
        Tables::Nft => node.run(nft).map_err(io::Error::other)??,
        Tables::Legacy => legacy(node)?,
    };
    Ok(median_p99(samples).0)
}

/// One swap of the table by the tool, its own start included.
fn legacy(node: &Host) -> io::Result<Vec<Duration>> {
    let restore = |input: &str| {
        let (done, took) = timed(|| node.check("iptables-legacy-restore", &["--noflush", "--wait"], input));
        done.map(|_| took).map_err(io::Error::other)
    };
    restore(&format!("*nat\n:{CHAIN} - [0:0]\nCOMMIT\n"))?;
    let samples = (0..ROUNDS).map(|_| restore(&format!("*nat\n-A {CHAIN} -j RETURN\nCOMMIT\n"))).collect();
    restore(&format!("*nat\n-F {CHAIN}\n-X {CHAIN}\nCOMMIT\n"))?;
    samples
}

/// One transaction that adds a rule, without anything around it. Commands and attributes: uapi
/// `linux/netfilter/nf_tables.h`.
fn nft() -> io::Result<Vec<Duration>> {
    const NEW_CHAIN: u8 = 3;
    const DELETE_CHAIN: u8 = 5;
    const NEW_RULE: u8 = 6;
    let chain = |body: &mut Body<'_>| {
        body.put_text(1, "nat").put_text(3, CHAIN);
    };
    let rule = |body: &mut Body<'_>| {
        body.put_text(1, "nat").put_text(2, CHAIN).nest(4, |list| {
            list.nest(1, |expression| {
                // Immediate, into the verdict register: RETURN.
                expression.put_text(1, "immediate").nest(2, |data| {
                    data.put_u32_be(1, 0).nest(2, |value| {
                        value.nest(2, |verdict| {
                            verdict.put_u32_be(1, (-5i32).cast_unsigned());
                        });
                    });
                });
            });
        });
    };
    commit(NEW_CHAIN, flags::CREATE, &chain)?;
    let samples = (0..ROUNDS).map(|_| commit(NEW_RULE, flags::CREATE | flags::APPEND, &rule)).collect();
    commit(DELETE_CHAIN, 0, &chain)?;
    samples
}

/// A transaction of one message; returns how long the kernel took.
fn commit(command: u8, message_flags: u16, fill: &dyn Fn(&mut Body<'_>)) -> io::Result<Duration> {
    const BEGIN: u16 = 16;
    const END: u16 = 17;
    let frame = header(None, Subsystem::NfTables as u16);
    let mut batch = Batch::new("change a rule");
    let framed = |body: &mut Body<'_>| {
        body.raw(&frame);
    };
    batch.message(BEGIN, 0, framed);
    batch.message(message_type(Subsystem::NfTables, command), message_flags | flags::ACK, |body| {
        body.raw(&header(Some(Family::V4), 0));
        fill(body);
    });
    batch.message(END, 0, framed);
    let kind = (AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
    let socket = socket(kind.0, kind.1, kind.2, kind.3)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let begin = Instant::now();
    sendto(socket.as_raw_fd(), batch.bytes(), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let took = begin.elapsed();
    answer(socket.as_raw_fd())?;
    Ok(took)
}

/// The kernel has answered when the send returns.
fn answer(socket: std::os::fd::RawFd) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let length = recv(socket, &mut buffer, MsgFlags::MSG_DONTWAIT)?;
    let errno = buffer.get(16..20).filter(|_| length >= 20).and_then(|bytes| bytes.try_into().ok());
    match errno.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::Error::other("the kernel's answer is cut off")),
    }
}
