//! Real connections through every scheduler: the distribution that defines it.
//!
//! The formulas are the kernel's (`net/netfilter/ipvs/ip_vs_*.c`). A connection counts as active from the handshake until
//! it is closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weir::lab::{LAN_V4, LAN_V6};
use weir::net::Family;

use super::proxied::{Held, World, after_compares, at, count, counts};
use crate::manifests::Service;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("rr_and_wrr_take_turns", turns),
        ("lc_and_wlc_count_open_connections", connections),
        ("sed_and_nq_expect_a_delay", delays),
        ("sh_and_mh_go_by_the_source", sources),
        ("dh_goes_by_the_destination", destinations),
        ("the_flag_is_for_services_that_do_not_ask", flag),
        ("annotations_of_kube_router_count", kube_router),
        ("one_that_the_kernel_lacks_is_replaced_and_told_once", lacking),
        ("one_of_the_flag_that_the_kernel_lacks_is_refused", lacking_by_flag),
        ("nodes_begin_at_different_endpoints", beginnings),
        ("a_server_that_drains_makes_nobody_be_refused", draining),
    ]
}

/// By `weir.dev/weights`: pods of the node weigh five, those of the other one.
const FIVE_TO_ONE: &str = "weir.dev/weights: 'node=node:5,node=node2:1'";

/// pod1 is on the node and pod3 on the other.
const HEAVY: &str = "pod1";
const LIGHT: &str = "pod3";

fn scheduled(name: &'static str, number: u8) -> Service {
    Service::new(name, number, "{port: 80}").annotated(&format!("weir.dev/scheduler: {name}"))
}

fn weighted(name: &'static str, number: u8) -> Service {
    Service::new(name, number, "{port: 80}").annotated(&format!("weir.dev/scheduler: {name}, {FIVE_TO_ONE}"))
}

/// ovf has no more connections for a server than it weighs.
fn roomy(number: u8) -> Service {
    let annotations = "weir.dev/scheduler: ovf, weir.dev/weights: 'node=node:100,node=node2:100'";
    Service::new("ovf", number, "{port: 80}").annotated(annotations)
}

/// Both frontends of a service.
fn frontends(service: &Service) -> [SocketAddr; 2] {
    Family::ALL.map(|family| at(service.cluster_ip(family)))
}

impl World {
    #[track_caller]
    fn hold_many(&self, to: SocketAddr, number: usize) -> Vec<Held> {
        (0..number).map(|_| self.hold(to)).collect()
    }

    /// Closes all connections to one server, and waits until the kernel knows.
    #[track_caller]
    fn close_those_of(&self, server: &str, to: SocketAddr, held: &mut Vec<Held>) {
        held.retain(|held| held.server != server);
        self.until_reals("they are closed", to, |reals| reals.is_some_and(|reals| reals[server].active == 0));
    }

    /// Gives the client this many more addresses of a family.
    fn more_sources(&self, family: Family, number: usize) -> Vec<SocketAddr> {
        let client = self.lab.client();
        let source = |number: usize| {
            let (text, net): (String, ipnet::IpNet) = match family {
                Family::V4 => (format!("192.168.99.{}", 110 + number), LAN_V4.into()),
                Family::V6 => (format!("2001:db8:99::{}", 110 + number), LAN_V6.into()),
            };
            let ip: IpAddr = text.parse().unwrap();
            client.add_address("eth0", ipnet::IpNet::new(ip, net.prefix_len()).unwrap()).unwrap();
            SocketAddr::new(ip, 0)
        };
        (0..number).map(source).collect()
    }

    /// Who answers each of these, who ask twice.
    #[track_caller]
    fn servers_by_source(&self, sources: &[SocketAddr], to: SocketAddr) -> BTreeMap<SocketAddr, String> {
        let server = |source: &SocketAddr| {
            let first = self.answer(Some(*source), to);
            assert_eq!(self.answer(Some(*source), to), first, "{source} again\n{}", self.shown());
            (*source, first)
        };
        sources.iter().map(server).collect()
    }

    /// Every server has at least this many.
    #[track_caller]
    fn is_spread<K>(&self, servers: &BTreeMap<K, String>, names: &[&str], least: usize) {
        let counts = count(servers.values().cloned());
        assert_eq!(counts.keys().map(String::as_str).collect::<Vec<_>>(), names, "{counts:?}\n{}", self.shown());
        assert!(counts.values().all(|count| *count >= least), "{counts:?}\n{}", self.shown());
    }
}

fn names(held: &[Held]) -> Vec<&str> {
    held.iter().map(|held| held.server.as_str()).collect()
}

fn by_server(held: &[Held]) -> BTreeMap<String, usize> {
    count(held.iter().map(|held| held.server.clone()))
}

/// rr: each in turn. wrr: five of six to one that weighs five, wherever one begins to count.
fn turns() {
    let world = World::new();
    let (rr, wrr) = (scheduled("rr", 1), weighted("wrr", 2));
    world.tell(&[rr.on(&world.endpoints(&["pod1", "pod2", "pod3"])), wrr.on(&world.endpoints(&[HEAVY, LIGHT]))]);
    let _running = world.start(&[]);
    for to in frontends(&rr) {
        let servers: Vec<String> = (0..9).map(|_| world.answer(None, to)).collect();
        let first: BTreeSet<&String> = servers[..3].iter().collect();
        assert_eq!(first.len(), 3, "{servers:?}\n{}", world.shown());
        assert!((3..9).all(|n| servers[n] == servers[n - 3]), "{servers:?}\n{}", world.shown());
    }
    for to in frontends(&wrr) {
        let servers: Vec<String> = (0..18).map(|_| world.answer(None, to)).collect();
        for window in servers.windows(6) {
            assert_eq!(count(window.to_vec()), counts([(HEAVY, 5), (LIGHT, 1)]), "{servers:?}\n{}", world.shown());
        }
    }
}

/// lc: the fewest open connections. wlc: the fewest for its weight.
fn connections() {
    let world = World::new();
    let (lc, wlc) = (scheduled("lc", 1), weighted("wlc", 2));
    world.tell(&[&lc, &wlc].map(|service| service.on(&world.endpoints(&[HEAVY, LIGHT]))));
    let _running = world.start(&[]);
    for to in frontends(&lc) {
        let mut held = world.hold_many(to, 8);
        assert_eq!(by_server(&held), counts([(HEAVY, 4), (LIGHT, 4)]), "{:?}\n{}", names(&held), world.shown());
        world.close_those_of(LIGHT, to, &mut held);
        let next = world.hold_many(to, 4);
        assert_eq!(by_server(&next), counts([(LIGHT, 4)]), "the other has four\n{}", world.shown());
    }
    for to in frontends(&wlc) {
        let mut held = world.hold_many(to, 12);
        assert_eq!(by_server(&held), counts([(HEAVY, 10), (LIGHT, 2)]), "{:?}\n{}", names(&held), world.shown());
        world.close_those_of(HEAVY, to, &mut held);
        let next = world.hold_many(to, 8);
        assert_eq!(by_server(&next), counts([(HEAVY, 8)]), "two of one are ten of the other\n{}", world.shown());
    }
}

/// sed: the smallest (active + 1) / weight, so that a strong server is chosen before a weak one that is idle. nq: the
/// same, but an idle server comes first.
fn delays() {
    let world = World::new();
    let (sed, nq) = (weighted("sed", 1), weighted("nq", 2));
    world.tell(&[&sed, &nq].map(|service| service.on(&world.endpoints(&[HEAVY, LIGHT]))));
    let _running = world.start(&[]);
    for to in frontends(&sed) {
        let mut held = world.hold_many(to, 4);
        assert_eq!(names(&held), [HEAVY; 4], "4/5 is less than 1\n{}", world.shown());
        held.extend(world.hold_many(to, 2));
        assert_eq!(by_server(&held), counts([(HEAVY, 5), (LIGHT, 1)]), "6/5 is more than 1\n{}", world.shown());
        world.close_those_of(HEAVY, to, &mut held);
        let next = world.hold_many(to, 8);
        assert_eq!(by_server(&next), counts([(HEAVY, 8)]), "8/5 is less than 2\n{}", world.shown());
    }
    for to in frontends(&nq) {
        let mut held = world.hold_many(to, 2);
        assert_eq!(by_server(&held), counts([(HEAVY, 1), (LIGHT, 1)]), "one was idle\n{}", world.shown());
        held.extend(world.hold_many(to, 2));
        assert_eq!(by_server(&held), counts([(HEAVY, 3), (LIGHT, 1)]), "3/5 is less than 2\n{}", world.shown());
        world.close_those_of(LIGHT, to, &mut held);
        held.push(world.hold(to));
        assert_eq!(held.last().unwrap().server, LIGHT, "4/5 is less than 1, but it is idle\n{}", world.shown());
    }
}

/// How many sources or destinations are tried.
const MANY: usize = 36;

/// sh and mh: a source stays with its server. mh: it does so where another server goes.
fn sources() {
    let world = World::new();
    let (sh, mh) = (scheduled("sh", 1), scheduled("mh", 2));
    let all = ["pod1", "pod2", "pod3"];
    let tell = |names: &[&str]| world.tell(&[&sh, &mh].map(|service| service.on(&world.endpoints(names))));
    tell(&all);
    let _running = world.start(&[]);
    let sources = Family::ALL.map(|family| world.more_sources(family, MANY));
    let ask = |service: &Service| -> BTreeMap<SocketAddr, String> {
        let each = frontends(service).into_iter().zip(&sources);
        each.flat_map(|(to, sources)| world.servers_by_source(sources, to)).collect()
    };
    let (by_sh, by_mh) = (ask(&sh), ask(&mh));
    // The least that a server of three can have by chance is far above this.
    world.is_spread(&by_sh, &all, MANY / 6);
    world.is_spread(&by_mh, &all, MANY / 6);

    tell(&all[1..]);
    for to in frontends(&sh).into_iter().chain(frontends(&mh)) {
        world.until_served_by(to, &all[1..]);
    }
    // While it drains, another one answers for it; those of others do not move for that.
    for (service, was) in [(&sh, None), (&mh, Some(&by_mh))] {
        for (to, sources) in frontends(service).into_iter().zip(&sources) {
            for source in sources {
                let server = world.answer(Some(*source), to);
                assert_ne!(server, "pod1", "{source} to {to}\n{}", world.shown());
                let was = was.map_or(&server, |was| &was[source]);
                assert!(server == *was || was == "pod1", "{source} to {to}: {was}, {server}\n{}", world.shown());
            }
        }
    }
    for to in frontends(&sh).into_iter().chain(frontends(&mh)) {
        world.until_reals("it is gone", to, |reals| reals.is_some_and(|reals| reals.len() == 2));
    }
    world.is_spread(&ask(&sh), &all[1..], MANY / 4);
    let now = ask(&mh);
    world.is_spread(&now, &all[1..], MANY / 4);
    let stayed = by_mh.iter().filter(|(source, server)| now[*source] == **server).count();
    let could = by_mh.values().filter(|server| *server != "pod1").count();
    assert!(stayed * 10 >= could * 8, "{stayed} of {could} stayed: {by_mh:?} {now:?}\n{}", world.shown());
}

/// dh: all connections to an address go to one server, whoever asks; addresses are spread.
fn destinations() {
    let world = World::new();
    let all = ["pod1", "pod2", "pod3"];
    let ips: Vec<IpAddr> = (1..=MANY).map(|n| format!("203.0.113.{n}").parse().unwrap()).collect();
    let list = ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    let dh = scheduled("dh", 1).with(&format!("externalIPs: [{list}]"));
    world.tell(&[dh.on(&world.endpoints(&all))]);
    let _running = world.start(&[]);
    let sources = world.more_sources(Family::V4, 3);
    let mut servers = BTreeMap::new();
    for ip in &ips {
        let first = world.answer(None, at(*ip));
        for source in &sources {
            assert_eq!(world.answer(Some(*source), at(*ip)), first, "{source} to {ip}\n{}", world.shown());
        }
        servers.insert(*ip, first);
    }
    world.is_spread(&servers, &all, MANY / 9);
    let [_, v6] = frontends(&dh);
    assert_eq!(count((0..6).map(|_| world.answer(None, v6))).len(), 1, "{}", world.shown());
}

/// A virtual server that changes its scheduler is the same one: a connection goes on.
fn flag() {
    let world = World::new();
    let (plain, asks) = (Service::new("plain", 1, "{port: 80}"), scheduled("rr", 2));
    world.tell(&[&plain, &asks].map(|service| service.on(&world.endpoints(&[HEAVY, LIGHT]))));
    let running = world.start(&["--ipvs-scheduler=lc"]);
    let to = at(plain.cluster_ip(Family::V4));
    let mut held = world.hold_many(to, 6);
    assert_eq!(by_server(&held), counts([(HEAVY, 3), (LIGHT, 3)]), "{}", world.shown());
    world.close_those_of(LIGHT, to, &mut held);
    let next = world.hold_many(to, 3);
    assert_eq!(by_server(&next), counts([(LIGHT, 3)]), "{}", world.shown());
    assert_eq!(running.stop().0, Some(0));

    let _running = world.start(&["--ipvs-scheduler=sh"]);
    assert!(world.shown().contains(&format!("{to} sh")), "{}", world.shown());
    assert!(world.shown().contains(&format!("{} rr", at(asks.cluster_ip(Family::V4)))), "{}", world.shown());
    assert_eq!(count((0..8).map(|_| world.answer(None, to))).len(), 1, "{}", world.shown());
    for held in held.iter_mut() {
        assert_eq!(held.flow.ask().unwrap().server, held.server);
    }
}

/// `sh-port` hashes the port too, so that one address finds both servers, and one port of it always the same.
fn kube_router() {
    let world = World::new();
    let annotations = "kube-router.io/service.scheduler: sh, kube-router.io/service.schedflags: 'flag-2'";
    let by_port = Service::new("port", 1, "{port: 80}").annotated(annotations);
    let by_address = Service::new("address", 2, "{port: 80}").annotated("kube-router.io/service.scheduler: sh");
    world.tell(&[&by_port, &by_address].map(|service| service.on(&world.endpoints(&[HEAVY, LIGHT]))));
    let _running = world.start(&[]);
    let ports: Vec<_> = (20_000..20_024).map(|port| SocketAddr::new([192, 168, 99, 100].into(), port)).collect();
    let servers = world.servers_by_source(&ports, at(by_port.cluster_ip(Family::V4)));
    world.is_spread(&servers, &[HEAVY, LIGHT], 4);
    let servers = world.servers_by_source(&ports, at(by_address.cluster_ip(Family::V4)));
    assert_eq!(count(servers.into_values()).len(), 1, "{}", world.shown());
}

fn lacking() {
    let world = World::new();
    let services = [("a", 1), ("b", 2)];
    let annotated =
        services.map(|(name, n)| Service::new(name, n, "{port: 80}").annotated("weir.dev/scheduler: nosuch"));
    let mut objects = annotated.each_ref().map(|service| service.on(&world.endpoints(&[HEAVY, LIGHT]))).to_vec();
    world.tell(&objects);
    let running = world.start(&["--ipvs-scheduler=wrr"]);
    for service in &annotated {
        let [v4, v6] = frontends(service);
        for to in [v4, v6] {
            assert!(world.shown().contains(&format!("{to} wrr")), "{}", world.shown());
            let servers = count((0..4).map(|_| world.answer(None, to)));
            assert_eq!(servers, counts([(HEAVY, 2), (LIGHT, 2)]), "{}", world.shown());
        }
    }
    let line = running.says("the kernel has no such scheduler");
    for part in ["WARN", "ip_vs_nosuch", "spread by wrr", "test/a"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    after_compares(&running, 2);
    let late = Service::new("c", 3, "{port: 80}").annotated("weir.dev/scheduler: nosuch");
    objects.push(late.on(&world.endpoints(&[HEAVY])));
    world.tell(&objects);
    world.until_served_by(at(late.cluster_ip(Family::V4)), &[HEAVY]);
    after_compares(&running, 2);
    let (code, log) = running.stop();
    assert_eq!((code, log.matches("no such scheduler").count()), (Some(0), 1), "{log}");
}

fn lacking_by_flag() {
    let world = World::new();
    let service = Service::new("a", 1, "{port: 80}");
    world.tell(&[service.on(&world.endpoints(&[HEAVY]))]);
    let before = world.kernel();
    let ran = crate::program::run_in(world.lab.node(), world.weir(&["--ipvs-scheduler=nosuch"]));
    let last = ran.err.lines().last().unwrap_or_default();
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    for part in ["--ipvs-scheduler nosuch", "modprobe ip_vs_nosuch", "or choose another"] {
        assert!(last.contains(part), "{part} is not in {last}");
    }
    assert_eq!(world.kernel(), before);
}

/// Where round robin begins depends on the node's name, so that the first connection of every node does not meet the
/// same endpoint.
fn beginnings() {
    let world = World::new();
    let services: Vec<Service> =
        (1..=8).map(|n| Service::new(["a", "b", "c", "d", "e", "f", "g", "h"][n - 1], n as u8, "{port: 80}")).collect();
    let pods = ["pod1", "pod2", "pod3", "pod4"];
    world.tell(&services.iter().map(|service| service.on(&world.endpoints(&pods))).collect::<Vec<_>>());
    let mut seen = Vec::new();
    for name in ["one", "two", "one"] {
        let running = world.start(&[&format!("--hostname-override={name}")]);
        let first = |service: &Service| world.answer(None, at(service.cluster_ip(Family::V4)));
        let firsts: Vec<String> = services.iter().map(first).collect();
        assert!(count(firsts.clone()).len() > 1, "services of a node begin differently: {firsts:?}");
        seen.push(firsts);
        assert_eq!(running.stop().0, Some(0));
        world.run("ipvsadm -C");
    }
    assert_ne!(seen[0], seen[1], "nodes begin differently");
    assert_eq!(seen[0], seen[2], "a node begins where it did");
}

/// A server that drains has weight 0. Some schedulers go on choosing it and then refuse: whoever asks must be led to
/// another one.
fn draining() {
    let world = World::new();
    let services: Vec<Service> =
        ["rr", "wrr", "lc", "wlc", "sh", "dh", "sed", "nq", "mh", "lblc", "lblcr", "fo", "ovf"]
            .into_iter()
            .zip(1..)
            .map(|(name, number)| if name == "ovf" { roomy(number) } else { scheduled(name, number) })
            .collect();
    let tell = |pods: &[&str]| {
        world.tell(&services.iter().map(|service| service.on(&world.endpoints(pods))).collect::<Vec<_>>());
    };
    tell(&["pod1", "pod2", "pod3"]);
    let _running = world.start(&[]);
    let sources = world.more_sources(Family::V4, 8);
    let to = |service: &Service| at(service.cluster_ip(Family::V4));
    // A connection to each server that these sources find; it makes all but one of them drain.
    let mut held = Vec::new();
    for service in &services {
        held.extend(world.hold_many(to(service), 3));
        sources.iter().for_each(|source| drop(world.answer(Some(*source), to(service))));
    }
    tell(&["pod2"]);
    let mut refused = Vec::new();
    for service in &services {
        world.until_served_by(to(service), &["pod2"]);
        let answers = sources.iter().map(|source| world.ask_from(Some(*source), to(service)));
        let wrong: Vec<_> = answers.filter(|answer| answer.as_deref() != Ok("pod2")).collect();
        if !wrong.is_empty() {
            refused.push(format!("{}: {} of {}: {:?}", to(service), wrong.len(), sources.len(), wrong[0]));
        }
    }
    assert!(refused.is_empty(), "{}\n{}", refused.join("\n"), world.shown());
}
