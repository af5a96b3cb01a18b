//! Endpoints that go keep their connections for a while, and get no new ones.
//!
//! The lab's clients end a connection by a reset. IPVS remembers such a connection for ten seconds, and for no flag less.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use weir::lab::{Failure, Flow, Probe};
use weir::net::Family;

use super::proxied::{Held, PORT, Real, World, after_compares, at, count};
use crate::manifests::Service;
use crate::process::eventually;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("a_connection_goes_on_and_its_server_goes_with_it", goes_on),
        ("a_restart_changes_nothing", restart),
        ("the_deadline_ends_it", deadline),
        ("an_endpoint_that_comes_back_serves_at_once", comes_back),
        ("udp_leaves_at_once", udp),
        ("a_client_with_affinity_finds_another_server", affinity),
        ("a_weight_that_somebody_took_is_given_back", weight),
    ]
}

/// So that all that is seen comes from the change itself, and not from the next compare.
const NO_COMPARE: &str = "--ipvs-sync-period=1h";

const PODS: [&str; 2] = ["pod1", "pod3"];

fn service(name: &'static str, number: u8) -> Service {
    Service::new(name, number, "{port: 80}")
}

fn frontends(service: &Service) -> [SocketAddr; 2] {
    Family::ALL.map(|family| at(service.cluster_ip(family)))
}

fn is_draining(reals: Option<&BTreeMap<String, Real>>, name: &str) -> bool {
    reals.and_then(|reals| reals.get(name)).is_some_and(|real| real.weight == 0)
}

impl World {
    /// A connection to this pod.
    #[track_caller]
    fn hold_on(&self, pod: &str, to: SocketAddr) -> Held {
        (0..4).map(|_| self.hold(to)).find(|held| held.server == pod).expect("round robin comes to each")
    }

    /// All of these are still answered by whom they were.
    #[track_caller]
    fn go_on(&self, held: &mut [Held]) {
        for held in held {
            let reply = held.flow.ask().unwrap_or_else(|error| panic!("{}: {error}\n{}", held.server, self.shown()));
            assert_eq!(reply.server, held.server);
        }
    }

    /// New connections come to this pod alone.
    #[track_caller]
    fn is_served_by(&self, pod: &str, to: SocketAddr) {
        let servers = count((0..6).map(|_| self.answer(None, to)));
        assert_eq!(servers.keys().collect::<Vec<_>>(), [pod], "{}", self.shown());
    }

    /// The upper thresholds of all real servers: until when what drains may stay.
    fn thresholds(&self, to: SocketAddr) -> Vec<String> {
        self.thresholds_at("", to)
    }

    /// The same of one pod.
    fn threshold_of(&self, pod: &str, to: SocketAddr) -> Vec<String> {
        let endpoint = SocketAddr::new(self.host(pod).address(Family::of(&to.ip())).unwrap(), PORT);
        self.thresholds_at(&format!("{endpoint} "), to)
    }

    fn thresholds_at(&self, endpoint: &str, to: SocketAddr) -> Vec<String> {
        let text = self.run("ipvsadm -Ln --thresholds");
        let lines = text.lines().skip_while(|line| !line.contains(&format!("{to} "))).skip(1);
        let of_server = lines.map_while(|line| line.trim().strip_prefix("-> "));
        let meant = of_server.filter(|line| line.starts_with(endpoint));
        meant.map(|line| line.split_whitespace().nth(1).unwrap().to_owned()).collect()
    }

    fn has_nothing_of(&self, service: &Service) -> bool {
        let [v4, v6] = Family::ALL.map(|family| service.cluster_ip(family).to_string());
        let texts = ["ip -br address show dev kube-ipvs0", "ipset save", "ipvsadm -Sn"].map(|line| self.run(line));
        // An address ends where no digit follows.
        let has = |text: &String, ip: &str| {
            text.match_indices(ip).any(|(at, _)| !text[at + ip.len()..].starts_with(|c: char| c.is_ascii_hexdigit()))
        };
        !texts.iter().any(|text| has(text, &v4) || has(text, &v6))
    }
}

/// The service goes on with its other endpoint; the one that is deleted is there for its connections alone.
fn goes_on() {
    let world = World::new();
    let (stays, goes) = (service("stays", 1), service("goes", 2));
    world.tell(&[&stays, &goes].map(|service| service.on(&world.endpoints(&PODS))));
    let running = world.start(&[]);
    let mut held: Vec<Held> =
        frontends(&stays).into_iter().chain(frontends(&goes)).map(|to| world.hold_on("pod1", to)).collect();

    world.tell(&[stays.on(&world.endpoints(&["pod3"]))]);
    for to in frontends(&stays) {
        world.until_served_by(to, &["pod3"]);
        world.until_reals("it drains", to, |reals| is_draining(reals, "pod1"));
        world.is_served_by("pod3", to);
    }
    for to in frontends(&goes) {
        world.until_reals("it drains", to, |reals| is_draining(reals, "pod1"));
        assert_eq!(world.ask_from(None, to), Err(Failure::Refused), "{}", world.shown());
    }
    world.go_on(&mut held);
    after_compares(&running, 2);
    world.go_on(&mut held);
    for to in frontends(&goes) {
        let record = if to.is_ipv4() { "WEIR-VIRTUAL-SERVERS" } else { "WEIR-6-VIRTUAL-SERVERS" };
        world.run(&format!("ipset test {record} {},tcp:80", to.ip()));
    }

    drop(held);
    for to in frontends(&stays) {
        world.until_reals("it is gone", to, |reals| reals.is_some_and(|reals| reals.keys().eq(["pod3"])));
        world.is_served_by("pod3", to);
    }
    eventually("the deleted service is gone", || world.has_nothing_of(&goes));
    assert_eq!(running.stop().0, Some(0));
}

/// What drains does so until the time that was said before, and what went while nobody was there drains as well.
fn restart() {
    let world = World::new();
    let (before, between, goes) = (service("before", 1), service("between", 2), service("goes", 3));
    let [two, one] = [&PODS[..], &PODS[1..]].map(|names| world.endpoints(names));
    world.tell(&[&before, &between, &goes].map(|service| service.on(&two)));
    let running = world.start(&[]);
    let services = [&before, &between, &goes];
    let mut held: Vec<Held> = services.into_iter().flat_map(frontends).map(|to| world.hold_on("pod1", to)).collect();

    world.tell(&[before.on(&one), between.on(&two)]);
    for to in frontends(&before).into_iter().chain(frontends(&goes)) {
        world.until_reals("it drains", to, |reals| is_draining(reals, "pod1"));
    }
    // Of the pod with the connections alone. The service that goes may have another one that drains, with connections
    // that were reset when they came to the wrong pod: for ten seconds, which may be over before or after the restart.
    let known = || [&before, &goes].map(|service| frontends(service).map(|to| world.threshold_of("pod1", to)));
    let all = known();
    assert!(all.iter().flatten().all(|thresholds| thresholds.len() == 1 && *thresholds != ["0"]), "{all:?}");
    assert_eq!(running.stop().0, Some(0));
    world.go_on(&mut held);
    world.tell(&[before.on(&one), between.on(&one)]);
    thread::sleep(Duration::from_secs(1));
    let running = world.start(&[]);
    for to in frontends(&between) {
        assert!(is_draining(world.reals(to).as_ref(), "pod1"), "{}", world.shown());
    }
    assert_eq!(known(), all, "{}", world.shown());
    world.go_on(&mut held);
    for to in frontends(&before).into_iter().chain(frontends(&between)) {
        world.is_served_by("pod3", to);
    }

    drop(held);
    for to in frontends(&before).into_iter().chain(frontends(&between)) {
        world.until_reals("it is gone", to, |reals| reals.is_some_and(|reals| reals.keys().eq(["pod3"])));
    }
    eventually("the deleted service is gone", || world.has_nothing_of(&goes));
    assert_eq!(running.stop().0, Some(0));
}

/// By annotation, and for services without by flag.
fn deadline() {
    let world = World::new();
    let short = service("short", 1).annotated("weir.dev/drain-seconds: '2'");
    let (long, none) = (service("long", 2), service("none", 3).annotated("weir.dev/drain-seconds: '0'"));
    let services = [&short, &long, &none];
    world.tell(&services.map(|service| service.on(&world.endpoints(&PODS))));
    let _running = world.start(&[NO_COMPARE, "--ipvs-drain-timeout=60s"]);
    let [mut short_held, mut long_held, mut none_held] =
        services.map(|service| frontends(service).map(|to| world.hold_on("pod1", to)));
    let begin = Instant::now();
    world.tell(&services.map(|service| service.on(&world.endpoints(&PODS[1..]))));
    let is_gone = |reals: Option<&BTreeMap<String, Real>>| reals.is_some_and(|reals| reals.keys().eq(["pod3"]));
    for to in frontends(&none) {
        world.until_reals("it is cut off", to, is_gone);
    }
    let [first, _] = frontends(&short);
    world.until_reals("it drains", first, |reals| is_draining(reals, "pod1"));
    if begin.elapsed() < Duration::from_millis(900) {
        // Seconds are whole, so that two may be little more than one.
        world.go_on(&mut short_held);
    }
    for to in frontends(&short) {
        world.until_reals("its time is up", to, is_gone);
    }
    let elapsed = begin.elapsed();
    assert!((1..8).contains(&elapsed.as_secs()), "{elapsed:?}");
    for held in short_held.iter_mut().chain(&mut none_held) {
        assert!(held.flow.ask().is_err(), "{}", world.shown());
    }
    world.go_on(&mut long_held);
    services.iter().flat_map(|service| frontends(service)).for_each(|to| world.is_served_by("pod3", to));
}

fn comes_back() {
    let world = World::new();
    let service = service("a", 1);
    let tell = |names: &[&str]| world.tell(&[service.on(&world.endpoints(names))]);
    tell(&PODS);
    let _running = world.start(&[NO_COMPARE]);
    let mut held = frontends(&service).map(|to| world.hold_on("pod1", to));
    tell(&PODS[1..]);
    for to in frontends(&service) {
        world.until_reals("it drains", to, |reals| is_draining(reals, "pod1"));
        assert!(world.thresholds(to).iter().any(|threshold| threshold != "0"));
    }
    tell(&PODS);
    for to in frontends(&service) {
        world.until_served_by(to, &PODS);
        assert_eq!(world.thresholds(to), ["0", "0"], "{}", world.shown());
        assert_eq!(count((0..4).map(|_| world.answer(None, to))).len(), 2, "{}", world.shown());
    }
    world.go_on(&mut held);
    // Again, and for good.
    tell(&PODS[1..]);
    frontends(&service).into_iter().for_each(|to| world.until_served_by(to, &PODS[1..]));
    world.go_on(&mut held);
}

/// A client that goes on from one port is led to the endpoint that is left.
fn udp() {
    let world = World::new();
    let service = Service::new("dns", 1, "{port: 80, protocol: UDP}");
    let ports = "{name: '', port: 8080, protocol: UDP}";
    let tell = |names: &[&str]| world.tell(&[service.text(), service.slice("a", ports, &world.endpoints(names))]);
    tell(&PODS);
    let _running = world.start(&[NO_COMPARE]);
    let open = |to| {
        let find = |_| {
            let mut flow = Flow::open(world.lab.client(), &Probe::udp(to).timeout(Duration::from_millis(500))).unwrap();
            (flow.ask().unwrap().server == "pod1").then_some(flow)
        };
        (0..4).find_map(find).expect("round robin comes to each")
    };
    let flows = frontends(&service).map(open);
    tell(&PODS[1..]);
    for (to, mut flow) in frontends(&service).into_iter().zip(flows) {
        let only = |text: &World| text.reals_by("UDP", to).is_some_and(|reals| reals.keys().eq(["pod3"]));
        eventually("it is gone", || only(&world));
        // The packet by which the kernel finds that the flow has lost its server is lost.
        eventually("another endpoint answers", || flow.ask().is_ok_and(|reply| reply.server == "pod3"));
    }
}

fn affinity() {
    let world = World::new();
    let service = service("a", 1).with("sessionAffinity: ClientIP");
    let tell = |names: &[&str]| world.tell(&[service.on(&world.endpoints(names))]);
    tell(&PODS);
    let _running = world.start(&[NO_COMPARE]);
    for to in frontends(&service) {
        tell(&PODS);
        world.until_served_by(to, &PODS);
        let mut held = [world.hold(to)];
        let (first, other) = if held[0].server == PODS[0] { (PODS[0], PODS[1]) } else { (PODS[1], PODS[0]) };
        world.is_served_by(first, to);
        tell(&[other]);
        world.until_served_by(to, &[other]);
        world.go_on(&mut held);
        world.is_served_by(other, to);
        drop(held);
        world.until_reals("it is gone", to, |reals| reals.is_some_and(|reals| reals.keys().eq([other])));
        world.is_served_by(other, to);
    }
}

/// By whoever may use ipvsadm.
fn weight() {
    let world = World::new();
    let service = service("a", 1);
    world.tell(&[service.on(&world.endpoints(&PODS))]);
    let running = world.start(&[]);
    for (family, to) in Family::ALL.into_iter().zip(frontends(&service)) {
        let pod = SocketAddr::new(world.host("pod1").address(family).unwrap(), 8080);
        world.run(&format!("ipvsadm -e -t {to} -r {pod} -m -w 0"));
        world.until_served_by(to, &PODS);
        assert_eq!(world.thresholds(to), ["0", "0"], "{}", world.shown());
    }
    running.says("real server changed");
}
