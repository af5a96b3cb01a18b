//! The IPVS driver against the kernel: what it writes is what `ipvsadm -Sn` prints, and what it reads back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use weir::kernel::ApplyErrorKind;
use weir::kernel::ipvs::{
    Changes, Forwarding, Ipvs, IpvsDriver, ObservedRealServer, ObservedVirtualServer, RealServer, RealServerChange,
    Refused, Scheduler, ServerFlags, VirtualServer, VirtualServerChange, VirtualServerKey, text,
};
use weir::net::{Endpoint, Family, Protocol};

const SEED: u64 = 7;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("every_scheduler", every_scheduler),
        ("both_families_and_all_protocols", both_families_and_all_protocols),
        ("persistence_and_flags", persistence_and_flags),
        ("real_servers", real_servers),
        ("applying_again_changes_nothing", applying_again_changes_nothing),
        ("what_is_there_does_not_matter", what_is_there_does_not_matter),
        ("foreign_servers_are_left_alone", foreign_servers_are_left_alone),
        ("refusals_name_the_server", refusals_name_the_server),
        ("an_absent_server_is_not_an_empty_one", an_absent_server_is_not_an_empty_one),
        ("a_probe_leaves_nothing", a_probe_leaves_nothing),
        ("timeouts", timeouts),
        ("the_order_depends_on_the_seed", the_order_depends_on_the_seed),
        ("ipvsadm_reads_what_is_written", ipvsadm_reads_what_is_written),
        ("five_hundred_services_in_one_call", five_hundred_services_in_one_call),
        ("no_permission", no_permission),
    ]
}

/// The driver of a node. Where nobody ever had an IPv4 address, no address counts as unicast, and the kernel takes no
/// real server.
fn driver() -> IpvsDriver {
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    IpvsDriver::open(SEED).unwrap()
}

fn ipvsadm(arguments: &str) -> String {
    let output = Command::new("ipvsadm").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ipvsadm {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn key(protocol: Protocol, address: &str, port: u16) -> VirtualServerKey {
    VirtualServerKey::new(protocol, address.parse().unwrap(), port)
}

fn tcp(address: &str) -> VirtualServerKey {
    key(Protocol::Tcp, address, 80)
}

fn endpoint(text: &str) -> Endpoint {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip(), address.port())
}

/// A virtual server with round robin, or something else of this name.
fn with(scheduler: &str, key: &VirtualServerKey) -> VirtualServer {
    let scheduler = Scheduler::new(scheduler).unwrap();
    VirtualServer { scheduler, flags: ServerFlags::default(), timeout: 0, prefix: key.family().bits() }
}

fn observed(key: VirtualServerKey, server: VirtualServer, reals: &[(&str, RealServer)]) -> ObservedVirtualServer {
    let reals = reals
        .iter()
        .map(|(at, server)| (endpoint(at), ObservedRealServer { server: *server, ..ObservedRealServer::default() }));
    ObservedVirtualServer { key, server, unknown: false, real_servers: reals.collect() }
}

/// The difference between nothing and these.
fn adding(servers: &[ObservedVirtualServer]) -> Changes {
    between(&[], servers)
}

/// The difference between what is there and what is wanted.
fn between(before: &[ObservedVirtualServer], after: &[ObservedVirtualServer]) -> Changes {
    let mut changes = Changes::default();
    for server in before {
        let change = changes.servers.entry(server.key).or_default();
        change.before = Some(server.server.clone());
        for (endpoint, real) in &server.real_servers {
            change.real_servers.entry(*endpoint).or_default().before = Some(real.server);
        }
    }
    for server in after {
        let change = changes.servers.entry(server.key).or_default();
        change.after = Some(server.server.clone());
        for (endpoint, real) in &server.real_servers {
            change.real_servers.entry(*endpoint).or_default().after = Some(real.server);
        }
    }
    changes.servers.values_mut().for_each(|change| change.real_servers.retain(|_, real| real.before != real.after));
    changes.servers.retain(|_, change| !change.is_nothing());
    changes
}

fn observe(driver: &mut IpvsDriver) -> Vec<ObservedVirtualServer> {
    let mut found = Vec::new();
    for family in Family::ALL {
        driver.observe(family, &mut |server| found.push(server)).unwrap();
    }
    found.sort_by_key(|server| server.key);
    found
}

fn sorted(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

/// As ipvsadm prints it: it leaves thresholds out.
fn without_thresholds(mut servers: Vec<ObservedVirtualServer>) -> Vec<ObservedVirtualServer> {
    for real in servers.iter_mut().flat_map(|server| server.real_servers.values_mut()) {
        (real.server.upper_threshold, real.server.lower_threshold) = (0, 0);
    }
    servers.sort_by_key(|server| server.key);
    servers
}

/// Applies to an empty kernel, and checks that all three tell the same: what was wanted, what the driver reads, what
/// ipvsadm prints.
fn check(wanted: &[ObservedVirtualServer]) {
    let mut driver = driver();
    driver.apply(&adding(wanted)).unwrap();
    check_there(&mut driver, wanted);
}

fn check_there(driver: &mut IpvsDriver, wanted: &[ObservedVirtualServer]) {
    let mut wanted = wanted.to_vec();
    wanted.sort_by_key(|server| server.key);
    assert_eq!(observe(driver), wanted);
    let saved = ipvsadm("-Sn");
    let wanted = without_thresholds(wanted);
    let lines: Vec<String> = wanted.iter().flat_map(text::lines).collect();
    assert_eq!(sorted(&saved), sorted(&lines.join("\n")));
    assert_eq!(without_thresholds(text::parse(&saved).unwrap()), wanted);
}

fn every_scheduler() {
    let mut servers = Vec::new();
    for (name, port) in Scheduler::KNOWN.iter().zip(1000..) {
        for address in ["10.96.0.1", "fd00::1"] {
            let key = key(Protocol::Tcp, address, port);
            servers.push(observed(key, with(name, &key), &[]));
        }
    }
    check(&servers);
    let mut driver = driver();
    for name in Scheduler::KNOWN {
        assert!(driver.has_scheduler(&Scheduler::new(name).unwrap()).unwrap(), "{name}");
    }
}

fn both_families_and_all_protocols() {
    let mut servers = Vec::new();
    for protocol in Protocol::ALL {
        let (v4, v6) = (key(protocol, "10.96.0.10", 53), key(protocol, "fd00:10:96::a", 53));
        servers.push(observed(v4, with("rr", &v4), &[("10.244.1.2:5353", RealServer::active(1))]));
        servers.push(observed(v6, with("wrr", &v6), &[("[fd00:10:244::2]:5353", RealServer::active(3))]));
    }
    check(&servers);
}

fn persistence_and_flags() {
    let mut servers = Vec::new();
    let mut add = |address: &str, scheduler: &str, flags: ServerFlags, timeout, prefix: Option<u8>| {
        let key = tcp(address);
        let plain = with(scheduler, &key);
        let server = VirtualServer { flags, timeout, prefix: prefix.unwrap_or(plain.prefix), ..plain };
        servers.push(observed(key, server, &[]));
    };
    let persistent = ServerFlags::PERSISTENT;
    add("10.96.0.1", "rr", persistent, 10_800, None);
    add("10.96.0.2", "rr", persistent, 300, Some(24));
    add("10.96.0.3", "rr", persistent, 1, Some(0));
    add("10.96.0.4", "rr", ServerFlags::ONE_PACKET, 0, None);
    add("10.96.0.5", "sh", ServerFlags::SCHED_1.with(ServerFlags::SCHED_2), 0, None);
    add("10.96.0.6", "mh", ServerFlags::SCHED_2, 0, None);
    add("10.96.0.7", "rr", ServerFlags::SCHED_1.with(ServerFlags::SCHED_3), 0, None);
    add("10.96.0.8", "mh", persistent.with(ServerFlags::SCHED_1).with(ServerFlags::ONE_PACKET), 60, Some(16));
    add("fd00::1", "rr", persistent, 10_800, None);
    // For sh and mh, ipvsadm prints no third flag.
    add("fd00::2", "lc", persistent.with(ServerFlags::SCHED_3), 60, Some(64));
    check(&servers);
}

fn real_servers() {
    let key = tcp("10.96.0.1");
    let via = |forwarding, weight| RealServer { forwarding, ..RealServer::active(weight) };
    let draining = RealServer { upper_threshold: 1_800_000_000, lower_threshold: 3, ..RealServer::active(0) };
    let reals = [
        ("10.244.0.1:8080", RealServer::active(1)),
        ("10.244.0.2:8080", RealServer::active(i32::MAX as u32)),
        ("10.244.0.3:8080", draining),
        ("10.244.0.4:80", via(Forwarding::Tunnel, 1)),
        ("10.244.0.5:80", via(Forwarding::DirectRoute, 2)),
    ];
    check(&[observed(key, with("wlc", &key), &reals)]);
}

fn applying_again_changes_nothing() {
    let key = tcp("10.96.0.1");
    let server = observed(
        key,
        VirtualServer { flags: ServerFlags::PERSISTENT, timeout: 60, ..with("sh", &key) },
        &[("10.244.0.1:80", RealServer::active(1)), ("10.244.0.2:80", RealServer::active(2))],
    );
    let wanted = [server];
    let mut driver = driver();
    for _ in 0..3 {
        driver.apply(&adding(&wanted)).unwrap();
        check_there(&mut driver, &wanted);
    }
    for _ in 0..2 {
        driver.apply(&between(&wanted, &[])).unwrap();
        check_there(&mut driver, &[]);
    }
}

/// Changes that were made from a wrong view of the kernel.
fn what_is_there_does_not_matter() {
    let key = tcp("10.96.0.1");
    let reals = |weight| [("10.244.0.1:80", RealServer::active(weight)), ("10.244.0.2:80", RealServer::active(weight))];
    let before = [observed(key, with("rr", &key), &reals(1))];
    let after = [observed(key, with("wrr", &key), &reals(2))];
    let mut driver = driver();
    // Nothing of it is there.
    driver.apply(&between(&before, &after)).unwrap();
    check_there(&mut driver, &after);
    // One real server is not.
    ipvsadm("-d -t 10.96.0.1:80 -r 10.244.0.2:80");
    driver.apply(&between(&after, &before)).unwrap();
    check_there(&mut driver, &before);
    // The virtual server is not, and does not change.
    ipvsadm("-C");
    let heavier = [observed(key, with("rr", &key), &reals(5))];
    driver.apply(&between(&before, &heavier)).unwrap();
    check_there(&mut driver, &heavier);
    // What goes is gone.
    ipvsadm("-C");
    driver.apply(&between(&heavier, &[])).unwrap();
    ipvsadm("-A -t 10.96.0.1:80 -s rr");
    driver.apply(&between(&heavier, &[observed(key, with("rr", &key), &[])])).unwrap();
    check_there(&mut driver, &[observed(key, with("rr", &key), &[])]);
}

fn foreign_servers_are_left_alone() {
    let mut driver = driver();
    for line in [
        "-A -f 5 -s rr",
        "-a -f 5 -r 10.0.0.1:0 -g",
        "-A -f 6 -6 -s rr",
        "-A -t 192.0.2.1:80 -s wlc -p 50 -M 255.255.0.0",
        "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 3",
    ] {
        ipvsadm(line);
    }
    let before = sorted(&ipvsadm("-Sn"));
    let ours = tcp("10.96.0.1");
    let wanted = [observed(ours, with("rr", &ours), &[("10.0.0.1:80", RealServer::active(1))])];
    driver.apply(&adding(&wanted)).unwrap();
    let found: BTreeSet<_> = observe(&mut driver).into_iter().map(|server| server.key).collect();
    assert_eq!(found, BTreeSet::from([ours, tcp("192.0.2.1")]), "those by firewall mark are not ours to see");
    assert!(driver.has_scheduler(&Scheduler::round_robin()).unwrap());
    driver.apply(&between(&wanted, &[])).unwrap();
    assert_eq!(sorted(&ipvsadm("-Sn")), before);
    assert_eq!(text::parse(&ipvsadm("-Sn")).unwrap(), observe(&mut driver));
}

fn refusals_name_the_server() {
    let [bad, good, heavy] = ["10.96.0.1", "10.96.0.2", "10.96.0.3"].map(tcp);
    let mut driver = driver();
    let real = [("10.244.0.1:80", RealServer::active(1))];
    let wanted = [observed(bad, with("nosuch", &bad), &real), observed(good, with("rr", &good), &real)];
    let Refused { error, server } = driver.apply(&adding(&wanted)).unwrap_err();
    assert_eq!((error.kind, server), (ApplyErrorKind::Refused, Some(bad)));
    for part in ["10.96.0.1:80/TCP", "\"nosuch\"", "ip_vs_nosuch", "ENOENT"] {
        assert!(error.message.contains(part), "{part}: {error}");
    }
    check_there(&mut driver, &wanted[1..]);
    // A change to a scheduler that is not there leaves the old one.
    let changed = [observed(good, with("nosuch", &good), &real)];
    let Refused { error, .. } = driver.apply(&between(&wanted[1..], &changed)).unwrap_err();
    assert!(error.message.contains("change virtual server 10.96.0.2:80/TCP"), "{error}");
    check_there(&mut driver, &wanted[1..]);

    let too_heavy = RealServer::active(u32::MAX);
    let wanted = [observed(heavy, with("rr", &heavy), &[("10.244.0.1:80", too_heavy), ("10.244.0.2:80", real[0].1)])];
    let Refused { error, server } = driver.apply(&adding(&wanted)).unwrap_err();
    assert_eq!((error.kind, server), (ApplyErrorKind::Refused, Some(heavy)));
    assert!(error.message.contains("add real server 10.244.0.1:80"), "{error}");
    let there = driver.real_servers(&heavy).unwrap().unwrap();
    assert_eq!(there.into_keys().collect::<Vec<_>>(), [endpoint("10.244.0.2:80")]);

    let mixed = [observed(good, with("rr", &good), &[("[fd00::1]:80", RealServer::active(1))])];
    let Refused { error, .. } = driver.apply(&adding(&mixed)).unwrap_err();
    assert!(error.message.contains("EINVAL"), "{error}");
}

fn an_absent_server_is_not_an_empty_one() {
    let key = tcp("10.96.0.1");
    let mut driver = driver();
    assert_eq!(driver.real_servers(&key).unwrap(), None);
    driver.apply(&adding(&[observed(key, with("rr", &key), &[])])).unwrap();
    assert_eq!(driver.real_servers(&key).unwrap(), Some(BTreeMap::new()));
    let reals = observed(key, with("rr", &key), &[("10.244.0.1:80", RealServer::active(4))]);
    driver.apply(&adding(std::slice::from_ref(&reals))).unwrap();
    assert_eq!(driver.real_servers(&key).unwrap(), Some(reals.real_servers));
}

/// L51 and the rest of the probe that a kernel can show.
fn a_probe_leaves_nothing() {
    let mut driver = driver();
    assert_eq!(driver.version(), [1, 2, 1]);
    assert!(driver.has_scheduler(&Scheduler::new("lblcr").unwrap()).unwrap());
    assert!(!driver.has_scheduler(&Scheduler::new("nosuch").unwrap()).unwrap());
    assert_eq!(ipvsadm("-Sn"), "");
    ipvsadm("-A -t 198.51.100.0:20000 -s wlc");
    let before = ipvsadm("-Sn");
    assert!(driver.has_scheduler(&Scheduler::round_robin()).unwrap());
    assert!(!driver.has_scheduler(&Scheduler::new("nosuch").unwrap()).unwrap());
    assert_eq!(ipvsadm("-Sn"), before, "another's server on that address stays");
}

fn timeouts() {
    let mut driver = driver();
    let now = || ipvsadm("-L --timeout").trim().to_owned();
    let before = now();
    driver.set_timeouts(0, 0, 0).unwrap();
    assert_eq!(now(), before);
    driver.set_timeouts(1000, 20, 30).unwrap();
    assert!(now().ends_with("1000 20 30"), "{}", now());
    driver.set_timeouts(0, 25, 0).unwrap();
    assert!(now().ends_with("1000 25 30"), "{}", now());
    assert!(driver.set_timeouts(u32::MAX, 0, 0).unwrap_err().message.contains("set the timeouts of IPVS"));
}

/// The real servers of the one virtual server as the kernel lists them; round robin begins at the first.
fn order() -> Vec<String> {
    let list = ipvsadm("-Ln --nosort");
    let lines = list.lines().filter_map(|line| line.trim().strip_prefix("-> 10."));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

fn the_order_depends_on_the_seed() {
    let key = tcp("10.96.0.1");
    let reals: Vec<String> = (1..=8).map(|last| format!("10.244.0.{last}:80")).collect();
    let reals: Vec<(&str, RealServer)> = reals.iter().map(|text| (text.as_str(), RealServer::active(1))).collect();
    let wanted = [observed(key, with("rr", &key), &reals)];
    let mut heads = BTreeSet::new();
    driver();
    for seed in 0..12 {
        let mut orders = BTreeSet::new();
        for _ in 0..2 {
            let mut driver = IpvsDriver::open(seed).unwrap();
            driver.apply(&adding(&wanted)).unwrap();
            orders.insert(order());
            driver.apply(&between(&wanted, &[])).unwrap();
        }
        assert_eq!(orders.len(), 1, "seed {seed}");
        heads.extend(orders.into_iter().flatten().next());
    }
    assert_eq!(heads.iter().filter(|head| head.is_empty()).count(), 0);
    assert!(heads.len() >= 4, "twelve nodes begin at {heads:?}");
}

/// Thresholds too, which ipvsadm does not print.
fn ipvsadm_reads_what_is_written() {
    let key = tcp("10.96.0.1");
    let draining = RealServer { upper_threshold: 1_800_000_000, ..RealServer::active(0) };
    let mut wanted = vec![observed(key, with("rr", &key), &[("10.244.0.1:80", draining)])];
    let v6 = key_of_six();
    let flags = ServerFlags::PERSISTENT.with(ServerFlags::SCHED_1);
    let tunnel = RealServer { forwarding: Forwarding::Tunnel, ..RealServer::active(9) };
    wanted.push(observed(
        v6,
        VirtualServer { flags, timeout: 77, prefix: 64, ..with("mh", &v6) },
        &[("[fd00::9]:443", tunnel)],
    ));
    let mut driver = driver();
    let mut restore = Command::new("ipvsadm").arg("-R").stdin(Stdio::piped()).spawn().unwrap();
    let lines: Vec<String> = wanted.iter().flat_map(text::lines).collect();
    restore.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    assert!(restore.wait().unwrap().success());
    assert_eq!(observe(&mut driver), wanted);
    assert_eq!(text::parse(&lines.join("\n")).unwrap(), wanted);
}

fn key_of_six() -> VirtualServerKey {
    key(Protocol::Sctp, "fd00::1", 443)
}

fn five_hundred_services_in_one_call() {
    let servers: Vec<ObservedVirtualServer> = (0..500u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            let key = VirtualServerKey::new(Protocol::Tcp, IpAddr::from([10, 96, high, low]), 80);
            let reals = (0..10u8).map(|last| {
                let real = ObservedRealServer { server: RealServer::active(1), ..ObservedRealServer::default() };
                (Endpoint::new(IpAddr::from([10, 200 + high, low, last]), 8080), real)
            });
            ObservedVirtualServer { key, server: with("rr", &key), unknown: false, real_servers: reals.collect() }
        })
        .collect();
    let mut driver = driver();
    let start = Instant::now();
    driver.apply(&adding(&servers)).unwrap();
    let added = start.elapsed();
    let found = observe(&mut driver);
    let listed = start.elapsed() - added;
    assert_eq!(found, servers);
    // Every one of them once more, as if nothing had been known: each is refused and set.
    let start = Instant::now();
    driver.apply(&adding(&servers)).unwrap();
    let again = start.elapsed();
    assert_eq!(observe(&mut driver), servers);
    let one = RealServerChange { before: Some(RealServer::active(1)), after: Some(RealServer::active(2)) };
    let (key, (at, _)) = (servers[250].key, servers[250].real_servers.first_key_value().unwrap());
    let server = Some(servers[250].server.clone());
    let change = VirtualServerChange { before: server.clone(), after: server, real_servers: [(*at, one)].into() };
    let start = Instant::now();
    driver.apply(&Changes { servers: [(key, change)].into() }).unwrap();
    let single = start.elapsed();
    println!("500 x 10: added {added:?}, listed {listed:?}, added again {again:?}; one weight {single:?}");
    let start = Instant::now();
    driver.apply(&between(&servers, &[])).unwrap();
    println!("deleted {:?}", start.elapsed());
    assert_eq!(observe(&mut driver), []);
}

/// Whoever has lost the capability is told its name, at the start.
fn no_permission() {
    let program = std::env::current_exe().unwrap();
    // The capability is of a process: the case asks again without it, in a process of its own.
    if std::env::var_os(WITHOUT).is_some() {
        let error = IpvsDriver::open(SEED).unwrap_err().to_string();
        assert!(error.contains("EPERM") && error.contains("CAP_NET_ADMIN"), "{error}");
        return;
    }
    let dropped = ["--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let output = Command::new("setpriv").args(dropped).arg(program).env(WITHOUT, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

const WITHOUT: &str = "WEIR_WITHOUT_NET_ADMIN";
