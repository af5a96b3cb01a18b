//! What holds for every state: invariants of the model, and that the way to a state does not matter.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::model::oracle::{Host, Packet, Verdict, judge};
use crate::model::{EndpointFlags, LocalDetector, ServicePort, Settings};
use crate::state::testing::{self, Build, endpoint};
use crate::state::{
    Fact, FactKey, IpMode, Kind, LoadBalancerIngress, ServiceType, SliceEndpoint, TrafficPolicy, Tuning, Update,
    Weights,
};

const SERVICES: [&str; 3] = ["a", "b", "c"];
const PORTS: [(&str, Protocol); 3] = [("", Protocol::Tcp), ("p", Protocol::Tcp), ("p", Protocol::Udp)];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

/// Mostly none, as annotations are rare.
fn any_tuning() -> impl Strategy<Value = Option<Arc<Tuning>>> {
    let map = |names: [&'static str; 2]| btree_map(select(names.to_vec()).prop_map(Arc::from), 0u16..4, 0..=2);
    let weights = (map([NODE, "host2"]), map(["zone-a", "zone-b"])).prop_map(|(nodes, zones)| Weights { nodes, zones });
    let tuning = weights.prop_map(|weights| Some(Arc::new(Tuning { weights, ..Tuning::default() })));
    prop_oneof![2 => Just(None), 1 => tuning]
}

prop_compose! {
    fn any_service(of: &'static str)(
        kind in select(vec![ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer, ServiceType::ExternalName]),
        ports in subsequence(PORTS.to_vec(), 0..=3),
        node_port in select(vec![0u16, 3001]),
        external_ips in subsequence(vec![ip("9.9.9.9"), ip("9.9.9.8"), ip("2001:db8::9")], 0..=3),
        vips in subsequence(vec![ip("1.2.3.4"), ip("2001:db8::4")], 0..=2),
        source_ranges in subsequence(vec!["203.0.113.0/25", "10.0.0.0/8", "0.0.0.0/0", "fd00::/8"], 0..=3),
        tuning in any_tuning(),
        (internal_policy, external_policy) in (policy(), policy()),
    ) -> Service {
        let number = SERVICES.iter().position(|name| *name == of).unwrap();
        let ports: Vec<_> = ports.iter().map(|(name, protocol)| (*name, *protocol, 80)).collect();
        let mut service = testing::service(&format!("ns/{of}"), &format!("172.30.0.{number}"), &ports);
        for port in &mut service.ports {
            port.node_port = node_port;
        }
        let ingress = |ip| LoadBalancerIngress { ip, mode: IpMode::Vip };
        Service {
            service_type: kind,
            cluster_ips: [Some(ip(&format!("172.30.0.{number}"))), Some(ip(&format!("fd00:172::{number}")))].into(),
            ip_families: Family::ALL.into(),
            external_ips: external_ips.into(),
            load_balancer: vips.into_iter().map(ingress).collect(),
            source_ranges: source_ranges.iter().map(|text| text.parse::<IpNet>().unwrap()).collect(),
            internal_policy,
            external_policy,
            health_check_node_port: 30000,
            tuning,
            ..service
        }
    }
}

prop_compose! {
    fn any_endpoint(family: Family)(
        last in 1u8..5,
        node in select(vec![None, Some(NODE), Some("host2")]),
        (ready, serving, terminating) in any::<(bool, bool, bool)>(),
        zones in subsequence(vec!["zone-a", "zone-b"], 0..=2),
        nodes in subsequence(vec![NODE, "host2"], 0..=2),
        zone in select(vec![None, Some("zone-a"), Some("zone-b")]),
    ) -> SliceEndpoint {
        let address = match family {
            Family::V4 => format!("10.180.0.{last}"),
            Family::V6 => format!("fd00:10::{last}"),
        };
        let endpoint = endpoint(&address).conditions(ready, serving, terminating);
        let endpoint = if zones.is_empty() { endpoint } else { endpoint.zones(&zones) };
        let endpoint = if nodes.is_empty() { endpoint } else { endpoint.nodes(&nodes) };
        let endpoint = zone.map_or(endpoint.clone(), |zone| endpoint.in_zone(zone));
        node.map_or(endpoint.clone(), |node| endpoint.on(node))
    }
}

prop_compose! {
    fn any_slice(name: &'static str)(family in select(Family::ALL.to_vec()))(
        service in select(SERVICES.to_vec()),
        ports in subsequence(PORTS.to_vec(), 0..=3),
        number in select(vec![80u16, 8080]),
        endpoints in vec(any_endpoint(family), 0..5),
        family in Just(family),
    ) -> EndpointSlice {
        let ports: Vec<_> = ports.iter().map(|(name, protocol)| (*name, *protocol, number)).collect();
        EndpointSlice { family, ..testing::slice(&format!("ns/{name}"), service, &ports, &endpoints) }
    }
}

/// Any object: one of three services, five slices, and the node.
fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        3 => select(SERVICES.to_vec()).prop_flat_map(any_service).prop_map(Fact::Service),
        5 => select(vec!["s1", "s2", "s3", "s4", "s5"]).prop_flat_map(any_slice).prop_map(Fact::EndpointSlice),
        1 => select(vec![None, Some("zone-a"), Some("zone-b")]).prop_map(|zone| Fact::Node(testing::node(NODE, zone))),
    ]
}

fn any_facts() -> impl Strategy<Value = BTreeMap<FactKey, Fact>> {
    vec(any_fact(), 0..12).prop_map(|facts| facts.into_iter().map(|fact| (fact.key(), fact)).collect())
}

/// What can be told on the way: changes that may be undone later, duplicates, deletions, relists.
fn any_update() -> impl Strategy<Value = Update> {
    prop_oneof![
        4 => any_fact().prop_map(Update::Upsert),
        2 => any_fact().prop_map(|fact| Update::Delete(fact.key())),
        1 => (select(vec![Kind::Service, Kind::EndpointSlice]), any_facts()).prop_map(|(kind, facts)| {
            Update::Replace { kind, facts: facts.into_values().filter(|fact| fact.key().kind == kind).collect() }
        }),
    ]
}

fn resolve_service(state: &State, name: &ObjectName) -> Vec<Arc<ServicePort>> {
    resolve(state, name, &NodeContext::of(state, NODE.into()), &Options::default())
}

fn full_model(state: &State) -> BTreeMap<ObjectName, Vec<Arc<ServicePort>>> {
    state.service_names().map(|name| (name.clone(), resolve_service(state, name))).collect()
}

/// A model that is kept up to date by what `apply` says it touched.
#[derive(Default)]
struct Follower {
    state: State,
    model: BTreeMap<ObjectName, Vec<Arc<ServicePort>>>,
}

impl Follower {
    fn follow(&mut self, batch: Vec<Update>) {
        let touched = self.state.apply(batch);
        if touched.node {
            self.model = full_model(&self.state);
        }
        for name in &touched.services {
            if self.state.service(name).is_some() {
                self.model.insert(name.clone(), resolve_service(&self.state, name));
            } else {
                self.model.remove(name);
            }
        }
    }
}

/// The updates that lead from whatever a state holds to these facts. A node is never unlearned.
fn correction(state: &State, facts: &BTreeMap<FactKey, Fact>) -> Vec<Update> {
    let services = state.service_names().cloned().map(|name| FactKey { kind: Kind::Service, name });
    let slices = SERVICES.iter().flat_map(|service| state.slices(&testing::name(&format!("ns/{service}"))));
    let slices = slices.map(|slice| FactKey { kind: Kind::EndpointSlice, name: slice.name.clone() });
    let stale = services.chain(slices).filter(|key| !facts.contains_key(key));
    stale.map(Update::Delete).chain(facts.values().cloned().map(Update::Upsert)).collect()
}

fn check_model(port: &ServicePort) -> Result<(), TestCaseError> {
    let texts: Vec<String> = port.endpoints.iter().map(|e| e.endpoint.to_string()).collect();
    prop_assert!(texts.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()), "sorted, each once: {texts:?}");
    for endpoint in &port.endpoints {
        let flags = endpoint.flags;
        prop_assert_eq!(Family::of(&endpoint.endpoint.ip), port.family());
        prop_assert!(flags.contains(EndpointFlags::SERVING));
        prop_assert!(port.tuning.is_some() || endpoint.weight == 1);
        prop_assert!(!flags.contains(EndpointFlags::LOCAL) || flags.contains(EndpointFlags::ON_NODE));
        prop_assert!(!flags.contains(EndpointFlags::CLUSTER) || port.uses_cluster_endpoints());
        prop_assert!(!flags.contains(EndpointFlags::LOCAL) || port.uses_local_endpoints());
    }
    prop_assert_eq!(port.has_any_endpoint, !port.endpoints.is_empty());
    if port.uses_cluster_endpoints() {
        prop_assert_eq!(port.cluster_endpoints().next().is_some(), port.has_any_endpoint);
    }
    prop_assert!(port.external_ips.is_sorted_by(|a, b| a < b) && port.load_balancer_ips.is_sorted_by(|a, b| a < b));
    prop_assert!(port.source_ranges.iter().all(|range| range.prefix_len() > 0));
    Ok(())
}

fn check_verdict(model: &[Arc<ServicePort>], packet: &Packet) -> Result<(), TestCaseError> {
    let detector = LocalDetector::Cidr("10.0.0.0/8".parse().unwrap());
    let settings = Settings { detector: PerFamily { v4: detector, v6: LocalDetector::None }, ..Settings::default() };
    let host = Host { addresses: vec![ip("192.168.0.2"), ip("2001:db8::1")] };
    if let Verdict::Serve(outcomes) = judge(model.iter().map(|port| &**port), &settings, &host, packet) {
        let sum: f64 = outcomes.values().sum();
        prop_assert!((sum - 1.0).abs() < 1e-9, "{outcomes:?}");
        let reachable: BTreeSet<_> = model.iter().flat_map(|port| port.reachable_endpoints()).collect();
        for outcome in outcomes.keys() {
            prop_assert!(reachable.contains(&outcome.endpoint));
            prop_assert!(outcome.masqueraded || outcome.endpoint.ip != packet.source, "hairpin: {outcome:?}");
        }
    }
    Ok(())
}

prop_compose! {
    fn any_packet()(
        v6 in any::<bool>(),
        source in 0usize..4,
        destination in 0usize..6,
        protocol in select(Protocol::ALL.to_vec()),
        port in select(vec![80u16, 3001, 30000]),
        in_interface in select(vec![None, Some("eth0".to_owned())]),
    ) -> Packet {
        let pick = |v4: &[&str], other: &[&str], at: usize| ip(if v6 { other } else { v4 }[at]);
        Packet {
            source: pick(
                &["10.180.0.1", "192.168.0.2", "203.0.113.2", "1.2.3.4"],
                &["fd00:10::1", "2001:db8::1", "2600::1", "2001:db8::4"],
                source,
            ),
            destination: pick(
                &["172.30.0.0", "172.30.0.1", "9.9.9.9", "1.2.3.4", "192.168.0.2", "127.0.0.1"],
                &["fd00:172::", "fd00:172::1", "2001:db8::9", "2001:db8::4", "2001:db8::1", "::1"],
                destination,
            ),
            protocol,
            port,
            in_interface,
        }
    }
}

proptest! {
    #[test]
    fn models_are_sound(facts in any_facts(), packets in vec(any_packet(), 20)) {
        let mut state = State::default();
        state.apply(facts.into_values().map(Update::Upsert).collect());
        let model: Vec<_> = full_model(&state).into_values().flatten().collect();
        for port in &model {
            check_model(port)?;
        }
        for packet in &packets {
            check_verdict(&model, packet)?;
        }
    }

    /// Any state to any state: whatever was told before, in whatever batches, ends where telling just the last facts
    /// ends; and re-resolving what each batch touched is enough to follow.
    #[test]
    fn the_way_does_not_matter(
        history in vec(vec(any_update(), 0..4), 0..8),
        facts in any_facts(),
        shuffle in any::<prop::sample::Index>(),
        split in any::<bool>(),
    ) {
        let mut follower = Follower::default();
        for batch in history {
            follower.follow(batch);
            prop_assert_eq!(&follower.model, &full_model(&follower.state));
        }
        let mut last = correction(&follower.state, &facts);
        if !last.is_empty() {
            let at = shuffle.index(last.len());
            last.rotate_left(at);
        }
        // Told twice, in one batch or one by one.
        for _ in 0..2 {
            if split {
                last.iter().for_each(|update| follower.follow(vec![update.clone()]));
            } else {
                follower.follow(last.clone());
            }
        }

        let mut direct = State::default();
        direct.apply(facts.values().cloned().map(Update::Upsert).collect());
        if direct.node().is_none() && let Some(node) = follower.state.node() {
            direct.apply(vec![Update::Upsert(Fact::Node(node.clone()))]);
        }
        prop_assert_eq!(&follower.model, &full_model(&direct));
        prop_assert_eq!(&follower.model, &full_model(&follower.state));
        for service in SERVICES {
            let name = testing::name(&format!("ns/{service}"));
            prop_assert_eq!(follower.state.slices(&name), direct.slices(&name));
        }
    }

    /// A relist after any history swaps in exactly what it lists.
    #[test]
    fn a_relist_is_the_truth(history in vec(any_update(), 0..10), facts in any_facts()) {
        let mut follower = Follower::default();
        follower.follow(history);
        let of = |kind| facts.values().filter(|fact| fact.key().kind == kind).cloned().collect::<Vec<_>>();
        let node = of(Kind::Node).into_iter().chain(follower.state.node().cloned().map(Fact::Node)).next();
        let relist = [Kind::EndpointSlice, Kind::Service].map(|kind| Update::Replace { kind, facts: of(kind) });
        let updates: Vec<Update> = relist.into_iter().chain(node.map(Update::Upsert)).collect();
        follower.follow(updates.clone());
        let mut direct = State::default();
        direct.apply(updates.clone());
        prop_assert_eq!(&follower.model, &full_model(&direct));
        prop_assert!(follower.state.apply(updates).is_empty());
    }

    /// Endpoints may be spread over slices in any way: a slice split in two is the same service.
    #[test]
    fn slices_can_be_split(
        services in btree_map(Just("a"), any_service("a"), 1),
        slice in any_slice("s1"),
        at in any::<prop::sample::Index>(),
    ) {
        let slice = EndpointSlice { service: "a".into(), ..slice };
        let at = at.index(slice.endpoints.len() + 1);
        let (left, right) = slice.endpoints.split_at(at);
        let half = |name: &str, endpoints: &[SliceEndpoint]| EndpointSlice {
            name: testing::name(name),
            endpoints: endpoints.into(),
            ..slice.clone()
        };
        let services: Vec<_> = services.into_values().collect();
        let whole = state_of(&services, std::slice::from_ref(&slice));
        let split = state_of(&services, &[half("ns/s1", left), half("ns/s2", right)]);
        prop_assert_eq!(full_model(&whole), full_model(&split));
    }

    /// Which slice comes first does not matter where no address is in two of them.
    #[test]
    fn the_order_of_slices_does_not_matter(
        service in any_service("a"),
        slices in vec(any_slice("s1"), 3),
        turn in 0usize..3,
    ) {
        let named = |turn: usize| -> Vec<EndpointSlice> {
            let slices = slices.iter().enumerate();
            slices
                .map(|(i, slice)| {
                    let mut slice = slice.clone();
                    slice.service = "a".into();
                    slice.name = testing::name(&format!("ns/s{}", (i + turn) % 3));
                    slice.endpoints = slice.endpoints.iter().enumerate().map(|(j, endpoint)| {
                        let last = 10 * i + j + 1;
                        let address = match slice.family {
                            Family::V4 => format!("10.180.1.{last}"),
                            Family::V6 => format!("fd00:10::1:{last}"),
                        };
                        SliceEndpoint { ip: ip(&address), ..endpoint.clone() }
                    }).collect();
                    slice
                })
                .collect()
        };
        let model = |turn| full_model(&state_of(std::slice::from_ref(&service), &named(turn)));
        prop_assert_eq!(model(turn), model(0));
    }

    /// The weight is the node's, else the zone's, else 1, in whatever slice the endpoint is.
    #[test]
    fn weights_follow_the_place(service in any_service("a"), slice in any_slice("s1")) {
        let slice = EndpointSlice { service: "a".into(), ..slice };
        let model = full_model(&state_of(std::slice::from_ref(&service), std::slice::from_ref(&slice)));
        for port in model.values().flatten() {
            for found in &port.endpoints {
                let places = slice.endpoints.iter().filter(|endpoint| endpoint.ip == found.endpoint.ip);
                let weights = service.tuning.as_ref().map(|tuning| &tuning.weights);
                let mut possible = places.map(|endpoint| {
                    let place = endpoint.location.as_ref();
                    let node = place.and_then(|place| weights?.nodes.get(place.node.as_ref()?));
                    let zone = place.and_then(|place| weights?.zones.get(place.zone.as_ref()?));
                    *node.or(zone).unwrap_or(&1)
                });
                prop_assert!(possible.any(|weight| weight == found.weight), "{found:?}");
            }
        }
    }
}
