//! The device for service addresses, in a kernel that has dummy devices.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Instant;

use weir::kernel::ApplyErrorKind;
use weir::kernel::link::{Changes, Device, LinkDriver, Links, SERVICE_DEVICE};
use weir::net::Family;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("the_device_is_made_filled_emptied_and_deleted", from_start_to_end),
        ("what_is_there_or_gone_already_is_no_error", again),
        ("a_device_that_kube_proxy_made_is_taken_over", taken_over),
        ("addresses_of_the_device_are_not_other_addresses", other_addresses),
        ("a_missing_device_is_made_for_its_addresses", missing),
        ("ipv6_that_is_off_is_told_and_ipv4_goes_on", ipv6_is_off),
        ("who_may_not_is_told_what_he_lacks", no_permission),
        ("what_the_host_sends_has_the_source_that_is_preferred", sources),
        ("a_source_that_cannot_be_leaves_all_as_it_was", no_source),
        ("a_thousand_addresses_of_each_family", many),
    ]
}

fn ips(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|ip| ip.parse().unwrap()).collect()
}

fn holds(list: &[&str]) -> Device {
    Device::Dummy { addresses: ips(list) }
}

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn add(list: &[&str]) -> Changes {
    Changes { create: true, add: ips(list), ..Changes::default() }
}

fn from_start_to_end() {
    let mut links = LinkDriver::open().unwrap();
    assert_eq!(links.observe().unwrap(), Device::Absent);
    links.apply(&add(&[])).unwrap();
    assert_eq!(links.observe().unwrap(), holds(&[]));
    links.apply(&add(&["10.96.0.1", "10.96.0.10", "fd00:10:96::1", "fd00:10:96::a"])).unwrap();
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.1", "10.96.0.10", "fd00:10:96::1", "fd00:10:96::a"]));

    let shown = run("ip address show dev kube-ipvs0");
    assert!(shown.contains("state DOWN") && shown.contains("NOARP") && !shown.contains("tentative"), "{shown}");
    for address in ["10.96.0.1/32 scope global", "fd00:10:96::a/128 scope global"] {
        assert!(shown.contains(address), "{shown}");
    }
    assert!(run("ip -details link show dev kube-ipvs0").contains("dummy"));
    assert!(run("ip route show table local").contains("local 10.96.0.10 dev kube-ipvs0"));
    assert!(run("ip -6 route show table local").contains("local fd00:10:96::a dev kube-ipvs0"));

    let swap = Changes {
        add: ips(&["10.96.0.2", "fd00:10:96::2"]),
        remove: ips(&["10.96.0.1", "fd00:10:96::1"]),
        ..Changes::default()
    };
    links.apply(&swap).unwrap();
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.2", "10.96.0.10", "fd00:10:96::2", "fd00:10:96::a"]));
    links.apply(&Changes { delete: true, ..Changes::default() }).unwrap();
    assert_eq!(links.observe().unwrap(), Device::Absent);
    assert!(!run("ip route show table local").contains(SERVICE_DEVICE));
}

fn again() {
    let mut links = LinkDriver::open().unwrap();
    let all = add(&["10.96.0.1", "fd00:10:96::1"]);
    let more = add(&["10.96.0.1", "10.96.0.2", "fd00:10:96::1", "fd00:10:96::2"]);
    for changes in [&all, &all, &more] {
        links.apply(changes).unwrap();
    }
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.1", "10.96.0.2", "fd00:10:96::1", "fd00:10:96::2"]));
    let gone = Changes { remove: ips(&["10.96.0.1", "10.96.9.9", "fd00:10:96::1", "fd00::9"]), ..Changes::default() };
    for _ in 0..2 {
        links.apply(&gone).unwrap();
        assert_eq!(links.observe().unwrap(), holds(&["10.96.0.2", "fd00:10:96::2"]));
    }
    for _ in 0..2 {
        links.apply(&Changes { delete: true, ..gone.clone() }).unwrap();
        assert_eq!(links.observe().unwrap(), Device::Absent);
    }
}

fn taken_over() {
    run("ip link add kube-ipvs0 type dummy");
    run("ip address add 10.96.0.1/32 dev kube-ipvs0");
    run("ip address add fd00:10:96::1/128 dev kube-ipvs0");
    // Somebody's mistakes: a network instead of an address, and the device set up, which gives it a link-local address.
    run("ip address add 10.97.0.1/16 dev kube-ipvs0");
    run("ip link set kube-ipvs0 up");
    assert!(run("ip -6 address show dev kube-ipvs0").contains("fe80::"));
    let mut links = LinkDriver::open().unwrap();
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.1", "10.97.0.1", "fd00:10:96::1"]));
    links.apply(&add(&["10.96.0.1", "fd00:10:96::1"])).unwrap();
    let remove = Changes { remove: ips(&["10.97.0.1"]), ..Changes::default() };
    links.apply(&remove).unwrap();
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.1", "fd00:10:96::1"]));
}

fn other_addresses() {
    run("ip link set lo up");
    run("ip link add eth0 type dummy");
    run("ip link set eth0 up");
    run("ip address add 192.0.2.1/24 dev eth0");
    run("ip -6 address add 2001:db8::1/64 dev eth0 nodad");
    let mut links = LinkDriver::open().unwrap();
    // With the device and without it.
    for changes in [Changes::default(), add(&["10.96.0.1", "fd00:10:96::1"])] {
        links.apply(&changes).unwrap();
        assert_eq!(links.other_addresses(Family::V4).unwrap(), ips(&["192.0.2.1"]));
        assert_eq!(links.other_addresses(Family::V6).unwrap(), ips(&["2001:db8::1"]));
    }
}

fn missing() {
    let mut links = LinkDriver::open().unwrap();
    links.apply(&add(&["10.96.0.1"])).unwrap();
    run("ip link delete kube-ipvs0");
    links.apply(&Changes { create: false, ..add(&["10.96.0.2"]) }).unwrap();
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.2"]));
}

fn ipv6_is_off() {
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    let mut links = LinkDriver::open().unwrap();
    let error = links.apply(&add(&["10.96.0.1", "fd00:10:96::1", "fd00:10:96::2"])).unwrap_err();
    assert_eq!(error.kind, ApplyErrorKind::Unavailable);
    assert_eq!(
        error.message,
        "cannot add fd00:10:96::1 to kube-ipvs0: IPv6 is off there: set net.ipv6.conf.kube-ipvs0.disable_ipv6=0"
    );
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.1"]));
    std::fs::write("/proc/sys/net/ipv6/conf/kube-ipvs0/disable_ipv6", "0").unwrap();
    links.apply(&add(&["fd00:10:96::1"])).unwrap();
    assert_eq!(links.observe().unwrap(), holds(&["10.96.0.1", "fd00:10:96::1"]));
}

fn no_permission() {
    let mut links = LinkDriver::open().unwrap();
    // All threads of this process, which has no more to do afterwards.
    nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).unwrap();
    let mut later = LinkDriver::open().unwrap();
    for links in [&mut links, &mut later] {
        let error = links.apply(&add(&["10.96.0.1"])).unwrap_err();
        assert_eq!(error.kind, ApplyErrorKind::Unavailable);
        assert!(error.message.starts_with("cannot make the dummy device kube-ipvs0: the kernel refused"), "{error}");
        assert!(error.message.contains("CAP_NET_ADMIN"), "{error}");
        assert_eq!(links.observe().unwrap(), Device::Absent, "to look is allowed");
    }
}

/// A host with addresses, and a way out unless it is told otherwise.
fn with_addresses() {
    run("ip link set lo up");
    run("ip link add eth0 type dummy");
    run("ip link set eth0 up");
    run("ip address add 198.51.100.1/24 dev eth0");
    run("ip -6 address add 2001:db8:1::1/64 dev eth0 nodad");
}

/// The source of what the host sends to an address.
fn source_to(address: &str) -> String {
    let shown = run(&format!("ip route get {address}"));
    let mut words = shown.split_whitespace().skip_while(|word| *word != "src");
    words.nth(1).unwrap().to_owned()
}

fn local_routes() -> String {
    run("ip -4 route show table local") + &run("ip -6 route show table local")
}

fn preferred(list: &[(&str, &str)]) -> BTreeMap<IpAddr, IpAddr> {
    list.iter().map(|(address, source)| (address.parse().unwrap(), source.parse().unwrap())).collect()
}

fn sources() {
    with_addresses();
    let mut links = LinkDriver::open().unwrap();
    assert_eq!(links.outbound_source(Family::V4).unwrap(), None, "no way out");
    assert_eq!(links.outbound_source(Family::V6).unwrap(), None, "no way out");
    run("ip -4 route add default via 198.51.100.9 dev eth0 onlink");
    run("ip -6 route add default via 2001:db8:1::9 dev eth0 onlink");
    assert_eq!(links.outbound_source(Family::V4).unwrap(), Some([198, 51, 100, 1].into()));
    assert_eq!(links.outbound_source(Family::V6).unwrap(), Some("2001:db8:1::1".parse().unwrap()));

    let all = ["10.96.0.1", "10.96.0.2", "fd00:10:96::1", "fd00:10:96::2"];
    links.apply(&add(&all)).unwrap();
    assert_eq!(all.map(source_to), all, "that is why");
    let [v4, v6] = ["198.51.100.1", "2001:db8:1::1"];
    let wanted = preferred(&all.map(|address| (address, if address.contains(':') { v6 } else { v4 })));
    // Again, and by another driver, as after a restart.
    for _ in 0..2 {
        links.prefer_sources(&wanted).unwrap();
        assert_eq!(all.map(source_to), [v4, v4, v6, v6]);
        assert_eq!(links.observe().unwrap(), holds(&all));
        links = LinkDriver::open().unwrap();
    }
    for address in all {
        assert!(run(&format!("ip route get {address}")).starts_with("local "), "{address} is still the host's own");
    }

    // One address, an address that comes back, and the device.
    links.apply(&Changes { remove: ips(&["10.96.0.1", "fd00:10:96::1"]), ..Changes::default() }).unwrap();
    let shown = local_routes();
    assert!(!shown.contains("10.96.0.1") && !shown.contains("fd00:10:96::1"), "{shown}");
    assert!(shown.contains("10.96.0.2") && shown.contains("fd00:10:96::2"), "{shown}");
    links.apply(&add(&["10.96.0.1", "fd00:10:96::1"])).unwrap();
    assert_eq!(all.map(source_to), [all[0], v4, all[2], v6]);
    links.apply(&Changes { delete: true, ..Changes::default() }).unwrap();
    let shown = local_routes();
    assert!(!shown.contains("10.96.0") && !shown.contains("fd00:10:96"), "{shown}");
    links.prefer_sources(&wanted).unwrap();
    assert_eq!(local_routes(), shown, "without the device there is nothing to do");
}

fn no_source() {
    with_addresses();
    let mut links = LinkDriver::open().unwrap();
    let all = ["10.96.0.1", "10.96.0.2", "fd00:10:96::1"];
    links.apply(&add(&all)).unwrap();
    let error = links.prefer_sources(&preferred(&[("10.96.0.1", "198.51.100.77")])).unwrap_err();
    assert!(error.message.starts_with("cannot make 198.51.100.77 the host's own source for 10.96.0.1: "), "{error}");
    assert_eq!(all.map(source_to), all);
    run("ip link set lo down");
    let error = links
        .prefer_sources(&preferred(&[("10.96.0.2", "198.51.100.1"), ("fd00:10:96::1", "2001:db8:1::1")]))
        .unwrap_err();
    assert!(error.message.contains("fd00:10:96::1") && error.message.contains("set the device lo up"), "{error}");
    assert_eq!(all.map(source_to), ["10.96.0.1", "198.51.100.1", "fd00:10:96::1"]);
}

fn many() {
    // No more: the kernel looks at all addresses of a device for each that comes or goes.
    const EACH: u32 = 1_000;
    let v4 = (0..EACH).map(|n| IpAddr::from(Ipv4Addr::from(0x0a60_0000 + n)));
    let v6 = (0..EACH).map(|n| IpAddr::from(Ipv6Addr::from((0xfd00_u128 << 112) + u128::from(n))));
    let all: BTreeSet<IpAddr> = v4.chain(v6).collect();
    let mut links = LinkDriver::open().unwrap();
    let start = Instant::now();
    links.apply(&Changes { create: true, add: all.clone(), ..Changes::default() }).unwrap();
    println!("added {} in {:?}", all.len(), start.elapsed());
    let start = Instant::now();
    assert!(links.observe().unwrap() == Device::Dummy { addresses: all.clone() }, "all are there");
    println!("observed in {:?}", start.elapsed());
    let start = Instant::now();
    let one = Changes { add: ips(&["10.99.99.99"]), ..Changes::default() };
    links.apply(&one).unwrap();
    println!("added one more in {:?}", start.elapsed());
    with_addresses();
    let source = |address: &IpAddr| if address.is_ipv4() { "198.51.100.1" } else { "2001:db8:1::1" };
    let sources = all.iter().map(|address| (*address, source(address).parse().unwrap())).collect();
    let start = Instant::now();
    links.prefer_sources(&sources).unwrap();
    println!("gave all another source in {:?}", start.elapsed());
    let start = Instant::now();
    links.apply(&Changes { remove: all, ..Changes::default() }).unwrap();
    println!("removed in {:?}", start.elapsed());
    assert_eq!(links.observe().unwrap(), holds(&["10.99.99.99"]));
}
