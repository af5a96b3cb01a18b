//! The tables of nftables mode.

use weir::cmd::cleanup::remove_nftables_leftovers;
use weir::lab::Host;

use crate::process::eventually;
use crate::shared::served::{objects_away, six};
use crate::shared::stream::while_connecting;
use crate::shared::variants::on_each_variant;
use crate::snapshot::{assert_same, foreign};
use crate::tables;
use crate::world::{World, are_open};

impl World {
    /// kube-proxy's first sync in nftables mode.
    fn add_tables(&self) {
        for family in self.left.world.families() {
            let input = tables::write(family, &six(), self.left.world.node_ip(family));
            self.node().check("nft", &["-f", "-"], &input).unwrap();
        }
    }
}

fn remove_tables(node: &Host) -> usize {
    node.run(remove_nftables_leftovers).unwrap().unwrap()
}

/// kube-proxy in nftables mode, then weir in iptables mode, which takes its tables away once it serves itself; and back: the
/// tables again beside weir's rules. A connection keeps the endpoint that it has, whoever gave it.
#[test]
fn to_iptables_mode_and_back() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let others = foreign(&world.snapshot());
        world.add_tables();
        world.tell(&objects_away(&six(), &[1, 4]));
        let mut flows = world.hold();
        let clients = world.left.clients();
        let families = world.left.world.families().len();
        let ((), there) = while_connecting(&clients, || {
            let running = world.serve();
            eventually("the tables are gone", || running.said("its table is deleted").len() == families);
            assert_eq!(running.stop().0, Some(0));
        });
        assert_eq!(remove_tables(world.node()), 0, "there is nothing more to remove");
        are_open(&mut flows, "on the way there");
        flows.extend(world.hold());

        let ((), back) = while_connecting(&clients, || world.add_tables());
        are_open(&mut flows, "on the way back");
        let now = foreign(&world.snapshot());
        assert!(others.iter().all(|line| now.contains(line)), "{now:#?}");
        println!("{variant}: {there} connections on the way there, {back} on the way back");
        drop(flows);
        world.ends_clean();
    });
}

/// The tables alone.
#[test]
fn after_kube_proxy_alone() {
    if !weir::lab::rerun::allowed().unwrap() {
        return;
    }
    let Some(world) = World::new(weir::kernel::xtables::variant::Variant::Nft) else { return };
    world.add_tables();
    // The rules themselves are right: all of it is reached.
    while_connecting(&world.left.clients(), || {});
    let listed = world.cleanup(&["--dry-run"]).out;
    assert!(listed.contains("@@ nftables @@\n-table ip kube-proxy # chains, sets and maps: "), "{listed}");
    assert!(listed.contains("nftables tables: 0 to add, 2 to remove"), "{listed}");
    world.ends_clean();
}

/// Those of another name, of another family, and none.
#[test]
fn tables_of_others_stay() {
    if !weir::lab::rerun::allowed().unwrap() {
        return;
    }
    let Some(world) = World::new(weir::kernel::xtables::variant::Variant::Nft) else { return };
    let before = world.snapshot();
    assert_eq!(remove_tables(world.node()), 0);
    assert_same(&world.snapshot(), &before, "others' tables");
}
