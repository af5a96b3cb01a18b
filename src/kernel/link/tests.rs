//! The codec, and what of the driver needs no dummy device. The rest is in the suite `ipvs`, which has a kernel with one.

use std::net::IpAddr;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use proptest::prelude::*;

use super::wire::{self, Link, LinkAddress};
use super::*;
use crate::kernel::ApplyErrorKind;
use crate::kernel::netlink::{Batch, Message};
use crate::net::Family;

const HEADER: usize = 16;

/// The only request of a batch, as who receives it reads it.
fn request(build: impl FnOnce(&mut Batch)) -> (u16, Vec<u8>) {
    let mut batch = Batch::new("test");
    build(&mut batch);
    assert_eq!(batch.len(), 1);
    let bytes = batch.bytes();
    (u16::from_ne_bytes([bytes[4], bytes[5]]), bytes[HEADER..].to_vec())
}

fn message(kind: u16, payload: &[u8]) -> Message<'_> {
    Message { kind, flags: 0, sequence: 0, port: 0, payload }
}

/// The structures of the uapi headers, byte by byte, on a machine that puts the low byte first.
#[cfg(target_endian = "little")]
#[test]
fn requests_are_those_of_the_headers() {
    let name = [15, 0, 3, 0, b'k', b'u', b'b', b'e', b'-', b'i', b'p', b'v', b's', b'0', 0, 0];
    let of_link = |index: u8| [0, 0, 0, 0, index, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (kind, bytes) = request(|batch| wire::get_link(batch, SERVICE_DEVICE));
    assert_eq!((kind, bytes), (18, [of_link(0), name].concat()));

    let info = [16, 0, 18, 0x80, 10, 0, 1, 0, b'd', b'u', b'm', b'm', b'y', 0, 0, 0];
    let (kind, bytes) = request(|batch| wire::new_dummy(batch, SERVICE_DEVICE));
    assert_eq!((kind, bytes), (16, [of_link(0), name, info].concat()));

    let (kind, bytes) = request(|batch| wire::delete_link(batch, 7));
    assert_eq!((kind, bytes), (17, of_link(7).to_vec()));

    let (kind, bytes) = request(|batch| wire::new_address(batch, 7, [10, 0, 0, 1].into()));
    let v4 = [2, 32, 0, 0, 7, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1, 8, 0, 1, 0, 10, 0, 0, 1];
    assert_eq!((kind, bytes), (20, v4.to_vec()));

    let (kind, bytes) = request(|batch| wire::delete_address(batch, 7, [10, 0, 0, 1].into()));
    assert_eq!((kind, bytes), (21, [2, 32, 0, 0, 7, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1].to_vec()));

    let (kind, bytes) = request(|batch| wire::new_address(batch, 7, "fd00::1".parse().unwrap()));
    assert_eq!((kind, &bytes[..8], bytes.len()), (20, &[10, 128, 2, 0, 7, 0, 0, 0][..], 48), "IFA_F_NODAD is 2");

    for (family, number) in [(None, 0), (Some(Family::V4), 2), (Some(Family::V6), 10)] {
        let (kind, bytes) = request(|batch| wire::list_addresses(batch, family));
        assert_eq!((kind, bytes), (22, vec![number, 0, 0, 0, 0, 0, 0, 0]));
    }
}

/// As above, for `struct rtmsg`.
#[cfg(target_endian = "little")]
#[test]
fn requests_of_routes_are_those_of_the_headers() {
    let local = |family: u8, length: u8, by: u8| [family, length, 0, 0, 255, by, 254, 2, 0, 0, 0, 0];
    let to = [8, 0, 1, 0, 10, 0, 0, 1];
    let (kind, bytes) = request(|batch| wire::put_source(batch, 7, [10, 0, 0, 1].into(), [192, 0, 2, 9].into()));
    let by_link_from = [8, 0, 4, 0, 7, 0, 0, 0, 8, 0, 7, 0, 192, 0, 2, 9];
    assert_eq!((kind, bytes), (24, [&local(2, 32, 87)[..], &to, &by_link_from].concat()));
    let (kind, bytes) = request(|batch| wire::delete_source(batch, [10, 0, 0, 1].into()));
    assert_eq!((kind, bytes), (25, [&local(2, 32, 87)[..], &to].concat()));
    let (kind, bytes) = request(|batch| wire::delete_kernels_route(batch, 7, [10, 0, 0, 1].into()));
    assert_eq!((kind, bytes), (25, [&local(2, 32, 2)[..], &to, &[8, 0, 4, 0, 7, 0, 0, 0]].concat()));
    let (kind, bytes) =
        request(|batch| wire::put_source(batch, 7, "fd00::1".parse().unwrap(), "fd00::9".parse().unwrap()));
    assert_eq!(
        (kind, &bytes[..12], &bytes[32..40]),
        (24, &local(10, 128, 87)[..], &[8, 0, 4, 0, 1, 0, 0, 0][..]),
        "lo"
    );
    let (kind, bytes) = request(|batch| wire::get_route_out(batch, Family::V4));
    assert_eq!((kind, bytes), (26, [2, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 1].to_vec()));
}

#[test]
fn the_other_ends_address_is_not_ours() {
    // A point-to-point link of IPv4: IFA_ADDRESS is the other end, IFA_LOCAL ours, whatever their order.
    let (_, bytes) = request(|batch| {
        batch.message(wire::NEW_ADDRESS, 0, |body| {
            body.raw(&[2, 32, 0, 0, 9, 0, 0, 0]).put_ip(1, [10, 0, 0, 2].into()).put_ip(2, [10, 0, 0, 1].into());
        });
    });
    let read = wire::read_address(&message(wire::NEW_ADDRESS, &bytes));
    assert_eq!(read.map(|read| read.address), Some([10, 0, 0, 1].into()));
    assert_eq!(wire::read_address(&message(wire::DELETE_ADDRESS, &bytes)), None, "another type of message");
    assert_eq!(wire::read_link(&message(wire::NEW_ADDRESS, &bytes)), None);
}

#[test]
fn a_link_that_nobody_made_has_no_kind() {
    let (_, bytes) = request(|batch| wire::get_link(batch, "eth0"));
    assert_eq!(wire::read_link(&message(wire::NEW_LINK, &bytes)), Some(Link { index: 0, kind: None }));
}

proptest! {
    #[test]
    fn addresses_are_read_back(index in any::<u32>(), v4 in any::<u32>(), v6 in any::<u128>(), is_v4 in any::<bool>()) {
        let address = if is_v4 { IpAddr::V4(v4.into()) } else { IpAddr::V6(v6.into()) };
        let (kind, bytes) = request(|batch| wire::new_address(batch, index, address));
        prop_assert_eq!(wire::read_address(&message(kind, &bytes)), Some(LinkAddress { index, address }));
        for length in 0..bytes.len() {
            if let Some(read) = wire::read_address(&message(kind, &bytes[..length])) {
                prop_assert_eq!(read, LinkAddress { index, address });
            }
        }
    }

    #[test]
    fn a_source_is_read_back(address in any::<u128>(), source in any::<u128>()) {
        let source = IpAddr::V6(source.into());
        let (kind, bytes) = request(|batch| wire::put_source(batch, 7, IpAddr::V6(address.into()), source));
        prop_assert_eq!(wire::read_source(&message(kind, &bytes)), Some(source));
        let (kind, bytes) = request(|batch| wire::get_route_out(batch, Family::V6));
        prop_assert_eq!(wire::read_source(&message(kind, &bytes)), None);
    }

    #[test]
    fn a_dummy_device_is_read_back(name in "[a-z0-9-]{1,15}") {
        let (kind, bytes) = request(|batch| wire::new_dummy(batch, &name));
        let dummy = Link { index: 0, kind: Some("dummy".into()) };
        prop_assert_eq!(wire::read_link(&message(kind, &bytes)), Some(dummy));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = wire::read_link(&message(wire::NEW_LINK, &bytes));
        let _ = wire::read_address(&message(wire::NEW_ADDRESS, &bytes));
        let _ = wire::read_source(&message(wire::NEW_ROUTE, &bytes));
    }
}

/// Runs in a network namespace of its own, as root; says so where it cannot.
fn in_namespace(test: fn()) {
    let ran = std::thread::spawn(move || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(),
        Err(errno) => crate::lab::skipped(&format!("link: no network namespace: {errno} (run as root)")),
    });
    ran.join().unwrap();
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
}

#[test]
fn another_kind_of_link_is_named_and_left_alone() {
    in_namespace(|| {
        ip(&format!("link add {SERVICE_DEVICE} type veth peer name other"));
        let mut links = LinkDriver::open().unwrap();
        assert_eq!(links.observe().unwrap(), Device::Other { kind: "veth".into() });
        let address = "10.0.0.1".parse().unwrap();
        for changes in [
            Changes { create: true, ..Changes::default() },
            Changes { add: [address].into(), ..Changes::default() },
            Changes { delete: true, ..Changes::default() },
        ] {
            let error = links.apply(&changes).unwrap_err();
            assert_eq!(error.kind, ApplyErrorKind::Unavailable);
            assert_eq!(
                error.message,
                "the name kube-ipvs0 belongs to a link of the kind veth, and service addresses need a dummy device: \
                 rename or delete that link (ip link delete kube-ipvs0)"
            );
        }
        links.apply(&Changes::default()).unwrap();
        assert_eq!(links.observe().unwrap(), Device::Other { kind: "veth".into() });
        assert_eq!(links.other_addresses(Family::V4).unwrap(), [].into());
    });
}

#[test]
fn loopback_has_a_name_and_no_kind() {
    in_namespace(|| {
        let mut links = LinkDriver::open_for("lo").unwrap();
        assert_eq!(links.observe().unwrap(), Device::Other { kind: "unknown".into() });
    });
}

#[test]
fn other_addresses_are_those_that_others_can_reach() {
    in_namespace(|| {
        ip("link set lo up");
        ip("link add one type veth peer name two");
        ip("link set one up");
        ip("link set two up");
        for address in
            ["10.1.0.1/24 dev one", "10.1.0.2/24 dev one", "10.2.0.1/32 dev lo", "10.3.0.1 peer 10.3.0.2/32 dev two"]
        {
            ip(&format!("address add {address}"));
        }
        ip("-6 address add fd00::1/64 dev one nodad");
        let mut links = LinkDriver::open().unwrap();
        assert_eq!(links.observe().unwrap(), Device::Absent);
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        let expected = ips(&["10.1.0.1", "10.1.0.2", "10.2.0.1", "10.3.0.1"]);
        assert_eq!(links.other_addresses(Family::V4).unwrap(), expected);
        assert_eq!(links.other_addresses(Family::V6).unwrap(), ips(&["fd00::1"]));
        // Seen from a device's own side, they are not *other*.
        let mut links = LinkDriver::open_for("one").unwrap();
        assert_eq!(links.other_addresses(Family::V4).unwrap(), ips(&["10.2.0.1", "10.3.0.1"]));
    });
}

#[test]
fn nothing_is_made_where_nothing_is_to_be() {
    in_namespace(|| {
        let mut links = LinkDriver::open().unwrap();
        let gone = Changes { remove: ["10.0.0.1".parse().unwrap()].into(), delete: true, ..Changes::default() };
        links.apply(&gone).unwrap();
        assert_eq!(links.observe().unwrap(), Device::Absent);
    });
}
