use proptest::prelude::*;

use super::*;
use crate::model::NodePortAddresses;
use crate::net::PerFamily;

/// A service with every kind of frontend. Endpoint .1 serves before and after, .2 terminates without serving any more
/// (it is only used while nothing better is there), .3 goes away, .4 terminates and still serves.
fn changed() -> (ServicePort, ServicePort) {
    let with_frontends = |endpoints: &[&str]| ServicePort {
        node_port: 30053,
        external_ips: ips(&["203.0.113.5"]),
        load_balancer_ips: ips(&["198.51.100.7"]),
        ..udp("dns", "10.96.0.10:53", endpoints)
    };
    let before = with_frontends(&["10.1.0.1:5353", "10.1.0.2:5353", "10.1.0.3:5353", "10.1.0.4:5353"]);
    let mut after = with_frontends(&["10.1.0.1:5353", "10.1.0.2:5353", "10.1.0.4:5353"]);
    after.endpoints[1].flags = EndpointFlags::ON_NODE;
    after.endpoints[2].flags = EndpointFlags::SERVING;
    (before, after)
}

/// S31-S36, S38-S40: destination, who answers, stale.
const ROWS: &[(&str, &str, &str, bool)] = &[
    ("S31", "10.96.0.10:53", "10.1.0.1:5353", false),
    ("S31 terminating, serving", "10.96.0.10:53", "10.1.0.4:5353", false),
    ("S32", "10.96.0.10:53", "10.1.0.2:5353", true),
    ("S33", "10.96.0.10:53", "10.1.0.3:5353", true),
    ("S34 VIP S31", "198.51.100.7:53", "10.1.0.1:5353", false),
    ("S34 VIP S32", "198.51.100.7:53", "10.1.0.2:5353", true),
    ("S34 VIP S33", "198.51.100.7:53", "10.1.0.3:5353", true),
    ("S34 external IP S31", "203.0.113.5:53", "10.1.0.1:5353", false),
    ("S34 external IP S32", "203.0.113.5:53", "10.1.0.2:5353", true),
    ("S34 external IP S33", "203.0.113.5:53", "10.1.0.3:5353", true),
    ("S35 serving", "192.0.2.1:30053", "10.1.0.1:5353", false),
    ("S35 not serving", "192.0.2.1:30053", "10.1.0.2:5353", true),
    ("S35 deleted", "192.0.2.1:30053", "10.1.0.3:5353", true),
    ("S35 loopback", "127.0.0.1:30053", "10.1.0.3:5353", true),
    ("S35 not this node's address", "192.0.2.99:30053", "10.1.0.3:5353", false),
    ("S35 not this node's address, not translated", "192.0.2.99:30053", "192.0.2.99:30053", false),
    ("S36", "10.96.0.10:54", "10.1.0.3:5353", false),
    ("S36 node port's number at the cluster IP", "10.96.0.10:30053", "10.1.0.3:5353", false),
    ("S36 service port's number at the node", "192.0.2.1:53", "10.1.0.3:5353", false),
    ("S38", "10.96.0.10:53", "10.1.0.1:5354", true),
    ("S39", "10.96.0.10:53", "10.96.0.10:53", true),
    ("S39 VIP", "198.51.100.7:53", "198.51.100.7:53", true),
    ("S39 node port", "192.0.2.1:30053", "192.0.2.1:30053", true),
    ("S40", "10.96.0.10:54", "10.96.0.10:54", false),
    ("foreign", "8.8.8.8:53", "8.8.8.8:53", false),
    ("foreign, straight to a former endpoint", "10.1.0.3:5353", "10.1.0.3:5353", false),
];

#[test]
fn s31_to_s40_rows() {
    let (before, after) = changed();
    let cleanup = cleanup(Some(&before), Some(&after));
    for (row, destination, answered_by, stale) in ROWS {
        assert_eq!(cleanup.is_stale(&flow(destination, answered_by)), *stale, "{row}");
    }
}

#[test]
fn s37_other_protocols_are_never_touched() {
    let (before, after) = changed();
    let cleanup = cleanup(Some(&before), Some(&after));
    for (row, destination, answered_by, _) in ROWS {
        for protocol in [Protocol::Tcp, Protocol::Sctp] {
            let flow = Flow { protocol: protocol.number(), ..flow(destination, answered_by) };
            assert!(!cleanup.is_stale(&flow), "{row} {protocol}");
        }
    }
}

#[test]
fn s37_moves_of_other_protocols_ask_for_nothing() {
    let (mut before, mut after) = changed();
    before.key.name.protocol = Protocol::Tcp;
    after.key.name.protocol = Protocol::Tcp;
    let not_looked_at = std::iter::from_fn(|| -> Option<&ServicePort> { panic!("went through the model") });
    assert!(Cleanup::of_moves(&[moved(Some(&before), Some(&after))], not_looked_at, &scope()).is_empty());
}

#[test]
fn s43_a_service_that_never_had_endpoints() {
    let service = udp("dns", "10.96.0.10:53", &[]);
    let mut with_node_port = service.clone();
    with_node_port.node_port = 30053;
    for (before, after) in
        [(None, Some(&service)), (Some(&service), Some(&with_node_port)), (Some(&with_node_port), None)]
    {
        assert!(cleanup(before, after).is_empty());
    }
    assert!(Cleanup::of_all([&service, &with_node_port], &scope()).is_empty());
}

/// The last endpoint goes: entries to it are stale, those that were not translated are left.
#[test]
fn from_some_endpoints_to_none() {
    let (before, mut after) = changed();
    for endpoint in &mut after.endpoints {
        endpoint.flags = EndpointFlags::default();
    }
    for after in [Some(&after), None] {
        let cleanup = cleanup(Some(&before), after);
        for (destination, answered_by, stale) in [
            ("10.96.0.10:53", "10.1.0.1:5353", true),
            ("198.51.100.7:53", "10.1.0.3:5353", true),
            ("192.0.2.1:30053", "10.1.0.2:5353", true),
            ("192.0.2.99:30053", "10.1.0.2:5353", false),
            ("10.96.0.10:53", "10.96.0.10:53", false),
            ("192.0.2.1:30053", "192.0.2.1:30053", false),
            ("10.96.0.10:53", "10.1.0.9:5353", false),
        ] {
            assert_eq!(cleanup.is_stale(&flow(destination, answered_by)), stale, "{destination} {answered_by}");
        }
    }
}

#[test]
fn a_deleted_services_address_may_be_another_services_now() {
    let gone = udp("old", "10.96.0.10:53", &["10.1.0.1:5353"]);
    let heir = udp("new", "10.96.0.10:53", &["10.1.0.1:5353", "10.1.0.2:5353"]);
    let cleanup = Cleanup::of_moves(&[moved(Some(&gone), None)], [&heir], &scope());
    assert!(!cleanup.is_stale(&flow("10.96.0.10:53", "10.1.0.1:5353")), "the heir serves it");
    assert!(cleanup.is_stale(&flow("10.96.0.10:53", "10.1.0.3:5353")));

    let without_endpoints = udp("new", "10.96.0.10:53", &[]);
    let cleanup = Cleanup::of_moves(&[moved(Some(&gone), None)], [&without_endpoints], &scope());
    assert!(cleanup.is_stale(&flow("10.96.0.10:53", "10.1.0.1:5353")));
}

/// Changes of the service alone count too: kube-proxy does not look at those.
#[test]
fn changes_of_the_service_alone() {
    let plain = udp("dns", "10.96.0.10:53", &["10.1.0.1:5353"]);
    let node_port = ServicePort { node_port: 30053, ..plain.clone() };
    let vip = ServicePort { load_balancer_ips: ips(&["198.51.100.7"]), ..plain.clone() };
    let other_port = ServicePort { port: 54, ..plain.clone() };
    for (what, before, after, destination, answered_by) in [
        ("new node port", &plain, &node_port, "192.0.2.1:30053", "192.0.2.1:30053"),
        ("new VIP", &plain, &vip, "198.51.100.7:53", "198.51.100.7:53"),
        ("new port, before the rules", &plain, &other_port, "10.96.0.10:54", "10.96.0.10:54"),
        ("old port", &plain, &other_port, "10.96.0.10:53", "10.1.0.1:5353"),
        ("node port withdrawn", &node_port, &plain, "192.0.2.1:30053", "10.1.0.1:5353"),
        ("VIP withdrawn", &vip, &plain, "198.51.100.7:53", "10.1.0.1:5353"),
    ] {
        let cleanup = cleanup(Some(before), Some(after));
        assert!(cleanup.is_stale(&flow(destination, answered_by)), "{what}");
        let kept = flow(&format!("10.96.0.10:{}", after.port), "10.1.0.1:5353");
        assert!(!cleanup.is_stale(&kept), "{what}");
    }
}

#[test]
fn what_changes_nothing_here_asks_for_nothing() {
    let before = udp("dns", "10.96.0.10:53", &["10.1.0.1:5353"]);
    let mut after = ServicePort { affinity_seconds: Some(10), ..before.clone() };
    after.endpoints[0].flags = EndpointFlags::SERVING.with(EndpointFlags::LOCAL);
    assert!(cleanup(Some(&before), Some(&after)).is_empty());
}

#[test]
fn node_ports_only_where_they_are_accepted() {
    let service = ServicePort { node_port: 30053, ..udp("dns", "10.96.0.10:53", &["10.1.0.1:5353"]) };
    let six = ServicePort { node_port: 30053, ..udp("dns", "[fd00:10::a]:53", &["[fd00:1::1]:5353"]) };
    let host = Host { addresses: ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1", "127.0.0.1", "::1"]).into() };
    let judge = |settings: &Settings, address: &str| {
        let scope = Arc::new(NodePortScope::new(settings, &host));
        let cleanup =
            Cleanup::of_moves(&[moved(None, Some(&service)), moved(None, Some(&six))], [&service, &six], &scope);
        let destination = Endpoint::new(address.parse().unwrap(), 30053).to_string();
        cleanup.is_stale(&flow(&destination, &destination))
    };
    let all = Settings::default();
    let no_loopback = Settings { localhost_node_ports: false, ..Settings::default() };
    let one = Settings {
        node_port_addresses: PerFamily {
            v4: NodePortAddresses::Only(ips(&["192.0.2.2"])),
            v6: NodePortAddresses::Only(Box::default()),
        },
        ..Settings::default()
    };
    for (address, on_all, without_loopback, on_one) in [
        ("192.0.2.1", true, true, false),
        ("192.0.2.2", true, true, true),
        ("192.0.2.3", false, false, false),
        ("127.0.0.1", true, false, false),
        ("127.1.2.3", true, false, false),
        ("2001:db8::1", true, true, false),
        ("::1", false, false, false),
    ] {
        assert_eq!(judge(&all, address), on_all, "{address} of all");
        assert_eq!(judge(&no_loopback, address), without_loopback, "{address} without loopback");
        assert_eq!(judge(&one, address), on_one, "{address} of one");
    }
}

/// An external IP that is the node's own, at another service's node port: the address goes before.
#[test]
fn an_address_goes_before_a_node_port() {
    let dns = ServicePort { node_port: 30053, ..udp("dns", "10.96.0.10:53", &["10.1.0.1:5353"]) };
    let other = ServicePort { external_ips: ips(&["192.0.2.1"]), ..udp("other", "10.96.0.11:30053", &["10.1.0.8:80"]) };
    let appeared = Cleanup::of_moves(&[moved(None, Some(&dns))], [&dns, &other], &scope());
    assert!(!appeared.is_stale(&flow("192.0.2.1:30053", "10.1.0.8:80")), "the other's, and it did not move");
    assert!(appeared.is_stale(&flow("127.0.0.1:30053", "10.1.0.8:80")));

    let withdrawn = Cleanup::of_moves(&[moved(Some(&other), None)], [&dns], &scope());
    assert!(withdrawn.is_stale(&flow("192.0.2.1:30053", "10.1.0.8:80")));
    assert!(!withdrawn.is_stale(&flow("192.0.2.1:30053", "10.1.0.1:5353")), "now the node port's");
}

#[test]
fn two_services_that_claim_one_address() {
    let claims = |name, cluster, endpoint| ServicePort {
        external_ips: ips(&["203.0.113.5"]),
        ..udp(name, cluster, &[endpoint])
    };
    let (one, two) = (claims("one", "10.96.0.10:53", "10.1.0.1:53"), claims("two", "10.96.0.11:53", "10.1.0.2:53"));
    let cleanup = Cleanup::of_moves(&[moved(None, Some(&two))], [&one, &two], &scope());
    for (answered_by, stale) in [("10.1.0.1:53", false), ("10.1.0.2:53", false), ("10.1.0.3:53", true)] {
        assert_eq!(cleanup.is_stale(&flow("203.0.113.5:53", answered_by)), stale, "{answered_by}");
    }
}

/// In a zone that someone set up, an entry that was not translated says nothing of our rules.
#[test]
fn zones() {
    let (before, after) = changed();
    let cleanup = cleanup(Some(&before), Some(&after));
    for zone in [Zone::Both(1), Zone::Original(1), Zone::Reply(1)] {
        assert!(!cleanup.is_stale(&Flow { zone, ..flow("10.96.0.10:53", "10.96.0.10:53") }), "{zone:?}");
        assert!(cleanup.is_stale(&Flow { zone, ..flow("10.96.0.10:53", "10.1.0.3:5353") }), "{zone:?}");
    }
}

#[test]
fn requests_that_wait_add_up() {
    let at_first = udp("dns", "10.96.0.10:53", &["10.1.0.1:53"]);
    let then = udp("dns", "10.96.0.10:53", &["10.1.0.2:53"]);
    let none = udp("dns", "10.96.0.10:53", &[]);
    let back = udp("dns", "10.96.0.10:53", &["10.1.0.1:53"]);
    let stale = |cleanup: &Cleanup, endpoint| cleanup.is_stale(&flow("10.96.0.10:53", endpoint));

    let mut pending = cleanup(Some(&at_first), Some(&then));
    assert!(stale(&pending, "10.1.0.1:53") && !stale(&pending, "10.1.0.2:53"));
    pending.merge(cleanup(Some(&then), Some(&none)));
    assert!(stale(&pending, "10.1.0.1:53") && stale(&pending, "10.1.0.2:53"), "all that there ever were");
    assert!(!stale(&pending, "10.96.0.10:53"));
    pending.merge(cleanup(Some(&none), Some(&back)));
    assert!(!stale(&pending, "10.1.0.1:53") && stale(&pending, "10.1.0.2:53"), "back again");
    assert_eq!(pending.len(), 1);
}

/// While nothing can be deleted, requests pile up only so far; what is still served is never dropped.
#[test]
fn requests_that_wait_are_bounded() {
    let address = |n: u32| IpAddr::from((0xcb00_0000 + n).to_be_bytes());
    let served = udp("dns", "10.96.0.10:53", &["10.1.0.1:53"]);
    let mut pending = cleanup(None, Some(&served));
    let mut dropped = 0;
    for batch in 0..3 {
        let external_ips = (batch * 50_000..(batch + 1) * 50_000).map(address).collect();
        let gone = ServicePort { external_ips, ..udp("gone", "10.96.0.11:53", &["10.1.0.2:53"]) };
        dropped += pending.merge(cleanup(Some(&gone), None));
    }
    assert_eq!((dropped, pending.len()), (150_001, 1));
    assert!(pending.is_stale(&flow("10.96.0.10:53", "10.1.0.9:53")));

    let many = |from: u32| {
        let endpoint = |n| ModelEndpoint::new(Endpoint::new(address(n), 53), EndpointFlags::SERVING);
        ServicePort { endpoints: (from..from + 40_000).map(endpoint).collect(), ..udp("dns", "10.96.0.10:53", &[]) }
    };
    let mut pending = cleanup(Some(&many(0)), None);
    pending.merge(cleanup(Some(&many(40_000)), None));
    let former = |n| Endpoint::new(address(n), 53).to_string();
    assert!(!pending.is_stale(&flow("10.96.0.10:53", &former(0))), "more than fit: the oldest are forgotten");
    assert!(pending.is_stale(&flow("10.96.0.10:53", &former(79_999))));
}

#[test]
fn the_sweep_at_the_start_leaves_what_is_right() {
    let (_, after) = changed();
    let idle = udp("idle", "10.96.0.20:53", &[]);
    let sweep = Cleanup::of_all([&after, &idle], &scope());
    for (row, destination, answered_by, stale) in ROWS {
        assert_eq!(sweep.is_stale(&flow(destination, answered_by)), *stale, "{row}");
    }
    assert!(!sweep.is_stale(&flow("10.96.0.20:53", "10.1.0.7:53")), "no endpoints: left");
}

// Random services over a few addresses, so that they collide, against what every judgement must keep to.

fn service_strategy() -> impl Strategy<Value = ServicePort> {
    let subset = |of: &'static [&'static str]| prop::sample::subsequence(of, 0..=of.len());
    (
        prop::sample::select(&["a", "b", "c"][..]),
        prop::sample::select(&["10.96.0.1:53", "10.96.0.2:53", "10.96.0.1:30001"][..]),
        subset(&["203.0.113.5", "192.0.2.1"]),
        prop::sample::select(&[0u16, 30001, 30002][..]),
        subset(&["10.1.0.1:53", "10.1.0.2:53", "10.1.0.3:53"]),
        any::<[bool; 3]>(),
    )
        .prop_map(|(name, cluster, external, node_port, endpoints, serving)| {
            let mut service = ServicePort { node_port, external_ips: ips(&external), ..udp(name, cluster, &endpoints) };
            for (endpoint, serving) in service.endpoints.iter_mut().zip(serving) {
                endpoint.flags = if serving { EndpointFlags::SERVING } else { EndpointFlags::CLUSTER };
            }
            service
        })
}

/// A model: service ports by name.
fn model() -> impl Strategy<Value = Vec<ServicePort>> {
    prop::collection::vec(service_strategy(), 0..4).prop_map(|mut services| {
        services.sort_by(|a, b| a.key.cmp(&b.key));
        services.dedup_by(|a, b| a.key == b.key);
        // An API server gives a node port to one service only.
        let mut taken = vec![0];
        for service in &mut services {
            if taken.contains(&service.node_port) {
                service.node_port = 0;
            }
            taken.push(service.node_port);
        }
        services
    })
}

fn moves(before: &[ServicePort], after: &[ServicePort]) -> Vec<Move> {
    let find = |model: &[ServicePort], key| model.iter().find(|service| service.key == key).cloned();
    let mut keys: Vec<_> = before.iter().chain(after).map(|service| service.key.clone()).collect();
    keys.sort();
    keys.dedup();
    keys.into_iter()
        .map(|key| moved(find(before, key.clone()).as_ref(), find(after, key).as_ref()))
        .filter(|step| step.before != step.after)
        .collect()
}

/// Whether a service port answers at an address and port of the test's node, as a port of all addresses or not.
fn answers_at(service: &ServicePort, destination: Endpoint) -> (bool, bool) {
    let its_own = service.port == destination.port
        && (service.cluster_ip == destination.ip || service.external_ips.contains(&destination.ip));
    let node = ips(&["192.0.2.1"]).contains(&destination.ip) || destination.ip.is_loopback();
    (its_own, node && service.node_port != 0 && service.node_port == destination.port)
}

/// The endpoints that serve an address and port in a model.
fn serving_at(model: &[ServicePort], destination: Endpoint) -> Vec<Endpoint> {
    let own: Vec<_> = model.iter().filter(|service| answers_at(service, destination).0).collect();
    let node_port = || model.iter().filter(|service| answers_at(service, destination).1).collect();
    let owners: Vec<&ServicePort> = if own.is_empty() { node_port() } else { own };
    let endpoints = owners.iter().flat_map(|service| service.endpoints.iter());
    endpoints.filter(|e| e.flags.contains(EndpointFlags::SERVING)).map(|e| e.endpoint).collect()
}

/// The specification again, written down plainly for one step from an old model to a new one.
/// `None`: it was for a former endpoint.
fn expected(before: &[ServicePort], after: &[ServicePort], flow: &Flow) -> Option<bool> {
    let destination = flow.original.destination;
    let serving = serving_at(after, destination);
    if !serving.is_empty() {
        return Some(!serving.contains(&flow.reply.source));
    }
    let former = before
        .iter()
        .filter(|service| answers_at(service, destination) != (false, false))
        .any(|service| service.endpoints.iter().any(|e| e.endpoint == flow.reply.source));
    if !former {
        return Some(false);
    }
    // Stale, but only found if the service that it was for moved.
    None
}

fn flows() -> Vec<Flow> {
    let mut flows = Vec::new();
    for ip in ["10.96.0.1", "10.96.0.2", "203.0.113.5", "192.0.2.1", "127.0.0.1", "8.8.8.8"] {
        for port in [53, 30001, 30002] {
            let destination = format!("{ip}:{port}");
            for answered_by in ["10.1.0.1:53", "10.1.0.2:53", "10.1.0.3:53", "10.1.0.9:53", &destination] {
                flows.push(flow(&destination, answered_by));
            }
        }
    }
    flows
}

proptest! {
    /// What is judged stale is stale by the plain specification; what was right before and is stale now is found; and
    /// a sweep agrees wherever endpoints serve.
    #[test]
    fn judgements_are_as_specified(before in model(), after in model()) {
        let cleanup = Cleanup::of_moves(&moves(&before, &after), &after, &scope());
        let sweep = Cleanup::of_all(&after, &scope());
        for flow in flows() {
            let expected = expected(&before, &after, &flow);
            if cleanup.is_stale(&flow) {
                prop_assert_ne!(expected, Some(false), "deletes {}", flow);
            } else {
                let destination = flow.original.destination;
                let was_served = serving_at(&before, destination).contains(&flow.reply.source);
                // A service without endpoints that takes an address out of an unmoved node port is the one exception.
                let taken = after.iter().any(|s| answers_at(s, destination).0)
                    && after.iter().any(|s| answers_at(s, destination).1)
                    && serving_at(&after, destination).is_empty();
                prop_assert!(!was_served || taken || expected == Some(false), "misses {}", flow);
            }
            prop_assert_eq!(sweep.is_stale(&flow), expected == Some(true), "sweep on {}", flow);
        }
    }

    /// After any number of steps whose requests waited, nothing that is served now is stale, and everything that the
    /// last step alone would have deleted is.
    #[test]
    fn waiting_requests_never_harm(models in prop::collection::vec(model(), 2..5)) {
        let mut pending = Cleanup::default();
        for step in models.windows(2) {
            let newer = Cleanup::of_moves(&moves(&step[0], &step[1]), &step[1], &scope());
            pending.merge(newer);
        }
        let last = &models[models.len() - 1];
        for flow in flows() {
            let served = last.iter().any(|service| {
                let (own, node_port) = answers_at(service, flow.original.destination);
                (own || node_port) && service.endpoints.iter().any(|e| {
                    e.endpoint == flow.reply.source && e.flags.contains(EndpointFlags::SERVING)
                })
            });
            let claimed_twice = last.iter().filter(|s| answers_at(s, flow.original.destination) != (false, false)).count() > 1;
            if served && !claimed_twice {
                prop_assert!(!pending.is_stale(&flow), "deletes {}", flow);
            }
        }
    }
}
