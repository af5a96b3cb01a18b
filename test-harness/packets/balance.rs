//! How connections are spread over endpoints, and clients who stay with theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use weir::lab::{EchoServer, Probe};
use weir::net::{Family, Protocol};

use super::manifests::Service;
use super::seen::Seen;
use super::variants::on_each_variant;
use super::world::{World, kept, tcp};

/// Connections to each service.
const CONNECTIONS: usize = 600;

/// The chi-square that as many as `choices` equal chances exceed once in a million times (Wilson and Hilferty).
fn largest_chi_square(choices: usize) -> f64 {
    let freedom = choices as f64 - 1.0;
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + 4.753 * spread.sqrt()).powi(3)
}

fn chi_square(counts: &BTreeMap<String, usize>, choices: usize) -> f64 {
    let expected = CONNECTIONS as f64 / choices as f64;
    let seen: f64 = counts.values().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
    // Those that nobody came to.
    seen + (choices - counts.len()) as f64 * expected
}

#[test]
fn the_limit_is_that_of_the_tables() {
    // 1 - 10^-6 quantiles.
    for (choices, quantile) in [(3, 27.6), (10, 46.5), (100, 179.0)] {
        let limit = largest_chi_square(choices);
        assert!((limit / quantile - 1.0).abs() < 0.1, "{choices}: {limit}");
    }
}

/// Three endpoints, ten, and a hundred, which are chosen from by groups.
#[test]
fn connections_are_spread_evenly() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let ports: Vec<u16> = (20_000..20_034).collect();
        let _servers = serve_one_each(&world, &ports);
        // Endpoints of one pod differ by port, so each port is a slice of its own.
        let sizes = [("three", 1, 3), ("ten", 2, 10), ("hundred", 3, 100)];
        let pods = world.endpoints(["pod1", "pod2", "pod4"]);
        let mut objects = Vec::new();
        for (name, number, size) in sizes {
            let service = Service::new(name, number, "{port: 80}");
            objects.push(service.text());
            for (port, from) in ports.iter().zip((0..size).step_by(pods.len())) {
                let here = &pods[..pods.len().min(size - from)];
                objects.push(service.slice(&port.to_string(), &format!("{{name: '', port: {port}}}"), here));
            }
        }
        world.tell(&objects);
        for family in world.families() {
            for (name, number, size) in sizes {
                let to = SocketAddr::new(Service::new(name, number, "").cluster_ip(family), 80);
                let counts = count(&world, to);
                let (chi_square, limit) = (chi_square(&counts, size), largest_chi_square(size));
                assert!(counts.len() <= size, "{counts:?}");
                assert!(chi_square < limit, "{variant} {family} {name}: {chi_square} is above {limit}: {counts:?}");
            }
        }
    });
}

/// A server for each address and port, under its address and port.
fn serve_one_each(world: &World, ports: &[u16]) -> Vec<EchoServer> {
    let mut servers = Vec::new();
    for pod in ["pod1", "pod2", "pod4"].map(|name| world.host(name)) {
        for at in pod.addresses().flat_map(|ip| ports.iter().map(move |port| SocketAddr::new(ip, *port))) {
            servers.push(EchoServer::start_on(pod, &at.to_string(), &[(Protocol::Tcp, at)]).unwrap());
        }
    }
    servers
}

/// Connects from several hosts at the same time.
fn count(world: &World, to: SocketAddr) -> BTreeMap<String, usize> {
    let clients = ["pod3", "client"];
    let ask = |client| {
        let host = world.host(client);
        let answers = (0..CONNECTIONS / clients.len()).map(|_| Probe::tcp(to).run(host).unwrap().server);
        answers.collect::<Vec<String>>()
    };
    let mut counts = BTreeMap::new();
    thread::scope(|scope| {
        let threads = clients.map(|client| scope.spawn(move || ask(client)));
        for server in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            *counts.entry(server).or_default() += 1;
        }
    });
    counts
}

/// Who asks one question after the other, by what kind of address.
fn answers(world: &World, from: &str, to: (IpAddr, u16), questions: usize) -> BTreeSet<Seen> {
    (0..questions).map(|_| world.ask(from, Protocol::Tcp, to.into(), None)).collect()
}

/// Everyone whose connections pass the node.
const CLIENTS: [&str; 6] = ["client", "blocked", "node", "pod1", "pod2", "pod3"];

#[test]
fn t22_clients_stay_with_their_endpoint() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let web = Service::new("web", 1, "{port: 80, nodePort: 30080}")
            .with("type: NodePort")
            .with("sessionAffinity: ClientIP");
        world.tell(&[web.on(&world.endpoints(["pod1", "pod2", "pod4"]))]);
        for family in world.families() {
            for client in CLIENTS {
                let by_cluster_ip = answers(&world, client, (web.cluster_ip(family), 80), 15);
                assert_eq!(by_cluster_ip.len(), 1, "{client}: {by_cluster_ip:?}");
                let by_node_port = answers(&world, client, (world.node_ip(family), 30080), 15);
                assert_eq!(by_node_port.len(), 1, "{client}: {by_node_port:?}");
                let server = |seen: &BTreeSet<Seen>| match seen.first() {
                    Some(Seen::Kept(server) | Seen::Masqueraded(server)) => server.clone(),
                    other => panic!("{client}: {other:?}"),
                };
                assert_eq!(server(&by_cluster_ip), server(&by_node_port), "one memory for all addresses");
            }
        }
    });
}

#[test]
fn t23_affinity_times_out_and_every_connection_renews_it() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let timeout = "sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}";
        let web = Service::new("web", 1, "{port: 80}").with("sessionAffinity: ClientIP").with(timeout);
        world.tell(&[web.on(&world.endpoints(["pod1", "pod2", "pod4"]))]);
        let servers = || -> Vec<BTreeSet<Seen>> {
            let families = world.families();
            let to = families.iter().map(|family| (web.cluster_ip(*family), 80));
            to.flat_map(|to| CLIENTS.map(|client| answers(&world, client, to, 1))).collect()
        };
        let first = servers();
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(400));
            assert_eq!(servers(), first, "{variant}: nobody was away for a second");
        }
        assert!(first.iter().flatten().all(Seen::is_answer), "{first:?}");
        // That all twelve stay by chance happens once in 3^12 times, and once in 10^17 three times in a row.
        let moved = (0..3).any(|_| {
            thread::sleep(Duration::from_millis(1200));
            servers() != first
        });
        assert!(moved, "{variant}: clients stay although the time is over");
    });
}

#[test]
fn t24_affinity_is_switched_on_and_off() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let endpoints = world.endpoints(["pod1", "pod4"]);
        let web = |affinity: &str| Service::new("web", 1, "{port: 80}").with(&format!("sessionAffinity: {affinity}"));
        let to = |family: Family| (web("None").cluster_ip(family), 80);
        for _ in 0..2 {
            world.tell(&[web("None").on(&endpoints)]);
            world.judge_both(|family| vec![tcp("T24", "pod3", to(family), kept(["pod1", "pod4"]))]);
            world.tell(&[web("ClientIP").on(&endpoints)]);
            for family in world.families() {
                let servers = answers(&world, "pod3", to(family), 15);
                assert_eq!(servers.len(), 1, "{servers:?}");
            }
        }
        // The endpoint that a client stayed with goes: the client moves on.
        for family in world.families() {
            let servers = answers(&world, "pod3", to(family), 1);
            let (gone, left) = if servers == kept(["pod1"]) { (0, "pod4") } else { (1, "pod1") };
            world.tell(&[web("ClientIP").on(&endpoints[1 - gone..2 - gone])]);
            world.judge(vec![tcp("T24", "pod3", to(family), kept([left]))]);
            world.tell(&[web("ClientIP").on(&endpoints)]);
        }
    });
}
