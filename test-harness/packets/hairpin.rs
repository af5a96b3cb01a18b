//! Endpoints that are their own clients.

use weir::kernel::xtables::variant::Variant;
use weir::net::Family;

use super::manifests::{Endpoint, Service, facts_alone};
use super::seen::Seen;
use super::variants::{on_each_variant, restore, save};
use super::world::{Case, World, kept, masqueraded, tcp};

/// Names of endpoints' chains on the node.
fn endpoint_chains(world: &World, family: Family) -> usize {
    let saved = save(world.lab.node(), &world.driver, family);
    saved.lines().filter(|line| line.starts_with(":KUBE-SEP-")).count()
}

/// Services of one endpoint each: a client that is answered has met just that.
struct Services {
    plain: Service,
    sticky: Service,
    local: Service,
}

impl Services {
    fn new() -> Services {
        let service = |name, number, port: &str| {
            let ports = format!("{{port: 80, nodePort: {port}}}");
            Service::new(name, number, &ports).balanced().external()
        };
        Services {
            plain: service("plain", 1, "30081"),
            sticky: service("sticky", 2, "30082").with("sessionAffinity: ClientIP"),
            local: service("local", 3, "30083").with("externalTrafficPolicy: Local"),
        }
    }

    fn on(&self, endpoint: &Endpoint) -> Vec<String> {
        [&self.plain, &self.sticky, &self.local].map(|service| service.on(std::slice::from_ref(endpoint))).into()
    }

    /// A client reaches the only endpoint by every address, as its own client or another's.
    fn cases(&self, world: &World, family: Family, client: &'static str, expect: Seen) -> Vec<Case> {
        let ways = |service: &Service, port: u16| {
            let at_80 =
                [service.cluster_ip(family), service.external_ip(family), service.vip(family)].map(|ip| (ip, 80));
            at_80.into_iter().chain([(world.node_ip(family), port)])
        };
        let all = [(&self.plain, 30081), (&self.sticky, 30082), (&self.local, 30083)];
        let to = all.into_iter().flat_map(|(service, port)| ways(service, port));
        to.map(|to| tcp("B2", client, to, [expect.clone()])).collect()
    }
}

fn world(variant: Variant) -> Option<(World, Services)> {
    World::new(variant).map(|world| (world, Services::new()))
}

/// By every address of a service, an endpoint on this node sees the node instead of itself; and so does one of which
/// nobody knows where it is, and every one if the API server does not know our node.
#[test]
fn b2_an_endpoint_on_this_node_does_not_see_itself() {
    on_each_variant(|variant| {
        let Some((world, services)) = world(variant) else { return };
        let [pod1] = world.endpoints(["pod1"]);
        let judge = |chains: usize| {
            world.judge_both(|family| {
                assert_eq!(endpoint_chains(&world, family), chains);
                services.cases(&world, family, "pod1", Seen::Masqueraded("pod1".to_owned()))
            });
        };
        world.tell(&services.on(&pod1));
        judge(3);
        world.tell(&services.on(&pod1.clone().anywhere()));
        // There is none on this node, as far as anyone knows: the Local policy does without it, for outside clients.
        judge(3);
        let as_others_see_it: Vec<String> =
            services.on(&pod1).iter().map(|text| text.replace("nodeName: node}", "nodeName: other}")).collect();
        assert_ne!(as_others_see_it, services.on(&pod1));
        let stranger = world.another(super::world::SELDOM);
        stranger.tell(facts_alone(&as_others_see_it));
        judge(3);
    });
}

/// An endpoint on another node has no chain without affinity. It is masqueraded where its own packets can come by.
#[test]
fn an_endpoint_on_another_node_is_masqueraded_where_it_can_come_by() {
    on_each_variant(|variant| {
        let Some((world, services)) = world(variant) else { return };
        let [pod4] = world.endpoints(["pod4"]);
        world.tell(&services.on(&pod4));
        world.judge_both(|family| {
            // With affinity, and where the Local policy lets pods use all endpoints.
            assert_eq!(endpoint_chains(&world, family), 2);
            let seen = || masqueraded(["pod4"]);
            let node_port = |port| (world.node_ip(family), port);
            vec![
                tcp("B2", "pod4", node_port(30081), seen()),
                tcp("B2", "pod4", node_port(30082), seen()),
                tcp("3.14", "pod4", node_port(30083), seen()),
                tcp("B1", "pod1", (services.plain.cluster_ip(family), 80), kept(["pod4"])),
                tcp("B1", "pod1", (services.sticky.cluster_ip(family), 80), kept(["pod4"])),
                tcp("B1", "client", node_port(30081), seen()),
            ]
        });
    });
}

/// What is masqueraded is let through a FORWARD chain that lets nothing through, and an endpoint's way to itself is
/// among that, as with kube-proxy (contract 3.3): it is marked on its way, not afterwards.
#[test]
fn an_endpoint_reaches_itself_through_a_closed_forward_chain() {
    on_each_variant(|variant| {
        let Some((world, services)) = world(variant) else { return };
        world.tell(&services.on(&world.endpoints(["pod1"])[0]));
        for family in world.families() {
            restore(world.lab.node(), &world.driver, family, "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
        }
        world.judge_both(|family| {
            let mut cases = services.cases(&world, family, "pod1", Seen::Masqueraded("pod1".to_owned()));
            let cluster_ip = (services.plain.cluster_ip(family), 80);
            cases.push(tcp("3.3", "pod3", cluster_ip, [Seen::Dropped]));
            cases.push(tcp("3.3", "client", cluster_ip, masqueraded(["pod1"])));
            cases
        });
    });
}
