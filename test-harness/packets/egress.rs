//! Node egress: what pods send out of the cluster leaves with the node's address.

use weir::lab::EchoServer;
use weir::net::{Family, Protocol};

use super::manifests::{Service, facts};
use super::seen::Seen;
use super::variants::save;
use super::world::{Case, SELDOM, Setup, World, kept, masqueraded, tcp, udp};

#[test]
fn pods_leave_with_the_nodes_address_only_where_it_was_asked_for() {
    super::variants::on_each_variant(|variant| on_and_off(variant.into()));
}

/// Where the client serves.
const PORT: u16 = 9000;

const ON: &str = "--masquerade-egress";
/// The client's network, and two others that change nothing for it.
const WITH_CLIENT: &str = "--non-masquerade-cidrs=172.16.0.0/12,192.168.99.64/26,fd99::/16,2001:db8:99::100/120";
const WITHOUT_CLIENT: &str = "--non-masquerade-cidrs=172.16.0.0/12,fd99::/16";
/// Everything: a set cannot hold a network of no length as one.
const EVERYTHING: &str = "--non-masquerade-cidrs=0.0.0.0/0,::/0";

/// Off, on, with other lists of networks, and off again. Another list changes entries of the sets and no rule.
pub fn on_and_off(setup: Setup) {
    let Some(world) = World::without_weir(setup) else { return };
    let _outside = EchoServer::start(world.lab.client(), &[(Protocol::Tcp, PORT), (Protocol::Udp, PORT)]).unwrap();
    let web = Service::new("web", 1, "{port: 80, nodePort: 30080}");
    let objects = [web.on(&world.endpoints(["pod1"]))];
    let serve = |flags: &[&str], seen: fn() -> Seen| {
        let weir = world.start(setup.mode, flags, SELDOM);
        weir.tell(facts(&objects));
        world.judge_both(|family| cases(&world, &web, family, seen()));
        weir
    };
    let kept = || Seen::Kept("client".to_owned());
    let masqueraded = || Seen::Masqueraded("client".to_owned());

    serve(&[], kept).stop();
    assert_eq!(sets(&world), Vec::<String>::new(), "off by default");
    assert!(!rules(&world).contains("WEIR-EGRESS"), "off by default");

    serve(&[ON, WITHOUT_CLIENT], masqueraded).stop();
    let (before, handles) = (rules(&world), handles(&world));
    assert_eq!(sets(&world).len(), world.families().len());
    assert_eq!(before.lines().filter(|line| line.starts_with("-A WEIR-EGRESS")).count(), world.families().len());
    for (flags, seen) in [(WITH_CLIENT, kept as fn() -> Seen), (EVERYTHING, kept), (WITHOUT_CLIENT, masqueraded)] {
        serve(&[ON, flags], seen).stop();
        assert_eq!(rules(&world), before, "{flags}");
        assert_eq!(self::handles(&world), handles, "{flags}");
    }

    let weir = serve(&[], kept);
    super::node::wait_until("the sets are gone", || sets(&world).is_empty());
    assert!(!rules(&world).contains("WEIR-EGRESS"), "off again: {}", rules(&world));
    weir.stop();
}

/// A pod asks outside, and what never is out of the cluster: other pods, services, the node. What outsiders ask is
/// answered as ever.
fn cases(world: &World, web: &Service, family: Family, outside: Seen) -> Vec<Case> {
    let client = (world.host("client").address(family).unwrap(), PORT);
    let pod = |name: &str| (world.host(name).address(family).unwrap(), 8080);
    vec![
        tcp("egress", "pod3", client, [outside.clone()]),
        udp("egress", "pod3", client, [outside]),
        tcp("egress", "pod3", pod("pod1"), kept(["pod1"])),
        tcp("egress", "pod3", pod("pod4"), kept(["pod4"])),
        tcp("egress", "pod3", (web.cluster_ip(family), 80), kept(["pod1"])),
        tcp("egress", "client", (world.node_ip(family), 30080), masqueraded(["pod1"])),
        tcp("egress", "client", pod("pod1"), kept(["pod1"])),
    ]
}

/// Names of the sets of egress.
fn sets(world: &World) -> Vec<String> {
    let names = world.lab.node().check("ipset", &["list", "-name"], "").unwrap();
    names.lines().filter(|name| name.contains("NON-MASQUERADE")).map(str::to_owned).collect()
}

/// All rules of all families, without counters.
fn rules(world: &World) -> String {
    let saved = world.families().into_iter().map(|family| save(world.lab.node(), &world.driver, family));
    let lines: Vec<String> = saved.flat_map(|text| text.lines().map(without_counters).collect::<Vec<_>>()).collect();
    lines.join("\n")
}

fn without_counters(line: &str) -> String {
    match line {
        line if line.starts_with('#') => String::new(),
        line if line.starts_with(':') => line.split(" [").next().unwrap_or_default().to_owned(),
        line => line.to_owned(),
    }
}

/// The rules of egress as nf_tables numbers them: a rule that was written anew has another number. Legacy tables have
/// none.
fn handles(world: &World) -> Vec<String> {
    if world.driver.tools().variant == weir::kernel::xtables::variant::Variant::Legacy {
        return Vec::new();
    }
    let list = |family| {
        let name = if family == Family::V4 { "ip" } else { "ip6" };
        let chains = world.lab.node().check("nft", &["-a", "list", "table", name, "nat"], "").unwrap();
        let rules = chains.lines().filter(|line| line.contains("# handle "));
        rules.map(|line| line.rsplit("# ").next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let all: Vec<String> = world.families().into_iter().flat_map(list).collect();
    assert!(all.len() > 10, "{all:?}");
    all
}
