//! Someone else changes our rules.

use weir::lab::{Host, rerun};

use crate::cluster::{Folder, NODE, to_endpoint};
use crate::process::{Proxy, eventually, in_step};
use crate::program::{rules, small_lab};

const SAVE: &str = "iptables-nft-save";

fn iptables(host: &Host, arguments: &str) {
    let arguments: Vec<&str> = ["-w"].into_iter().chain(arguments.split(' ')).collect();
    host.check("iptables-nft", &arguments, "").unwrap();
}

/// The name of the chain that leads to an endpoint.
fn chain_of(host: &Host, ip: &str) -> String {
    let text = rules(host, SAVE);
    let line = text.lines().find(|line| line.contains(&to_endpoint(ip))).unwrap();
    line.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn is_repaired_and_the_rules_of_others_stay() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let source = folder.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let running = Proxy::start(node, &flags).started();
    let whole = rules(node, SAVE);
    for (number, damage) in [
        format!("-t nat -F {}", chain_of(node, "10.244.1.1")),
        "-t nat -D KUBE-SERVICES 1".to_owned(),
        "-t nat -D PREROUTING 1".to_owned(),
        "-t nat -A KUBE-SERVICES -j RETURN".to_owned(),
        "-t mangle -X KUBE-PROXY-CANARY".to_owned(),
        "-t filter -F".to_owned(),
        "-t nat -N KUBE-SVC-STRANGERSTRANGER".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        iptables(node, &damage);
        eventually(&format!("{damage} is repaired"), || rules(node, SAVE) == whole);
        eventually("it is told", || running.said("changed by ").len() == number + 1);
    }
    for foreign in ["-t nat -N OTHER", "-t nat -A OTHER -j RETURN", "-t filter -A INPUT -s 192.0.2.1 -j DROP"] {
        iptables(node, foreign);
    }
    let with_others = rules(node, SAVE);
    iptables(node, "-t nat -F KUBE-SERVICES");
    eventually("the repair is done", || in_step(node, &flags));
    assert_eq!(rules(node, SAVE), with_others);
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn is_only_reported_if_so_configured() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let source = folder.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let running = Proxy::start(node, &[&flags[..], &["--drift-report-only", "-v=2"]].concat()).started();
    iptables(node, "-t nat -D PREROUTING 1");
    let damaged = rules(node, SAVE);
    let line = running.says("changed by ");
    assert!(line.contains("WARN") && line.contains("left alone as configured"), "{line}");
    assert!(running.says("differs").contains("IPv4 nat PREROUTING: rule missing"), "{}", running.log());
    let compares = running.said("task=Repair").len();
    eventually("two more compares are through", || running.said("task=Repair").len() >= compares + 2);
    assert_eq!(rules(node, SAVE), damaged);
    assert_eq!(running.said("WARN 1 kernel object").len(), 1, "the same is not told again:\n{}", running.log());
    // What is asked for is still done.
    folder.serve("b", "10.96.0.2", &["10.244.1.2"]);
    eventually("a new service is served", || rules(node, SAVE).contains(&to_endpoint("10.244.1.2")));
    assert!(!rules(node, SAVE).contains("-A PREROUTING"), "{}", rules(node, SAVE));
    assert_eq!(running.stop().0, Some(0));
}
