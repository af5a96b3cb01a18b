use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Rows E30 to E42: networks, addresses of the host, what the IPv4 and the IPv6 instance accept.
#[test]
fn e30_to_e42_addresses_of_node_ports() {
    let all = NodePortAddresses::All;
    let only = |texts: &[&str]| NodePortAddresses::Only(ips(texts).into());
    let host = ["10.20.30.51", "100.200.201.1", "127.0.0.1", "127.0.1.1", "1.2.3.4", "2001:db8::1", "::1"];
    type Row<'a> = (&'a str, &'a [&'a str], &'a [&'a str], NodePortAddresses, NodePortAddresses);
    let cases: Vec<Row<'_>> = vec![
        ("E30", &["10.20.30.0/24"], &host, only(&["10.20.30.51"]), all.clone()),
        ("E31", &["0.0.0.0/0"], &host, all.clone(), all.clone()),
        ("E32", &["2001:db8::/64", "::1/128"], &host, all.clone(), only(&["2001:db8::1", "::1"])),
        ("E33", &["::/0"], &host, all.clone(), all.clone()),
        ("E34", &["127.0.0.1/32"], &host, only(&["127.0.0.1"]), all.clone()),
        ("E35", &["127.0.0.0/8"], &["127.0.1.1"], only(&["127.0.1.1"]), all.clone()),
        ("E36", &["10.20.30.0/24", "100.200.201.0/24"], &host, only(&["10.20.30.51", "100.200.201.1"]), all.clone()),
        ("E37", &["10.20.30.0/24", "100.200.201.0/24"], &["192.168.1.2"], only(&[]), all.clone()),
        ("E38", &[], &["192.168.1.2"], all.clone(), all.clone()),
        ("E39", &[], &["2001:db8::1"], all.clone(), all.clone()),
        ("E40", &["1.2.3.0/24", "0.0.0.0/0"], &host, all.clone(), all.clone()),
        ("E41", &["0.0.0.0/0", "1.2.3.0/24", "2001:db8::1/128"], &host, all.clone(), only(&["2001:db8::1"])),
        ("E42", &["::/0", "1.2.3.0/24", "2001:db8::1/128"], &host, only(&["1.2.3.4"]), all.clone()),
    ];
    for (row, cidrs, host, v4, v6) in cases {
        // The helper of these rows knows nothing of loopback: with it working, nothing is left out.
        let get = |family| node_port_addresses(&nets(cidrs), &ips(host), family, true);
        let sorted = |a: NodePortAddresses| match a {
            NodePortAddresses::Only(ips) => {
                let mut ips = ips.into_vec();
                ips.sort();
                NodePortAddresses::Only(ips.into())
            }
            NodePortAddresses::All => NodePortAddresses::All,
        };
        assert_eq!((get(Family::V4), get(Family::V6)), (sorted(v4), sorted(v6)), "{row}");
    }
}

#[test]
fn e43_to_e50_contains_loopback() {
    let base = ["224.0.0.0/24", "192.168.0.0/16", "fd00:1:d::/64"];
    assert!(contains_loopback(&[]), "E43");
    for (row, extra, expected) in [
        ("E44", "0.0.0.0/0", true),
        ("E45", "::/0", false),
        ("E46", "127.0.0.0/8", true),
        ("E47", "::1/128", false),
        ("E48", "127.0.2.0/28", true),
        ("E49", "64.0.0.0/2", true),
        ("E50", "128.0.2.0/28", false),
    ] {
        let cidrs = nets(&[base[0], base[1], base[2], extra]);
        assert_eq!(contains_loopback(&cidrs), expected, "{row}");
    }
}

#[test]
fn e3_loopback_is_left_out_where_it_cannot_work() {
    let cidrs = nets(&["192.168.0.0/24", "127.0.0.1/32"]);
    let host = ips(&["127.0.0.1", "192.168.0.2"]);
    let got = node_port_addresses(&cidrs, &host, Family::V4, false);
    assert_eq!(got, NodePortAddresses::Only(ips(&["192.168.0.2"]).into()));
}
