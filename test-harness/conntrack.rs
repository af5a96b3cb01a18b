//! Connection tracking against the real kernel, each test in a network namespace of its own. Needs root.

// The lints know only functions that are tests themselves, not what these are made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use weir::kernel::conntrack::{
    Cleanup, Conntrack, ConntrackError, Ending, Filter, Flow, FlowTable, Judgement, NodePortScope, Purged, Timing,
    Tuple, Worker, Zone,
};
use weir::kernel::netlink::nfnetlink::{self, Subsystem};
use weir::kernel::netlink::{Answer, Batch, Body, Protocol as Netlink, Socket, flags};
use weir::model::oracle::Host;
use weir::model::{EndpointFlags, ModelEndpoint, ServicePort, ServicePortKey, Settings};
use weir::net::{Endpoint, Family, ObjectName, Protocol, ServicePortName};
use weir::plan::Move;

/// Runs a test on a thread in a new network namespace with `lo` up. The namespace goes with the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root to make a network namespace");
        return;
    }
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("unshare the network namespace");
        run("ip link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().expect(command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

fn at(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip(), address.port())
}

/// A flow of a client's port to a destination, answered by an endpoint.
fn flow(client_port: u16, destination: &str, answered_by: &str) -> Flow {
    let (destination, answered_by) = (at(destination), at(answered_by));
    let family = Family::of(&destination.ip);
    let client: IpAddr = match family {
        Family::V4 => [10, 9, 9, 9].into(),
        Family::V6 => "fd09::9".parse().unwrap(),
    };
    let client = Endpoint::new(client, client_port);
    Flow {
        family,
        protocol: Protocol::Udp.number(),
        zone: Zone::Default,
        id: 0,
        status: 0,
        original: Tuple { source: client, destination },
        reply: Tuple { source: answered_by, destination: client },
    }
}

/// Makes entries as they are (the kernel gives the id).
fn inject(flows: &[Flow]) {
    let mut socket = Socket::open(Netlink::Netfilter).unwrap();
    let mut batch = Batch::new("make connection tracking entries");
    for chunk in flows.chunks(256) {
        batch.clear();
        for flow in chunk {
            batch.message(nfnetlink::message_type(Subsystem::Conntrack, 0), flags::CREATE | flags::EXCL, |body| {
                body.raw(&nfnetlink::header(Some(flow.family), 0));
                body.nest(1, |body| write_tuple(body, flow, &flow.original, matches!(flow.zone, Zone::Original(_))));
                body.nest(2, |body| write_tuple(body, flow, &flow.reply, matches!(flow.zone, Zone::Reply(_))));
                body.put_u32_be(7, 3600);
                if let Zone::Both(zone) = flow.zone {
                    body.put_u16_be(18, zone);
                }
            });
        }
        socket
            .transact(&mut batch, |index, answer| {
                if let Answer::Refused(refusal) = answer {
                    panic!("cannot make {}: {refusal}", chunk[index]);
                }
            })
            .unwrap();
    }
}

fn write_tuple(body: &mut Body<'_>, flow: &Flow, tuple: &Tuple, in_zone: bool) {
    let (source, destination) = if flow.family == Family::V4 { (1, 2) } else { (3, 4) };
    body.nest(1, |body| {
        body.put_ip(source, tuple.source.ip).put_ip(destination, tuple.destination.ip);
    });
    body.nest(2, |body| {
        body.put_u8(1, flow.protocol).put_u16_be(2, tuple.source.port).put_u16_be(3, tuple.destination.port);
    });
    if let (true, Zone::Original(zone) | Zone::Reply(zone)) = (in_zone, flow.zone) {
        body.put_u16_be(3, zone);
    }
}

/// The entries that a filter lets through, in the order of their client's ports.
fn list(filter: &Filter) -> Vec<Flow> {
    let mut flows = Vec::new();
    let ending = Conntrack::open().unwrap().dump(filter, &mut |flow| {
        flows.push(*flow);
        ControlFlow::Continue(())
    });
    assert_eq!(ending, Ok(Ending::Complete));
    flows.sort_by_key(|flow| (flow.original.source.port, flow.id));
    flows
}

fn client_ports(flows: &[Flow]) -> Vec<u16> {
    flows.iter().map(|flow| flow.original.source.port).collect()
}

fn udp(cluster: &str, endpoints: &[&str]) -> ServicePort {
    let cluster = at(cluster);
    let endpoint = |text: &&str| ModelEndpoint::new(at(text), EndpointFlags::SERVING);
    ServicePort {
        node_port: 30053,
        endpoints: endpoints.iter().map(endpoint).collect(),
        has_any_endpoint: !endpoints.is_empty(),
        ..ServicePort::new(
            ServicePortKey {
                family: Family::of(&cluster.ip),
                name: ServicePortName::new(ObjectName::new("ns", "dns"), "p", Protocol::Udp),
            },
            cluster.ip,
            cluster.port,
        )
    }
}

fn cleanup(before: Option<&ServicePort>, after: Option<&ServicePort>) -> Cleanup {
    let host = Host { addresses: vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()] };
    let scope = Arc::new(NodePortScope::new(&Settings::default(), &host));
    let step = Move { before: before.cloned().map(Arc::new), after: after.cloned().map(Arc::new) };
    Cleanup::of_moves(&[step], after, &scope)
}

/// Has a worker do it, and gives what it deleted in each family.
fn clean(cleanup: Cleanup) -> (u64, u64) {
    let worker = Worker::spawn(Timing::default(), |_| ()).unwrap();
    worker.submit(cleanup);
    let start = Instant::now();
    while !worker.is_idle() {
        assert!(start.elapsed() < Duration::from_secs(60), "the worker does not come to an end");
        std::thread::sleep(Duration::from_millis(1));
    }
    let stats = worker.stats();
    assert_eq!((stats.v4.failures, stats.v6.failures), (0, 0));
    (stats.v4.deleted, stats.v6.deleted)
}

/// Destination, who answers, stale; after endpoint 2 was replaced by endpoint 3.
const ROWS_V4: &[(&str, &str, &str, bool)] = &[
    ("S31", "10.96.0.10:53", "10.1.0.1:5353", false),
    ("S33", "10.96.0.10:53", "10.1.0.2:5353", true),
    ("S35 serving", "192.0.2.1:30053", "10.1.0.3:5353", false),
    ("S35 not serving", "192.0.2.1:30053", "10.1.0.2:5353", true),
    ("S35 foreign", "198.51.100.1:30053", "10.1.0.2:5353", false),
    ("S36", "10.96.0.10:54", "10.1.0.2:5353", false),
    ("S38", "10.96.0.10:53", "10.1.0.1:5354", true),
    ("S39", "10.96.0.10:53", "10.96.0.10:53", true),
    ("S40", "10.96.0.10:54", "10.96.0.10:54", false),
    ("foreign", "8.8.8.8:53", "8.8.8.8:53", false),
];

const ROWS_V6: &[(&str, &str, &str, bool)] = &[
    ("S31 IPv6", "[fd00:10::a]:53", "[fd00:1::1]:5353", false),
    ("S33 IPv6", "[fd00:10::a]:53", "[fd00:1::2]:5353", true),
    ("S35 IPv6", "[2001:db8::1]:30053", "[fd00:1::2]:5353", true),
    ("S39 IPv6", "[fd00:10::a]:53", "[fd00:10::a]:53", true),
    ("S40 IPv6", "[fd00:10::a]:54", "[fd00:10::a]:54", false),
];

fn inject_rows(rows: &[(&str, &str, &str, bool)]) -> Vec<u16> {
    let flows: Vec<Flow> =
        (1..).zip(rows).map(|(port, (_, destination, answered_by, _))| flow(port, destination, answered_by)).collect();
    inject(&flows);
    // S37: the same in other protocols, for which nothing is ever stale.
    for protocol in [Protocol::Tcp, Protocol::Sctp] {
        let others: Vec<Flow> = flows.iter().map(|flow| Flow { protocol: protocol.number(), ..*flow }).collect();
        inject(&others);
    }
    (1..).zip(rows).filter(|(_, row)| !row.3).map(|(port, _)| port).collect()
}

#[test]
fn s31_to_s41_exact_survivors() {
    in_namespace(|| {
        let (kept_v4, kept_v6) = (inject_rows(ROWS_V4), inject_rows(ROWS_V6));
        let mut request = cleanup(
            Some(&udp("10.96.0.10:53", &["10.1.0.1:5353", "10.1.0.2:5353"])),
            Some(&udp("10.96.0.10:53", &["10.1.0.1:5353", "10.1.0.3:5353"])),
        );
        request.merge(cleanup(
            Some(&udp("[fd00:10::a]:53", &["[fd00:1::1]:5353", "[fd00:1::2]:5353"])),
            Some(&udp("[fd00:10::a]:53", &["[fd00:1::1]:5353"])),
        ));
        let stale = |rows: &[(&str, &str, &str, bool)]| rows.iter().filter(|row| row.3).count() as u64;
        assert_eq!(clean(request), (stale(ROWS_V4), stale(ROWS_V6)), "S41");
        assert_eq!(client_ports(&list(&Filter::udp(Family::V4))), kept_v4);
        assert_eq!(client_ports(&list(&Filter::udp(Family::V6))), kept_v6);
        for (family, rows) in [(Family::V4, ROWS_V4), (Family::V6, ROWS_V6)] {
            for protocol in [Protocol::Tcp, Protocol::Sctp] {
                let left = list(&Filter { protocol, ..Filter::udp(family) });
                assert_eq!(left.len(), rows.len(), "S37 {family} {protocol}");
            }
        }
    });
}

#[test]
fn s43_and_the_last_endpoint() {
    in_namespace(|| {
        inject(&[
            flow(1, "10.96.0.10:53", "10.1.0.1:53"),
            flow(2, "10.96.0.10:53", "10.96.0.10:53"),
            flow(3, "192.0.2.1:30053", "10.1.0.1:53"),
        ]);
        let (one, none) = (udp("10.96.0.10:53", &["10.1.0.1:53"]), udp("10.96.0.10:53", &[]));
        assert_eq!(clean(cleanup(None, Some(&none))), (0, 0));
        assert_eq!(clean(cleanup(Some(&one), None)), (2, 0));
        assert_eq!(client_ports(&list(&Filter::udp(Family::V4))), [2]);
    });
}

#[test]
fn s46_deletions() {
    in_namespace(|| {
        let flows: Vec<Flow> = (1..=600).map(|port| flow(port, "10.96.0.10:53", "10.1.0.1:53")).collect();
        inject(&flows);
        let all = list(&Filter::udp(Family::V4));
        let mut table = Conntrack::open().unwrap();
        let left = || client_ports(&list(&Filter::udp(Family::V4))).len();
        assert_eq!(table.delete(&[]), Ok(0));
        assert_eq!((table.delete(&all[..1]), left()), (Ok(1), 599), "one");
        assert_eq!((table.delete(&all[..1]), left()), (Ok(0), 599), "the same again");
        assert_eq!((table.delete(&all[..10]), left()), (Ok(9), 590), "several, one of them gone");
        assert_eq!(table.delete(&[flow(1, "0.0.0.0:0", "0.0.0.0:0")]), Ok(0), "zero-valued");
        let other_id = Flow { id: all[20].id ^ 1, ..all[20] };
        assert_eq!((table.delete(&[other_id]), left()), (Ok(0), 590), "an entry that took another's place");
        assert_eq!((table.delete(&all), left()), (Ok(590), 0), "all");
    });
}

#[test]
fn an_entry_is_found_in_its_zone_only() {
    in_namespace(|| {
        let zones = [Zone::Default, Zone::Both(7), Zone::Original(8), Zone::Reply(9)];
        let in_zones: Vec<Flow> =
            (1..).zip(zones).map(|(port, zone)| Flow { zone, ..flow(port, "10.96.0.10:53", "10.1.0.1:53") }).collect();
        inject(&in_zones);
        let mut table = Conntrack::open().unwrap();
        let listed = list(&Filter::udp_to(at("10.96.0.10:53")));
        assert_eq!(
            listed.iter().map(|flow| flow.zone).collect::<Vec<_>>(),
            zones,
            "the kernel's filter shows all zones"
        );
        for entry in &listed {
            let elsewhere = match entry.zone {
                // For this direction the entry is in the default zone.
                Zone::Reply(_) => Zone::Both(1),
                Zone::Default => Zone::Both(7),
                _ => Zone::Default,
            };
            assert_eq!(table.delete(&[Flow { zone: elsewhere, ..*entry }]), Ok(0), "{entry} in {elsewhere:?}");
            assert_eq!(table.delete(&[*entry]), Ok(1), "{entry} in {:?}", entry.zone);
        }
    });
}

#[test]
fn filters_and_lists_left_early() {
    in_namespace(|| {
        let destinations = ["10.96.0.10:53", "10.96.0.10:54", "10.96.0.11:53"];
        let flows: Vec<Flow> =
            (1..=3000).map(|port| flow(port, destinations[usize::from(port) % 3], "10.1.0.1:53")).collect();
        inject(&flows);
        inject(&[Flow { protocol: Protocol::Tcp.number(), ..flow(1, "10.96.0.10:53", "10.1.0.1:53") }]);
        inject(&[flow(1, "[fd00:10::a]:53", "[fd00:1::1]:53")]);
        for (filter, expected) in [
            (Filter::udp(Family::V4), 3000),
            (Filter::udp(Family::V6), 1),
            (Filter::udp_port(Family::V4, 53), 2000),
            (Filter::udp_to(at("10.96.0.10:53")), 1000),
            (Filter::udp_to(at("10.96.0.12:53")), 0),
            (Filter { protocol: Protocol::Tcp, ..Filter::udp(Family::V4) }, 1),
            (Filter::udp_to(at("[fd00:10::a]:53")), 1),
            (Filter::udp_to(at("[fd00:10::b]:53")), 0),
            (Filter::udp_port(Family::V6, 53), 1),
            (Filter::udp_port(Family::V6, 54), 0),
        ] {
            assert_eq!(list(&filter).len(), expected, "{filter:?}");
        }
        let mut table = Conntrack::open().unwrap();
        for _ in 0..3 {
            let mut seen = 0;
            let ending = table.dump(&Filter::udp(Family::V4), &mut |_| {
                seen += 1;
                if seen == 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!((ending, seen), (Ok(Ending::Stopped), 5));
        }
        let mut purged = Purged::default();
        let ended = table.purge(&Filter::udp(Family::V4), Instant::now(), &mut |_| Judgement::Delete, &mut purged);
        assert_eq!((ended, purged), (Err(ConntrackError::Deadline { seen: 0 }), Purged::default()));
        assert_eq!(list(&Filter::udp(Family::V4)).len(), 3000);
    });
}

/// The highest resident memory of this process so far, and now, in KiB.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (value("VmHWM:"), value("VmRSS:"))
}

/// Flow number `n` of many: a client address and port of its own.
fn nth(n: u32, destination: &str, answered_by: &str) -> Flow {
    let mut flow = flow(0, destination, answered_by);
    let client = Endpoint::new(IpAddr::from((0x0a10_0000 + (n >> 14)).to_be_bytes()), (n & 0x3fff) as u16 + 1024);
    (flow.original.source, flow.reply.destination) = (client, client);
    flow
}

fn inject_many(count: u32, flow: impl Fn(u32) -> Flow) {
    for start in (0..count).step_by(4096) {
        let chunk: Vec<Flow> = (start..count.min(start + 4096)).map(&flow).collect();
        inject(&chunk);
    }
}

/// S42: bounded memory, and time in proportion to the entries. 200,000 entries, half of them to one service, of which
/// half are stale.
#[test]
fn s42_a_large_table() {
    in_namespace(|| {
        const ENTRIES: u32 = 200_000;
        let limit = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap();
        let limit: u32 = limit.trim().parse().unwrap();
        if limit < ENTRIES + 10_000 {
            eprintln!("SKIPPED: nf_conntrack_max is {limit}, which is not enough for {ENTRIES} entries");
            return;
        }
        inject_many(ENTRIES, |n| match n % 4 {
            0 => nth(n, "10.96.0.10:53", "10.1.0.2:5353"),
            1 => nth(n, "10.96.0.10:53", "10.1.0.1:5353"),
            _ => nth(n, "8.8.8.8:53", "8.8.8.8:53"),
        });
        let request = cleanup(
            Some(&udp("10.96.0.10:53", &["10.1.0.1:5353", "10.1.0.2:5353"])),
            Some(&udp("10.96.0.10:53", &["10.1.0.1:5353"])),
        );
        let (_, before) = memory();
        let start = Instant::now();
        assert_eq!(clean(request), (u64::from(ENTRIES / 4), 0));
        let (elapsed, (highest, _)) = (start.elapsed(), memory());
        println!("{ENTRIES} entries, a quarter of them deleted: {elapsed:?}, {} KiB", highest.saturating_sub(before));
        assert!(elapsed < Timing::default().deadline, "took {elapsed:?}");
        // Other tests run in this process; the entries alone would be over 20 MiB.
        assert!(highest.saturating_sub(before) < 12 << 10, "from {before} KiB to {highest} KiB");
        let mut left = 0;
        let ending = Conntrack::open().unwrap().dump(&Filter::udp(Family::V4), &mut |flow| {
            assert_ne!(flow.reply.source, at("10.1.0.2:5353"));
            left += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((ending, left), (Ok(Ending::Complete), ENTRIES * 3 / 4));
    });
}

/// What T44 comes down to: a client that keeps sending from one port, while the rules behind the address change.
struct Traffic {
    client: UdpSocket,
    destination: &'static str,
    backends: [UdpSocket; 2],
}

impl Traffic {
    fn new(destination: &'static str) -> Self {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        Traffic { client: bind(), destination, backends: [bind(), bind()] }
    }

    fn endpoint(&self, backend: usize) -> String {
        self.backends[backend].local_addr().unwrap().to_string()
    }

    /// Sends a packet and gives the backend that got it. Everything is on loopback: it is there when the call returns.
    fn send(&self) -> Option<usize> {
        self.client.send_to(b"ping", self.destination).unwrap();
        let mut buffer = [0; 8];
        (0..2).find(|backend| self.backends[*backend].recv(&mut buffer).is_ok())
    }

    /// Puts the rule in that sends new flows to a backend, in place of another one.
    fn route_to(&self, backend: usize) {
        run("iptables -t nat -F OUTPUT");
        let (ip, port) = self.destination.split_once(':').unwrap();
        let endpoint = self.endpoint(backend);
        run(&format!("iptables -t nat -A OUTPUT -p udp -d {ip} --dport {port} -j DNAT --to-destination {endpoint}"));
    }
}

#[test]
fn t44_a_client_that_keeps_sending() {
    for destination in ["10.96.0.10:53", "127.0.0.1:30053"] {
        in_namespace(move || {
            run("ip route add 10.96.0.0/16 dev lo");
            let traffic = Traffic::new(destination);
            let service = |endpoints: &[&str]| udp("10.96.0.10:53", endpoints);
            let (zero, one) = (traffic.endpoint(0), traffic.endpoint(1));

            // Conntrack follows only where something in the namespace wants it to.
            run("iptables -t nat -F OUTPUT");
            run("iptables -A OUTPUT -m conntrack --ctstate INVALID");
            // The bare address on lo is nobody's: the packet makes an entry and ends.
            assert_eq!(traffic.send(), None);
            traffic.route_to(0);
            assert_eq!(traffic.send(), None, "{destination}: from before the rules");
            assert_eq!(clean(cleanup(Some(&service(&[])), Some(&service(&[&zero])))), (1, 0));
            assert_eq!(traffic.send(), Some(0), "{destination}: the first endpoint");

            traffic.route_to(1);
            assert_eq!(traffic.send(), Some(0), "{destination}: the flow goes on to where it went");
            assert_eq!(clean(cleanup(Some(&service(&[&zero])), Some(&service(&[&zero, &one])))), (0, 0));
            assert_eq!(traffic.send(), Some(0), "{destination}: rightly, while that endpoint serves");
            assert_eq!(clean(cleanup(Some(&service(&[&zero, &one])), Some(&service(&[&one])))), (1, 0));
            assert_eq!(traffic.send(), Some(1), "{destination}: the endpoint was replaced");

            run("iptables -t nat -F OUTPUT");
            assert_eq!(traffic.send(), Some(1), "{destination}: the service is gone, the flow is not");
            assert_eq!(clean(cleanup(Some(&service(&[&one])), None)), (1, 0));
            assert_eq!(traffic.send(), None, "{destination}: deleted");
        });
    }
}

/// Not a test: what lists cost, by kind. `cargo test --test conntrack -- --ignored --nocapture measure`
#[test]
#[ignore = "a measurement"]
fn measure_lists() {
    in_namespace(|| {
        for entries in [1_000u32, 50_000, 200_000] {
            inject_many(entries, |n| nth(n, "8.8.8.8:53", "8.8.8.8:53"));
            let ours = entries / 100;
            inject_many(ours, |n| nth(n, "10.96.0.10:53", "10.1.0.2:5353"));
            let mut table = Conntrack::open().unwrap();
            for (what, filter) in [
                ("all UDP", Filter::udp(Family::V4)),
                ("by port", Filter::udp_port(Family::V4, 53)),
                ("by address and port", Filter::udp_to(at("10.96.0.10:53"))),
                ("by port, none", Filter::udp_port(Family::V4, 30053)),
            ] {
                let mut seen = 0;
                let start = Instant::now();
                table
                    .dump(&filter, &mut |_| {
                        seen += 1;
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                println!("{entries} entries, {what}: {seen} in {:?}", start.elapsed());
            }
            let stale = list(&Filter::udp_to(at("10.96.0.10:53")));
            let start = Instant::now();
            assert_eq!(table.delete(&stale), Ok(u64::from(ours)));
            println!("{entries} entries, delete {ours}: {:?}", start.elapsed());
            let rest = list(&Filter::udp(Family::V4));
            table.delete(&rest).unwrap();
        }
    });
}
