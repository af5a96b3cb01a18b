//! What cannot go, and what cannot be read.

use std::process::Command;

use weir::kernel::xtables::variant::Variant;
use weir::lab::{rerun, skipped};

use crate::program::{Ran, installed, run, run_in, small_lab, weir};
use crate::shared::served::six;
use crate::shared::variants::on_each_variant;
use crate::snapshot::{assert_same, foreign};
use crate::world::World;

const PHRASE: &str = "Error: encountered an error while tearing down rules: ";

/// What an error says behind kube-proxy's phrase.
#[track_caller]
fn why(ran: &Ran) -> &str {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    ran.err.trim_end().strip_prefix(PHRASE).unwrap_or_else(|| panic!("{ran:?}"))
}

/// An administrator uses kube-proxy's chain to have packets masqueraded. His rule goes on doing so.
#[test]
fn a_chain_that_somebody_uses_stays_with_what_it_needs() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        world.left.add_rules(&six(), true);
        let tool = format!("iptables-{variant}");
        let rule = "POSTROUTING -t nat -s 10.9.0.0/16 -j KUBE-MARK-MASQ";
        let iptables = |verb: &str| {
            let words: Vec<&str> = std::iter::once(verb).chain(rule.split(' ')).collect();
            world.node().check(&tool, &words, "").unwrap();
        };
        iptables("-A");
        let all = world.snapshot();
        let told = format!(
            "the chain IPv4 nat KUBE-MARK-MASQ of {tool} stays, for this rule of {tool} is not ours and names it: IPv4 nat \
             -A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ; delete such rules and run this again"
        );
        let listed = world.cleanup(&["--dry-run"]);
        assert_eq!(why(&listed), told);
        assert!(!listed.out.contains("KUBE-MARK-MASQ @@ chain goes\n@@ IPv4"), "{}", listed.out);
        assert_same(&world.snapshot(), &all, "a list changes nothing");
        assert_eq!(why(&world.cleanup(&[])), told);

        let mut expected = foreign(&all);
        let left: Vec<String> = world.snapshot();
        let used: Vec<String> = left.iter().filter(|line| !expected.contains(line)).cloned().collect();
        let rule = "-A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ";
        assert_eq!(used, [":KUBE-MARK-MASQ -", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000", rule]);
        assert_eq!(why(&world.cleanup(&[])), told, "as often as it is asked");
        assert_same(&world.snapshot(), &left, "again");
        iptables("-D");
        assert_eq!(world.cleanup(&[]).code, Some(0));
        expected.retain(|line| !line.contains("10.9.0.0/16"));
        assert_same(&world.snapshot(), &expected, "without the rule");
    });
}

/// A set that a rule of others looks in, and an accounting object.
#[test]
fn a_set_and_an_object_that_somebody_uses() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let Some(world) = World::new(Variant::Nft) else { return };
    let node = world.node();
    // Its built-in chains are there from now on.
    node.check("iptables-legacy-restore", &["--noflush"], "*filter\nCOMMIT\n").unwrap();
    let others = foreign(&world.snapshot());
    for name in ["KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP"] {
        node.check("ipset", &["create", name, "hash:ip,port"], "").unwrap();
    }
    let rules = "*filter\n:ADMIN - [0:0]\n-A ADMIN -m set --match-set KUBE-CLUSTER-IP dst,dst -j DROP\n\
                 -A ADMIN -m nfacct --nfacct-name ct_state_invalid_dropped_pkts\nCOMMIT\n";
    node.check("iptables-legacy-restore", &["--noflush"], rules).unwrap();
    let ran = world.cleanup(&[]);
    for part in [
        "the ipset KUBE-CLUSTER-IP stays, for this rule of iptables-legacy is not ours and names it: IPv4 filter -A ADMIN -m set",
        "the accounting object ct_state_invalid_dropped_pkts stays, for this rule of iptables-legacy is not ours and names it: \
         IPv4 filter -A ADMIN -m nfacct --nfacct-name",
    ] {
        assert!(why(&ran).contains(part), "{part}: {ran:?}");
    }
    let left = world.snapshot();
    assert!(left.iter().any(|line| line.contains("create KUBE-CLUSTER-IP")), "{left:#?}");
    assert!(!left.iter().any(|line| line.contains("KUBE-EXTERNAL-IP")), "{left:#?}");
    assert!(left.contains(&"nfacct ct_state_invalid_dropped_pkts".to_owned()));
    assert!(!left.contains(&"nfacct localhost_nps_accepted_pkts".to_owned()));
    node.check("iptables-legacy-restore", &["--noflush"], "*filter\n-F ADMIN\n-X ADMIN\nCOMMIT\n").unwrap();
    assert_eq!(world.cleanup(&[]).code, Some(0));
    assert_same(&world.snapshot(), &others, "without the rules");
}

/// Legacy tables are in use, and the tool that could read them is not there.
#[test]
fn tables_that_cannot_be_read_are_told() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let Some(world) = World::new(Variant::Nft) else { return };
    world.left.add_rules(&six(), true);
    let mut command = weir(&["cleanup"]);
    // The folders that are looked into whatever the path says are covered by empty ones.
    command.env("PATH", "/nonexistent");
    let covered = in_covered_folders(command);
    let ran = run_in(world.node(), covered);
    let said = why(&ran);
    assert!(said.starts_with("legacy tables are in use, and cannot be read: iptables of variant legacy"), "{ran:?}");
    let left = world.snapshot();
    assert!(!left.iter().any(|line| line.contains("KUBE-SEP-")), "nf_tables is clean nevertheless: {left:#?}");
}

/// The command in a mount namespace where the system's folders of programs for root are empty.
fn in_covered_folders(inner: Command) -> Command {
    let mut command = Command::new("unshare");
    let program = inner.get_program().to_str().unwrap();
    let words: Vec<&str> = inner.get_args().map(|word| word.to_str().unwrap()).collect();
    let script = format!(
        "for folder in /usr/sbin /sbin /usr/local/sbin; do mount -t tmpfs none $folder || exit 9; done; PATH=/nonexistent exec {program} {}",
        words.join(" ")
    );
    command.args(["--mount", "/bin/sh", "-c", &script]);
    command
}

#[test]
fn without_permission_nothing_is_touched() {
    if !rerun::allowed().unwrap() {
        return;
    }
    if installed("setpriv").is_none() {
        return skipped("handover: setpriv is not installed");
    }
    let lab = small_lab();
    lab.node().check("iptables-nft", &["-t", "nat", "-N", "KUBE-SERVICES"], "").unwrap();
    for flags in [&["--dry-run"] as &[&str], &[]] {
        let mut command = Command::new("setpriv");
        let inner = weir(&[&["cleanup"], flags].concat());
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(inner.get_program()).args(inner.get_args());
        let ran = run_in(lab.node(), command);
        assert_eq!(ran.out, "");
        let said = why(&ran);
        assert!(
            said.starts_with("no permission to read or write rules: CAP_NET_ADMIN is missing; run as root"),
            "{said}"
        );
    }
    assert!(lab.node().check("iptables-nft-save", &[], "").unwrap().contains(":KUBE-SERVICES -"));
}

#[test]
fn mistakes_are_one_line_and_exit_1() {
    for (typed, line) in [
        ("--dry-run=maybe", "Error: "),
        ("--frobnicate", "Error: unknown flag --frobnicate; try `weir cleanup --help`"),
        (
            "all",
            "Error: weir cleanup does not take any arguments, got \"all\": flags begin with --; try `weir cleanup --help`",
        ),
        (
            "--ipvs-exclude-cidrs=10.0.0.0/8,x",
            "Error: --ipvs-exclude-cidrs: \"x\" is no CIDR: expected a network such as 10.244.0.0/16 or fd00::/48; try \
             `weir cleanup --help`",
        ),
    ] {
        let ran = run(weir(&["cleanup", typed]));
        assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (Some(1), "", 1), "{ran:?}");
        assert!(ran.err.starts_with(line), "{ran:?}");
    }
    let help = run(weir(&["cleanup", "--help"])).out;
    for part in ["--dry-run", "Stop the proxy first", "connections that are open break", "Kernel parameters stay"] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(part), "{part} is not in:\n{help}");
    }
}
