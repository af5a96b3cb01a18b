//! Section O, as far as it concerns the result: what slices merge to. Rows about events and changes are tested with the
//! store.

use super::*;
use crate::net::Protocol::{Sctp, Tcp, Udp};
use crate::state::SliceEndpoint;
use crate::state::testing::{Build, Port, delete_slice, endpoint, name, service, slice, upsert_slice};

const P80: Port<'static> = ("p80", Tcp, 80);
const P443: Port<'static> = ("p443", Tcp, 443);

fn here(ip: &str) -> SliceEndpoint {
    endpoint(ip).on(NODE)
}

fn there(ip: &str) -> SliceEndpoint {
    endpoint(ip).on("host2")
}

/// Merged endpoints of a port: text, `L` if on our node, and `r`, `s`, `t` for the conditions that hold.
fn merged(slices: &[EndpointSlice], port: &str, protocol: Protocol) -> Vec<String> {
    let describe = |m: &Merged<'_>| {
        let conditions = m.fact.conditions;
        let marks =
            [(m.on_node, 'L'), (conditions.ready, 'r'), (conditions.serving, 's'), (conditions.terminating, 't')];
        let marks: String = marks.iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect();
        format!("{} {marks}", m.endpoint)
    };
    endpoints::merge(slices, Family::V4, port, protocol, NODE).iter().map(describe).collect()
}

/// One service `ns/s` with the ports of its slices, and the state that holds them.
fn state_with(slices: &[EndpointSlice]) -> State {
    let ports: BTreeSet<_> =
        slices.iter().flat_map(|slice| slice.ports.iter().map(|p| (p.name.clone(), p.protocol))).collect();
    let ports: Vec<Port<'_>> = ports.iter().map(|(name, protocol)| (&**name, *protocol, 1000)).collect();
    state_of(&[service("ns/s", "172.30.0.1", &ports)], slices)
}

/// `port: endpoints` of all ports of all services.
fn table(state: &State) -> Vec<String> {
    let line = |p: &Arc<model::ServicePort>| {
        format!("{}/{}: {}", p.key.name, p.key.name.protocol, texts(p.cluster_endpoints()).join(" "))
    };
    resolve_all(state).iter().map(line).collect()
}

fn local_ready(state: &State, service: &str) -> usize {
    local_ready_count(state, &name(service), Family::V4, NODE)
}

#[test]
fn o1_to_o6_what_slices_say() {
    assert!(table(&State::default()).is_empty(), "O1");

    let unnamed = slice("ns/s-1", "s", &[("", Udp, 11)], &[endpoint("10.1.1.1")]);
    assert_eq!(table(&state_with(&[unnamed])), ["ns/s/udp: 10.1.1.1:11"], "O2");

    let named = state_with(&[slice("ns/s-1", "s", &[("p11", Udp, 11)], &[here("10.1.1.1")])]);
    assert_eq!(table(&named), ["ns/s:p11/udp: 10.1.1.1:11"], "O3");
    assert_eq!(local_ready(&named, "ns/s"), 1, "O3");

    let two = state_with(&[
        slice("ns/s-1", "s", &[("p11", Udp, 11)], &[endpoint("10.1.1.1")]),
        slice("ns/s-2", "s", &[("p12", Udp, 12)], &[endpoint("10.1.1.2")]),
    ]);
    assert_eq!(table(&two), ["ns/s:p11/udp: 10.1.1.1:11", "ns/s:p12/udp: 10.1.1.2:12"], "O4");

    let several = state_with(&[
        slice("ns/s-1", "s", &[("p11", Udp, 11), ("p12", Udp, 12)], &[here("10.1.1.1")]),
        slice("ns/s-2", "s", &[("p13", Udp, 13)], &[here("10.1.1.1"), here("10.1.1.3")]),
    ]);
    assert_eq!(
        table(&several),
        ["ns/s:p11/udp: 10.1.1.1:11", "ns/s:p12/udp: 10.1.1.1:12", "ns/s:p13/udp: 10.1.1.1:13 10.1.1.3:13"],
        "O5"
    );
    assert_eq!(local_ready(&several, "ns/s"), 2, "O5");

    let port = [("p", Udp, 1)];
    let many = state_of(
        &[
            service("ns/a", "172.30.0.1", &port),
            service("ns/b", "172.30.0.2", &port),
            service("ns/c", "172.30.0.3", &port),
        ],
        &[
            slice("ns/a-1", "a", &[("p", Udp, 11)], &[here("10.1.1.1"), there("10.1.1.2")]),
            slice("ns/a-2", "a", &[("p", Udp, 22)], &[here("10.1.1.1"), here("10.1.1.2")]),
            slice("ns/b-1", "b", &[("p", Udp, 11)], &[there("10.2.1.1"), here("10.2.1.2")]),
        ],
    );
    assert_eq!(
        table(&many),
        [
            "ns/a:p/udp: 10.1.1.1:11 10.1.1.1:22 10.1.1.2:11 10.1.1.2:22",
            "ns/b:p/udp: 10.2.1.1:11 10.2.1.2:11",
            "ns/c:p/udp: "
        ],
        "O6"
    );
    assert_eq!(["ns/a", "ns/b", "ns/c"].map(|of| local_ready(&many, of)), [2, 1, 0], "O6");
}

/// Changes of a slice `ns/s-1` that had port p11 with one endpoint, and the resolved table after them.
#[test]
fn o7_to_o19_changes() {
    let p11 = ("p11", Udp, 11);
    let p12 = ("p12", Udp, 12);
    let one = || slice("ns/s-1", "s", &[p11], &[here("10.1.1.1")]);
    let second = |ips: &[SliceEndpoint]| slice("ns/s-2", "s", &[p12], ips);
    let first = |ports: &[Port<'_>], endpoints: &[SliceEndpoint]| slice("ns/s-1", "s", ports, endpoints);
    let terminating = || first(&[p11], &[here("10.1.1.1").terminating()]);
    let gone = || delete_slice("ns/s-1");
    let with = |slice: EndpointSlice| upsert_slice(&slice);
    let grown = || first(&[p11, p12], &[here("10.1.1.1"), here("10.1.1.2")]);

    // Slices before, the change, endpoints of both ports after it, and the local ready count.
    type Case = (&'static str, Vec<EndpointSlice>, crate::state::Update, [&'static str; 2], usize);
    let cases: Vec<Case> = vec![
        ("O7", vec![], with(one()), ["10.1.1.1:11", ""], 1),
        ("O8", vec![one()], gone(), ["", ""], 0),
        ("O9", vec![one()], with(grown()), ["10.1.1.1:11 10.1.1.2:11", "10.1.1.1:12 10.1.1.2:12"], 2),
        ("O10", vec![grown()], with(one()), ["10.1.1.1:11", ""], 1),
        ("O11", vec![one()], with(second(&[there("10.1.1.2")])), ["10.1.1.1:11", "10.1.1.2:12"], 1),
        ("O12", vec![one(), second(&[here("10.1.1.2")])], delete_slice("ns/s-2"), ["10.1.1.1:11", ""], 1),
        ("O13", vec![one()], with(first(&[("p12", Udp, 11)], &[here("10.1.1.1")])), ["", "10.1.1.1:11"], 1),
        ("O14", vec![one()], with(first(&[("p11", Udp, 22)], &[here("10.1.1.1")])), ["10.1.1.1:22", ""], 1),
        ("O16", vec![first(&[p11], &[])], with(one()), ["10.1.1.1:11", ""], 1),
        ("O17", vec![one()], with(terminating()), ["10.1.1.1:11", ""], 0),
        ("O18", vec![terminating()], with(first(&[p11], &[])), ["", ""], 0),
        ("O19", vec![], with(first(&[("p11", Tcp, 11)], &[here("10.1.1.1")])), ["", ""], 1),
    ];
    for (row, before, change, expected, local) in cases {
        let service = service("ns/s", "172.30.0.1", &[("p11", Udp, 1011), ("p12", Udp, 1012)]);
        let mut state = state_of(&[service], &before);
        let touched = state.apply(vec![change]);
        assert_eq!(touched.services, BTreeSet::from([name("ns/s")]), "{row}");
        let found = resolve_all(&state);
        let found: Vec<String> = found.iter().map(|port| texts(port.cluster_endpoints()).join(" ")).collect();
        assert_eq!(found, expected, "{row}");
        assert_eq!(local_ready(&state, "ns/s"), local, "{row}");
    }
}

#[test]
fn o15_many_changes_at_once() {
    let ports = [("p11", Udp, 1), ("p12", Udp, 2), ("p22", Udp, 3), ("p44", Udp, 4)];
    let services = ["ns/s1", "ns/s2", "ns/s3", "ns/s4"].map(|of| service(of, "172.30.0.1", &ports));
    let before = [
        slice("ns/s1-1", "s1", &[("p11", Udp, 11)], &[here("10.1.1.1"), here("10.1.1.2")]),
        slice("ns/s2-1", "s2", &[("p22", Udp, 22)], &[there("10.2.2.2"), here("10.2.2.22")]),
        slice("ns/s2-2", "s2", &[("p22", Udp, 22)], &[here("10.2.2.3")]),
        slice("ns/s4-1", "s4", &[("p44", Udp, 44)], &[here("10.4.4.4"), here("10.4.4.5")]),
    ];
    let mut state = state_of(&services, &before);
    let touched = state.apply(vec![
        upsert_slice(&slice("ns/s1-1", "s1", &[("p11", Udp, 11), ("p12", Udp, 12)], &[here("10.1.1.1")])),
        delete_slice("ns/s2-1"),
        upsert_slice(&slice("ns/s3-1", "s3", &[("p22", Udp, 33)], &[there("10.3.3.3")])),
        upsert_slice(&slice("ns/s4-1", "s4", &[("p44", Udp, 44)], &[here("10.4.4.4")])),
    ]);
    assert_eq!(touched.services.len(), 4);
    let found: Vec<String> = table(&state).into_iter().filter(|line| !line.ends_with(": ")).collect();
    assert_eq!(
        found,
        [
            "ns/s1:p11/udp: 10.1.1.1:11",
            "ns/s1:p12/udp: 10.1.1.1:12",
            "ns/s2:p22/udp: 10.2.2.3:22",
            "ns/s3:p22/udp: 10.3.3.3:33",
            "ns/s4:p44/udp: 10.4.4.4:44",
        ]
    );
    assert_eq!(["ns/s1", "ns/s2", "ns/s3", "ns/s4"].map(|of| local_ready(&state, of)), [1, 1, 0, 1]);
}

#[test]
fn o20_to_o26_local_ready_counts() {
    let of = |ports: &[Port<'_>], endpoints: &[SliceEndpoint]| {
        local_ready(&state_with(&[slice("ns/s-1", "s", ports, endpoints)]), "ns/s")
    };
    let unnamed = [("", Tcp, 80)];
    assert_eq!(local_ready(&State::default(), "ns/s"), 0, "O20");
    assert_eq!(of(&unnamed, &[there("10.1.1.1")]), 0, "O21");
    assert_eq!(of(&unnamed, &[here("10.1.1.1")]), 1, "O22");
    assert_eq!(of(&[P80, P443], &[here("10.1.1.1"), there("10.1.1.2")]), 1, "O23");
    let mixed = [here("10.1.1.1"), there("10.1.1.2"), here("10.1.1.3"), here("10.1.1.4").unready()];
    assert_eq!(of(&[P80, P443], &mixed[..3]), 2, "O24");
    assert_eq!(of(&[P80, P443], &mixed), 2, "O25");
    assert_eq!(of(&[P80], &[here("10.1.1.1").terminating(), here("10.1.1.2").terminating()]), 0, "O26, H12");
    assert_eq!(of(&[P80], &[here("10.1.1.1").terminating(), here("10.1.1.2")]), 1, "H13");
    assert_eq!(of(&[], &[here("10.1.1.1")]), 0, "endpoints without a port");
}

/// Rows O38 to O45 once more as results; that they touch the service is tested with the store.
#[test]
fn o38_to_o45_overlaps_and_conditions() {
    let ips = |last: std::ops::RangeInclusive<u8>| last.map(|i| here(&format!("10.0.1.{i}"))).collect::<Vec<_>>();
    let s1 = slice("ns/s-1", "s", &[P80], &ips(1..=3));
    let s2 = slice("ns/s-2", "s", &[P80, P443], &ips(2..=4));
    let overlapping = [s1.clone(), s2.clone()];
    let expected = ["10.0.1.1:80 Lrs", "10.0.1.2:80 Lrs", "10.0.1.3:80 Lrs", "10.0.1.4:80 Lrs"];
    assert_eq!(merged(&overlapping, "p80", Tcp), expected, "O38");
    assert_eq!(merged(&overlapping, "p443", Tcp), ["10.0.1.2:443 Lrs", "10.0.1.3:443 Lrs", "10.0.1.4:443 Lrs"], "O39");
    assert_eq!(merged(&[s2], "p80", Tcp), expected[1..], "O40");

    let with = |change: fn(SliceEndpoint) -> SliceEndpoint| {
        let endpoints: Vec<_> = ips(1..=2).into_iter().map(change).collect();
        merged(&[slice("ns/s-1", "s", &[P80], &endpoints)], "p80", Tcp)
    };
    assert_eq!(with(|e| e.unready()), ["10.0.1.1:80 L", "10.0.1.2:80 L"], "O42");
    assert_eq!(with(|e| e), ["10.0.1.1:80 Lrs", "10.0.1.2:80 Lrs"], "O43");
    assert_eq!(with(|e| e.terminating()), ["10.0.1.1:80 Lst", "10.0.1.2:80 Lst"], "O45");
}

#[test]
fn o49_to_o58_merging() {
    let three = slice("ns/s-1", "s", &[P80, P443], &[there("10.0.1.2"), here("10.0.1.10"), there("10.0.1.1")]);
    for (port, number) in [("p80", 80), ("p443", 443)] {
        let expected =
            [format!("10.0.1.10:{number} Lrs"), format!("10.0.1.1:{number} rs"), format!("10.0.1.2:{number} rs")];
        // Sorted by text: '0' is less than ':'.
        assert_eq!(merged(std::slice::from_ref(&three), port, Tcp), expected, "O49");
    }
    let other = slice("ns/s-2", "s", &[P80], &[here("10.0.2.1")]);
    let both = [three.clone(), other];
    assert_eq!(merged(&both, "p80", Tcp).len(), 4, "O50");
    assert_eq!(merged(&[three.clone(), three], "p80", Tcp).len(), 3, "O51");

    // The API leaves open which of two running ones counts; we take the ready one.
    let ready = slice("ns/s-1", "s", &[P80], &[here("10.0.1.1"), here("10.0.1.2")]);
    let unready = slice("ns/s-2", "s", &[P80], &[here("10.0.1.2").unready(), here("10.0.1.3").unready()]);
    let terminating = slice("ns/s-2", "s", &[P80], &[here("10.0.1.2").terminating(), here("10.0.1.3").terminating()]);
    let expected = |last| ["10.0.1.1:80 Lrs", "10.0.1.2:80 Lrs", last].map(str::to_owned);
    for (row, second, last) in [("O52", unready.clone(), "10.0.1.3:80 L"), ("O53, O58", terminating, "10.0.1.3:80 Lst")]
    {
        assert_eq!(merged(&[ready.clone(), second.clone()], "p80", Tcp), expected(last), "{row}");
        assert_eq!(merged(&[second, ready.clone()], "p80", Tcp), expected(last), "{row}");
    }
    assert_eq!(merged(&[unready.clone(), unready], "p80", Tcp), ["10.0.1.2:80 L", "10.0.1.3:80 L"], "O54");

    // O58 even where the terminating one is ready, and the running one is not.
    let dying = slice("ns/s-1", "s", &[P80], &[here("10.0.1.1").conditions(true, true, true)]);
    let starting = slice("ns/s-2", "s", &[P80], &[here("10.0.1.1").unready()]);
    assert_eq!(merged(&[dying.clone(), starting.clone()], "p80", Tcp), ["10.0.1.1:80 L"], "O58");
    assert_eq!(merged(&[starting, dying], "p80", Tcp), ["10.0.1.1:80 L"], "O58");

    let moved = [
        slice("ns/s-1", "s", &[P80], &[here("10.0.1.1")]),
        slice("ns/s-2", "s", &[("p80", Tcp, 8080)], &[here("10.0.1.1")]),
    ];
    assert_eq!(merged(&moved, "p80", Tcp), ["10.0.1.1:80 Lrs", "10.0.1.1:8080 Lrs"], "O57");
    assert!(merged(&moved, "p80", Sctp).is_empty());
}

/// O55: slices of other services and namespaces do not matter.
#[test]
fn o55_only_the_services_own_slices() {
    let port = [("p80", Tcp, 80)];
    let services = ["ns/a", "ns/b", "other/a"].map(|of| service(of, "172.30.0.1", &port));
    let slices = [
        slice("ns/x-1", "a", &port, &[here("10.0.1.1")]),
        slice("ns/x-2", "b", &port, &[here("10.0.1.2")]),
        slice("other/x-1", "a", &port, &[here("10.0.1.3")]),
        slice("ns/x-3", "unknown", &port, &[here("10.0.1.4")]),
    ];
    let state = state_of(&services, &slices);
    assert_eq!(
        table(&state),
        ["ns/a:p80/tcp: 10.0.1.1:80", "ns/b:p80/tcp: 10.0.1.2:80", "other/a:p80/tcp: 10.0.1.3:80"]
    );
}

/// O37 and O56, from the API's text: no fact, or a fact without the port.
#[test]
fn o37_and_o56_what_can_not_be_used() {
    use crate::source::wire;
    let fact = |rest: &str| {
        let head = "metadata: {namespace: ns, name: s-1, labels: {kubernetes.io/service-name: s}}\n";
        let slice: wire::EndpointSlice = serde_saphyr::from_str(&format!("{head}{rest}")).unwrap();
        slice.to_fact(&mut wire::Interner::default()).0
    };
    assert_eq!(fact("addressType: FQDN\nports: [{name: p80, port: 80}]\n"), None, "O37");
    let rest =
        "addressType: IPv4\nports: [{name: p80}, {name: p443, port: 443}]\nendpoints: [{addresses: [10.0.1.1]}]\n";
    let state = state_with(&[fact(rest).unwrap()]);
    assert_eq!(table(&state), ["ns/s:p443/tcp: 10.0.1.1:443"], "O56");
}

#[test]
fn ipv6_sorts_by_text() {
    let endpoints = ["fd00::a", "fd00::10", "fd00::1", "fd00:1::1"].map(|ip| endpoint(ip).on(NODE));
    let slices = [slice("ns/s-1", "s", &[P80], &endpoints)];
    let found = endpoints::merge(&slices, Family::V6, "p80", Tcp, NODE);
    let expected = ["[fd00:1::1]:80", "[fd00::10]:80", "[fd00::1]:80", "[fd00::a]:80"];
    assert_eq!(texts(found.iter().map(|m| m.endpoint)), expected);
}
