//! A running node goes from one mode to the other and back, while clients connect and talk all the time.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use weir::cmd::options::ProxyMode::{self, Iptables, Ipvs};
use weir::kernel::xtables::variant::Variant;
use weir::lab::{Flow, Host, Probe};
use weir::net::Family;

use super::shared::manifests::{Service, facts};
use super::shared::stream::while_connecting;
use super::shared::world::{SELDOM, Setup, World};
use super::switching_talk::Talk;
use super::switching_tools::{chains, device, difference, local_routes, rules, until_nothing_is_left};

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("there_and_back_nobody_notices_nft", || there_and_back(Variant::Nft)),
        ("there_and_back_nobody_notices_legacy", || there_and_back(Variant::Legacy)),
        ("the_nodes_own_connections_outlive_a_draining_address", outlive),
    ]
}

/// How long what IPVS mode leaves waits for its connections, in both modes.
const DRAIN: Duration = Duration::from_secs(60);
const DRAIN_FLAG: &str = "--ipvs-drain-timeout=60s";
/// How long connections go on after a switch. Less than `DRAIN`.
const AFTER: Duration = Duration::from_secs(2);

/// Chains of IPVS mode (contract 4.5), and of weir's own.
const CHAINS_OF_IPVS: [&str; 10] = [
    "KUBE-FORWARD",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-LOAD-BALANCER",
    "KUBE-MARK-MASQ",
    "KUBE-NODE-PORT",
    "KUBE-POSTROUTING",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SERVICES",
    "KUBE-SOURCE-RANGES-FIREWALL",
];

fn services() -> [Service; 3] {
    [
        Service::new("web", 1, "{port: 80, nodePort: 30081}").balanced().external(),
        Service::new("local", 2, "{port: 80, nodePort: 30082}").external().with("externalTrafficPolicy: Local"),
        Service::new("sticky", 3, "{port: 80, nodePort: 30083}").external().with("sessionAffinity: ClientIP"),
    ]
}

/// From pod, node and outside to every sort of address.
fn clients(world: &World) -> Vec<(&Host, SocketAddr)> {
    let [web, local, sticky] = services();
    let of = |family: Family| {
        [
            ("pod3", (web.cluster_ip(family), 80)),
            ("node", (web.cluster_ip(family), 80)),
            ("client", (world.node_ip(family), 30081)),
            ("client", (web.external_ip(family), 80)),
            ("node", (web.external_ip(family), 80)),
            ("client", (local.external_ip(family), 80)),
            ("client", (sticky.external_ip(family), 80)),
        ]
        .map(|(from, to)| (world.host(from), SocketAddr::from(to)))
    };
    world.families().into_iter().flat_map(of).collect()
}

fn there_and_back(variant: Variant) {
    let setup = Setup { variant, mode: Ipvs };
    let Some(world) = World::without_weir(setup) else { return };
    let endpoints = world.endpoints(["pod1", "pod2", "pod4"]);
    let objects = services().map(|service| service.on(&endpoints));
    let serve = |mode: ProxyMode| {
        let begin = Instant::now();
        let weir = world.start(mode, &[DRAIN_FLAG], SELDOM);
        weir.tell(facts(&objects));
        println!("{} serves after {:?}", mode.as_str(), begin.elapsed());
        weir
    };
    let clients = clients(&world);
    let weir = serve(Iptables);
    let rules = rules(&world);
    let old = Talk::start(&clients);
    let ((), connections) = while_connecting(&clients, || {
        weir.stop();
        let weir = serve(Ipvs);
        assert_eq!(chains(&self::rules(&world)), CHAINS_OF_IPVS);
        let new = Talk::start(&clients);
        thread::sleep(AFTER);
        weir.stop();

        let weir = serve(Iptables);
        thread::sleep(AFTER);
        println!("connections of iptables mode: {:?}", old.end());
        println!("connections of IPVS mode: {:?}", new.end());
        until_nothing_is_left(&world, DRAIN);
        let differs = difference(&rules, &self::rules(&world));
        assert!(differs.is_empty(), "{}", differs.join("\n"));
        weir.stop();
    });
    println!("{variant}: {connections} connections, none failed");
}

/// While connections of IPVS mode hold service addresses, the node connects to these in iptables mode, before and after a
/// restart: from its own address, and so these connections go on when the service addresses are gone.
fn outlive() {
    let Some(world) = World::without_weir(Setup { variant: Variant::Nft, mode: Ipvs }) else { return };
    let endpoints = world.endpoints(["pod1", "pod2", "pod4"]);
    let objects = services().map(|service| service.on(&endpoints));
    let [web, ..] = services();
    let of = |family| [web.cluster_ip(family), web.external_ip(family)].map(|ip| (family, SocketAddr::from((ip, 80))));
    let addresses: Vec<(Family, SocketAddr)> = world.families().into_iter().flat_map(of).collect();
    let serve = |mode| {
        let weir = world.start(mode, &[DRAIN_FLAG], SELDOM);
        weir.tell(facts(&objects));
        weir
    };
    let connect = || -> Vec<Flow> {
        let probes = addresses.iter().map(|(_, to)| Probe::tcp(*to));
        probes.map(|probe| Flow::open(world.lab.node(), &probe).unwrap()).collect()
    };
    let talk = |flows: &mut [Flow]| {
        for (flow, (_, to)) in flows.iter_mut().zip(addresses.iter().cycle()) {
            let from = flow.local_address().unwrap();
            flow.ask().unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
        }
    };

    let weir = serve(Ipvs);
    let mut old = connect();
    weir.stop();
    let weir = serve(Iptables);
    let mut new = connect();
    weir.stop();
    let weir = serve(Iptables);
    new.extend(connect());
    talk(&mut old);
    talk(&mut new);
    let held = device(&world);
    assert!(addresses.iter().all(|(_, to)| held.iter().any(|it| it.starts_with(&to.ip().to_string()))), "{held:?}");

    drop(old);
    until_nothing_is_left(&world, DRAIN);
    talk(&mut new);
    for (flow, (family, to)) in new.iter().zip(addresses.iter().cycle()) {
        assert_eq!(flow.local_address().unwrap().ip(), world.node_ip(*family), "to {to}");
    }
    let local = Family::ALL.map(|family| local_routes(&world, family)).concat();
    assert!(addresses.iter().all(|(_, to)| !local.contains(&to.ip().to_string())), "{local:?}");
    weir.stop();
}
