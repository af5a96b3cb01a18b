use nix::errno::Errno;
use proptest::prelude::*;

use super::super::{Conntrack, Filter, codec};
use super::*;
use crate::kernel::netlink::{Batch, Message};

/// An entry as the kernel lists it: what `conntrack -L` shows as
/// `udp 17 src=10.1.1.1 dst=10.96.0.10 sport=4000 dport=53 src=10.2.0.5 dst=10.1.1.1 sport=5353 dport=4000`.
#[rustfmt::skip]
const LISTED: [u8; 128] = [
    2, 0, 0, 0,                                                 // AF_INET
    52, 0, 1, 0x80,                                             // original tuple
        20, 0, 1, 0x80,  8, 0, 1, 0, 10, 1, 1, 1,  8, 0, 2, 0, 10, 96, 0, 10,
        28, 0, 2, 0x80,  5, 0, 1, 0, 17, 0, 0, 0,  6, 0, 2, 0, 0x0f, 0xa0, 0, 0,  6, 0, 3, 0, 0, 53, 0, 0,
    52, 0, 2, 0x80,                                             // reply tuple
        20, 0, 1, 0x80,  8, 0, 1, 0, 10, 2, 0, 5,  8, 0, 2, 0, 10, 1, 1, 1,
        28, 0, 2, 0x80,  5, 0, 1, 0, 17, 0, 0, 0,  6, 0, 2, 0, 0x14, 0xe9, 0, 0,  6, 0, 3, 0, 0x0f, 0xa0, 0, 0,
    8, 0, 3, 0, 0, 0, 1, 0x28,                                  // status
    8, 0, 12, 0, 0xde, 0xad, 0xbe, 0xef,                        // id
    4, 0, 99, 0,                                                // something of a later kernel
];

fn read(payload: &[u8]) -> Option<Flow> {
    codec::read(&Message { kind: 0x100, flags: 0, sequence: 0, port: 0, payload })
}

#[cfg(target_endian = "little")]
#[test]
fn an_entry_is_read() {
    let flow = read(&LISTED).unwrap();
    assert_eq!(flow.original, Tuple { source: at("10.1.1.1:4000"), destination: at("10.96.0.10:53") });
    assert_eq!(flow.reply, Tuple { source: at("10.2.0.5:5353"), destination: at("10.1.1.1:4000") });
    assert_eq!((flow.family, flow.protocol, flow.zone), (Family::V4, 17, Zone::Default));
    assert_eq!((flow.id, flow.status), (0xdead_beef, 0x128));
    assert!(flow.destination_translated());
    assert_eq!(flow.to_string(), "udp 10.1.1.1:4000 -> 10.96.0.10:53, answered by 10.2.0.5:5353");
}

#[cfg(target_endian = "little")]
#[test]
fn what_lacks_a_part_is_no_flow() {
    assert_eq!(read(&[]), None);
    assert_eq!(read(&[&[10, 0, 0, 0], &LISTED[4..]].concat()), None, "IPv6 with IPv4 addresses");
    assert_eq!(read(&[&[7, 0, 0, 0], &LISTED[4..]].concat()), None, "a bridge's");
    for (what, range) in [("original", 4..56), ("reply", 56..108), ("id", 116..124)] {
        let mut without = LISTED.to_vec();
        without.drain(range);
        assert_eq!(read(&without), None, "{what}");
    }
}

/// A deletion names the whole tuple, the id and the zone; a bare one would empty the table.
#[test]
fn a_deletion_is_of_one_entry() {
    for zone in [Zone::Default, Zone::Both(7), Zone::Original(8), Zone::Reply(9)] {
        let mut batch = Batch::new("test");
        let entry = Flow { zone, ..flow("10.96.0.10:53", "10.1.0.1:5353") };
        codec::delete(&mut batch, &entry);
        let bytes = batch.bytes();
        assert_eq!(bytes[4..6], 0x102u16.to_ne_bytes(), "IPCTNL_MSG_CT_DELETE");
        // What is missing to an entry as listed is the reply tuple; add it, and it reads back.
        let mut payload = bytes[16..].to_vec();
        let mut reply = Batch::new("reply");
        reply.message(0, 0, |body| {
            body.nest(2, |body| {
                body.nest(1, |ip| {
                    ip.put_ip(1, entry.reply.source.ip).put_ip(2, entry.reply.destination.ip);
                });
                body.nest(2, |part| {
                    part.put_u8(1, 17).put_u16_be(2, 5353).put_u16_be(3, 40000);
                });
                if let Zone::Reply(zone) = zone {
                    body.put_u16_be(3, zone);
                }
            });
        });
        payload.extend(&reply.bytes()[16..]);
        assert_eq!(read(&payload), Some(entry), "{zone:?}");
    }
}

/// S47: a filter lets through what is equal in all its parts; one without parts lets all of its protocol through.
#[test]
fn s47_filters() {
    let nothing = flow("0.0.0.0:0", "0.0.0.0:0");
    let some = flow("10.96.0.10:53", "10.1.0.1:5353");
    for (filter, entry, expected) in [
        (Filter::udp_to(at("10.96.0.10:53")), some, true),
        (Filter::udp_to(at("10.96.0.11:53")), some, false),
        (Filter::udp_to(at("10.96.0.10:54")), some, false),
        (Filter::udp_to(at("10.96.0.10:53")), nothing, false),
        (Filter::udp_to(at("0.0.0.0:0")), nothing, true),
        (Filter::udp_port(Family::V4, 53), some, true),
        (Filter::udp_port(Family::V4, 54), some, false),
        (Filter::udp_port(Family::V6, 53), some, false),
        (Filter::udp(Family::V4), some, true),
        (Filter::udp(Family::V4), Flow { protocol: 6, ..some }, false),
        (Filter::udp(Family::V6), some, false),
    ] {
        assert_eq!(filter.matches(&entry), expected, "{filter:?} on {entry}");
    }
}

/// The kernel compares IPv6 addresses the wrong way round: it is not told of them.
#[test]
fn lists_are_filtered_by_ipv4_addresses_only() {
    let asks_for = |address: &str| {
        let to = at(address);
        let mut batch = Batch::new("test");
        codec::list(&mut batch, &Filter::udp_to(to), true);
        let bytes = batch.bytes().to_vec();
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
        let ip = match to.ip {
            IpAddr::V4(ip) => holds(&ip.octets()),
            IpAddr::V6(ip) => holds(&ip.octets()),
        };
        // CTA_PROTO_DST_PORT, and the lowest byte of the flags: protocol and port, and the address if it is there.
        let port = holds(&[&[6, 0, 3, 0], to.port.to_be_bytes().as_slice()].concat());
        (ip, port, bytes.ends_with(&42u32.to_ne_bytes()), bytes.ends_with(&40u32.to_ne_bytes()))
    };
    assert_eq!(asks_for("10.96.0.10:53"), (true, true, true, false));
    assert_eq!(asks_for("[fd00:10:96::10]:53"), (false, true, false, true));
}

/// S46: to delete nothing asks nothing of the kernel, so it needs no privilege either.
#[test]
fn s46_nothing_to_delete() {
    let mut table = match Conntrack::open() {
        Ok(table) => table,
        Err(super::super::ConntrackError::Netlink(error)) if error.errno() == Some(Errno::EPROTONOSUPPORT) => {
            eprintln!("SKIPPED: the kernel has no nfnetlink");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(table.delete(&[]), Ok(0));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_damage_makes_it_panic(place in 0..LISTED.len(), value in any::<u8>(), length in 0..LISTED.len()) {
        let mut bytes = LISTED;
        bytes[place] = value;
        let _ = read(&bytes);
        let _ = read(&bytes[..length]);
    }
}
