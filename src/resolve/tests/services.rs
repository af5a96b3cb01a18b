//! Section N: service → service ports. Services are written as the API has them.

use super::*;
use crate::model::ServicePort;
use crate::source::wire::{self, Interner};
use crate::state::TrafficPolicy;
use crate::state::testing::{Build, delete_service, endpoint, name, service, slice};

const V4: Options = Options { external_ips_allowed: true, families: PerFamily { v4: true, v6: false } };
const V6: Options = Options { external_ips_allowed: true, families: PerFamily { v4: false, v6: true } };

/// The fact of a service `ns/NAME` with a spec and a status, both in YAML's flow style.
fn fact(name: &str, spec: &str, status: &str) -> Service {
    let yaml = format!("metadata: {{namespace: ns, name: {name}}}\nspec: {{{spec}}}\nstatus: {{{status}}}\n");
    let object: wire::Service = serde_saphyr::from_str(&yaml).unwrap();
    object.to_fact(&mut Interner::default()).0
}

fn resolve_with(service: &Service, options: &Options) -> Vec<Arc<ServicePort>> {
    let state = state_of(std::slice::from_ref(service), &[]);
    resolve(&state, &service.name, &node(), options)
}

/// `address:port/protocol nodePort`, sorted.
fn summary(ports: &[Arc<ServicePort>]) -> Vec<String> {
    let line = |p: &Arc<ServicePort>| {
        let node_port = if p.node_port == 0 { String::new() } else { format!(" {}", p.node_port) };
        format!("{} {}:{}/{}{node_port}", p.key.name, p.cluster_ip, p.port, p.key.name.protocol)
    };
    let mut lines: Vec<String> = ports.iter().map(line).collect();
    lines.sort();
    lines
}

fn strings<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

#[test]
fn n1_to_n6_n11_to_n13_which_ports_there_are() {
    let two_udp = "ports: [{name: a, port: 1234, protocol: UDP}, {name: b, port: 1235, protocol: UDP}]";
    let node_ports = "ports: [{name: a, port: 345, protocol: UDP, nodePort: 30678, targetPort: 678}, \
                      {name: b, port: 344, protocol: UDP, nodePort: 30677, targetPort: 677}]";
    let cases: &[(&str, String, &Options, &[&str])] = &[
        ("N2", "clusterIP: None, ports: [{port: 1234, protocol: UDP}]".into(), &V4, &[]),
        ("N3", "clusterIP: None, ports: [{port: 1234, protocol: SCTP}]".into(), &V4, &[]),
        ("N4", "clusterIP: None".into(), &V4, &[]),
        (
            "N5",
            format!("clusterIP: 172.16.55.4, {two_udp}"),
            &V4,
            &["ns/s:a 172.16.55.4:1234/udp", "ns/s:b 172.16.55.4:1235/udp"],
        ),
        (
            "N6",
            format!("type: NodePort, clusterIP: 172.16.55.10, {node_ports}"),
            &V4,
            &["ns/s:a 172.16.55.10:345/udp 30678", "ns/s:b 172.16.55.10:344/udp 30677"],
        ),
        ("N11", format!("type: ExternalName, clusterIP: 172.16.55.4, {two_udp}"), &V4, &[]),
        ("N12", format!("clusterIP: \"fd00::1\", {two_udp}"), &V4, &[]),
        ("N13", format!("clusterIP: 172.16.55.4, {two_udp}"), &V6, &[]),
    ];
    assert!(resolve_all(&State::default()).is_empty(), "N1");
    for (row, spec, options, expected) in cases {
        assert_eq!(summary(&resolve_with(&fact("s", spec, ""), options)), *expected, "{row}");
    }
}

#[test]
fn n7_to_n10_load_balancers() {
    let spec = "type: LoadBalancer, clusterIP: 172.16.55.11, ports: [{name: a, port: 8675, protocol: UDP}, \
                {name: b, port: 8676, protocol: UDP}]";
    for (row, ingress, vips) in [
        ("N7", "{ip: 10.1.2.4}", &["10.1.2.4"][..]),
        ("N8", "{ip: 10.1.2.3, ipMode: VIP}", &["10.1.2.3"]),
        ("N9", "{ip: 10.1.2.3, ipMode: Proxy}", &[]),
    ] {
        let ports = resolve_with(&fact("s", spec, &format!("loadBalancer: {{ingress: [{ingress}]}}")), &V4);
        assert_eq!(ports.len(), 2, "{row}");
        for port in ports {
            assert_eq!(strings(&port.load_balancer_ips), vips, "{row}");
        }
    }
    let local = format!("{spec}, externalTrafficPolicy: Local, healthCheckNodePort: 345");
    for port in resolve_with(&fact("s", &local, "loadBalancer: {ingress: [{ip: 10.1.2.3}]}"), &V4) {
        assert_eq!((port.health_check_node_port, port.external_policy), (345, TrafficPolicy::Local), "N10");
    }
}

#[test]
fn n14_to_n18_addresses_of_a_family() {
    let mixed = (
        "externalIPs: [10.9.9.9, \"2001:db8::9\"], loadBalancerSourceRanges: [\" 10.5.0.0/16 \", \"2001:db8:5::/64\"]",
        "loadBalancer: {ingress: [{ip: 1.2.3.4}, {ip: \"2001:db8::4\"}]}",
    );
    let v4 = (
        "externalIPs: [10.9.9.9], loadBalancerSourceRanges: [\" 10.5.0.0/16 \"]",
        "loadBalancer: {ingress: [{ip: 1.2.3.4}]}",
    );
    let v6 = (
        "externalIPs: [\"2001:db8::9\"], loadBalancerSourceRanges: [\"2001:db8:5::/64\"]",
        "loadBalancer: {ingress: [{ip: \"2001:db8::4\"}]}",
    );
    let families = "clusterIP: 172.30.0.1, clusterIPs: [172.30.0.1, \"fd00::1\"], ipFamilies: [IPv4, IPv6], \
                    ports: [{port: 80}], type: LoadBalancer";
    for (row, (spec, status), options, expected) in [
        ("N14", v4, &V4, ["10.9.9.9", "10.5.0.0/16", "1.2.3.4"]),
        ("N15", v6, &V6, ["2001:db8::9", "2001:db8:5::/64", "2001:db8::4"]),
        ("N16, N18", mixed, &V4, ["10.9.9.9", "10.5.0.0/16", "1.2.3.4"]),
        ("N17", mixed, &V6, ["2001:db8::9", "2001:db8:5::/64", "2001:db8::4"]),
    ] {
        let ports = resolve_with(&fact("s", &format!("{families}, {spec}"), status), options);
        let [port] = &ports[..] else { panic!("{row}: {ports:?}") };
        let found = [strings(&port.external_ips), strings(&port.source_ranges), strings(&port.load_balancer_ips)];
        assert_eq!(found, expected.map(|text| vec![text.to_owned()]), "{row}");
    }
}

#[test]
fn n19_to_n20_several_services() {
    let udp = |type_: &str, ip: &str, rest: &str| format!("type: {type_}, clusterIP: {ip}, {rest}");
    let five = [
        fact("s1", &udp("ClusterIP", "172.16.55.4", "ports: [{name: p1, port: 1234}, {name: p2, port: 1235}]"), ""),
        fact("s2", &udp("ClusterIP", "172.16.55.5", "ports: [{name: p1, port: 9, protocol: SCTP}]"), ""),
        fact(
            "s3",
            &udp("NodePort", "172.16.55.10", "ports: [{name: p1, port: 345, protocol: UDP, nodePort: 30001}]"),
            "",
        ),
        fact(
            "s4",
            &udp(
                "LoadBalancer",
                "172.16.55.11",
                "ports: [{name: p1, port: 1}, {name: p2, port: 2}, {name: p3, port: 3}]",
            ),
            "loadBalancer: {ingress: [{ip: 1.2.3.4}]}",
        ),
        fact(
            "s5",
            &udp(
                "LoadBalancer",
                "172.16.55.12",
                "externalTrafficPolicy: Local, healthCheckNodePort: 345, \
                 ports: [{name: p1, port: 1}, {name: p2, port: 2}, {name: p3, port: 3}]",
            ),
            "loadBalancer: {ingress: [{ip: 5.6.7.8}]}",
        ),
    ];
    let with_health_check = |state: &State| -> BTreeSet<String> {
        let ports = resolve_all(state);
        let checked = ports.iter().filter(|port| port.health_check_node_port != 0);
        checked.map(|port| port.key.name.service.to_string()).collect()
    };
    let mut state = State::default();
    let touched = state.apply(five.iter().map(upsert_service).collect());
    assert_eq!(touched.services.len(), 5, "N19");
    assert_eq!(resolve_all(&state).len(), 10, "N19");
    assert_eq!(with_health_check(&state), BTreeSet::from(["ns/s5".to_owned()]), "N19");

    let fewer = fact("s1", &udp("ClusterIP", "172.16.55.4", "ports: [{name: p1, port: 1234}]"), "");
    let touched = state.apply(vec![
        upsert_service(&fewer),
        delete_service("ns/s2"),
        delete_service("ns/s3"),
        delete_service("ns/s5"),
    ]);
    assert_eq!(touched.services, ["ns/s1", "ns/s2", "ns/s3", "ns/s5"].map(name).into(), "N20");
    let left = resolve_all(&state);
    assert_eq!(
        summary(&left),
        [
            "ns/s1:p1 172.16.55.4:1234/tcp",
            "ns/s4:p1 172.16.55.11:1/tcp",
            "ns/s4:p2 172.16.55.11:2/tcp",
            "ns/s4:p3 172.16.55.11:3/tcp",
        ],
        "N20"
    );
    assert!(with_health_check(&state).is_empty(), "N20");
}

#[test]
fn n21_to_n26_updates() {
    let mut state = State::default();
    let headless = fact("h", "clusterIP: None, ports: [{port: 80}]", "");
    state.apply(vec![upsert_service(&headless)]);
    assert!(resolve_all(&state).is_empty(), "N21");
    assert!(state.apply(vec![upsert_service(&headless)]).is_empty(), "N21");
    state.apply(vec![upsert_service(&fact("e", "type: ExternalName, externalName: foo.bar", ""))]);
    assert!(resolve_all(&state).is_empty(), "N22");

    let ports =
        "clusterIP: 172.16.55.4, ports: [{name: p1, port: 1234, protocol: UDP}, {name: p2, port: 1235, protocol: UDP}]";
    let plain = fact("s", ports, "");
    let balanced = fact(
        "s",
        &format!("{ports}, type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 345"),
        "loadBalancer: {ingress: [{ip: 10.1.2.3}]}",
    );
    for (row, service, touched, health_check) in
        [("before N23", &plain, 1, 0), ("N23", &balanced, 1, 345), ("N24", &balanced, 0, 345), ("N25", &plain, 1, 0)]
    {
        assert_eq!(state.apply(vec![upsert_service(service)]).services.len(), touched, "{row}");
        let found: Vec<u16> = resolve_all(&state).iter().map(|port| port.health_check_node_port).collect();
        assert_eq!(found, [health_check; 2], "{row}");
    }

    let mut state = State::default();
    state.apply(vec![upsert_service(&plain), delete_service("ns/s")]);
    assert!(resolve_all(&state).is_empty() && state.service_names().next().is_none(), "N26");
}

#[test]
fn n27_to_n36_cluster_ip() {
    let cases: &[(&str, &str, Option<&str>, Option<&str>)] = &[
        ("N27", "clusterIP: None", None, None),
        ("N27", "clusterIP: ''", None, None),
        ("N27", "type: ExternalName, clusterIP: None", None, None),
        ("N27", "type: ExternalName, clusterIP: 1.2.3.4", None, None),
        ("N28", "clusterIP: 1.2.3.4", Some("1.2.3.4"), None),
        ("N28", "type: NodePort, clusterIP: 1.2.3.4", Some("1.2.3.4"), None),
        ("N28", "type: LoadBalancer, clusterIP: 1.2.3.4", Some("1.2.3.4"), None),
        ("N29, N30", "clusterIP: 10.0.0.10", Some("10.0.0.10"), None),
        ("N31, N32", "clusterIP: \"fd00::10\"", None, Some("fd00::10")),
        ("N33", "clusterIP: 10.0.0.10, clusterIPs: [10.0.0.10], ipFamilies: [IPv4]", Some("10.0.0.10"), None),
        ("N34", "clusterIP: \"fd00::10\", clusterIPs: [\"fd00::10\"], ipFamilies: [IPv6]", None, Some("fd00::10")),
        (
            "N35",
            "clusterIP: 10.0.0.10, clusterIPs: [10.0.0.10, \"fd00::10\"], ipFamilies: [IPv4, IPv6]",
            Some("10.0.0.10"),
            Some("fd00::10"),
        ),
        (
            "N36",
            "clusterIP: \"fd00::10\", clusterIPs: [\"fd00::10\", 10.0.0.10], ipFamilies: [IPv6, IPv4]",
            Some("10.0.0.10"),
            Some("fd00::10"),
        ),
        ("fewer addresses than families", "clusterIP: 10.0.0.10, ipFamilies: [IPv4]", None, None),
    ];
    for (row, spec, v4, v6) in cases {
        let service = fact("s", spec, "");
        let found = Family::ALL.map(|family| cluster_ip::cluster_ip(&service, family).map(|ip| ip.to_string()));
        assert_eq!(found, [*v4, *v6].map(|ip| ip.map(str::to_owned)), "{row}");
    }
}

/// N37 to N41 for addresses, N42 to N46 for networks.
#[test]
fn n37_to_n46_family_filters() {
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("N37", "", &[], &[]),
        ("N38", "\"2001:db8::1\"", &[], &["2001:db8::1"]),
        ("N38", "10.0.0.1", &["10.0.0.1"], &[]),
        ("N39", "10.0.0.2, \"2001:db8::1\", 10.0.0.1", &["10.0.0.1", "10.0.0.2"], &["2001:db8::1"]),
        ("N40", "10.0.0.1, 10.0.0.2", &["10.0.0.1", "10.0.0.2"], &[]),
        ("N41", "10.0.0.1, '', foo.bar, 10.0.0.256, 10.0.0.1", &["10.0.0.1"], &[]),
    ];
    let both =
        "clusterIP: 172.30.0.1, clusterIPs: [172.30.0.1, \"fd00::1\"], ipFamilies: [IPv4, IPv6], ports: [{port: 80}]";
    for (row, list, v4, v6) in cases {
        for (options, expected) in [(&V4, v4), (&V6, v6)] {
            let ports = resolve_with(&fact("s", &format!("{both}, externalIPs: [{list}]"), ""), options);
            assert_eq!(strings(&ports[0].external_ips), *expected, "{row}");
        }
    }
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("N42", "", &[], &[]),
        ("N43", "\"2001:db8::/32\"", &[], &["2001:db8::/32"]),
        ("N44", "10.2.0.0/16, \"2001:db8::/32\", 10.1.2.3/16", &["10.1.0.0/16", "10.2.0.0/16"], &["2001:db8::/32"]),
        ("N45", "10.1.0.0/16, 10.2.0.0/16", &["10.1.0.0/16", "10.2.0.0/16"], &[]),
        ("N46", "10.1.0.0/16, '', 10.0.0.1, foo/8, 10.0.0.0/33", &["10.1.0.0/16"], &[]),
    ];
    for (row, list, v4, v6) in cases {
        for (options, expected) in [(&V4, v4), (&V6, v6)] {
            let ports = resolve_with(&fact("s", &format!("{both}, loadBalancerSourceRanges: [{list}]"), ""), options);
            assert_eq!(strings(&ports[0].source_ranges), *expected, "{row}");
        }
    }
}

#[test]
fn n47_a_range_of_everything() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        ("", &[], &[]),
        ("10.20.30.0/24", &["10.20.30.0/24"], &[]),
        ("10.20.30.0/24, 0.0.0.0/0", &[], &[]),
        ("10.20.30.0/24, 10.0.0.0/0", &[], &[]),
        ("10.20.30.0/24, \"2001:db8::/32\"", &["10.20.30.0/24"], &["2001:db8::/32"]),
        ("10.20.30.0/24, \"2001:db8::/32\", \"::/0\"", &["10.20.30.0/24"], &[]),
    ];
    let both =
        "clusterIP: 172.30.0.1, clusterIPs: [172.30.0.1, \"fd00::1\"], ipFamilies: [IPv4, IPv6], ports: [{port: 80}]";
    for (list, v4, v6) in cases {
        for (options, expected) in [(&V4, v4), (&V6, v6)] {
            let ports = resolve_with(&fact("s", &format!("{both}, loadBalancerSourceRanges: [{list}]"), ""), options);
            assert_eq!(strings(&ports[0].source_ranges), *expected, "N47 {list}");
        }
    }
}

#[test]
fn n48_external_ips_can_be_forbidden() {
    let spec = "clusterIP: 172.30.0.1, externalIPs: [10.9.9.9], externalTrafficPolicy: Local, ports: [{port: 80}]";
    let service = fact("s", spec, "");
    let allowed = &resolve_with(&service, &V4)[0];
    assert_eq!((allowed.external_ips.len(), allowed.external_policy), (1, TrafficPolicy::Local));
    let forbidden = &resolve_with(&service, &Options { external_ips_allowed: false, ..V4 })[0];
    assert_eq!((forbidden.external_ips.len(), forbidden.external_policy), (0, TrafficPolicy::Cluster));
    assert!(!forbidden.externally_accessible());
}

/// Contract 2.3, *externalPolicyLocal* and *healthCheckNodePort*.
#[test]
fn where_the_external_policy_means_something() {
    for (spec, expected) in [
        ("type: ClusterIP", (TrafficPolicy::Cluster, 0)),
        ("type: ClusterIP, externalIPs: [10.9.9.9]", (TrafficPolicy::Local, 0)),
        ("type: ClusterIP, externalIPs: [\"2001:db8::9\"]", (TrafficPolicy::Cluster, 0)),
        ("type: NodePort", (TrafficPolicy::Local, 0)),
        ("type: LoadBalancer", (TrafficPolicy::Local, 345)),
    ] {
        let rest = "clusterIP: 172.30.0.1, externalTrafficPolicy: Local, healthCheckNodePort: 345, ports: [{port: 80}]";
        let port = &resolve_with(&fact("s", &format!("{spec}, {rest}"), ""), &V4)[0];
        assert_eq!((port.external_policy, port.health_check_node_port), expected, "{spec}");
    }
}

#[test]
fn of_ports_with_one_name_and_protocol_the_first_counts() {
    let ports = [("p", Protocol::Tcp, 80), ("p", Protocol::Udp, 81), ("p", Protocol::Tcp, 82)];
    let service = service("ns/s", "172.30.0.1", &ports);
    assert_eq!(summary(&resolve_with(&service, &V4)), ["ns/s:p 172.30.0.1:80/tcp", "ns/s:p 172.30.0.1:81/udp"]);
}

/// T58: each family has its own address and its own endpoints.
#[test]
fn a_dual_stack_service_has_ports_of_both_families() {
    let spec =
        "clusterIP: \"fd00::1\", clusterIPs: [\"fd00::1\", 172.30.0.1], ipFamilies: [IPv6, IPv4], ports: [{port: 80}]";
    let port = [("", Protocol::Tcp, 8080)];
    let slices = [
        slice("ns/s-4", "s", &port, &[endpoint("10.0.0.1").on(NODE)]),
        slice("ns/s-6", "s", &port, &[endpoint("fd00:10::1").on(NODE)]),
    ];
    let ports = resolve_all(&state_of(&[fact("s", spec, "")], &slices));
    let found: Vec<_> = ports.iter().map(|p| (p.family(), texts(p.cluster_endpoints()))).collect();
    assert_eq!(
        found,
        [(Family::V4, vec!["10.0.0.1:8080".to_owned()]), (Family::V6, vec!["[fd00:10::1]:8080".to_owned()])]
    );
}
