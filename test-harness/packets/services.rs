//! Services: their addresses, their ports, and how they come and go.

use std::slice;
use std::sync::PoisonError;

use weir::lab::Probe;
use weir::net::{Family, Protocol};

use super::manifests::Service;
use super::seen::Seen;
use super::variants::{SCTP_MODULE, on_each_variant};
use super::world::{Case, World, kept, masqueraded, tcp, udp};

/// Every address that a service can have, from everywhere.
#[test]
fn t4_t5_t9_t10_every_address_of_a_service() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let web = Service::new("web", 1, "{port: 80, nodePort: 30080}").balanced().external();
        world.tell(&[web.on(&world.endpoints(["pod1", "pod4"]))]);
        world.judge_both(|family| {
            let both = ["pod1", "pod4"];
            let (cluster, external) = ((web.cluster_ip(family), 80), (web.external_ip(family), 80));
            let (vip, node) = ((web.vip(family), 80), (world.node_ip(family), 30080));
            let own = |other: &str| [Seen::Kept(other.to_owned()), Seen::Masqueraded("pod1".to_owned())];
            let mut cases = vec![
                tcp("T4", "pod3", cluster, kept(both)),
                tcp("T5", "pod1", cluster, own("pod4")),
                tcp("T5", "pod1", external, masqueraded(both)),
                tcp("T9", "client", cluster, masqueraded(both)),
                tcp("T9", "node", cluster, masqueraded(both)),
                tcp("T9", "client", node, masqueraded(both)),
                tcp("T9", "pod3", node, masqueraded(both)),
                tcp("T9", "node", node, masqueraded(both)),
                // The node's other address, the one that its pods know.
                tcp("T9", "pod3", (world.lab.oracle_host().addresses[family as usize + 2], 30080), masqueraded(both)),
                tcp("T10", "pod3", external, masqueraded(both)),
                tcp("T10", "client", external, masqueraded(both)),
                tcp("T10", "node", external, masqueraded(both)),
                tcp("T54", "pod3", vip, masqueraded(both)),
                tcp("T54", "client", vip, masqueraded(both)),
                tcp("T54", "node", vip, masqueraded(both)),
                tcp("B9", "pod3", (cluster.0, 81), [Seen::Untouched]),
                udp("B8", "pod3", cluster, [Seen::Untouched]),
                udp("B8", "client", node, [Seen::Untouched]),
            ];
            let localhost = if family == Family::V4 { "127.0.0.1" } else { "::1" };
            let answer = if family == Family::V4 { masqueraded(both) } else { [Seen::Untouched].into() };
            cases.push(tcp("E1", "node", (localhost.parse().unwrap(), 30080), answer));
            cases
        });
    });
}

/// Source ranges apply to VIPs and change while the service runs.
#[test]
fn t53_t57_source_ranges_and_node_ports_change() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let endpoints = world.endpoints(["pod1"]);
        let web = |ranges: &str, port: &str| {
            Service::new("web", 1, port)
                .balanced()
                .with(&format!("loadBalancerSourceRanges: [{ranges}]"))
                .on(&endpoints)
        };
        let any = Service::new("web", 1, "{port: 80}");
        let verdicts = |family: Family, client: Seen, blocked: Seen, pod: Seen| {
            let vip = (any.vip(family), 80);
            vec![
                tcp("T53", "client", vip, [client]),
                tcp("T53", "blocked", vip, [blocked]),
                tcp("T53", "pod3", vip, [pod]),
                tcp("T53", "blocked", (any.cluster_ip(family), 80), masqueraded(["pod1"])),
            ]
        };
        let served = || Seen::Masqueraded("pod1".to_owned());
        let node_port = |family| (world.node_ip(family), 30080);

        world.tell(&[web("192.168.99.64/26, '2001:db8:99::100/120', 10.244.0.0/16, 'fd00:10:244::/48'", "{port: 80}")]);
        world.judge_both(|family| {
            let mut cases = verdicts(family, served(), Seen::Dropped, served());
            cases.push(tcp("T57", "client", node_port(family), [Seen::Untouched]));
            cases
        });
        world.tell(&[web("192.168.99.200/32, '2001:db8:99::200/128'", "{port: 80, nodePort: 30080}")]);
        world.judge_both(|family| {
            let mut cases = verdicts(family, Seen::Dropped, served(), Seen::Dropped);
            cases.push(tcp("T57", "client", node_port(family), masqueraded(["pod1"])));
            cases
        });
        world.tell(&[web("", "{port: 80}")]);
        world.judge_both(|family| verdicts(family, served(), served(), served()));
    });
}

/// Ports of a service, spread over slices and protocols.
#[test]
fn t2_t3_t11_t38_t43_t60_ports_lead_to_their_own_endpoints() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let [pod1, pod2, pod4] = world.endpoints(["pod1", "pod2", "pod4"]);
        let (http, admin) = ("{name: http, port: 80, nodePort: 30080}", "{name: admin, port: 81, nodePort: 30081}");
        let same = "{name: t, port: 53, nodePort: 30053}, {name: u, port: 53, protocol: UDP, nodePort: 30053}";
        let many = |ports: &[&str]| Service::new("many", 1, &ports.join(", ")).with("type: NodePort");
        let service = many(&[http, admin, same]);
        let slices = [
            // T60: one port in two slices, and T43: with another number in each.
            service.slice("a", "{name: http, port: 8080}", slice::from_ref(&pod1)),
            service.slice("b", "{name: http, port: 8081}", slice::from_ref(&pod4)),
            // T2: another port elsewhere.
            service.slice("c", "{name: admin, port: 8082}", slice::from_ref(&pod2)),
            service.slice("d", "{name: t, port: 8080}, {name: u, port: 8081, protocol: UDP}", &[pod1, pod2]),
        ]
        .concat();
        world.tell(&[service.text(), slices.clone()]);
        let to = |family, port| (service.cluster_ip(family), port);
        let node = |family, port| (world.node_ip(family), port);
        let dns = |family| {
            vec![
                tcp("T38", "pod3", to(family, 53), kept(["pod1", "pod2"])),
                udp("T38", "pod3", to(family, 53), kept(["pod1:8081", "pod2:8081"])),
                tcp("T11", "client", node(family, 30053), masqueraded(["pod1", "pod2"])),
                udp("T11", "client", node(family, 30053), masqueraded(["pod1:8081", "pod2:8081"])),
            ]
        };
        world.judge_both(|family| {
            let mut cases = dns(family);
            cases.push(tcp("T60", "pod3", to(family, 80), kept(["pod1", "pod4:8081"])));
            cases.push(tcp("T43", "client", node(family, 30080), masqueraded(["pod1", "pod4:8081"])));
            cases.push(tcp("T2", "pod3", to(family, 81), kept(["pod2:8082"])));
            cases
        });
        // T3: one port goes, one comes.
        world.tell(&[many(&[http, "{name: admin, port: 82, nodePort: 30081}", same]).text(), slices.clone()]);
        world.judge_both(|family| {
            let mut cases = dns(family);
            cases.push(tcp("T3", "pod3", to(family, 81), [Seen::Untouched]));
            cases.push(tcp("T3", "pod3", to(family, 82), kept(["pod2:8082"])));
            cases
        });
        // T38: only one of the protocols is left.
        world.tell(&[many(&[http, "{name: u, port: 53, protocol: UDP, nodePort: 30053}"]).text(), slices]);
        world.judge_both(|family| {
            let mut cases = dns(family);
            cases[0].expect = [Seen::Untouched].into();
            cases[2].expect = [Seen::Untouched].into();
            cases
        });
    });
}

/// Services and endpoints that come, go, change their type, and are left to others.
#[test]
fn t1_t6_t7_t12_to_t15_t25_t26_t27_comings_and_goings() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let [pod1, pod2] = world.endpoints(["pod1", "pod2"]);
        let web = Service::new("web", 1, "{port: 80}");
        let expose = |spec: &str| Service::new("web", 1, "{port: 80, nodePort: 30080}").with(spec);
        let (slice, other) =
            (web.slice("a", "{name: '', port: 8080}", slice::from_ref(&pod1)), Service::new("other", 2, "{port: 80}"));
        let both = [pod1, pod2];
        let judge = |row, expect: &dyn Fn() -> std::collections::BTreeSet<Seen>| {
            world.judge_both(|family| vec![tcp(row, "pod3", (web.cluster_ip(family), 80), expect())]);
        };
        let untouched = || [Seen::Untouched].into();

        world.tell(&[]);
        judge("T6", &untouched);
        world.tell(&[web.on(&[])]);
        judge("T27", &|| [Seen::Refused].into());
        world.tell(&[web.on(&both[..1])]);
        judge("T1", &|| kept(["pod1"]));
        world.tell(&[web.on(&both)]);
        judge("T1", &|| kept(["pod1", "pod2"]));
        world.tell(&[web.on(&both[1..]), other.on(&both[..1])]);
        judge("T1", &|| kept(["pod2"]));
        // T6: one is deleted, the other stays as it is.
        let others = |row| {
            move |family| vec![tcp(row, "pod3", (Service::new("other", 2, "").cluster_ip(family), 80), kept(["pod1"]))]
        };
        world.tell(&[slice.clone(), other.on(&both[..1])]);
        judge("T6", &untouched);
        world.judge_both(others("T6"));
        // T7: it comes again.
        world.tell(&[web.text(), slice.clone(), other.on(&both[..1])]);
        judge("T7", &|| kept(["pod1"]));
        world.judge_both(others("T7"));
        let anothers = web.clone().label("service.kubernetes.io/service-proxy-name: other");
        world.tell(&[anothers.text(), slice.clone()]);
        judge("T25", &untouched);
        world.tell(&[web.text(), slice.clone()]);
        judge("T25", &|| kept(["pod1"]));
        // The label is on slices; without them nobody serves.
        let headless = slice.replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
        world.tell(&[web.text(), headless]);
        judge("T26", &|| [Seen::Refused].into());
        world.tell(&[web.text(), slice.clone()]);
        judge("T26", &|| kept(["pod1"]));
        // T12 to T15. A name has no address of ours, and whatever addresses it is written with are not served.
        let name = web.clone().with("type: ExternalName").with("externalName: example.org");
        world.tell(&[name.text(), slice.clone()]);
        judge("T14", &untouched);
        world.tell(&[expose("type: NodePort").text(), slice.clone()]);
        judge("T13", &|| kept(["pod1"]));
        let on_node = |expect: fn() -> std::collections::BTreeSet<Seen>| {
            world.judge_both(|family| vec![tcp("T15", "client", (world.node_ip(family), 30080), expect())]);
        };
        on_node(|| masqueraded(["pod1"]));
        world.tell(&[name.text(), slice.clone()]);
        on_node(|| [Seen::Untouched].into());
        judge("T15", &untouched);
        world.tell(&[web.text(), slice]);
        judge("T12", &|| kept(["pod1"]));
    });
}

/// A service without endpoints refuses within the round trip, whatever it is reached by.
#[test]
fn t27_nobody_waits_for_a_service_without_endpoints() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let ports = "{name: t, port: 80, nodePort: 30080}, {name: u, port: 80, protocol: UDP, nodePort: 30080}";
        let empty = Service::new("empty", 1, ports).balanced().external();
        let unready = world.endpoints(["pod1"]).map(|endpoint| endpoint.unready());
        for slice in ["", &empty.slice("a", "{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}", &unready)] {
            world.tell(&[empty.text(), slice.to_owned()]);
            world.judge_both(|family| {
                let addresses =
                    [(empty.cluster_ip(family), 80), (empty.external_ip(family), 80), (empty.vip(family), 80)];
                let all = addresses.into_iter().chain([(world.node_ip(family), 30080)]);
                let ask = |to| [tcp("T27", "client", to, [Seen::Refused]), udp("T27", "pod3", to, [Seen::Refused])];
                all.flat_map(ask).collect::<Vec<Case>>()
            });
        }
        for family in world.families() {
            let to = (empty.cluster_ip(family), 80).into();
            let begin = std::time::Instant::now();
            let outcome = Probe::new(Protocol::Tcp, to).run(world.host("pod3"));
            assert!(outcome.is_err() && begin.elapsed().as_millis() < 500, "{outcome:?} after {:?}", begin.elapsed());
        }
    });
}

/// Node ports are rules alone: another program can still listen there, and no module is loaded for SCTP.
#[test]
fn t16_to_t18_t40_no_sockets_and_no_modules() {
    on_each_variant(|variant| {
        let Some(world) = World::new(variant) else { return };
        let node = world.lab.node();
        let read = |path: &str| node.check("cat", &[path], "").unwrap();
        let _alone = SCTP_MODULE.lock().unwrap_or_else(PoisonError::into_inner);
        let sctp = || std::fs::read_to_string("/proc/modules").is_ok_and(|text| text.contains("\nsctp "));
        let before = sctp();
        let ports = "{name: t, port: 80, nodePort: 30080}, {name: u, port: 80, protocol: UDP, nodePort: 30080}, \
                     {name: s, port: 80, protocol: SCTP, nodePort: 30080}";
        let web = Service::new("web", 1, ports).with("type: NodePort");
        let slice =
            "{name: t, port: 8080}, {name: u, port: 8080, protocol: UDP}, {name: s, port: 8080, protocol: SCTP}";
        world.tell(&[web.text(), web.slice("a", slice, &world.endpoints(["pod1"]))]);
        // 30080, in hexadecimal as these files have it.
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let sockets = read(&format!("/proc/net/{table}"));
            assert!(!sockets.contains(":7580 "), "{table}: {sockets}");
        }
        for family in world.families() {
            let rules = super::variants::save(node, &world.driver, family);
            assert!(rules.lines().any(|rule| rule.contains("-p sctp") && rule.contains("--dport 30080")), "{rules}");
        }
        if before {
            weir::lab::skipped("T40: the SCTP module was loaded already");
        } else {
            assert!(!sctp(), "the SCTP module was loaded for a rule");
        }
    });
}
