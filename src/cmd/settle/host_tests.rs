use nix::sched::{CloneFlags, unshare};
use rtnetlink::LinkBridge;

use super::*;
use crate::cmd::settle::node_port_addresses;
use crate::model::NodePortAddresses;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// A host with these addresses: device and address.
fn host(found: &[(&str, &str)]) -> HostFacts {
    let found = found.iter().map(|(device, address)| (address.parse().unwrap(), (*device).to_owned()));
    HostFacts { addresses: of_the_node(found), ..HostFacts::default() }
}

#[test]
fn l59_to_l63_addresses_of_a_node() {
    for (row, family, addresses, expected) in [
        ("L59", Family::V4, &["127.0.0.1", "127.0.0.0", "127.6.7.8"][..], false),
        ("L60", Family::V4, &["8.8.8.8", "192.168.0.1", "169.254.0.0", "::ffff:169.254.0.0"], true),
        ("L61", Family::V4, &["1000::"], false),
        ("L62", Family::V6, &["::1", "fe80::200:ff:fe01:1", "8.8.8.8", "::ffff:8.8.8.8"], false),
        ("L63", Family::V6, &["1000::"], true),
    ] {
        for address in addresses {
            assert_eq!(is_node_address(&ip(address), family), expected, "{row} {address}");
        }
    }
}

/// Which addresses node ports have in IPVS mode, by what the host has and what was asked for.
#[test]
fn e25_node_port_addresses() {
    let lo = [("lo", "127.0.0.1/8"), ("lo", "::1/128")];
    let eth = [("eth0", "100.200.201.1/24"), ("eth0", "2001:db8::1/64"), ("eth0", "fe80::1:2/64")];
    let dummy = [("kube-ipvs0", "10.96.0.1/32"), ("kube-ipvs0", "fd00:96::1/128")];
    let more = [("eth1", "10.0.0.5/8"), ("eth2", "10.0.0.5/16"), ("eth1", "fd00::5/48")];
    // What an address is on beside the device counts.
    let both = [("kube-ipvs0", "10.0.0.5/32")];
    type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let rows: [Row<'_>; 12] = [
        ("nothing", vec![], &[], &[], &[]),
        ("loopback", lo.to_vec(), &[], &[], &[]),
        ("a device", eth.to_vec(), &[], &["100.200.201.1"], &["2001:db8::1"]),
        ("all of these", [&lo[..], &eth].concat(), &[], &["100.200.201.1"], &["2001:db8::1"]),
        ("service addresses", [&eth[..], &dummy].concat(), &[], &["100.200.201.1"], &["2001:db8::1"]),
        ("service addresses alone", dummy.to_vec(), &[], &[], &[]),
        (
            "several devices",
            [&more[..], &eth].concat(),
            &[],
            &["10.0.0.5", "100.200.201.1"],
            &["2001:db8::1", "fd00::5"],
        ),
        ("also a service's", [&both[..], &more].concat(), &[], &["10.0.0.5"], &["fd00::5"]),
        ("all of IPv4", [&lo[..], &eth].concat(), &["0.0.0.0/0"], &["100.200.201.1"], &["2001:db8::1"]),
        ("one network", [&more[..], &eth].concat(), &["100.0.0.0/8"], &["100.200.201.1"], &["2001:db8::1", "fd00::5"]),
        ("services' network", [&eth[..], &dummy].concat(), &["10.96.0.0/12", "fd00:96::/64"], &[], &[]),
        ("loopback asked for", [&lo[..], &eth].concat(), &["127.0.0.0/8", "::1/128"], &[], &[]),
    ];
    for (row, found, cidrs, v4, v6) in rows {
        let host = host(&found);
        let local = host.local_addresses();
        for (family, expected) in [(Family::V4, v4), (Family::V6, v6)] {
            let addresses = match node_port_addresses(&nets(cidrs), &host.ips(), family, false) {
                NodePortAddresses::All => local.get(family).clone(),
                NodePortAddresses::Only(addresses) => addresses,
            };
            let expected: Vec<IpAddr> = expected.iter().map(|text| ip(text)).collect();
            assert_eq!(*addresses, *expected, "{row}, {family}");
        }
    }
}

#[test]
fn an_address_that_two_devices_have_is_one() {
    let host = host(&[("b", "10.0.0.5/16"), ("a", "10.0.0.5/8"), ("a", "10.0.0.5/16")]);
    assert_eq!(host.addresses, nets(&["10.0.0.5/8", "10.0.0.5/16"]));
    assert_eq!(host.ips(), [ip("10.0.0.5")]);
}

/// Makes a link with addresses. One that has the name of the device is as good as the device.
async fn add_link(name: &str, addresses: &[&str]) -> Result<(), rtnetlink::Error> {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle.link().add(LinkBridge::new(name).build()).execute().await?;
    let index = nix::net::if_::if_nametoindex(name).unwrap();
    for address in addresses {
        let net: IpNet = address.parse().unwrap();
        handle.address().add(index, net.addr(), net.prefix_len()).execute().await?;
    }
    Ok(())
}

/// In a network namespace of its own, as root.
#[test]
fn the_kernel_tells_prefixes_and_devices() {
    let ran = std::thread::spawn(|| {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            crate::lab::skipped(&format!("host: no network namespace: {errno} (run as root)"));
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            add_link(SERVICE_DEVICE, &["10.96.0.1/32", "fd00:96::1/128"]).await.unwrap();
            add_link("br0", &["192.0.2.7/27", "2001:db8::7/57"]).await.unwrap();
        });
        let mut found = interface_addresses().unwrap();
        // Links that are up give themselves link-local addresses.
        let link_local: IpNet = "fe80::/10".parse().unwrap();
        found.retain(|address| !link_local.contains(address));
        assert_eq!(found, nets(&["192.0.2.7/27", "2001:db8::7/57"]));
    });
    ran.join().unwrap();
}
