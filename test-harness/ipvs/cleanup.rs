//! `weir cleanup` where IPVS mode was: weir's, kube-proxy's, and nobody's.

use std::net::SocketAddr;

use weir::cmd::options::ProxyMode::Ipvs;
use weir::kernel::xtables::variant::Variant;
use weir::lab::Host;
use weir::net::Family;

use super::proxied::{World, at};
use super::shared::served::{more, six};
use super::shared::variants::restore;
use super::shared::world::Setup;
use super::switching_tools::{beside_rules, difference, rules};
use super::takeover::Node;
use crate::manifests::Service;
use crate::program::{Ran, run_in, weir};

pub fn all() -> Vec<(&'static str, fn())> {
    vec![
        ("what_weir_made_goes_and_what_others_made_stays", after_weir),
        ("what_kube_proxy_left_goes_nft", || after_kube_proxy(Variant::Nft)),
        ("what_kube_proxy_left_goes_legacy", || after_kube_proxy(Variant::Legacy)),
        ("a_device_that_is_no_dummy_is_left", other_device),
    ]
}

fn cleanup(host: &Host, flags: &[&str]) -> Ran {
    run_in(host, weir(&[&["cleanup"], flags].concat()))
}

#[track_caller]
fn succeeds(ran: &Ran) {
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
}

/// Without kernel parameters, which stay as they are.
fn without_sysctls(kernel: &str) -> String {
    kernel.split("## ").filter(|part| !part.starts_with("cat ")).collect()
}

fn after_weir() {
    let world = World::new();
    let node = world.lab.node();
    for line in [
        "ipvsadm -A -t 203.0.113.77:443 -s wlc -p 50",
        "ipvsadm -a -t 203.0.113.77:443 -r 10.244.2.2:8080 -g -w 7",
        "ipvsadm -A -t 10.96.0.1:81 -s sh -b sh-port",
        "ipvsadm -A -t 192.168.99.10:8443 -s rr",
        "ipvsadm -A -f 7 -s rr",
        "ipset create KUBE-NOT-OURS hash:ip",
        "iptables-nft -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE",
        "iptables-legacy -A INPUT -p tcp --dport 7 -j DROP",
    ] {
        world.run(line);
    }
    let before = without_sysctls(&world.kernel());
    let service = Service::new("a", 1, "{port: 80, nodePort: 30080}").balanced().external();
    world.tell(&[service.on(&world.endpoints(&["pod1", "pod3"]))]);
    let running = world.start(&[]);
    let mut held = world.hold(at(service.cluster_ip(Family::V4)));
    assert_eq!(running.stop().0, Some(0));
    let serving = world.kernel();

    let listed = cleanup(node, &["--dry-run"]);
    succeeds(&listed);
    for line in [
        "@@ kube-ipvs0 @@ device goes",
        "-create WEIR-VIRTUAL-SERVERS hash:ip,port family inet hashsize 1024 maxelem 65536",
        "--A -t 10.96.0.1:80 -s rr",
        "--A -t 192.168.99.10:30080 -s rr",
    ] {
        assert!(listed.out.lines().any(|found| found == line), "{line} is not in:\n{}", listed.out);
    }
    for foreign in ["203.0.113.77", "10.96.0.1:81", ":8443", "KUBE-NOT-OURS"] {
        assert!(!listed.out.contains(foreign), "{foreign} is in:\n{}", listed.out);
    }
    assert_eq!(world.kernel(), serving, "a list changes nothing");
    assert!(held.flow.ask().is_ok());

    let removed = cleanup(node, &[]);
    succeeds(&removed);
    assert_eq!(removed.out.lines().last(), listed.out.lines().last());
    let left = without_sysctls(&world.kernel());
    assert!(left == before, "{}", similar::TextDiff::from_lines(&before, &left).unified_diff());
    let again = cleanup(node, &[]);
    succeeds(&again);
    assert_eq!(again.out, "Nothing to change.\n");
    assert_eq!(without_sysctls(&world.kernel()), before);
}

/// L64. Its sets name what is its; of IPv6 as well, which kube-proxy's own cleanup forgets.
fn after_kube_proxy(variant: Variant) {
    let setup = Setup { variant, mode: Ipvs };
    let Some(node) = Node::new(setup, &[six(), more().split_off(37)].concat()) else { return };
    node.add_others();
    let foreign = "*filter\n:ADMIN - [0:0]\n-A ADMIN -j DROP\nCOMMIT\n";
    for family in node.world.families() {
        restore(node.host(), &node.world.driver, family, foreign);
    }
    let is_others = |line: &String| [":443 ", ":6443 "].iter().any(|port| line.contains(port));
    let others: Vec<String> = beside_rules(&node.world).into_iter().filter(is_others).collect();
    assert_eq!(others.len(), 4 * node.world.families().len(), "{others:?}");
    let not_ours = |line: &String| !line.contains("KUBE-");
    let kept: Vec<String> = rules(&node.world).into_iter().filter(not_ours).collect();

    let listed = cleanup(node.host(), &["--dry-run"]);
    succeeds(&listed);
    let removed = cleanup(node.host(), &[]);
    succeeds(&removed);
    assert_eq!(removed.out.lines().last(), listed.out.lines().last());
    assert_eq!(beside_rules(&node.world), others);
    assert_eq!(difference(&kept, &rules(&node.world)), [""; 0]);
    let again = cleanup(node.host(), &[]);
    succeeds(&again);
    assert_eq!(again.out, "Nothing to change.\n");
    // Nobody answers any more.
    let to = SocketAddr::new(six()[3].vip(Family::V4), 80);
    assert!(weir::lab::Probe::tcp(to).run(node.world.host("client")).is_err());
}

fn other_device() {
    let world = World::new();
    world.run("ip link add kube-ipvs0 type bridge");
    world.run("ip address add 10.96.0.1/32 dev kube-ipvs0");
    world.run("ipset create KUBE-CLUSTER-IP hash:ip,port");
    let ran = cleanup(world.lab.node(), &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let line =
        "the device kube-ipvs0 stays: it is a bridge and no dummy device, so neither kube-proxy nor weir made it";
    assert!(ran.err.ends_with(&format!("tearing down rules: {line}\n")), "{ran:?}");
    assert!(world.run("ip address show dev kube-ipvs0").contains("10.96.0.1/32"));
    assert_eq!(world.run("ipset list -n"), "", "what is ours is gone nevertheless");
}
