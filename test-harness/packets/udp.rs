//! UDP clients that keep sending from one port. Conntrack remembers where their packets went, and goes on sending them
//! there until someone makes it forget.

use std::net::{IpAddr, SocketAddr};
use std::slice;
use std::time::{Duration, Instant};

use weir::lab::{Failure, Flow, Probe};
use weir::net::{Family, Protocol};

use super::manifests::{Endpoint, Service, facts};
use super::seen::{complaints, next_port};
use super::variants::on_each_variant;
use super::world::{SELDOM, World};

/// How long a flow may go on to an endpoint that is gone.
const PATIENCE: Duration = Duration::from_secs(3);

/// A client that never stops asking.
struct Client {
    name: String,
    flow: std::sync::Mutex<Flow>,
}

impl Client {
    fn new(world: &World, from: &str, what: &str, to: (IpAddr, u16)) -> Client {
        let to = SocketAddr::from(to);
        let probe = Probe::udp(to).from_port(next_port()).timeout(Duration::from_millis(50));
        let flow = Flow::open(world.host(from), &probe).unwrap();
        Client { name: format!("{from} to {what} {to}"), flow: flow.into() }
    }

    /// Asks until the answer is this; an error if that takes too long.
    fn ask_until(&self, wanted: &Answer) -> Result<(), String> {
        let mut flow = self.flow.lock().unwrap();
        let begin = Instant::now();
        loop {
            let answer = flow.ask().map(|reply| reply.server);
            if wanted.is(&answer) {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("{}: expected {wanted:?}, is {answer:?}", self.name));
            }
        }
    }
}

/// What a client is to be answered.
#[derive(Debug)]
enum Answer {
    By(&'static str),
    Nothing,
}

impl Answer {
    fn is(&self, answer: &Result<String, Failure>) -> bool {
        match (self, answer) {
            (Answer::By(name), Ok(server)) => name == server,
            (Answer::Nothing, Err(_)) => true,
            _ => false,
        }
    }
}

fn services() -> [Service; 2] {
    let ports = |node_port: u16| format!("{{name: u, port: 53, protocol: UDP, nodePort: {node_port}}}");
    let all = Service::new("all", 1, &ports(30053)).balanced().external();
    [all, Service::new("local", 2, &ports(30054)).with("type: NodePort").with("internalTrafficPolicy: Local")]
}

fn clients(world: &World, family: Family) -> Vec<Client> {
    let [all, local] = services();
    let node = world.node_ip(family);
    let mut clients = Vec::new();
    // T44: a pod, an outside client, and a program of the node, which stands for pods in the node's network.
    for from in ["pod3", "client", "node"] {
        clients.push(Client::new(world, from, "cluster IP", (all.cluster_ip(family), 53)));
        clients.push(Client::new(world, from, "external IP", (all.external_ip(family), 53)));
        clients.push(Client::new(world, from, "VIP", (all.vip(family), 53)));
        clients.push(Client::new(world, from, "node port", (node, 30053)));
        clients.push(Client::new(world, from, "Local cluster IP", (local.cluster_ip(family), 53)));
        clients.push(Client::new(world, from, "Local node port", (node, 30054)));
    }
    if family == Family::V4 {
        clients.push(Client::new(world, "node", "localhost", ("127.0.0.1".parse().unwrap(), 30053)));
    }
    clients
}

#[test]
fn t44_udp_flows_follow_endpoints_that_are_replaced() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let clients: Vec<Client> = world.families().into_iter().flat_map(|family| clients(&world, family)).collect();
        let everyone_hears = |what: &str, wanted: &Answer| {
            let wrong = complaints(&clients, |client| client.ask_until(wanted));
            assert!(wrong.is_empty(), "{variant}, {what}:\n{}", wrong.join("\n"));
        };
        let tell = |port: u16, endpoints: &[Endpoint]| {
            let slice =
                |service: &Service| service.slice("a", &format!("{{name: u, port: {port}, protocol: UDP}}"), endpoints);
            world.tell(&services().map(|service| format!("{}{}", service.text(), slice(&service))));
        };
        let [pod1, pod2] = world.endpoints(["pod1", "pod2"]);

        world.tell(&[]);
        everyone_hears("before there is a service", &Answer::Nothing);
        tell(8080, &[]);
        everyone_hears("before there is an endpoint", &Answer::Nothing);
        tell(8080, &[pod1.clone().unready()]);
        everyone_hears("before the endpoint is ready", &Answer::Nothing);
        tell(8080, slice::from_ref(&pod1));
        everyone_hears("it is ready", &Answer::By("pod1"));
        // Its server still runs: who goes on asking it is answered by it.
        tell(8080, slice::from_ref(&pod2));
        everyone_hears("it is replaced", &Answer::By("pod2"));
        tell(8081, slice::from_ref(&pod2));
        everyone_hears("the port changes", &Answer::By("pod2:8081"));
        tell(8081, &[pod2.clone().terminating(), pod1.clone()]);
        // Serving until it ends, so its flows stay: contract 6.5.
        everyone_hears("it is going", &Answer::By("pod2:8081"));
        tell(8081, &[pod2.unready(), pod1.clone()]);
        everyone_hears("it is gone", &Answer::By("pod1:8081"));
        world.tell(&[]);
        tell(8080, &[pod1]);
        everyone_hears("the services are new", &Answer::By("pod1"));
    });
}

/// An endpoint was replaced while nobody watched: the next weir makes its flows move too.
#[test]
fn t44_flows_that_became_stale_before_the_start_move() {
    on_each_variant(|variant| {
        let Some(mut world) = World::new(variant) else { return };
        let dns = Service::new("dns", 1, "{name: u, port: 53, protocol: UDP}");
        let [pod1, pod2] = world.endpoints(["pod1", "pod2"]);
        let on = |endpoint| [dns.text(), dns.slice("a", "{name: u, port: 8080, protocol: UDP}", &[endpoint])];
        world.tell(&on(pod1));
        let to = |family| (dns.cluster_ip(family), 53);
        let clients: Vec<Client> =
            world.families().into_iter().map(|family| Client::new(&world, "pod3", "cluster IP", to(family))).collect();
        let everyone_hears = |server| {
            let wrong = complaints(&clients, |client| client.ask_until(&Answer::By(server)));
            assert!(wrong.is_empty(), "{variant}:\n{}", wrong.join("\n"));
        };
        everyone_hears("pod1");
        world.replace_weir(None);
        everyone_hears("pod1");
        let weir = world.another(SELDOM);
        weir.tell(facts(&on(pod2)));
        world.replace_weir(Some(weir));
        everyone_hears("pod2");
    });
}

/// Flows of endpoints that stay are left alone, and so is TCP.
#[test]
fn s31_s37_flows_that_are_not_stale_stay() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let ports = "{name: t, port: 53}, {name: u, port: 53, protocol: UDP}";
        let service = Service::new("dns", 1, ports);
        let slice = "{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}";
        let endpoints = world.endpoints(["pod1", "pod2", "pod4"]);
        let tell = |endpoints: &[Endpoint]| world.tell(&[service.text(), service.slice("a", slice, endpoints)]);
        tell(&endpoints);
        let open = |family, protocol| {
            let to = SocketAddr::new(service.cluster_ip(family), 53);
            let mut flow = Flow::open(world.host("pod3"), &Probe::new(protocol, to).timeout(PATIENCE / 10)).unwrap();
            let server = flow.ask().unwrap().server;
            (protocol, server, flow)
        };
        let mut flows = Vec::new();
        for family in world.families() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                flows.extend((0..20).map(|_| open(family, protocol)));
            }
        }
        tell(&endpoints[..2]);
        let is_stale = |protocol: Protocol, server: &str| protocol == Protocol::Udp && server == "pod4";
        // The worker waits a little for packets that were under way. When these have moved it is done.
        let mut moved = 0;
        for (_, server, flow) in flows.iter_mut().filter(|(protocol, server, _)| is_stale(*protocol, server)) {
            let begin = Instant::now();
            // An answer that is under way when the entry goes is lost.
            while flow.ask().map_or(true, |reply| reply.server == *server) {
                assert!(begin.elapsed() < PATIENCE, "{variant}: a UDP flow goes on to {server}");
            }
            moved += 1;
        }
        for (protocol, server, flow) in flows.iter_mut().filter(|(protocol, server, _)| !is_stale(*protocol, server)) {
            let now = flow.ask().unwrap().server;
            assert_eq!(now, *server, "{variant}: a {protocol} flow that was to stay");
        }
        println!("{variant}: {moved} flows moved, {} stayed", flows.len() - moved);
    });
}
