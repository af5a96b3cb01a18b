//! Legacy tables.

use std::fs;

use weir::kernel::watch::Write;
use weir::kernel::xtables::Suspicion;
use weir::kernel::xtables::variant::Variant;
use weir::net::Family;

use crate::fixture::{Watched, installed, populate, run, tool};
use crate::namespace::in_namespace;

const TOOL: Variant = Variant::Legacy;

/// Whether this kernel has legacy tables.
fn available() -> bool {
    let works = |program: &str| {
        let status = std::process::Command::new(program).args(["-t", "nat", "-S"]).output();
        status.is_ok_and(|output| output.status.success())
    };
    let there = installed("iptables-legacy") && works("iptables-legacy") && works("ip6tables-legacy");
    if !there {
        weir::lab::skipped("watch: the kernel has no legacy tables");
    }
    there
}

#[test]
fn a_change_is_noticed() {
    in_namespace(|| {
        if !available() {
            return;
        }
        populate(TOOL);
        let watched = Watched::start(TOOL);
        watched.is_silent("nobody does anything");
        for family in Family::ALL {
            let iptables = tool(family, TOOL, "");
            for arguments in [
                "-t nat -D KUBE-SERVICES 1",
                "-t nat -A KUBE-SERVICES -j RETURN",
                "-t nat -F KUBE-SERVICES",
                "-t nat -N OTHER",
                "-t filter -F",
            ] {
                let (_, end) = run(&iptables, &format!("-w {arguments}"), "");
                let (at, suspicion) = watched.next(arguments);
                println!("{iptables} {arguments}: {:?} after its end", at.saturating_duration_since(end));
                assert_eq!(suspicion, Suspicion::anything());
                watched.is_silent("told once");
            }
        }
    });
}

#[test]
fn our_own_writes_are_silent() {
    in_namespace(|| {
        if !available() {
            return;
        }
        populate(TOOL);
        let watched = Watched::start(TOOL);
        for number in 0..10 {
            let writing = watched.own.begin(Write::ByTool);
            run("iptables-legacy", &format!("-w -t nat -A KUBE-SERVICES -s 192.0.2.{number} -j RETURN"), "");
            drop(writing);
        }
        watched.is_silent("ours");
        run("iptables-legacy", "-w -t nat -F KUBE-SERVICES", "");
        assert_eq!(watched.all("a flush"), Suspicion::anything());
    });
}

/// A kernel makes a legacy table when somebody asks for it.
#[test]
fn no_table_is_made_by_looking() {
    in_namespace(|| {
        let names = || {
            ["ip", "ip6"].map(|family| {
                fs::read_to_string(format!("/proc/thread-self/net/{family}_tables_names")).unwrap_or_default()
            })
        };
        let watched = Watched::start(TOOL);
        watched.is_silent("nothing is there");
        std::thread::sleep(std::time::Duration::from_millis(1200));
        assert_eq!(names(), ["", ""]);
    });
}
