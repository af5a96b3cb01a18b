//! Which entries a set can hold. What is not checked here, the kernel would store otherwise or refuse without saying why.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Entries, Entry, IpsetError, SetName, SetSpec, SetType};
use crate::net::Family;

/// The longest comment in bytes (`IPSET_MAX_COMMENT_SIZE` of uapi `linux/netfilter/ipset/ip_set.h`).
const MAX_COMMENT: usize = 255;

/// # Errors
/// [`IpsetError::Entry`]: the first entry that the set cannot hold, and why.
pub fn check(set: &SetName, spec: &SetSpec, entries: &Entries) -> Result<(), IpsetError> {
    for (entry, comment) in entries {
        let why = unfit(spec, entry).or_else(|| comment.as_ref().and_then(|comment| unfit_comment(spec, comment)));
        if let Some(why) = why {
            return Err(IpsetError::Entry { set: set.clone(), entry: *entry, why });
        }
    }
    Ok(())
}

/// Why a set cannot hold an entry; `None` if it can.
pub fn unfit(spec: &SetSpec, entry: &Entry) -> Option<&'static str> {
    match (spec.set_type, entry) {
        // Nothing to look up there: to the kernel it is an empty place.
        (SetType::HashIp, Entry::Ip(ip)) if ip.is_unspecified() => Some("it is the unspecified address"),
        (SetType::HashIp, Entry::Ip(ip)) => unfit_ip(spec, *ip),
        (SetType::HashNet, Entry::Net(net)) => unfit_net(spec, net),
        (SetType::HashIpPort, Entry::IpPort(ip, ..)) => unfit_ip(spec, *ip),
        (SetType::HashIpPortIp, Entry::IpPortIp(ip, _, _, second)) => {
            unfit_ip(spec, *ip).or_else(|| unfit_ip(spec, *second))
        }
        (SetType::HashIpPortNet, Entry::IpPortNet(ip, _, _, net)) => {
            unfit_ip(spec, *ip).or_else(|| unfit_net(spec, net))
        }
        (SetType::BitmapPort, Entry::Port(_)) => None,
        _ => Some("it is of another type"),
    }
}

fn unfit_ip(spec: &SetSpec, ip: IpAddr) -> Option<&'static str> {
    (Family::of(&ip) != spec.family).then_some("an address is of the other family")
}

fn unfit_net(spec: &SetSpec, net: &IpNet) -> Option<&'static str> {
    if net.prefix_len() == 0 {
        return Some(
            "sets take no network of length 0; write it as its two halves, 0.0.0.0/1 and 128.0.0.0/1 or ::/1 and 8000::/1",
        );
    }
    if net.network() != net.addr() {
        return Some("the network's address has bits behind its prefix");
    }
    (Family::of_net(net) != spec.family).then_some("the network is of the other family")
}

fn unfit_comment(spec: &SetSpec, comment: &str) -> Option<&'static str> {
    if !spec.comments {
        return Some("it has a comment, and the set has none");
    }
    if comment.len() > MAX_COMMENT {
        return Some("its comment is longer than 255 bytes");
    }
    // `ipset save` writes comments in double quotes and knows no escape.
    let unprintable = comment.is_empty() || comment.contains(|c: char| c == '"' || c.is_control());
    unprintable.then_some("its comment is empty, or has a double quote or a control character")
}
