//! The tracer against the kernel: the same rules, as values and as text, and the same packets.
//!
//! The cases are those where the order of the hooks, or of rules within chains, decides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::net::{IpAddr, SocketAddr};

use weir::kernel::xtables::{AddrTypeMatch, ChainName, Match, NetMatch, Rule, Table, Target};
use weir::lab::{DROP_TIMEOUT, EchoServer, Failure, Host, Lab, LabConfig, Probe, Reply, rerun};
use weir::model::oracle::{Packet, Verdict};
use weir::net::{Endpoint, Family, Protocol};
use weir::sim::trace::{Ruleset, trace};

const SERVICE: &str = "10.96.0.1";
const NODE: &str = "192.168.99.10";
const POD: &str = "10.244.1.2";
const OTHER_POD: &str = "10.244.2.2";
const PORT: u16 = 8080;

/// A rule: the chain, the rule as text, and as a value.
type Line = (Table, &'static str, String, Rule);

fn line(table: Table, chain: &'static str, text: &str, target: Target, change: impl FnOnce(&mut Rule)) -> Line {
    let mut rule = Rule { target: Some(target), ..Rule::default() };
    change(&mut rule);
    (table, chain, text.to_owned(), rule)
}

fn to_service(rule: &mut Rule) {
    rule.destination = Some(NetMatch { invert: false, net: SERVICE.parse::<IpAddr>().unwrap().into() });
    rule.protocol = Some(Protocol::Tcp);
}

fn dnat(chain: &'static str, to: &str) -> Line {
    let text = format!("-d {SERVICE} -p tcp -j DNAT --to-destination {to}:{PORT}");
    line(Table::Nat, chain, &text, Target::Dnat(Endpoint::new(to.parse().unwrap(), PORT)), to_service)
}

fn mark(chain: &'static str) -> Line {
    let target = Target::Mark { value: 0x4000, mask: 0x4000 };
    line(Table::Nat, chain, "-j MARK --or-mark 0x4000", target, |_| ())
}

fn masquerade() -> Line {
    let marked = Match::Mark { invert: false, value: 0x4000, mask: 0x4000 };
    let text = "-m mark --mark 0x4000/0x4000 -j MASQUERADE";
    let target = Target::Masquerade { random_fully: false };
    line(Table::Nat, "POSTROUTING", text, target, |rule| rule.matches.push(marked))
}

fn plain(chain: &'static str, text: &str, target: Target) -> Line {
    line(Table::Filter, chain, text, target, |_| ())
}

fn jump(chain: &'static str, to: &str) -> Line {
    plain(chain, &format!("-j {to}"), Target::Jump(ChainName::new(to)))
}

fn goto(chain: &'static str, to: &str) -> Line {
    plain(chain, &format!("-g {to}"), Target::Goto(ChainName::new(to)))
}

/// TCP only: the refusal itself comes by ICMP.
fn reject(chain: &'static str) -> Line {
    let tcp = |rule: &mut Rule| rule.protocol = Some(Protocol::Tcp);
    line(Table::Filter, chain, "-p tcp -j REJECT", Target::Reject, tcp)
}

fn accept(chain: &'static str) -> Line {
    plain(chain, "-j ACCEPT", Target::Accept)
}

fn source_local(chain: &'static str) -> Line {
    let local = Match::AddrType(AddrTypeMatch { source_local: Some(false), destination_local: None });
    let text = "-m addrtype --src-type LOCAL -j DROP";
    line(Table::Filter, chain, text, Target::Drop, |rule| rule.matches.push(local))
}

/// What the lines are about, the lines, who sends to where, and what must come of it.
fn cases() -> Vec<(&'static str, Vec<Line>, &'static str, &'static str)> {
    vec![
        ("no rules", vec![], "client", SERVICE),
        ("forwarded", vec![dnat("PREROUTING", POD)], "client", SERVICE),
        (
            "forwarded and masqueraded",
            vec![mark("PREROUTING"), dnat("PREROUTING", POD), masquerade()],
            "client",
            SERVICE,
        ),
        ("stays, marked in vain", vec![mark("PREROUTING"), dnat("PREROUTING", NODE), masquerade()], "client", SERVICE),
        (
            "masqueraded back out",
            vec![mark("PREROUTING"), dnat("PREROUTING", OTHER_POD), masquerade()],
            "client",
            SERVICE,
        ),
        ("to itself", vec![mark("PREROUTING"), dnat("PREROUTING", POD), masquerade()], "pod1", SERVICE),
        ("made here", vec![dnat("PREROUTING", OTHER_POD), dnat("OUTPUT", POD)], "node", SERVICE),
        ("made here, not PREROUTING", vec![dnat("PREROUTING", NODE)], "node", SERVICE),
        ("made here, met by INPUT", vec![dnat("OUTPUT", NODE), reject("INPUT")], "node", SERVICE),
        ("made here, not met by FORWARD", vec![dnat("OUTPUT", POD), reject("FORWARD")], "node", SERVICE),
        (
            "the second DNAT comes too late",
            vec![dnat("PREROUTING", POD), dnat("PREROUTING", OTHER_POD)],
            "client",
            SERVICE,
        ),
        ("after DNAT, FORWARD", vec![dnat("PREROUTING", POD), reject("INPUT")], "client", SERVICE),
        ("after DNAT, INPUT", vec![dnat("PREROUTING", NODE), reject("FORWARD")], "client", SERVICE),
        ("jump comes back", vec![jump("FORWARD", "A"), reject("FORWARD")], "client", SERVICE),
        (
            "goto comes back to the caller",
            vec![jump("FORWARD", "A"), reject("FORWARD"), goto("A", "B"), accept("A")],
            "client",
            SERVICE,
        ),
        ("goto from a built-in chain", vec![goto("FORWARD", "B"), reject("FORWARD")], "client", SERVICE),
        ("source local", vec![source_local("OUTPUT"), source_local("FORWARD")], "client", SERVICE),
        ("source local, made here", vec![source_local("OUTPUT")], "node", SERVICE),
        ("accepted in INPUT", vec![jump("INPUT", "A"), reject("INPUT"), accept("A")], "client", NODE),
    ]
}

fn install(lab: &Lab, lines: &[Line]) -> Ruleset {
    let mut rules = Ruleset::new(Family::V4);
    let mut text = String::new();
    for table in [Table::Nat, Table::Filter] {
        text.push_str(&format!("*{table}\n"));
        for chain in ["A", "B"] {
            text.push_str(&format!(":{chain} - [0:0]\n"));
            rules.insert(table, ChainName::new(chain), Vec::<Rule>::new());
        }
        for (_, chain, rule, typed) in lines.iter().filter(|line| line.0 == table) {
            text.push_str(&format!("-A {chain} {rule}\n"));
            rules.append(table, ChainName::new(*chain), typed.clone());
        }
        text.push_str("COMMIT\n");
    }
    lab.node().check("iptables-restore", &["-w"], &text).unwrap();
    rules
}

/// What the kernel did, in the tracer's words, as far as the client and the server can tell.
fn agrees(verdict: &Verdict, outcome: &Result<Reply, Failure>, lab: &Lab, from: &Host) -> bool {
    let address = |name: &str| lab.host(name).unwrap().address(Family::V4);
    match (verdict, outcome) {
        (Verdict::Serve(outcomes), Ok(reply)) => outcomes.keys().all(|expected| {
            let own_source = Some(reply.peer.ip()) == from.address(Family::V4);
            address(&reply.server) == Some(expected.endpoint.ip)
                // A packet that the node makes has a source of the node's in any case.
                && (from.name() == "node" || own_source != expected.masqueraded)
        }),
        (Verdict::Accept, Ok(reply)) => reply.server == "node",
        (Verdict::Reject, Err(Failure::Refused)) => true,
        (Verdict::Drop, Err(Failure::TimedOut)) => true,
        (Verdict::Untouched, Err(Failure::Unreachable)) => true,
        _ => false,
    }
}

#[test]
fn the_tracer_and_the_kernel_agree() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = Lab::new(&LabConfig { pods: 1, node2_pods: 1, ..LabConfig::default() }).unwrap();
    let servers = [lab.node(), &lab.pods()[0], &lab.node2_pods()[0]];
    let _servers = servers.map(|host| EchoServer::start(host, &[(Protocol::Tcp, PORT)]).unwrap());
    let mut verdicts = Vec::new();
    for (what, lines, from, to) in cases() {
        let rules = install(&lab, &lines);
        let from = lab.host(from).unwrap();
        let packet = Packet {
            source: from.address(Family::V4).unwrap(),
            destination: to.parse().unwrap(),
            protocol: Protocol::Tcp,
            port: PORT,
            in_interface: match from.name() {
                "node" => None,
                "pod1" => Some("veth1".to_owned()),
                _ => Some("eth0".to_owned()),
            },
        };
        let traced = trace(&rules, &lab.oracle_host(), &packet).unwrap();
        let outcome = Probe::tcp(SocketAddr::new(packet.destination, PORT))
            .timeout(if traced.verdict == Verdict::Drop { DROP_TIMEOUT } else { DROP_TIMEOUT * 10 })
            .run(from);
        println!("{what}: {outcome:?}");
        assert!(agrees(&traced.verdict, &outcome, &lab, from), "{what}: {:?} is not {outcome:?}", traced.verdict);
        verdicts.push(traced.verdict);
    }
    // The cases tell something only if they differ.
    let has = |kind: fn(&Verdict) -> bool| verdicts.iter().any(kind);
    assert!(has(|v| matches!(v, Verdict::Untouched)) && has(|v| matches!(v, Verdict::Accept)));
    assert!(has(|v| matches!(v, Verdict::Reject)) && has(|v| matches!(v, Verdict::Drop)));
    for masqueraded in [true, false] {
        let serves = |v: &Verdict| matches!(v, Verdict::Serve(o) if o.keys().all(|o| o.masqueraded == masqueraded));
        assert!(verdicts.iter().any(serves));
    }
}
