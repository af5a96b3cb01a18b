//! Health check node ports and the node's eligibility, as far as they follow from the facts.

use super::*;
use crate::net::Protocol::{Tcp, Udp};
use crate::resolve::health::{Change, HealthPort, HealthPorts, NodeEligibility, health_port};
use crate::state::testing::{Build, Port, delete_service, delete_slice, endpoint, name, service, slice};
use crate::state::{ClusterIp, Fact, FactKey, Kind, Node, ServiceType, SliceEndpoint, TrafficPolicy, Update};

const HTTP: Port<'static> = ("http", Tcp, 80);

fn balanced(of: &str, port: u16) -> Service {
    Service {
        service_type: ServiceType::LoadBalancer,
        external_policy: TrafficPolicy::Local,
        health_check_node_port: port,
        ..service(of, "172.30.0.1", &[HTTP])
    }
}

fn dual(service: Service) -> Service {
    let second = "fd00::1".parse().unwrap();
    let ClusterIp::Ip(first) = service.cluster_ip else { unreachable!() };
    Service { cluster_ips: [Some(first), Some(second)].into(), ip_families: Family::ALL.into(), ..service }
}

fn here(ip: &str) -> SliceEndpoint {
    endpoint(ip).on(NODE)
}

fn port(number: u16, v4: Option<usize>, v6: Option<usize>) -> Option<HealthPort> {
    Some(HealthPort { port: number, local: PerFamily { v4, v6 } })
}

fn of(service: Service, slices: &[EndpointSlice]) -> Option<HealthPort> {
    let name = service.name.clone();
    health_port(&state_of(&[service], slices), &name, NODE, &Options::default())
}

#[test]
fn which_services_have_one() {
    let plain = balanced("ns/s", 9000);
    assert_eq!(of(plain.clone(), &[]), port(9000, Some(0), None));
    assert_eq!(of(dual(plain.clone()), &[]), port(9000, Some(0), Some(0)));
    let without = |change: fn(&mut Service)| {
        let mut service = plain.clone();
        change(&mut service);
        of(service, &[])
    };
    assert_eq!(without(|s| s.health_check_node_port = 0), None);
    assert_eq!(without(|s| s.external_policy = TrafficPolicy::Cluster), None);
    assert_eq!(without(|s| s.service_type = ServiceType::NodePort), None);
    assert_eq!(without(|s| s.cluster_ip = ClusterIp::Headless), None);
    assert_eq!(without(|s| s.ports = Box::default()), None);
    let only_v6 = Options { families: PerFamily { v4: false, v6: true }, ..Options::default() };
    let state = state_of(&[dual(plain)], &[]);
    assert_eq!(health_port(&state, &name("ns/s"), NODE, &only_v6), port(9000, None, Some(0)));
    assert_eq!(health_port(&state, &name("ns/other"), NODE, &only_v6), None);
}

#[test]
fn h12_h13_only_ready_endpoints_count() {
    let counted = |endpoints: &[SliceEndpoint]| of(balanced("ns/s", 9000), &[slice("ns/s-1", "s", &[HTTP], endpoints)]);
    let draining = here("10.0.0.1").terminating();
    assert_eq!(counted(&[draining.clone(), here("10.0.0.2").terminating()]), port(9000, Some(0), None), "H12");
    assert_eq!(counted(&[draining, here("10.0.0.2")]), port(9000, Some(1), None), "H13");
    assert_eq!(counted(&[here("10.0.0.1"), endpoint("10.0.0.2").on("host2")]), port(9000, Some(1), None));
}

/// An address counts once however many ports and slices it is in; each family has its own count.
#[test]
fn addresses_are_counted_over_all_ports() {
    let dns: Port<'_> = ("dns", Udp, 53);
    let slices = [
        slice("ns/s-1", "s", &[HTTP, dns], &[here("10.0.0.1"), here("10.0.0.2")]),
        slice("ns/s-2", "s", &[HTTP], &[here("10.0.0.2"), here("10.0.0.3")]),
        slice("ns/s-3", "s", &[HTTP], &[here("fd00::1")]),
    ];
    assert_eq!(of(dual(balanced("ns/s", 9000)), &slices), port(9000, Some(3), Some(1)));
}

fn synced(services: &[Service], slices: &[EndpointSlice]) -> Vec<Update> {
    let services = services.iter().cloned().map(Fact::Service).collect();
    let slices = slices.iter().cloned().map(Fact::EndpointSlice).collect();
    vec![
        Update::Replace { kind: Kind::Service, facts: services },
        Update::Replace { kind: Kind::EndpointSlice, facts: slices },
    ]
}

#[test]
fn changes_are_told_once_and_only_when_all_is_known() {
    let mut state = State::default();
    let mut ports = HealthPorts::new(NODE.into(), Options::default());
    let mut tell = |batch: Vec<Update>| -> Vec<Change> {
        let touched = state.apply(batch);
        ports.follow(&state, &touched)
    };
    let s = balanced("ns/s", 9000);
    let one = slice("ns/s-1", "s", &[HTTP], &[here("10.0.0.1")]);
    let two = slice("ns/s-1", "s", &[HTTP], &[here("10.0.0.1"), here("10.0.0.2")]);
    let cluster_ip = service("ns/c", "172.30.0.2", &[HTTP]);

    let mut batches = synced(&[s.clone(), cluster_ip.clone()], std::slice::from_ref(&one)).into_iter();
    assert_eq!(tell(batches.next().into_iter().collect()), [], "slices are missing");
    assert_eq!(tell(batches.collect()), [(name("ns/s"), port(9000, Some(1), None))]);
    let of_c = slice("ns/c-1", "c", &[HTTP], &[here("10.0.0.9")]);
    assert_eq!(tell(vec![upsert_slice(&of_c), upsert_service(&s)]), [], "nothing that matters");
    assert_eq!(tell(vec![upsert_slice(&two)]), [(name("ns/s"), port(9000, Some(2), None))]);
    assert_eq!(tell(vec![upsert_service(&balanced("ns/s", 9001))]), [(name("ns/s"), port(9001, Some(2), None))]);
    assert_eq!(tell(vec![delete_slice("ns/s-1")]), [(name("ns/s"), port(9001, Some(0), None))]);
    assert_eq!(tell(vec![delete_service("ns/s")]), [(name("ns/s"), None)]);
    assert_eq!(tell(vec![upsert_slice(&two)]), [], "S2: endpoints without a service");
    assert_eq!(tell(vec![upsert_service(&s)]), [(name("ns/s"), port(9000, Some(2), None))]);
    // A relist that lacks it.
    assert_eq!(tell(synced(&[cluster_ip], &[two])), [(name("ns/s"), None)]);
}

#[test]
fn s23_to_s27_what_the_node_object_says() {
    let mut state = State::default();
    let mut tell = |update: Option<Update>| {
        state.apply(update.into_iter().collect());
        NodeEligibility::of(&state)
    };
    let node = |leaving| Some(Update::Upsert(Fact::Node(Node { leaving, name: NODE.into(), ..Node::default() })));
    let gone = Update::Delete(FactKey { kind: Kind::Node, name: ObjectName::new("", NODE) });
    assert_eq!(tell(None), NodeEligibility::Unknown, "S27");
    assert_eq!(tell(Some(gone.clone())), NodeEligibility::Unknown, "S27");
    assert_eq!(tell(node(false)), NodeEligibility::Eligible, "S23, S25");
    assert_eq!(tell(node(true)), NodeEligibility::Leaving, "S24, S26");
    assert_eq!(tell(node(false)), NodeEligibility::Eligible, "S25");
    assert_eq!(tell(Some(gone)), NodeEligibility::Gone);
    assert_eq!(tell(node(false)), NodeEligibility::Eligible, "it is back");
    assert_eq!(tell(Some(Update::Replace { kind: Kind::Node, facts: Vec::new() })), NodeEligibility::Gone);
    let eligible = [NodeEligibility::Unknown, NodeEligibility::Leaving, NodeEligibility::Gone].map(|e| e.is_eligible());
    assert_eq!((eligible, NodeEligibility::Eligible.is_eligible()), ([false; 3], true));
}

/// A source that starts anew: until it has told everything, what was told before stays.
#[test]
fn one_goes_on_for_another() {
    let (s, t) = (balanced("ns/s", 9000), balanced("ns/t", 9001));
    let mut ports = HealthPorts::new(NODE.into(), Options::default());
    let mut first = State::default();
    let touched = first.apply(synced(&[s, t.clone()], &[]));
    assert_eq!(ports.follow(&first, &touched).len(), 2);
    ports.succeed(HealthPorts::new(NODE.into(), Options::default()));
    let mut second = State::default();
    let mut batches =
        synced(std::slice::from_ref(&t), &[slice("ns/t-1", "t", &[HTTP], &[here("10.0.0.1")])]).into_iter();
    let touched = second.apply(batches.next().into_iter().collect());
    assert_eq!(ports.follow(&second, &touched), []);
    let touched = second.apply(batches.collect());
    let mut changes = ports.follow(&second, &touched);
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(changes, [(name("ns/s"), None), (name("ns/t"), port(9001, Some(1), None))]);
}
