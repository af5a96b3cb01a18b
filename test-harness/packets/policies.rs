//! Which endpoints may be used: traffic policies, endpoints that are going, topology.

use std::collections::BTreeSet;

use weir::net::Family;

use super::manifests::{Endpoint, Service, node_in_zone};
use super::seen::Seen;
use super::variants::on_each_variant;
use super::world::{Case, World, kept, masqueraded, tcp};

type Set = BTreeSet<Seen>;

/// internalTrafficPolicy Local: endpoints of this node, or nothing.
#[test]
fn t29_t30_t31_internal_policy_local() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let web = Service::new("web", 1, "{port: 80}").with("internalTrafficPolicy: Local").external();
        let judge = |row, pod: Set, node: Set| {
            world.judge_both(|family| {
                let to = (web.cluster_ip(family), 80);
                vec![tcp(row, "pod3", to, pod.clone()), tcp(row, "node", to, node.clone())]
            });
        };
        let [pod1, pod4] = world.endpoints(["pod1", "pod4"]);
        world.tell(&[web.on(&[pod1.clone(), pod4.clone()])]);
        judge("T29", kept(["pod1"]), masqueraded(["pod1"]));
        // What comes from outside is not internal.
        world.judge_both(|family| {
            vec![tcp("T29", "client", (web.external_ip(family), 80), masqueraded(["pod1", "pod4"]))]
        });
        world.tell(&[web.on(&[pod4])]);
        judge("T30", [Seen::Dropped].into(), [Seen::Dropped].into());
        world.tell(&[web.on(&[])]);
        judge("T31", [Seen::Refused].into(), [Seen::Refused].into());
    });
}

/// externalTrafficPolicy Local: only endpoints of this node answer the outside, who see the client's address; what is
/// not from outside may use all. The policy changes to Cluster and back.
#[test]
fn t32_t41_t54_external_policy_local() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let plain = Service::new("web", 1, "{port: 80, nodePort: 30080}").balanced().external();
        let local = plain.clone().with("externalTrafficPolicy: Local").with("healthCheckNodePort: 30090");
        let [pod1, pod4] = world.endpoints(["pod1", "pod4"]);
        let both = ["pod1", "pod4"];
        let outer = |family| {
            [(world.node_ip(family), 30080), (plain.external_ip(family), 80), (plain.vip(family), 80)].into_iter()
        };
        let from_all = |client: Set, pod: Set, node: Set| {
            move |family| {
                outer(family)
                    .flat_map(|to| {
                        [
                            tcp("T32", "client", to, client.clone()),
                            tcp("T54", "pod3", to, pod.clone()),
                            tcp("T54", "node", to, node.clone()),
                        ]
                    })
                    .collect::<Vec<Case>>()
            }
        };
        // The node's own service for health checks is let in, whatever the firewall says.
        let _health = weir::lab::EchoServer::start(world.lab.node(), &[(weir::net::Protocol::Tcp, 30090)]).unwrap();
        let health = |expect: Set| {
            world.judge_both(|family| vec![tcp("T41", "client", (world.node_ip(family), 30090), expect.clone())]);
        };
        for _ in 0..2 {
            world.tell(&[local.on(&[pod1.clone(), pod4.clone()])]);
            world.judge_both(from_all(kept(["pod1"]), kept(both), masqueraded(both)));
            health(kept(["node"]));
            world.tell(&[plain.on(&[pod1.clone(), pod4.clone()])]);
            world.judge_both(from_all(masqueraded(both), masqueraded(both), masqueraded(both)));
            health([Seen::Untouched].into());
        }
        // Endpoints, but none here: the client may try another node, so it is not told that there is nobody.
        world.tell(&[local.on(&[pod4])]);
        world.judge_both(from_all([Seen::Dropped].into(), kept(["pod4"]), masqueraded(["pod4"])));
        world.tell(&[local.on(&[])]);
        let refused = || [Seen::Refused];
        world.judge_both(|family| {
            outer(family)
                .flat_map(|to| [tcp("T27", "client", to, refused()), tcp("T27", "pod3", to, refused())])
                .collect()
        });
    });
}

/// Endpoints that are going serve as long as they can, if no other does.
#[test]
fn t20_t21_t33_to_t37_terminating_endpoints() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let services = [("Cluster", "Cluster"), ("Local", "Cluster"), ("Cluster", "Local"), ("Local", "Local")];
        let services: Vec<Service> = services
            .into_iter()
            .zip([("cc", 1), ("lc", 2), ("cl", 3), ("ll", 4)])
            .map(|((internal, external), (name, number))| {
                Service::new(name, number, &format!("{{port: 80, nodePort: {}}}", 30080 + u16::from(number)))
                    .with("type: NodePort")
                    .with(&format!("internalTrafficPolicy: {internal}"))
                    .with(&format!("externalTrafficPolicy: {external}"))
            })
            .collect();
        let tell = |endpoints: &[Endpoint]| world.tell(&services.iter().map(|s| s.on(endpoints)).collect::<Vec<_>>());
        // What the four services' cluster IPs and node ports do.
        let judge = |row, internal: [Set; 4], external: [Set; 4]| {
            let case = |family: Family, n: usize| {
                let node_port = (world.node_ip(family), 30081 + n as u16);
                [
                    tcp(row, "pod3", (services[n].cluster_ip(family), 80), internal[n].clone()),
                    tcp(row, "client", node_port, external[n].clone()),
                ]
            };
            world.judge_both(|family| (0..4).flat_map(|n| case(family, n)).collect());
        };
        let [pod1, pod2, pod4] = world.endpoints(["pod1", "pod2", "pod4"]);
        let dropped = || Set::from([Seen::Dropped]);
        let same = |set: Set| [set.clone(), set.clone(), set.clone(), set];

        // One still serves here while another is ready: T33 with a ready one beside.
        tell(&[pod1.clone(), pod2.clone().terminating(), pod4.clone()]);
        let (all, here) = (kept(["pod1", "pod4"]), kept(["pod1"]));
        let (outer, outer_here) = (masqueraded(["pod1", "pod4"]), kept(["pod1"]));
        judge("T33", [all.clone(), here.clone(), all, here], [outer.clone(), outer, outer_here.clone(), outer_here]);

        // Here only one that is going, elsewhere a ready one: Local policies use the one that is going.
        tell(&[pod1.clone().terminating(), pod4.clone()]);
        let (there, going) = (kept(["pod4"]), kept(["pod1"]));
        let outer = masqueraded(["pod4"]);
        judge(
            "T35",
            [there.clone(), going.clone(), there, going.clone()],
            [outer.clone(), outer, going.clone(), going],
        );

        // All are going.
        tell(&[pod1.clone().terminating(), pod4.clone().terminating()]);
        let (all, here) = (kept(["pod1", "pod4"]), kept(["pod1"]));
        let outer = masqueraded(["pod1", "pod4"]);
        judge("T34", [all.clone(), here.clone(), all, here.clone()], [outer.clone(), outer, here.clone(), here]);

        // All are going, and none here.
        tell(&[pod4.clone().terminating()]);
        let (there, outer) = (kept(["pod4"]), masqueraded(["pod4"]));
        judge("T37", [there.clone(), dropped(), there, dropped()], [outer.clone(), outer, dropped(), dropped()]);

        // T21: unready and not published. T20, published, is what ready endpoints are.
        tell(&[pod1.unready(), pod4.unready()]);
        let refused = Set::from([Seen::Refused]);
        judge("T21", same(refused.clone()), same(refused));
    });
}

/// Hints for zones and nodes are followed as long as every endpoint has one and one of them is for here.
#[test]
fn t51_t52_topology_hints() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let web = Service::new("web", 1, "{port: 80}");
        let [pod1, pod2, pod4] = world.endpoints(["pod1", "pod2", "pod4"]);
        let zone = |endpoint: &Endpoint, zone: &str| {
            endpoint.clone().with(&format!("hints: {{forZones: [{{name: {zone}}}]}}"))
        };
        let node = |endpoint: &Endpoint, node: &str| {
            endpoint.clone().with(&format!("hints: {{forZones: [{{name: a}}], forNodes: [{{name: {node}}}]}}"))
        };
        let judge = |row, endpoints: &[Endpoint], own_zone: &str, expect: Set| {
            world.tell(&[node_in_zone(own_zone), web.on(endpoints)]);
            world.judge_both(|family| vec![tcp(row, "pod3", (web.cluster_ip(family), 80), expect.clone())]);
        };
        let zoned = [zone(&pod1, "a"), zone(&pod2, "b"), zone(&pod4, "a")];
        judge("T51", &zoned, "a", kept(["pod1", "pod4"]));
        judge("T51", &zoned, "b", kept(["pod2"]));
        // Nobody for this zone, and one that has no hint: everyone serves.
        judge("T51", &zoned, "c", kept(["pod1", "pod2", "pod4"]));
        judge("T51", &[zone(&pod1, "a"), pod2.clone(), zone(&pod4, "a")], "a", kept(["pod1", "pod2", "pod4"]));
        let by_node = [node(&pod1, "node"), node(&pod4, "node2")];
        judge("T52", &by_node, "a", kept(["pod1"]));
        // The one of this node is gone: the zone's serve. It comes back.
        judge("T52", &by_node[1..], "a", kept(["pod4"]));
        judge("T52", &by_node, "a", kept(["pod1"]));
    });
}
