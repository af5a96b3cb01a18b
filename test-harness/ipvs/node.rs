//! A node with others' virtual servers, others' hands, and a second start.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use weir::net::Family;

use super::proxied::{World, after_compares, at};
use crate::manifests::Service;
use crate::process::Proxy;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("virtual_servers_of_others_are_left_alone", others),
        ("one_that_somebody_made_while_weir_runs", made_later),
        ("what_somebody_removes_comes_back", removed),
        ("a_second_start_writes_nothing", second_start),
    ]
}

const PODS: [&str; 2] = ["pod1", "pod3"];

fn service(name: &'static str, number: u8) -> Service {
    Service::new(name, number, "{port: 80}")
}

fn frontend(service: &Service) -> SocketAddr {
    at(service.cluster_ip(Family::V4))
}

/// As keepalived makes them: at an address of their own, at the address and port of a service, at one of the node's own
/// addresses, by a packet mark, and of IPv6.
const OTHERS: [&str; 9] = [
    "-A -t 203.0.113.77:443 -s wlc -p 50",
    "-a -t 203.0.113.77:443 -r 10.244.2.2:8080 -g -w 7",
    "-A -t 10.96.0.2:80 -s sh -b sh-port",
    "-a -t 10.96.0.2:80 -r 10.244.2.3:8080 -m -w 5 -x 9 -y 3",
    "-A -t 192.168.99.10:8443 -s rr",
    "-a -t 192.168.99.10:8443 -r 10.244.1.2:8080 -m -w 0",
    "-A -f 7 -s rr",
    "-a -f 7 -r 10.244.2.2:0 -m -w 1",
    "-A -t [2001:db8:203::77]:443 -s rr",
];

fn lines(world: &World) -> BTreeSet<String> {
    world.run("ipvsadm -Sn").lines().map(str::to_owned).collect()
}

#[track_caller]
fn are_untouched(world: &World, others: &BTreeSet<String>, when: &str) {
    let now = lines(world);
    let gone: Vec<&String> = others.difference(&now).collect();
    assert!(gone.is_empty(), "{when}: {gone:?}\n{}", world.shown());
    // Nothing was put into them either.
    let is_foreign =
        |line: &&String| ["203.0.113.77", "10.96.0.2:80", ":8443", "-f 7", "::77"].iter().any(|t| line.contains(t));
    assert_eq!(now.iter().filter(is_foreign).collect::<Vec<_>>(), others.iter().collect::<Vec<_>>(), "{when}");
}

fn others() {
    let world = World::new();
    OTHERS.iter().for_each(|line| drop(world.run(&format!("ipvsadm {line}"))));
    let others = lines(&world);
    let (ours, denied) = (service("a", 1), service("b", 2));
    let tell = |pods: &[&str]| world.tell(&[&ours, &denied].map(|service| service.on(&world.endpoints(pods))));
    tell(&PODS);
    let running = world.start(&[]);
    are_untouched(&world, &others, "start");
    let line = running.says("10.96.0.2:80/TCP is there already and is not weir's");
    assert!(line.contains("ERROR") && line.contains("ipvsadm -D") && line.contains("test/b"), "{line}");
    assert!(!world.run("ip address show dev kube-ipvs0").contains("10.96.0.2/"), "it is not half served");
    world.answer(None, frontend(&ours));
    // Its other family is nobody else's.
    world.answer(None, at(denied.cluster_ip(Family::V6)));
    tell(&PODS[1..]);
    world.until_served_by(frontend(&ours), &PODS[1..]);
    tell(&PODS);
    world.until_served_by(frontend(&ours), &PODS);
    after_compares(&running, 2);
    are_untouched(&world, &others, "changes and compares");
    let (code, log) = running.stop();
    assert_eq!((code, log.matches("is there already").count()), (Some(0), 1), "{log}");
    are_untouched(&world, &others, "stop");

    let running = world.start(&[]);
    are_untouched(&world, &others, "a second start");
    world.run("ipvsadm -D -t 10.96.0.2:80");
    world.until_served_by(frontend(&denied), &PODS);
    world.answer(None, frontend(&denied));
    let rest: BTreeSet<String> = others.into_iter().filter(|line| !line.contains("10.96.0.2")).collect();
    assert!(rest.is_subset(&lines(&world)), "{}", world.shown());
    assert_eq!(running.stop().0, Some(0));
}

/// Between two compares, before the service is there.
fn made_later() {
    let world = World::new();
    let (ours, denied, late) = (service("a", 1), service("b", 2), service("c", 3));
    world.tell(&[ours.on(&world.endpoints(&PODS))]);
    let running = world.start(&["--ipvs-sync-period=6s"]);
    for line in &OTHERS[2..4] {
        world.run(&format!("ipvsadm {line}"));
    }
    let made =
        |world: &World| lines(world).into_iter().filter(|line| line.contains("10.96.0.2:80")).collect::<Vec<_>>();
    let before = made(&world);
    world.tell(&[&ours, &denied, &late].map(|service| service.on(&world.endpoints(&PODS))));
    let line = running.says("refuses service port IPv4 test/b");
    for part in ["ERROR", "10.96.0.2:80/TCP is there already and is not weir's", "all others are served"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    world.until_served_by(frontend(&late), &PODS);
    world.answer(None, frontend(&late));
    after_compares(&running, 1);
    assert_eq!(made(&world), before);
    world.answer(None, frontend(&ours));
    assert_eq!(running.stop().0, Some(0));
}

#[track_caller]
fn is_repaired(world: &World, running: &Proxy, lines: &[&str], before: &str, told: &str) {
    for line in lines {
        world.run(line);
    }
    world.until_kernel_is(&lines.join("; "), before);
    running.says(told);
}

fn removed() {
    let world = World::new();
    let service = service("a", 1).external();
    world.tell(&[service.on(&world.endpoints(&PODS))]);
    let running = world.start(&[]);
    let before = world.kernel();
    for (lines, told) in [
        (&["ipvsadm -C"][..], "virtual server missing"),
        (&["ip link delete kube-ipvs0"], "address missing"),
        (&["ipset flush KUBE-CLUSTER-IP"], "entry missing"),
        (&["ipset flush WEIR-VIRTUAL-SERVERS"], "entry missing"),
        (&["ipset add KUBE-CLUSTER-IP 10.96.0.9,tcp:80"], "entry extra"),
        (&["ip address add 10.96.0.99/32 dev kube-ipvs0"], "address extra"),
        (&["ip6tables -t nat -D KUBE-SERVICES 1"], "KUBE-SERVICES"),
        (&["iptables -t nat -F PREROUTING"], "PREROUTING"),
        (&["ipvsadm -E -t 10.96.0.1:80 -s lc"], "virtual server changed"),
        (&["ipvsadm -d -t 203.0.113.1:80 -r 10.244.1.2:8080"], "real server missing"),
        (
            &["ipvsadm -C", "ip link delete kube-ipvs0", "iptables -t nat -F KUBE-SERVICES", "ipset flush"],
            "KUBE-SERVICES",
        ),
    ] {
        is_repaired(&world, &running, lines, &before, told);
        for family in Family::ALL {
            world.answer(None, at(service.cluster_ip(family)));
        }
        world.answer(None, at(service.external_ip(Family::V4)));
    }
    let (code, log) = running.stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("ERROR"), "{log}");
}

/// Neither the start, nor the compares that follow, nor a start with connections open.
fn second_start() {
    let world = World::new();
    let (plain, tuned) = (service("a", 1).external().balanced(), service("b", 2));
    let tuned =
        tuned.annotated("weir.dev/scheduler: mh, weir.dev/weights: 'node=node:3'").with("sessionAffinity: ClientIP");
    let empty = service("c", 3).with("externalTrafficPolicy: Local").external();
    let udp = Service::new("d", 4, "{port: 53, protocol: UDP}, {port: 80, nodePort: 30080}").with("type: NodePort");
    let on = |service: &Service| service.on(&world.endpoints(&PODS));
    world.tell(&[on(&plain), on(&tuned), empty.text(), on(&udp)]);
    // Every rule that is written has a new handle, even if it is the same rule.
    let all = || format!("{}{}", world.kernel(), world.run("nft -a -s list ruleset"));
    let (code, log) = world.start(&[]).stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("made anew"), "no set was there before:\n{log}");
    for (tool, chain) in [("iptables", "PREROUTING"), ("iptables", "OUTPUT"), ("ip6tables", "PREROUTING")] {
        let text = world.run(&format!("{tool} -t nat -S {chain}"));
        assert_eq!(text.matches("-j KUBE-SERVICES").count(), 1, "{text}");
    }
    let before = all();
    for flags in [&[][..], &["--iptables-driver=restore"]] {
        let running = world.start(flags);
        let held = world.hold(frontend(&plain));
        assert!(running.says("service ports are in the kernel").contains("after 0 differences"), "{}", running.log());
        after_compares(&running, 3);
        let (code, log) = running.stop();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains(" ERROR ") && !log.contains("changed by"), "{log}");
        assert_eq!(all(), before);
        drop(held);
    }
}
