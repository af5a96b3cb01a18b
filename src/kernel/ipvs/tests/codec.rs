use super::super::decode::{DecodeError, DecodedRealServer, DecodedServer, real_server, virtual_server};
use super::super::request::{Command, Request};
use super::super::wire::{dest, service, top};
use super::super::{decode, encode};
use super::*;
use crate::kernel::netlink::{Attributes, Batch, Body, generic};

/// The number of the family in these tests.
const FAMILY: u16 = 32;
/// Where the payload begins: behind `struct nlmsghdr`.
const PAYLOAD: usize = 16;

/// What Linux 6.1 listed for `-A -t 10.96.0.1:80 -s mh -p 10800 -M 255.255.255.0 -b mh-port`.
#[cfg(target_endian = "little")]
const SERVER: &str = "010100002c01010006000100020000000600020006000000140003000a600001000000000000000000000000060004000050\
     0000070006006d6800000c00070013000000ffffffff08000800302a000008000900ffffff005c000a0008000100000000000800020000000000\
     08000300000000000c00040000000000000000000c00050000000000000000000800060000000000080007000000000008000800000000000800\
     09000000000008000a00000000007c000c000c00010000000000000000000c00020000000000000000000c00030000000000000000000c000400\
     00000000000000000c00050000000000000000000c00060000000000000000000c00070000000000000000000c00080000000000000000000c00\
     090000000000000000000c000a000000000000000000";

/// `-A -u [fd00::a]:53 -s rr`, its counters cut off.
#[cfg(target_endian = "little")]
const SERVER_OF_V6: &str = "0101000054000100060001000a000000060002001100000014000300fd00000000000000000000000000000a0600040000\
     35000007000600727200000c00070002000000ffffffff08000800000000000800090080000000";

/// `-A -f 5 -s rr`: by firewall mark.
#[cfg(target_endian = "little")]
const SERVER_OF_MARK: &str = "01010000380001000600010002000000080005000500000007000600727200000c00070002000000ffffffff08000800000000000800\
     0900ffffffff";

/// `-a -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 3 -x 100 -y 50`.
#[cfg(target_endian = "little")]
const REAL_SERVER: &str = "0501000050010200140001000af40102000000000000000000000000060002001f90000008000300000000000800040003\
     00000005000d000000000006000e000000000006000f0000000000080005006400000008000600320000000800070000000000080008000000\
     0000080009000000000006000b00020000005c000a000800010000000000080002000000000008000300000000000c00040000000000000000\
     000c0005000000000000000000080006000000000008000700000000000800080000000000080009000000000008000a00000000007c000c00\
     0c00010000000000000000000c00020000000000000000000c00030000000000000000000c00040000000000000000000c00050000000000000\
     000000c00060000000000000000000c00070000000000000000000c00080000000000000000000c00090000000000000000000c000a00000000\
     0000000000";

/// A dump of the kernel as bytes.
#[cfg(target_endian = "little")]
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().map(|digit| (digit as char).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// L66: what is captured from a kernel.
#[cfg(target_endian = "little")]
#[test]
fn l66_virtual_servers_of_both_families_are_read() {
    let persistent = ServerFlags::PERSISTENT.with(ServerFlags::SCHED_2);
    let expected = DecodedServer {
        key: key("10.96.0.1:80/TCP"),
        server: VirtualServer { flags: persistent, timeout: 10_800, prefix: 24, ..scheduled("mh") },
        unknown: false,
    };
    assert_eq!(virtual_server(&bytes(SERVER)), Ok(Some(expected)));
    let expected = DecodedServer {
        key: key("[fd00::a]:53/UDP"),
        server: VirtualServer { prefix: 128, ..scheduled("rr") },
        unknown: false,
    };
    assert_eq!(virtual_server(&bytes(SERVER_OF_V6)), Ok(Some(expected)));
    assert_eq!(virtual_server(&bytes(SERVER_OF_MARK)), Ok(None), "by firewall mark");
}

#[cfg(target_endian = "little")]
#[test]
fn a_real_server_is_read() {
    let server = RealServer { upper_threshold: 100, lower_threshold: 50, ..RealServer::active(3) };
    let observed = ObservedRealServer { server, ..ObservedRealServer::default() };
    let expected = DecodedRealServer { endpoint: endpoint("10.244.1.2:8080"), observed, unknown: false };
    assert_eq!(real_server(&bytes(REAL_SERVER), Family::V4), Ok(expected));
}

/// `NEW_SERVICE` and `NEW_DEST` byte by byte.
#[cfg(target_endian = "little")]
#[test]
fn requests_are_laid_out_as_the_header_says() {
    let server =
        VirtualServer { flags: ServerFlags(ServerFlags::HASHED | 1), timeout: 300, prefix: 24, ..scheduled("rr") };
    let key = key("10.96.0.1:80/TCP");
    let mut batch = Batch::new("test");
    encode::write(&mut batch, FAMILY, &Request { key, command: Command::NewServer(&server) });
    let expected = "01010000540001800600010002000000060002000600000014000300\
        0a60000100000000000000000000000006000400005000000700060072720000\
        0c00070001000000ffffffff080008002c01000008000900ffffff00";
    assert_eq!(batch.bytes()[PAYLOAD..], bytes(&expected.replace(' ', "")));
    assert_eq!(batch.bytes()[..8], [0x68, 0, 0, 0, 32, 0, 5, 0], "length, type, REQUEST and ACK");

    let real = RealServer { forwarding: Forwarding::DirectRoute, upper_threshold: 9, ..RealServer::active(2) };
    let command = Command::SetReal(endpoint("10.244.0.1:8080"), real);
    batch.clear();
    encode::write(&mut batch, FAMILY, &Request { key, command });
    let expected = "060100003000018006000100020000000600020006000000140003000a600001000000000000000000000000\
        060004000050000048000280140001000af40001000000000000000000000000060002001f90000006000b0002000000\
        0800030003000000080004000200000008000500090000000800060000000000";
    assert_eq!(batch.bytes()[PAYLOAD..], bytes(&expected.replace(' ', "")));
}

#[test]
fn only_timeouts_that_are_set_are_sent() {
    let kinds = |tcp, fin, udp| {
        let mut batch = Batch::new("test");
        encode::set_timeouts(&mut batch, FAMILY, tcp, fin, udp);
        let (command, attributes) = generic::split_header(&batch.bytes()[PAYLOAD..]).unwrap();
        assert_eq!(command, 12);
        attributes.map(|attribute| (attribute.kind, attribute.u32().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(kinds(900, 120, 300), [(4, 900), (5, 120), (6, 300)]);
    assert_eq!(kinds(0, 30, 0), [(5, 30)]);
}

#[test]
fn a_version_is_three_numbers() {
    let mut batch = Batch::new("answer");
    batch.message(FAMILY, 0, |body| {
        body.raw(&generic::header(14, 1)).put_u32(1, 0x01_02_01).put_u32(2, 4096);
    });
    assert_eq!(decode::version(&batch.bytes()[PAYLOAD..]), Some([1, 2, 1]));
    assert_eq!(decode::version(&[]), None);
}

/// A message of the kernel: what the request had, with the changes that the kernel makes.
fn listed(
    request: &Request<'_>,
    change: impl Fn(u16, u16, &mut Vec<u8>) -> bool,
    more: impl Fn(&mut Body<'_>),
) -> Vec<u8> {
    let mut asked = Batch::new("test");
    encode::write(&mut asked, FAMILY, request);
    let (command, attributes) = generic::split_header(&asked.bytes()[PAYLOAD..]).unwrap();
    let mut answer = Batch::new("answer");
    answer.message(FAMILY, 0, |body| {
        body.raw(&generic::header(command, 1));
        for outer in attributes {
            body.nest(outer.kind, |body| {
                let mut inner: Vec<_> = outer.nested().collect();
                // The order is no promise.
                inner.reverse();
                for attribute in inner {
                    let mut payload = attribute.payload.to_vec();
                    if change(outer.kind, attribute.kind, &mut payload) {
                        body.put(attribute.kind, &payload);
                    }
                }
                more(body);
            });
        }
    });
    answer.bytes()[PAYLOAD..].to_vec()
}

/// The kernel sets its own flag.
#[allow(clippy::ptr_arg, reason = "one of several that change a payload; others make it shorter")]
fn hash(_: u16, kind: u16, payload: &mut Vec<u8>) -> bool {
    if kind == service::FLAGS {
        let flags = u32::from_ne_bytes(payload[..4].try_into().unwrap()) | ServerFlags::HASHED;
        payload[..4].copy_from_slice(&flags.to_ne_bytes());
    }
    true
}

fn new_server(server: &VirtualServer) -> Request<'_> {
    Request { key: key("10.96.0.1:80/TCP"), command: Command::NewServer(server) }
}

/// L65.
#[test]
fn l65_a_server_that_is_not_hashed_is_an_error() {
    let server = scheduled("rr");
    let payload = listed(&new_server(&server), |_, _, _| true, |_| ());
    let error = virtual_server(&payload).unwrap_err();
    assert_eq!(error, DecodeError::NotHashed(key("10.96.0.1:80/TCP")));
    assert!(error.to_string().contains("10.96.0.1:80/TCP"), "{error}");
}

#[test]
fn what_lacks_something_is_an_error_that_names_it() {
    let server = scheduled("rr");
    for (kind, what) in [
        (service::AF, "family"),
        (service::PROTOCOL, "protocol"),
        (service::ADDR, "address"),
        (service::PORT, "port"),
        (service::SCHED_NAME, "scheduler"),
        (service::FLAGS, "flags"),
        (service::TIMEOUT, "timeout"),
        (service::NETMASK, "mask"),
    ] {
        let lacking = listed(&new_server(&server), |_, this, payload| hash(0, this, payload) && this != kind, |_| ());
        let error = virtual_server(&lacking).unwrap_err().to_string();
        assert!(error.contains("virtual servers") && error.contains(what), "{error}");
        let short = |_: u16, this: u16, payload: &mut Vec<u8>| {
            if this == kind && this != service::SCHED_NAME {
                payload.truncate(1);
            }
            hash(0, if this == kind { 0 } else { this }, payload)
        };
        assert_eq!(virtual_server(&listed(&new_server(&server), short, |_| ())).is_err(), kind != service::SCHED_NAME);
    }
    assert!(virtual_server(&[1, 1, 0, 0]).is_err());
    assert!(real_server(&[5, 1, 0], Family::V4).is_err());
}

#[test]
fn what_weir_does_not_know_is_told() {
    let server = scheduled("rr");
    let is_unknown = |payload: &[u8]| virtual_server(payload).unwrap().unwrap().unknown;
    assert!(!is_unknown(&listed(&new_server(&server), hash, |_| ())));
    let engine = |body: &mut Body<'_>| {
        body.put_text(service::PE_NAME, "sip");
    };
    assert!(is_unknown(&listed(&new_server(&server), hash, engine)));
    let holes = |outer, kind, payload: &mut Vec<u8>| {
        if kind == service::NETMASK {
            *payload = vec![255, 0, 255, 0];
        }
        hash(outer, kind, payload)
    };
    let decoded = virtual_server(&listed(&new_server(&server), holes, |_| ())).unwrap().unwrap();
    assert_eq!((decoded.unknown, decoded.server.prefix), (true, 8));
    // A protocol that no service has.
    let other = |outer, kind, payload: &mut Vec<u8>| {
        if kind == service::PROTOCOL {
            *payload = 50u16.to_ne_bytes().to_vec();
        }
        hash(outer, kind, payload)
    };
    assert_eq!(virtual_server(&listed(&new_server(&server), other, |_| ())), Ok(None));
}

/// A message about a real server, with what the kernel adds.
fn listed_real(endpoint: Endpoint, server: RealServer, more: impl Fn(&mut Body<'_>)) -> Vec<u8> {
    let command = Command::NewReal(endpoint, server);
    let counts = |body: &mut Body<'_>| {
        body.put_u32(dest::ACTIVE_CONNS, 5).put_u32(dest::INACT_CONNS, 6).put_u32(dest::PERSIST_CONNS, 7);
        more(body);
    };
    listed(&Request { key: key("10.96.0.1:80/TCP"), command }, |_, _, _| true, counts)
}

#[test]
fn tunnels_that_weir_does_not_know_are_told() {
    let at = endpoint("10.244.0.1:80");
    let read =
        |more: &dyn Fn(&mut Body<'_>)| real_server(&listed_real(at, RealServer::active(1), more), Family::V4).unwrap();
    assert!(!read(&|_| ()).unknown);
    assert!(
        !read(&|body| {
            body.put_u8(dest::TUN_TYPE, 0).put_u16(dest::TUN_FLAGS, 0);
        })
        .unknown
    );
    assert!(
        read(&|body| {
            body.put_u8(dest::TUN_TYPE, 1);
        })
        .unknown
    );
    assert!(
        read(&|body| {
            body.put_u16(dest::TUN_FLAGS, 2);
        })
        .unknown
    );
    assert_eq!(read(&|_| ()).observed.connections(), 11);
}

/// Kernels before 3.18 do not tell a real server's family.
#[test]
fn a_family_that_is_not_told_is_the_virtual_servers() {
    let payload = listed_real(endpoint("[fd00::1]:80"), RealServer::active(1), |_| ());
    let stripped = listed(
        &Request {
            key: key("[fd00::a]:80/TCP"),
            command: Command::NewReal(endpoint("[fd00::1]:80"), RealServer::active(1)),
        },
        |outer, kind, _| outer != top::DEST || kind != dest::ADDR_FAMILY,
        |body| {
            body.put_u32(7, 5).put_u32(8, 6).put_u32(9, 7);
        },
    );
    assert_eq!(real_server(&stripped, Family::V6), real_server(&payload, Family::V6));
}

proptest! {
    #[test]
    fn a_virtual_server_is_read_back(
        (key, server) in keys().prop_flat_map(|key| (Just(key), virtual_servers(key.family())))
    ) {
        for command in [Command::NewServer(&server), Command::SetServer(&server)] {
            let payload = listed(&Request { key, command }, hash, |_| ());
            let expected = DecodedServer { key, server: server.clone(), unknown: false };
            prop_assert_eq!(virtual_server(&payload), Ok(Some(expected)));
        }
    }

    #[test]
    fn a_real_server_is_read_back(at in endpoints(), server in real_servers(), family in prop::bool::ANY) {
        let family = if family { Family::V4 } else { Family::V6 };
        let observed = ObservedRealServer { server, active: 5, inactive: 6, persistent: 7 };
        let expected = DecodedRealServer { endpoint: at, observed, unknown: false };
        prop_assert_eq!(real_server(&listed_real(at, server, |_| ()), family), Ok(expected));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        place in 0..400usize,
        value in any::<u8>(),
    ) {
        let _ = (virtual_server(&bytes), real_server(&bytes, Family::V6), decode::version(&bytes));
        // Plausible, with one byte that lies.
        let server = scheduled("rr");
        for mut payload in [
            listed(&new_server(&server), hash, |_| ()),
            listed_real(endpoint("[fd00::1]:80"), RealServer::active(1), |_| ()),
        ] {
            if let Some(byte) = payload.get_mut(place) {
                *byte = value;
            }
            let _ = (virtual_server(&payload), real_server(&payload, Family::V4));
            prop_assert!(Attributes::new(&payload).count() <= payload.len());
        }
    }
}
