use proptest::prelude::*;

use super::*;
use crate::cmd::settle::testing::rules;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn node() -> Node {
    Node {
        ips: ["192.168.7.9", "2001:db8:7::9", "203.0.113.9"].map(|ip| ip.parse().unwrap()).into(),
        pod_cidrs: nets(&["10.244.3.0/24", "fd00:10:244:3::/64"]).into(),
        ..Node::default()
    }
}

fn host() -> HostFacts {
    let addresses = nets(&["127.0.0.1/8", "172.17.0.1/16", "192.168.7.9/22", "2001:db8:7::9/64", "fe80::1/64"]);
    HostFacts { addresses, ..HostFacts::default() }
}

fn found(flags: &[&str], node: Option<&Node>) -> Option<[Vec<String>; 2]> {
    let egress = egress(&rules(flags), node, &host())?;
    Some(Family::ALL.map(|family| egress.non_masquerade.get(family).iter().map(ToString::to_string).collect()))
}

#[test]
fn it_is_off_until_asked_for() {
    assert_eq!(found(&["--cluster-cidr=10.244.0.0/16", "--non-masquerade-cidrs=10.0.0.0/8"], Some(&node())), None);
}

#[test]
fn networks_of_cluster_node_and_link() {
    let on = "--masquerade-egress";
    let both = "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48";
    let expected = [
        vec!["10.244.0.0/16", "169.254.0.0/16", "192.168.4.0/22", "224.0.0.0/4"],
        vec!["2001:db8:7::/64", "fd00:10:244::/48", "fe80::/10", "ff00::/8"],
    ];
    let to_texts = |lists: [Vec<&str>; 2]| Some(lists.map(|list| list.into_iter().map(str::to_owned).collect()));
    assert_eq!(found(&[on, both], Some(&node())), to_texts(expected));
    // Before the Node object is known.
    let expected = [vec!["169.254.0.0/16", "224.0.0.0/4"], vec!["fe80::/10", "ff00::/8"]];
    assert_eq!(found(&[on, "--detect-local-mode=NodeCIDR"], None), to_texts(expected));
    let expected = [vec!["169.254.0.0/16", "192.168.4.0/22", "224.0.0.0/4"], vec!["fe80::/10", "ff00::/8"]];
    assert_eq!(found(&[on, "--detect-local-mode=NodeCIDR", "--bind-address=192.168.7.9"], None), to_texts(expected));
    // The node's pods, and more networks: what is within another, or is another's other half, is not there twice.
    let more = "--non-masquerade-cidrs=192.168.0.0/16,10.244.2.0/24";
    let again = "--non-masquerade-cidrs=172.16.0.0/12";
    let expected = [
        vec!["10.244.2.0/23", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/4"],
        vec!["2001:db8:7::/64", "fd00:10:244:3::/64", "fe80::/10", "ff00::/8"],
    ];
    assert_eq!(found(&[on, "--detect-local-mode=NodeCIDR", more, again], Some(&node())), to_texts(expected));
}

/// To masquerade one family only, all of the other one is given.
#[test]
fn everything_is_two_halves() {
    let flags = ["--masquerade-egress", "--cluster-cidr=10.244.0.0/16", "--non-masquerade-cidrs=::/0"];
    let [v4, v6] = found(&flags, Some(&node())).unwrap();
    assert_eq!(v6, ["::/1", "8000::/1"]);
    assert_eq!(v4.len(), 4);
    assert_eq!(aggregated(nets(&["0.0.0.0/1", "128.0.0.0/1"]).into_iter()), nets(&["0.0.0.0/1", "128.0.0.0/1"]));
}

#[test]
fn a_link_without_a_network_adds_none() {
    let host = HostFacts { addresses: nets(&["192.168.7.9/0", "2001:db8:7::9/128"]), ..HostFacts::default() };
    let nets = node_networks(&rules(&[]), Some(&node()), &host);
    assert_eq!(nets, self::nets(&["2001:db8:7::9/128"]));
}

#[test]
fn pods_must_be_told_by_networks() {
    let checked = |flags: &[&str]| check(&rules(flags)).map_err(|failure| failure.to_string());
    let on = "--masquerade-egress";
    let cidr = "--cluster-cidr=10.244.0.0/16";
    for flags in [&[on, cidr][..], &[on, "--detect-local-mode=NodeCIDR"], &["--detect-local-mode=BridgeInterface"], &[]]
    {
        assert_eq!(checked(flags), Ok(()), "{flags:?}");
    }
    for (flags, named) in [
        (&[on][..], "--masquerade-egress"),
        (&[on, cidr, "--detect-local-mode=BridgeInterface"], "BridgeInterface"),
        (&[on, cidr, "--detect-local-mode=InterfaceNamePrefix"], "InterfaceNamePrefix"),
    ] {
        let line = checked(flags).unwrap_err();
        assert!(
            line.contains(named) && line.contains("give --cluster-cidr, or --detect-local-mode NodeCIDR"),
            "{line}"
        );
    }
}

#[test]
fn pods_of_other_nodes_that_nobody_told_are_a_doubt() {
    let on = "--masquerade-egress";
    let node = "--detect-local-mode=NodeCIDR";
    assert!(doubt(&rules(&[on, node])).is_some());
    let more = "--non-masquerade-cidrs=10.0.0.0/8";
    for flags in [&[node][..], &[on, node, "--cluster-cidr=10.244.0.0/16"], &[on, node, more], &[on]] {
        assert_eq!(doubt(&rules(flags)), None, "{flags:?}");
    }
}

fn any_net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u8>(), 0u8..12)
            .prop_map(|(bits, length)| { IpNet::new(IpAddr::V4(Ipv4Addr::new(10, bits, 0, 0)), length).unwrap() }),
        (any::<u16>(), 0u8..20).prop_map(|(bits, length)| {
            IpNet::new(IpAddr::V6(Ipv6Addr::new(bits, 0, 0, 0, 0, 0, 0, 0)), length).unwrap()
        }),
    ]
}

proptest! {
    /// The same addresses, none within another, none of everything, in one order whatever the order was.
    #[test]
    fn aggregated_networks_mean_the_same(
        all in proptest::collection::vec(any_net(), 0..12),
        addresses in proptest::collection::vec(any_net(), 20),
    ) {
        let out = aggregated(all.iter().copied());
        prop_assert!(out.is_sorted());
        for (at, net) in out.iter().enumerate() {
            prop_assert!(net.prefix_len() > 0 && *net == net.trunc());
            prop_assert!(out.iter().enumerate().all(|(other, wide)| other == at || !wide.contains(net)));
        }
        for address in addresses.iter().map(IpNet::addr) {
            let was = all.iter().any(|net| net.contains(&address));
            prop_assert_eq!(out.iter().any(|net| net.contains(&address)), was, "{}", address);
        }
        prop_assert_eq!(aggregated(all.iter().rev().copied()), out);
    }
}
