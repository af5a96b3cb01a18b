//! Rules of iptables mode.

use weir::kernel::xtables::variant::Variant;

use crate::program::run_in;
use crate::shared::kube_proxy::Book;
use crate::shared::served::{objects_away, six};
use crate::shared::stream::while_connecting;
use crate::shared::variants::{driver, on_each_variant, restore};
use crate::snapshot::{assert_same, foreign};
use crate::world::{World, are_open};

/// Endpoints that are said to be on another node: their chains go when weir comes, so that something changes.
const AWAY: [u8; 2] = [1, 4];

/// J17, L64: kube-proxy's rules, weir, kube-proxy's rules, weir; then nothing.
#[test]
fn there_and_back_and_then_neither() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        world.left.add_rules(&six(), true);
        world.tell(&objects_away(&six(), &AWAY));
        let others = foreign(&world.snapshot());
        let first = world.snapshot();
        let mut flows = world.hold();
        let clients = world.left.clients();
        let ((), there) = while_connecting(&clients, || world.serve_once());
        assert_ne!(world.snapshot(), first, "weir has changed something");
        assert_same(&foreign(&world.snapshot()), &others, "others'");
        flows.extend(world.hold());
        are_open(&mut flows, "on the way there");

        let ((), back) = while_connecting(&clients, || world.left.give_back(&six()));
        assert_same(&foreign(&world.snapshot()), &others, "others'");
        are_open(&mut flows, "on the way back");
        let ((), again) = while_connecting(&clients, || world.serve_once());
        are_open(&mut flows, "at the second time");
        println!("{variant}: {there} connections on the way there, {back} on the way back, {again} at the second time");
        drop(flows);
        world.ends_clean();
    });
}

/// kube-proxy's rules alone, which weir has never seen.
#[test]
fn after_kube_proxy_alone() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        world.left.add_rules(&six(), false);
        world.ends_clean();
    });
}

/// A node whose iptables was switched has rules in both kinds of tables, and sets of IPVS mode.
#[test]
fn both_kinds_of_tables_at_once() {
    if !weir::lab::rerun::allowed().unwrap() {
        return;
    }
    let Some(world) = World::new(Variant::Nft) else { return };
    let Some(legacy) = driver(world.node(), Variant::Legacy) else { return };
    world.left.add_rules(&six(), true);
    for family in world.left.world.families() {
        restore(world.node(), &legacy, family, &Book::write(family, &six(), true));
    }
    let sets = "create KUBE-CLUSTER-IP hash:ip,port family inet\nadd KUBE-CLUSTER-IP 10.96.0.1,tcp:80\n\
                create KUBE-6-LOOP-BACK hash:ip,port,ip family inet6\ncreate WEIR-NON-MASQUERADE hash:net family inet\n\
                create weir-tmp-3 hash:ip\n";
    world.node().check("ipset", &["restore"], sets).unwrap();
    let old = "*nat\n:KUBE-NODE-PORT - [0:0]\n-A KUBE-NODE-PORT -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN\nCOMMIT\n";
    for tool in ["iptables-nft-restore", "iptables-legacy-restore"] {
        world.node().check(tool, &["--noflush"], old).unwrap();
    }
    let listed = world.cleanup(&["--dry-run"]).out;
    for line in [
        "@@ legacy IPv4 nat KUBE-SERVICES @@ chain goes",
        "@@ nft IPv4 nat KUBE-SERVICES @@ chain goes",
        "@@ nft IPv6 filter KUBE-FORWARD @@ chain goes",
        "-create WEIR-NON-MASQUERADE hash:net family inet hashsize 1024 maxelem 65536",
        "-object ct_state_invalid_dropped_pkts",
    ] {
        assert!(listed.lines().any(|found| found == line), "{line} is not in:\n{listed}");
    }
    world.ends_clean();
}

/// As JSON, which is the same list.
#[test]
fn the_list_for_programs() {
    if !weir::lab::rerun::allowed().unwrap() {
        return;
    }
    let Some(world) = World::new(Variant::Nft) else { return };
    world.left.add_rules(&six(), true);
    let ran = world.cleanup(&["--dry-run", "--output=json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let list: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(list["schema"], "weir.dev/diff/v1");
    assert_eq!(list["summary"]["accountingObjectsRemoved"], 2);
    assert_eq!((&list["summary"]["chainsAdded"], &list["summary"]["rulesAdded"]), (&0.into(), &0.into()));
    let objects = ["ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"];
    assert_eq!(list["groups"][0]["accountingObjects"], serde_json::json!(objects));
    let actions = |group: &serde_json::Value| group["chains"].as_array().unwrap().clone();
    let chains: Vec<_> = list["groups"].as_array().unwrap().iter().flat_map(actions).collect();
    assert!(chains.iter().all(|chain| chain["action"] != "add" && chain["iptables"].is_null()), "{chains:#?}");
    let text = world.cleanup(&["--dry-run"]).out;
    let headings = text.lines().filter(|line| line.starts_with("@@ IPv")).count();
    assert_eq!(headings, chains.len());
}

/// A kernel and a host without anything: no tools, no tables.
#[test]
fn a_node_where_nothing_has_been() {
    if !weir::lab::rerun::allowed().unwrap() {
        return;
    }
    let lab = crate::program::small_lab();
    let mut command = crate::program::weir(&["cleanup"]);
    command.env("PATH", "/nonexistent");
    let ran = run_in(lab.node(), command);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "Nothing to change.\n", ""));
    let tables = lab.node().check("nft", &["list", "tables"], "").unwrap();
    assert_eq!(tables, "", "it makes nothing either");
}
