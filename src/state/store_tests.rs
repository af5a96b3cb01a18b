//! M33, and the rows of section O that are about events and changes.

use super::super::testing::*;
use super::super::{ServicePort, SliceEndpoint};
use super::*;
use crate::net::Protocol::{Tcp, Udp};

const P80: Port<'static> = ("p80", Tcp, 80);

fn touches(names: &[&str]) -> Touched {
    Touched { services: names.iter().map(|of| name(of)).collect(), node: false }
}

fn s1() -> EndpointSlice {
    slice("ns/s-1", "s", &[P80], &[endpoint("10.0.0.1"), endpoint("10.0.0.2")])
}

/// A change of one slice and whether it is one.
fn changes(before: &EndpointSlice, after: &EndpointSlice) -> bool {
    let mut state = State::default();
    state.apply(vec![upsert_slice(before)]);
    let touched = state.apply(vec![upsert_slice(after)]);
    assert_eq!(state.slices(&name("ns/s")), std::slice::from_ref(after));
    touched == touches(&["ns/s"])
}

fn upsert_node(zone: Option<&str>, leaving: bool) -> Update {
    Update::Upsert(Fact::Node(Node { leaving, ..node("n", zone) }))
}

#[test]
fn m33_the_node_matters_by_its_zone() {
    let mut state = State::default();
    let delete = || Update::Delete(FactKey { kind: Kind::Node, name: ObjectName::new("", "n") });
    for (case, update, touched, zone) in [
        ("add with a zone", upsert_node(Some("a"), false), true, Some("a")),
        ("another field", upsert_node(Some("a"), true), false, Some("a")),
        ("another zone", upsert_node(Some("b"), true), true, Some("b")),
        ("deleted: the last one stays", delete(), false, Some("b")),
        ("relisted without it: the same", Update::Replace { kind: Kind::Node, facts: vec![] }, false, Some("b")),
        ("zone removed", upsert_node(None, false), true, None),
    ] {
        assert_eq!(state.apply(vec![update]), Touched { node: touched, ..Touched::default() }, "{case}");
        assert_eq!(state.zone().map(|zone| &**zone), zone, "{case}");
        assert!(state.node().is_some(), "{case}");
    }
    for zone in [None, Some("")] {
        let mut state = State::default();
        let first = state.apply(vec![upsert_node(zone, false)]);
        assert!(first.node, "without a zone: now it is known which endpoints are on other nodes");
        assert!(state.apply(vec![upsert_node(zone, true)]).is_empty(), "without a zone as before");
    }
}

#[test]
fn synced_and_ready() {
    let mut state = State::default();
    let list = |kind| vec![Update::Replace { kind, facts: vec![] }];
    assert!(!state.ready());
    state.apply(list(Kind::Service));
    assert!(state.is_synced(Kind::Service) && !state.ready());
    state.apply(list(Kind::Node));
    assert!(!state.ready());
    state.apply(list(Kind::EndpointSlice));
    assert!(state.ready() && !state.is_synced(Kind::ServiceCidr));
}

#[test]
fn replace_touches_what_differs() {
    let service = |of: &str, port| service(of, "172.30.0.1", &[("p", Tcp, port)]);
    let replace = |services: &[Service]| Update::Replace {
        kind: Kind::Service,
        facts: services.iter().cloned().map(Fact::Service).collect(),
    };
    let mut state = State::default();
    let first = [service("ns/a", 1), service("ns/b", 1), service("ns/c", 1)];
    assert_eq!(state.apply(vec![replace(&first)]), touches(&["ns/a", "ns/b", "ns/c"]));
    assert!(state.apply(vec![replace(&first)]).is_empty(), "a relist that tells nothing new");
    let second = [service("ns/a", 1), service("ns/b", 2), service("ns/d", 1)];
    assert_eq!(state.apply(vec![replace(&second)]), touches(&["ns/b", "ns/c", "ns/d"]));
    assert_eq!(state.service_names().map(ToString::to_string).collect::<Vec<_>>(), ["ns/a", "ns/b", "ns/d"]);

    let slices = |slices: &[EndpointSlice]| Update::Replace {
        kind: Kind::EndpointSlice,
        facts: slices.iter().cloned().map(Fact::EndpointSlice).collect(),
    };
    let (one, other) = (s1(), slice("ns/t-1", "t", &[P80], &[endpoint("10.0.0.3")]));
    assert_eq!(state.apply(vec![slices(&[one.clone(), other.clone()])]), touches(&["ns/s", "ns/t"]));
    assert_eq!(state.apply(vec![slices(std::slice::from_ref(&other))]), touches(&["ns/s"]));
    assert!(state.slices(&name("ns/s")).is_empty() && state.slices(&name("ns/t")) == [other]);
}

/// Contract 2.4 calls what kube-proxy does here weak: the old service would keep the endpoints.
#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut state = State::default();
    state.apply(vec![upsert_slice(&s1())]);
    let moved = EndpointSlice { service: "t".into(), ..s1() };
    assert_eq!(state.apply(vec![upsert_slice(&moved)]), touches(&["ns/s", "ns/t"]));
    assert!(state.slices(&name("ns/s")).is_empty());
    assert_eq!(state.slices(&name("ns/t")), [moved]);
    assert_eq!(state.apply(vec![delete_slice("ns/s-1")]), touches(&["ns/t"]));
    assert!(state.entries.is_empty() && state.slice_owners.slices().next().is_none());
}

#[test]
fn o27_to_o34_trigger_times() {
    const START: i64 = 1_000;
    /// A change of the slice `ns/NAME` of service NAME: its number of endpoints and its time, or its removal.
    type Event = (&'static str, Option<(u8, Option<i64>)>);
    let put = |of, endpoints, time| (of, Some((endpoints, Some(time))));
    type Times<'a> = &'a [(&'a str, &'a [i64])];
    let cases: &[(&str, &[Event], Times<'_>)] = &[
        ("O27", &[put("a", 1, 1001)], &[("a", &[1001])]),
        ("O28", &[put("a", 1, 1001), put("a", 2, 1002)], &[("a", &[1001, 1002])]),
        ("O29", &[put("a", 1, 1001), put("b", 1, 1002), put("a", 2, 1003)], &[("a", &[1001, 1003]), ("b", &[1002])]),
        ("O30", &[("a", Some((1, None)))], &[]),
        ("O31", &[put("a", 1, 999), put("b", 1, 1000)], &[]),
        ("O32", &[put("a", 1, 1001), ("a", None)], &[]),
        ("O33", &[put("a", 1, 1001), ("a", None), put("a", 1, 1002)], &[("a", &[1002])]),
        ("O34", &[("a", None)], &[]),
        ("a time alone is no change", &[put("a", 1, 1001), put("a", 1, 1002)], &[("a", &[1001])]),
    ];
    for (row, events, expected) in cases {
        let mut state = State::new(START);
        for (of, event) in *events {
            state.apply(vec![match event {
                None => delete_slice(&format!("ns/{of}")),
                Some((endpoints, trigger_time)) => {
                    let endpoints: Vec<_> = (0..*endpoints).map(|i| endpoint(&format!("10.0.0.{i}"))).collect();
                    let slice = slice(&format!("ns/{of}"), of, &[P80], &endpoints);
                    upsert_slice(&EndpointSlice { trigger_time: *trigger_time, ..slice })
                }
            }]);
        }
        let times = |times: &[i64]| times.iter().map(|time| Trigger { family: Family::V4, time: *time }).collect();
        let expected: BTreeMap<ObjectName, Vec<Trigger>> =
            expected.iter().map(|(of, at)| (ObjectName::new("ns", *of), times(at))).collect();
        assert_eq!(state.take_trigger_times(), expected, "{row}");
        assert!(state.take_trigger_times().is_empty(), "{row}: handed out once");
    }
}

#[test]
fn o35_to_o45_what_touches_a_service() {
    let ready = |last| endpoint(&format!("10.0.0.{last}"));
    let of = |endpoints: &[SliceEndpoint]| slice("ns/s-1", "s", &[P80], endpoints);
    let mut state = State::default();
    assert_eq!(state.apply(vec![upsert_slice(&s1())]), touches(&["ns/s"]), "O35");
    assert!(state.apply(vec![upsert_slice(&s1())]).is_empty(), "O36");

    let second = slice("ns/s-2", "s", &[P80], &[ready(3), ready(4)]);
    assert_eq!(state.apply(vec![upsert_slice(&second)]), touches(&["ns/s"]));
    let grown = of(&[ready(1), ready(2), ready(3), ready(4)]);
    assert_eq!(state.apply(vec![upsert_slice(&grown)]), touches(&["ns/s"]), "O38");
    let third = slice("ns/s-3", "s", &[P80, ("p443", Tcp, 443)], &[ready(1)]);
    assert_eq!(state.apply(vec![upsert_slice(&third)]), touches(&["ns/s"]), "O39");
    assert_eq!(state.apply(vec![delete_slice("ns/s-2")]), touches(&["ns/s"]), "O40");
    assert_eq!(state.slices(&name("ns/s")), [grown, third], "O40");
    assert!(state.apply(vec![delete_slice("ns/unknown"), delete_service("ns/unknown")]).is_empty(), "O41");

    let both = |change: fn(SliceEndpoint) -> SliceEndpoint| of(&[change(ready(1)), change(ready(2))]);
    let some = of(&[ready(1), ready(2).unready()]);
    assert!(changes(&both(|e| e), &both(Build::unready)), "O42");
    assert!(changes(&both(Build::unready), &both(|e| e)), "O43");
    assert!(changes(&some, &both(|e| e)), "O44");
    assert!(changes(&some, &of(&[ready(1).terminating(), ready(2).unready()])), "O45");
}

/// kube-proxy keeps pending and applied slices apart; here a batch is one step, and what it leaves is what counts.
#[test]
fn o46_to_o48_batches() {
    let mut state = State::default();
    assert!(state.apply(vec![]).is_empty(), "O46");
    let second = slice("ns/s-2", "s", &[P80], &[endpoint("10.0.0.3")]);
    let third = slice("ns/s-3", "s", &[P80], &[endpoint("10.0.0.4")]);
    assert_eq!(state.apply(vec![upsert_slice(&second), upsert_slice(&s1())]), touches(&["ns/s"]), "O47");
    assert_eq!(state.slices(&name("ns/s")), [s1(), second.clone()], "O47: sorted by name");
    assert_eq!(state.apply(vec![delete_slice("ns/s-1"), upsert_slice(&third)]), touches(&["ns/s"]), "O48");
    assert_eq!(state.slices(&name("ns/s")), [second, third], "O48");
}

#[test]
fn o59_to_o65_change_detection() {
    let ports = |ports: &[Port<'_>]| slice("ns/s-1", "s", ports, &[]);
    let (a, b) = (("a", Tcp, 1), ("b", Udp, 2));
    assert!(!changes(&ports(&[a, b]), &ports(&[a, b])), "O59");
    assert!(changes(&ports(&[a, b]), &ports(&[b, a])), "O60");
    assert!(changes(&ports(&[a, b]), &ports(&[a])), "O61");
    assert!(changes(&ports(&[a]), &ports(&[a, b])), "O62");
    let (x, y) = (endpoint("10.0.0.1"), endpoint("10.0.0.2"));
    let endpoints = |endpoints: &[SliceEndpoint]| slice("ns/s-1", "s", &[a], endpoints);
    assert!(!changes(&endpoints(&[x.clone(), y.clone()]), &endpoints(&[x.clone(), y.clone()])), "O63");
    assert!(changes(&endpoints(&[x.clone(), y.clone()]), &endpoints(&[y.clone(), x.clone()])), "O64");
    assert!(changes(&endpoints(std::slice::from_ref(&x)), &endpoints(&[x, y])), "O65");
}

#[test]
fn o66_to_o67_nothing_is_left_behind() {
    let of = |name: &str, service: &str| slice(name, service, &[P80], &[endpoint("10.0.0.1")]);
    for (case, slices) in [
        ("one", vec![of("ns/a-1", "a")]),
        ("two in a namespace", vec![of("ns/a-1", "a"), of("ns/b-1", "b")]),
        ("two of a service", vec![of("ns/a-1", "a"), of("ns/a-2", "a")]),
        ("two namespaces", vec![of("ns/a-1", "a"), of("other/a-1", "a")]),
    ] {
        let mut state = State::default();
        state.apply(slices.iter().map(upsert_slice).collect());
        for (i, slice) in slices.iter().enumerate() {
            let left: usize = state.entries.values().map(|entry| entry.slices.len()).sum();
            assert_eq!(left, slices.len() - i, "O67 {case}");
            let owner = format!("{}/{}", slice.name.namespace, slice.service);
            assert_eq!(state.apply(vec![delete_slice(&slice.name.to_string())]), touches(&[&owner]), "O66 {case}");
        }
        assert!(state.entries.is_empty() && state.slice_owners.slices().next().is_none(), "O66 {case}");
    }

    let mut state = State::default();
    state.apply(vec![upsert_service(&service("ns/a", "172.30.0.1", &[])), upsert_slice(&of("ns/a-1", "a"))]);
    state.apply(vec![delete_service("ns/a")]);
    assert!(state.service(&name("ns/a")).is_none() && state.slices(&name("ns/a")).len() == 1);
    state.apply(vec![delete_slice("ns/a-1")]);
    assert!(state.entries.is_empty());
}

/// Contract 2.1 calls what kube-proxy does here weak: deleting one object would drop the network of both.
#[test]
fn a_network_that_two_objects_list_stays_until_both_are_gone() {
    let cidr = |name: &str, cidrs: &[&str]| {
        let cidrs = cidrs.iter().map(|text| text.parse().unwrap()).collect();
        Update::Upsert(Fact::ServiceCidr(ServiceCidr { name: name.into(), cidrs }))
    };
    let delete = |name: &str| Update::Delete(FactKey { kind: Kind::ServiceCidr, name: ObjectName::new("", name) });
    let networks = |state: &State| state.service_cidrs().iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut state = State::default();
    state.apply(vec![cidr("a", &["172.30.0.0/16", "fd00::/108"]), cidr("b", &["172.30.0.0/16"])]);
    assert_eq!(networks(&state), ["172.30.0.0/16", "fd00::/108"]);
    state.apply(vec![delete("a")]);
    assert_eq!(networks(&state), ["172.30.0.0/16"]);
    state.apply(vec![cidr("b", &["172.31.0.0/16"])]);
    assert_eq!(networks(&state), ["172.31.0.0/16"]);
    let touched = state.apply(vec![delete("b")]);
    assert!(touched.is_empty() && networks(&state).is_empty());
}

#[test]
fn every_field_of_a_service_counts() {
    let before = service("ns/s", "172.30.0.1", &[P80]);
    let mut state = State::default();
    state.apply(vec![upsert_service(&before)]);
    assert!(state.apply(vec![upsert_service(&before)]).is_empty());
    let node_port = ServicePort { node_port: 3001, ..before.ports[0].clone() };
    let after = Service { ports: [node_port].into(), ..before };
    assert_eq!(state.apply(vec![upsert_service(&after)]), touches(&["ns/s"]));
    assert_eq!(state.service(&after.name), Some(&after));
}
