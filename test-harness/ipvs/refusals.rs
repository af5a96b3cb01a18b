//! What bad input gets: at the start one line, and nothing changed; later a line, and everything else served.

use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::Signal;
use weir::net::Family;

use super::proxied::{World, after_compares, at};
use crate::manifests::Service;
use crate::process::eventually;
use crate::program::run_in;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("a_set_of_another_type", sets),
        ("a_device_of_another_kind", devices),
        ("without_permission", permission),
        ("a_device_of_another_kind_later", device_later),
        ("annotations_that_make_no_sense", annotations),
    ]
}

fn plain() -> Service {
    Service::new("a", 1, "{port: 80}")
}

fn frontend() -> SocketAddr {
    at(plain().cluster_ip(Family::V4))
}

fn world() -> World {
    let world = World::new();
    world.tell(&[plain().on(&world.endpoints(&["pod1"]))]);
    world
}

/// It ends with one line that has all these words, and the kernel is as it was.
#[track_caller]
fn is_refused(world: &World, command: Command, words: &[&str]) {
    let before = world.kernel();
    let ran = run_in(world.lab.node(), command);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
    let told: Vec<&str> = ran.err.lines().filter(|line| words.iter().all(|word| line.contains(word))).collect();
    let [line] = told[..] else { panic!("one line with {words:?}:\n{}", ran.err) };
    assert_eq!(ran.err.lines().last(), Some(line), "{}", ran.err);
    assert!(!ran.err.contains(" WARN ") && !ran.err.contains(" ERROR "), "nothing else is wrong:\n{}", ran.err);
    assert_eq!(world.kernel(), before);
}

fn sets() {
    let world = world();
    for (made, words) in [
        ("KUBE-CLUSTER-IP hash:ip", ["hash:ip of IPv4", "hash:ip,port of IPv4", "ipset destroy KUBE-CLUSTER-IP"]),
        ("KUBE-6-CLUSTER-IP hash:ip,port", ["of IPv4", "hash:ip,port of IPv6", "ipset destroy KUBE-6-CLUSTER-IP"]),
        ("WEIR-REJECT list:set", ["list:set", "hash:ip,port of IPv4", "ipset destroy WEIR-REJECT"]),
    ] {
        world.run(&format!("ipset create {made}"));
        is_refused(&world, world.weir(&[]), &words);
        world.run(&format!("ipset destroy {}", made.split(' ').next().unwrap()));
    }
    // Sets of others may be what they like.
    world.run("ipset create KUBE-OTHER hash:net");
    world.run("ipset add KUBE-OTHER 192.0.2.0/24");
    let running = world.start(&[]);
    world.answer(None, frontend());
    after_compares(&running, 1);
    world.run("ipset test KUBE-OTHER 192.0.2.1");
}

fn devices() {
    let world = world();
    for (link, kind) in [("kube-ipvs0 type veth peer name other", "veth"), ("kube-ipvs0 type bridge", "bridge")] {
        world.run(&format!("ip link add {link}"));
        let words = ["kube-ipvs0", &format!("is a {kind}"), "must be a dummy device", "rename or delete it"];
        is_refused(&world, world.weir(&[]), &words);
        world.run("ip link delete kube-ipvs0");
    }
    let _running = world.start(&[]);
    world.answer(None, frontend());
}

fn permission() {
    let world = world();
    let weir = world.weir(&[]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"]).arg(weir.get_program()).args(weir.get_args());
    is_refused(&world, command, &["CAP_NET_ADMIN"]);
}

/// Somebody deletes the device, and makes another one.
fn device_later() {
    let world = world();
    let mut running = world.start(&[]);
    let before = world.kernel();
    // Else the device may be there again before the bridge is.
    running.signal(Signal::SIGSTOP);
    world.run("ip link delete kube-ipvs0");
    world.run("ip link add kube-ipvs0 type bridge");
    running.signal(Signal::SIGCONT);
    let line = running.says("rename or delete");
    for word in ["ERROR", "kube-ipvs0", "bridge", "dummy device", "trying again"] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(running.said("rename or delete").len(), 1, "{}", running.log());
    world.run("ip link delete kube-ipvs0");
    world.until_kernel_is("the device is there again", &before);
    world.answer(None, frontend());
    assert_eq!(running.stop().0, Some(0));
}

/// As if they were not there.
fn annotations() {
    let world = World::new();
    let pods = ["pod1", "pod3"];
    let wrong = [
        ("weir.dev/scheduler", "least connections"),
        ("weir.dev/scheduler-flags", "fast"),
        ("weir.dev/weights", "zone=a:many"),
        ("weir.dev/drain-seconds", "soon"),
    ];
    let text = wrong.map(|(name, value)| format!("{name}: '{value}'")).join(", ");
    let (bad, good) = (plain().annotated(&text), Service::new("b", 2, "{port: 80}"));
    let objects = [&bad, &good].map(|service| service.on(&world.endpoints(&pods)));
    world.tell(&objects);
    let running = world.start(&[]);
    for service in [&bad, &good] {
        for family in Family::ALL {
            let to = at(service.cluster_ip(family));
            assert!(world.shown().contains(&format!("{to} rr\n")), "{}", world.shown());
            let servers = [(); 4].map(|()| world.answer(None, to));
            assert!(servers[0] != servers[1] && servers[..2] == servers[2..], "{servers:?}");
        }
    }
    after_compares(&running, 2);
    for (name, value) in wrong {
        let told = running.said(&format!("[{name}]"));
        assert_eq!(told.len(), 1, "{name}: {}", running.log());
        assert!(told[0].contains("WARN") && told[0].contains(value) && told[0].contains("test/a"), "{}", told[0]);
    }
    // The file is read again, and says the same.
    world.tell(&[&objects[..], &[Service::new("c", 3, "{port: 80}").on(&world.endpoints(&["pod1"]))]].concat());
    eventually("the new service is there", || world.shown().contains("10.96.0.3:80"));
    for (name, _) in wrong {
        assert_eq!(running.said(&format!("[{name}]")).len(), 1, "{name}: {}", running.log());
    }
}
