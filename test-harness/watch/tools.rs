//! Others use the tools that people use, on nf_tables.

use std::fs;
use std::time::Duration;

use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{Scope, Table};
use weir::net::Family;

use crate::fixture::{Watched, chains, installed, populate, run, tool};
use crate::namespace::in_namespace;

const TOOL: Variant = Variant::Nft;

/// What a change is noticed as, and by whom it was made.
fn is_noticed(watched: &Watched, program: &str, arguments: &str, input: &str, scope: &Scope) {
    let what = format!("{program} {arguments}");
    let (pid, _) = run(program, arguments, input);
    let found = watched.all(&what);
    assert_eq!(found.scope, *scope, "{what}");
    let process: String = program.chars().take(15).collect();
    assert!(found.by.iter().all(|culprit| *culprit.name == process) && found.by.len() == 1, "{what}: {:?}", found.by);
    if is_initial_process_namespace() {
        assert!(found.by.iter().all(|culprit| culprit.pid == pid), "{what}: {:?}, it was {pid}", found.by);
    }
}

/// Elsewhere processes have another number than the kernel tells.
fn is_initial_process_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}

#[test]
fn each_change_is_told_with_its_chains_and_its_author() {
    in_namespace(|| {
        if !installed("iptables-nft") {
            return;
        }
        populate(TOOL);
        let watched = Watched::start(TOOL);
        for (family, host) in [(Family::V4, "192.0.2.1"), (Family::V6, "2001:db8::1")] {
            let iptables = tool(family, TOOL, "");
            let services = chains(family, Table::Nat, &["KUBE-SERVICES"]);
            let service = chains(family, Table::Nat, &["KUBE-SVC-ABCDEFGHIJKLMNOP"]);
            for (arguments, scope) in [
                ("-t nat -D KUBE-SERVICES 1".to_owned(), &services),
                (format!("-t nat -R KUBE-SERVICES 2 -s {host} -j RETURN"), &services),
                (format!("-t nat -I KUBE-SERVICES -s {host} -j RETURN"), &services),
                ("-t nat -F KUBE-SERVICES".to_owned(), &services),
                ("-t nat -F KUBE-SVC-ABCDEFGHIJKLMNOP".to_owned(), &service),
                ("-t nat -X KUBE-SVC-ABCDEFGHIJKLMNOP".to_owned(), &service),
                ("-t nat -N KUBE-SVC-ABCDEFGHIJKLMNOP".to_owned(), &service),
                ("-t nat -N KUBE-SVC-STRANGER".to_owned(), &chains(family, Table::Nat, &["KUBE-SVC-STRANGER"])),
                ("-t nat -D PREROUTING 1".to_owned(), &chains(family, Table::Nat, &["PREROUTING"])),
                (format!("-t nat -A POSTROUTING -s {host} -j RETURN"), &chains(family, Table::Nat, &["POSTROUTING"])),
                (format!("-I FORWARD -s {host} -j DROP"), &chains(family, Table::Filter, &["FORWARD"])),
                ("-P FORWARD DROP".to_owned(), &chains(family, Table::Filter, &["FORWARD"])),
            ] {
                is_noticed(&watched, &iptables, &arguments, "", scope);
            }
            let restore = tool(family, TOOL, "-restore");
            let some = "*nat\n:KUBE-SVC-STRANGER - [0:0]\n-A KUBE-SVC-STRANGER -j RETURN\nCOMMIT\n";
            is_noticed(&watched, &restore, "-n", some, &chains(family, Table::Nat, &["KUBE-SVC-STRANGER"]));
            // As firewalls do when they are loaded: the table goes, their own comes.
            let reload =
                format!("*filter\n:INPUT ACCEPT [0:0]\n:OTHERS - [0:0]\n-A INPUT -s {host} -j OTHERS\nCOMMIT\n");
            is_noticed(&watched, &restore, "", &reload, &Scope::All);
        }
    });
}

#[test]
fn a_flushed_ruleset_is_everything() {
    in_namespace(|| {
        if !installed("iptables-nft") || !installed("nft") {
            return;
        }
        populate(TOOL);
        let watched = Watched::start(TOOL);
        is_noticed(&watched, "nft", "flush ruleset", "", &Scope::All);
        // A table of ours that comes back is not what it was.
        is_noticed(&watched, "nft", "add table ip nat", "", &Scope::All);
        is_noticed(&watched, "nft", "delete table ip nat", "", &Scope::All);
    });
}

#[test]
fn what_is_not_ours_is_not_told() {
    in_namespace(|| {
        if !installed("iptables-nft") || !installed("nft") {
            return;
        }
        populate(TOOL);
        let watched = Watched::start(TOOL);
        for family in Family::ALL {
            let iptables = tool(family, TOOL, "");
            for arguments in [
                "-t nat -A CNI-X -j RETURN",
                "-t nat -N CNI-HOSTPORT-DNAT",
                "-t nat -A CNI-HOSTPORT-DNAT -j RETURN",
                "-t nat -F CNI-HOSTPORT-DNAT",
                "-t nat -X CNI-HOSTPORT-DNAT",
                "-t mangle -N KUBE-KUBELET-CANARY",
                "-t raw -A PREROUTING -j RETURN",
            ] {
                // The first rule of a table makes it and its built-in chains.
                if arguments.contains("mangle") {
                    run(&iptables, "-t mangle -N SOMETHING", "");
                    watched.all("the table mangle appears");
                }
                run(&iptables, arguments, "");
                watched.is_silent(&format!("{iptables} {arguments}"));
            }
        }
        for arguments in ["add table inet nat", "add chain inet nat KUBE-SERVICES", "delete table inet nat"] {
            run("nft", arguments, "");
            watched.is_silent(arguments);
        }
    });
}

/// The kernel names a process by its number in the initial namespace, also where it has another one.
#[test]
fn an_author_in_another_process_namespace_has_its_number_here() {
    in_namespace(|| {
        if !installed("iptables-nft") || !installed("unshare") || !is_initial_process_namespace() {
            return weir::lab::skipped("watch: not in the initial process namespace");
        }
        populate(TOOL);
        let watched = Watched::start(TOOL);
        let (outside, _) = run("unshare", "--pid --fork iptables-nft -t nat -F KUBE-SERVICES", "");
        let found = watched.all("a flush in another process namespace");
        let culprit = found.by.first().unwrap();
        assert_eq!(&*culprit.name, "iptables-nft");
        assert!(culprit.pid > outside, "{culprit}, started by {outside}");
    });
}

#[test]
fn it_is_told_in_time() {
    in_namespace(|| {
        if !installed("iptables-nft") {
            return;
        }
        populate(TOOL);
        let watched = Watched::start(TOOL);
        let mut delays: Vec<Duration> = (0..21)
            .map(|_| {
                let (_, end) = run("iptables-nft", "-t nat -A KUBE-SERVICES -j RETURN", "");
                let (told, _) = watched.next("a rule");
                std::thread::sleep(Duration::from_millis(30));
                told.saturating_duration_since(end)
            })
            .collect();
        delays.sort();
        println!("from the end of the program until it is told: median {:?}, longest {:?}", delays[10], delays[20]);
        assert!(delays[10] < Duration::from_millis(100), "{delays:?}");
    });
}
