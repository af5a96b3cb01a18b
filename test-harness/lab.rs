//! The lab itself: who reaches whom, what the outcomes of a probe mean, and that nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir::lab::{
    EchoServer, Failure, Flow, Host, HostChild, Lab, LabConfig, PodNetwork, Probe, connect, rerun, sctp_available,
};
use weir::net::{Family, Protocol};

const PORT: u16 = 8080;

fn build(config: &LabConfig) -> Lab {
    let start = Instant::now();
    let lab = Lab::new(config).unwrap();
    println!("a lab of {} hosts in {:?}", lab.hosts().count(), start.elapsed());
    lab
}

fn protocols() -> Vec<Protocol> {
    static SCTP: LazyLock<bool> = LazyLock::new(|| {
        let available = sctp_available();
        if !available {
            println!("SKIPPED: the kernel has no SCTP");
        }
        available
    });
    Protocol::ALL.into_iter().filter(|protocol| *protocol != Protocol::Sctp || *SCTP).collect()
}

fn serve(hosts: &[&Host]) -> Vec<EchoServer> {
    let ports: Vec<_> = protocols().into_iter().map(|protocol| (protocol, PORT)).collect();
    hosts.iter().map(|host| EchoServer::start(host, &ports).unwrap()).collect()
}

fn at(host: &Host, family: Family) -> SocketAddr {
    SocketAddr::new(host.address(family).unwrap(), PORT)
}

fn families(lab: &Lab) -> Vec<Family> {
    Family::ALL.into_iter().filter(|family| lab.node().address(*family).is_some()).collect()
}

/// The name of the binary that handles this family.
fn iptables(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    }
}

fn rule(host: &Host, family: Family, text: &str) {
    let arguments: Vec<&str> = ["-w"].into_iter().chain(text.split_whitespace()).collect();
    host.check(iptables(family), &arguments, "").unwrap();
}

fn service(family: Family) -> IpAddr {
    match family {
        Family::V4 => "10.96.0.1".parse().unwrap(),
        Family::V6 => "fd00:10:96::1".parse().unwrap(),
    }
}

#[test]
fn everyone_reaches_everyone_untranslated() {
    if !rerun::allowed().unwrap() {
        return;
    }
    for pod_network in [PodNetwork::Routed, PodNetwork::Bridge] {
        let lab = build(&LabConfig { pod_network, ..LabConfig::default() });
        assert_eq!((lab.pods().len(), lab.node2_pods().len()), (3, 2));
        let everyone: Vec<&Host> = lab.hosts().filter(|host| !["gateway", "node2"].contains(&host.name())).collect();
        let _servers = serve(&everyone);
        for family in families(&lab) {
            for (from, to) in everyone.iter().flat_map(|from| everyone.iter().map(move |to| (from, to))) {
                // The node answers to its pods from its side of their network.
                let from_gateway = from.name() == "node" && lab.pods().iter().any(|pod| pod.name() == to.name());
                for protocol in protocols() {
                    let reply = connect(from, at(to, family), protocol, None)
                        .unwrap_or_else(|e| panic!("{} to {} by {protocol}: {e}", from.name(), to.name()));
                    assert_eq!(reply.server, to.name());
                    if !from_gateway {
                        assert_eq!(Some(reply.peer.ip()), from.address(family), "{} to {}", from.name(), to.name());
                    }
                }
            }
        }
    }
}

#[test]
fn nobody_answers_for_a_service_without_proxy() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig::default());
    for family in families(&lab) {
        let to = SocketAddr::new(service(family), 80);
        for host in [lab.client(), lab.blocked(), lab.node(), lab.node2(), &lab.pods()[0], &lab.node2_pods()[0]] {
            for protocol in protocols() {
                let start = Instant::now();
                let outcome = connect(host, to, protocol, None);
                assert_eq!(outcome, Err(Failure::Unreachable), "{} {protocol} {family}", host.name());
                assert!(start.elapsed().as_millis() < 1500, "it is told at once");
            }
        }
    }
}

#[test]
fn reject_drop_and_closed_ports_are_told_apart() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig { pods: 1, node2_pods: 0, ..LabConfig::default() });
    for family in families(&lab) {
        let to = |port| SocketAddr::new(service(family), port);
        for protocol in ["tcp", "udp"] {
            rule(lab.node(), family, &format!("-A FORWARD -p {protocol} --dport 81 -j REJECT"));
            rule(lab.node(), family, &format!("-A FORWARD -p {protocol} --dport 82 -j DROP"));
            rule(lab.node(), family, &format!("-A OUTPUT -p {protocol} --dport 81 -j REJECT"));
            rule(lab.node(), family, &format!("-A OUTPUT -p {protocol} --dport 82 -j DROP"));
        }
        for host in [lab.client(), lab.node(), &lab.pods()[0]] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let ask = |port| Probe::new(protocol, to(port)).timeout(weir::lab::DROP_TIMEOUT).run(host);
                assert_eq!(ask(81), Err(Failure::Refused), "{} {protocol} {family}", host.name());
                assert_eq!(ask(82), Err(Failure::TimedOut), "{} {protocol} {family}", host.name());
                let closed = connect(host, at(lab.node(), family), protocol, None);
                assert_eq!(closed, Err(Failure::Refused), "{} {protocol} {family}", host.name());
            }
        }
        // Rejects are not held back by a rate limit: neither that for one destination nor that for all.
        thread::scope(|scope| {
            let ask = || (0..20).map(|_| connect(lab.client(), to(81), Protocol::Udp, None)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..20).map(|_| scope.spawn(ask)).collect();
            for outcome in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
                assert_eq!(outcome, Err(Failure::Refused));
            }
        });
    }
}

/// DNAT to two pods, masquerade where the pod meets itself: what a proxy does, by hand.
fn hand_written_service(lab: &Lab, family: Family) {
    let pods = lab.pods();
    for chain in ["PREROUTING", "OUTPUT"] {
        for (pod, chance) in [(&pods[0], "-m statistic --mode nth --every 2 --packet 0"), (&pods[1], "")] {
            let to = format!("-p tcp -d {} --dport 80 {chance}", service(family));
            rule(lab.node(), family, &format!("-t nat -A {chain} {to} -j DNAT --to-destination {}", at(pod, family)));
        }
    }
    for pod in &pods[..2] {
        let ip = pod.address(family).unwrap();
        rule(lab.node(), family, &format!("-t nat -A POSTROUTING -s {ip} -d {ip} -j MASQUERADE"));
    }
}

#[test]
fn a_hand_written_service_works_even_for_its_own_pods() {
    if !rerun::allowed().unwrap() {
        return;
    }
    for pod_network in [PodNetwork::Routed, PodNetwork::Bridge] {
        let lab = build(&LabConfig { pod_network, ..LabConfig::default() });
        let _servers = serve(&lab.pods().iter().collect::<Vec<_>>());
        for family in families(&lab) {
            hand_written_service(&lab, family);
            let to = SocketAddr::new(service(family), 80);
            for host in [lab.client(), lab.node(), &lab.pods()[0], &lab.pods()[1], &lab.pods()[2]] {
                let mut servers = Vec::new();
                for _ in 0..4 {
                    let reply = connect(host, to, Protocol::Tcp, None)
                        .unwrap_or_else(|e| panic!("{} in {pod_network:?} {family}: {e}", host.name()));
                    let hairpin = reply.server == host.name();
                    if host.name() != "node" {
                        assert_eq!(Some(reply.peer.ip()) == host.address(family), !hairpin, "{reply:?}");
                    }
                    servers.push(reply.server);
                }
                servers.sort();
                assert_eq!(servers, ["pod1", "pod1", "pod2", "pod2"], "{}", host.name());
            }
        }
    }
}

#[test]
fn flows_stay_open_and_keep_their_ports() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig::default());
    let _servers = serve(&[&lab.pods()[0]]);
    for family in families(&lab) {
        let to = at(&lab.pods()[0], family);
        for protocol in protocols() {
            let probe = Probe::new(protocol, to).from_port(40_000);
            // The same port twice in a row: nothing lingers.
            for _ in 0..2 {
                let mut flow = Flow::open(lab.client(), &probe).unwrap();
                assert_eq!(flow.local_address().unwrap().port(), 40_000);
                for _ in 0..3 {
                    let reply = flow.ask().unwrap();
                    assert_eq!((reply.server.as_str(), reply.peer.port()), ("pod1", 40_000));
                }
            }
        }
        let from = SocketAddr::new(lab.client().address(family).unwrap(), 0);
        assert_eq!(connect(lab.client(), to, Protocol::Tcp, Some(from)).unwrap().peer.ip(), from.ip());
    }
}

#[test]
fn a_flow_sees_its_server_go() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig { pods: 1, node2_pods: 0, ..LabConfig::default() });
    let servers = serve(&[&lab.pods()[0]]);
    let mut flow = Flow::open(lab.client(), &Probe::tcp(at(&lab.pods()[0], Family::V4))).unwrap();
    flow.ask().unwrap();
    drop(servers);
    assert_eq!(flow.ask(), Err(Failure::Closed));
}

#[test]
fn localhost_is_routed_if_wanted() {
    if !rerun::allowed().unwrap() {
        return;
    }
    for route_localnet in [true, false] {
        let lab = build(&LabConfig { pods: 1, node2_pods: 0, route_localnet, ..LabConfig::default() });
        let _servers = serve(&[&lab.pods()[0]]);
        let pod = at(&lab.pods()[0], Family::V4);
        let dnat = format!("-t nat -A OUTPUT -d 127.0.0.1 -p tcp --dport 30000 -j DNAT --to-destination {pod}");
        rule(lab.node(), Family::V4, &dnat);
        rule(lab.node(), Family::V4, "-t nat -A POSTROUTING -s 127.0.0.0/8 ! -o lo -j MASQUERADE");
        let outcome = connect(lab.node(), "127.0.0.1:30000".parse().unwrap(), Protocol::Tcp, None);
        println!("{outcome:?}");
        assert_eq!(outcome.is_ok(), route_localnet, "{outcome:?}");
    }
}

#[test]
fn a_host_can_have_more_addresses() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig { pods: 1, node2_pods: 0, ..LabConfig::default() });
    for (family, external) in [(Family::V4, "203.0.113.5"), (Family::V6, "2001:db8:203::5")] {
        let ip: IpAddr = external.parse().unwrap();
        if lab.node().address(family).is_none() {
            continue;
        }
        let to = SocketAddr::new(ip, PORT);
        assert_eq!(connect(lab.client(), to, Protocol::Tcp, None), Err(Failure::Unreachable));
        lab.node().add_address("lo", ip.into()).unwrap();
        // Routers remember for a moment that nobody had the address.
        let begin = Instant::now();
        let mut outcome = connect(lab.client(), to, Protocol::Tcp, None);
        while outcome == Err(Failure::Unreachable) && begin.elapsed() < Duration::from_secs(5) {
            outcome = connect(lab.client(), to, Protocol::Tcp, None);
        }
        assert_eq!(outcome, Err(Failure::Refused));
        let _server = EchoServer::start_on(lab.node(), "external", &[(Protocol::Tcp, to)]).unwrap();
        assert_eq!(connect(lab.client(), to, Protocol::Tcp, None).unwrap().server, "external");
    }
}

#[test]
fn many_pods_and_none() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let none = build(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() });
    assert_eq!(none.hosts().count(), 5);
    let many = build(&LabConfig { pods: 20, node2_pods: 3, ..LabConfig::default() });
    let _servers = serve(&[&many.pods()[19], &many.node2_pods()[2]]);
    assert_eq!(many.node2_pods()[2].name(), "pod23");
    for to in ["pod20", "pod23"] {
        for family in families(&many) {
            let to = many.host(to).unwrap();
            assert_eq!(connect(many.client(), at(to, family), Protocol::Tcp, None).unwrap().server, to.name());
        }
    }
    assert!(Lab::new(&LabConfig { pods: 300, ..LabConfig::default() }).is_err());
}

#[test]
fn the_oracle_knows_the_nodes_addresses() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig { pods: 1, node2_pods: 0, ..LabConfig::default() });
    let host = lab.oracle_host();
    for address in ["192.168.99.10", "2001:db8:99::10", "10.244.1.1", "fd00:10:244:1::1"] {
        let address: IpAddr = address.parse().unwrap();
        if lab.node().address(Family::of(&address)).is_some() {
            assert!(host.is_local(&address), "{address}");
        }
    }
    assert!(!host.is_local(&"192.168.99.20".parse().unwrap()));
}

/// A program that lasts, under a name that nobody else has.
fn sleeper(host: &Host) -> HostChild {
    let mut command = Command::new("sleep");
    command.arg(SLEEP);
    host.spawn(command).unwrap()
}

const SLEEP: &str = "98765.4";

fn is_sleeping(pid: u32) -> bool {
    // The command line of a zombie is empty.
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.contains(SLEEP))
}

fn soon(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if condition() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Threads of any process, and our own file descriptors, that are in or refer to the namespace.
fn holders(namespace: &File) -> Vec<String> {
    let name = format!("net:[{}]", namespace.metadata().unwrap().ino());
    let list = |folder: &str| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let tasks = list("/proc").flat_map(|process| list(&process.join("task").to_string_lossy()).collect::<Vec<_>>());
    tasks
        .map(|task| task.join("ns/net"))
        .chain(list("/proc/self/fd"))
        .filter(|path| fs::read_link(path).is_ok_and(|target| target.to_string_lossy() == name))
        .map(|path| path.display().to_string())
        .collect()
}

#[test]
fn nothing_is_left_when_the_lab_is_dropped() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig::default());
    let servers = serve(&lab.pods().iter().collect::<Vec<_>>());
    let flow = Flow::open(lab.client(), &Probe::tcp(at(&lab.pods()[0], Family::V4))).unwrap();
    let children: Vec<HostChild> = lab.hosts().map(sleeper).collect();
    let pids: Vec<u32> = children.iter().map(|child| child.id()).collect();
    assert!(pids.iter().all(|pid| soon(|| is_sleeping(*pid))));
    // Held open, so that no other test's namespace gets the same number.
    let namespaces: Vec<File> = lab.hosts().map(|host| host.namespace().try_clone().unwrap()).collect();
    assert!(namespaces.iter().all(|namespace| holders(namespace).len() >= 4), "fds, thread, child");
    drop((servers, flow));
    drop(lab);
    // The programs are not killed by their handles, but with the thread of their host.
    assert!(pids.iter().all(|pid| soon(|| !is_sleeping(*pid))));
    drop(children);
    for namespace in &namespaces {
        assert_eq!(holders(namespace).len(), 1, "{:?}", holders(namespace));
    }
}

#[test]
fn a_program_ends_with_its_handle() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() });
    let child = sleeper(lab.node());
    let pid = child.id();
    assert!(soon(|| is_sleeping(pid)));
    drop(child);
    assert!(!is_sleeping(pid));
    let mut signalled = sleeper(lab.node());
    signalled.signal(Signal::SIGTERM).unwrap();
    assert_eq!(signalled.wait().unwrap().signal(), Some(Signal::SIGTERM as i32));
    assert!(signalled.signal(Signal::SIGTERM).is_err());
}

/// Set for the copy of this test that is killed.
const VICTIM: &str = "WEIR_LAB_VICTIM";

#[test]
fn nothing_is_left_when_the_process_is_killed() {
    if !rerun::allowed().unwrap() {
        return;
    }
    if std::env::var_os(VICTIM).is_some() {
        let lab = build(&LabConfig { pods: 1, node2_pods: 0, ..LabConfig::default() });
        let child = sleeper(lab.node());
        println!("\npid {}", child.id());
        thread::sleep(Duration::from_secs(60));
        unreachable!("the test kills this process");
    }
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_when_the_process_is_killed", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("pid ")?.parse().ok());
    let pid: u32 = pid.expect("the victim tells the pid of its child");
    assert!(soon(|| is_sleeping(pid)));
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(soon(|| !is_sleeping(pid)));
}

#[test]
fn commands_report_what_they_said() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = build(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() });
    assert_eq!(lab.node().check("cat", &[], "in and out").unwrap(), "in and out");
    let large = "x".repeat(1 << 20);
    assert_eq!(lab.node().check("cat", &[], &large).unwrap(), large, "more than a pipe holds");
    let failure = lab.node().check("sh", &["-c", "echo why >&2; exit 3"], "").unwrap_err().to_string();
    assert!(failure.contains("node: sh -c") && failure.contains('3') && failure.ends_with("why"), "{failure}");
    assert!(lab.node().check("no-such-program", &[], "").is_err());
    let mut command = Command::new("sh");
    command.args(["-c", "echo out; exit 4"]);
    let output = lab.node().output(command).unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(4), b"out\n".as_slice()));
    // It runs on the host: a rule made there is seen there, and nowhere else.
    rule(lab.node(), Family::V4, "-N ONLY-HERE");
    assert!(lab.node().check("iptables-save", &[], "").unwrap().contains("ONLY-HERE"));
    assert!(!lab.client().check("iptables-save", &[], "").unwrap().contains("ONLY-HERE"));
}
