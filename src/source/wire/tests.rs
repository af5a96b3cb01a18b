use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use std::net::IpAddr;
use std::sync::Arc;

use super::*;
use crate::net::{Family, Protocol};
use crate::state;
use crate::state::{ClusterIp, IpMode, ServiceType, TrafficPolicy};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A Service with this spec and status: its fact, and its problems as text.
fn service(spec: Value, status: Value) -> (state::Service, Vec<String>) {
    let object = json!({"metadata": {"name": "svc", "namespace": "ns"}, "spec": spec, "status": status});
    let object: Service = serde_json::from_value(object).unwrap();
    let (fact, problems) = object.to_fact(&mut Interner::default());
    (fact, problems.iter().map(ToString::to_string).collect())
}

/// A Service that has no problems.
fn good(spec: Value) -> state::Service {
    let (fact, problems) = service(spec, Value::Null);
    assert_eq!(problems, [""; 0]);
    fact
}

/// An EndpointSlice of the service `svc` with these fields.
fn slice(fields: Value) -> (Option<state::EndpointSlice>, Vec<String>) {
    let mut object = json!({
        "metadata": {"name": "svc-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "svc"}},
        "addressType": "IPv4",
    });
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let object: EndpointSlice = serde_json::from_value(object).unwrap();
    let (fact, problems) = object.to_fact(&mut Interner::default());
    (fact, problems.iter().map(ToString::to_string).collect())
}

fn left_out(field: &str, value: &str, expected: &str) -> String {
    format!("Service ns/svc: {field}: {value:?} is left out: expected {expected}")
}

#[test]
fn n5_n6_ports_and_node_ports() {
    let fact = good(json!({
        "type": "NodePort", "clusterIP": "172.16.55.10",
        "ports": [
            {"name": "a", "port": 345, "nodePort": 678, "protocol": "UDP", "targetPort": 9},
            {"name": "b", "port": 344, "protocol": "SCTP", "targetPort": "named"},
            {"name": "c", "port": 1},
        ],
    }));
    assert_eq!(fact.service_type, ServiceType::NodePort);
    let ports: Vec<_> = fact.ports.iter().map(|port| (&*port.name, port.protocol, port.port, port.node_port)).collect();
    assert_eq!(ports, [("a", Protocol::Udp, 345, 678), ("b", Protocol::Sctp, 344, 0), ("c", Protocol::Tcp, 1, 0)]);
}

#[test]
fn n7_n8_n9_ingress_modes() {
    let (fact, problems) = service(
        json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
        json!({"loadBalancer": {"ingress": [
            {"ip": "1.2.3.4"},
            {"ip": "1.2.3.5", "ipMode": "VIP"},
            {"ip": "1.2.3.6", "ipMode": "Proxy"},
            {"hostname": "lb.example.org"},
            {"ip": "", "hostname": "lb.example.org"},
            {"ip": "1.2.3.7", "ipMode": "Other"},
            {"ip": "1.2.3"},
        ]}}),
    );
    let entries: Vec<_> = fact.load_balancer.iter().map(|entry| (entry.ip, entry.mode)).collect();
    assert_eq!(entries, [(ip("1.2.3.4"), IpMode::Vip), (ip("1.2.3.5"), IpMode::Vip), (ip("1.2.3.6"), IpMode::Proxy)]);
    assert_eq!(
        problems,
        [
            left_out("status.loadBalancer.ingress[5].ipMode", "Other", "VIP or Proxy"),
            left_out("status.loadBalancer.ingress[6].ip", "1.2.3", "an IPv4 or IPv6 address"),
        ]
    );
}

#[test]
fn n10_health_check_node_port() {
    let fact = good(json!({
        "type": "LoadBalancer", "clusterIP": "10.0.0.1", "externalTrafficPolicy": "Local", "healthCheckNodePort": 345,
    }));
    assert_eq!((fact.health_check_node_port, fact.external_policy), (345, TrafficPolicy::Local));
    assert_eq!(good(json!({"clusterIP": "10.0.0.1", "healthCheckNodePort": 0})).health_check_node_port, 0);
}

#[test]
fn n11_n27_types_and_cluster_ips() {
    for (spec, service_type, cluster_ip) in [
        (json!({"clusterIP": "None"}), ServiceType::ClusterIp, ClusterIp::Headless),
        (json!({"clusterIP": ""}), ServiceType::ClusterIp, ClusterIp::Unset),
        (json!({}), ServiceType::ClusterIp, ClusterIp::Unset),
        (json!({"type": "ExternalName", "clusterIP": "None"}), ServiceType::ExternalName, ClusterIp::Headless),
        (
            json!({"type": "ExternalName", "clusterIP": "1.2.3.4"}),
            ServiceType::ExternalName,
            ClusterIp::Ip(ip("1.2.3.4")),
        ),
        (
            json!({"type": "LoadBalancer", "clusterIP": "fd00::1"}),
            ServiceType::LoadBalancer,
            ClusterIp::Ip(ip("fd00::1")),
        ),
    ] {
        let fact = good(spec);
        assert_eq!((fact.service_type, fact.cluster_ip), (service_type, cluster_ip));
    }
    let (fact, problems) = service(json!({"type": "Magic", "clusterIP": "1.2.3.4.5"}), Value::Null);
    assert_eq!((fact.service_type, fact.cluster_ip), (ServiceType::ClusterIp, ClusterIp::Unset));
    assert_eq!(
        problems,
        [
            left_out("spec.type", "Magic", "ClusterIP, NodePort, LoadBalancer or ExternalName"),
            left_out("spec.clusterIP", "1.2.3.4.5", "an IPv4 or IPv6 address, or None"),
        ]
    );
}

#[test]
fn n14_to_n18_external_ips_and_ranges_of_both_families() {
    let fact = good(json!({
        "clusterIP": "10.0.0.1",
        "externalIPs": ["1.2.3.4", "2001:db8::1", ""],
        "loadBalancerSourceRanges": [" 10.1.2.0/28", "2001:db8::1/32 ", "\t0.0.0.0/0\n", " "],
    }));
    assert_eq!(*fact.external_ips, [ip("1.2.3.4"), ip("2001:db8::1")]);
    let ranges: Vec<_> = fact.source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.1.2.0/28", "2001:db8::/32", "0.0.0.0/0"]);
}

#[test]
fn n33_to_n36_families_and_their_addresses() {
    let fact = good(json!({
        "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"], "ipFamilies": ["IPv6", "IPv4"],
    }));
    assert_eq!(*fact.ip_families, [Family::V6, Family::V4]);
    assert_eq!(*fact.cluster_ips, [Some(ip("fd00::1")), Some(ip("10.0.0.1"))]);
}

#[test]
fn families_and_addresses_stay_paired() {
    // A family that nobody knows takes its address with it.
    let (fact, problems) = service(
        json!({"clusterIP": "10.0.0.1", "clusterIPs": ["x:y", "10.0.0.1"], "ipFamilies": ["IPX", "IPv4"]}),
        Value::Null,
    );
    assert_eq!((&*fact.ip_families, &*fact.cluster_ips), (&[Family::V4][..], &[Some(ip("10.0.0.1"))][..]));
    assert_eq!(problems, [left_out("spec.ipFamilies[0]", "IPX", "IPv4 or IPv6")]);
    // An address of another family than its own is none; its place stays.
    let (fact, problems) = service(
        json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv6", "IPv6"]}),
        Value::Null,
    );
    assert_eq!(*fact.cluster_ips, [None, Some(ip("fd00::1"))]);
    assert_eq!(problems, [left_out("spec.clusterIPs[0]", "10.0.0.1", "an IPv6 address, as spec.ipFamilies says")]);
    let (fact, problems) = service(json!({"clusterIPs": ["None", "bad"]}), Value::Null);
    assert_eq!(*fact.cluster_ips, [None, None]);
    assert_eq!(problems, [left_out("spec.clusterIPs[1]", "bad", "an IPv4 or IPv6 address")]);
}

#[test]
fn n41_to_n46_what_is_no_address_is_left_out_and_told() {
    let (fact, problems) = service(
        json!({
            "clusterIP": "10.0.0.1",
            "externalIPs": ["", "foobar", "1.2.3.4", "1.2.3.4/8"],
            "loadBalancerSourceRanges": ["", "10.0.0.0/33", "10.0.0.0/8", "10.0.0.0"],
        }),
        Value::Null,
    );
    assert_eq!(*fact.external_ips, [ip("1.2.3.4")]);
    assert_eq!(fact.source_ranges.len(), 1);
    let (address, range) = ("an IPv4 or IPv6 address", "a CIDR such as 10.0.0.0/8 or fd00::/64");
    assert_eq!(
        problems,
        [
            left_out("spec.loadBalancerSourceRanges[1]", "10.0.0.0/33", range),
            left_out("spec.loadBalancerSourceRanges[3]", "10.0.0.0", range),
            left_out("spec.externalIPs[1]", "foobar", address),
            left_out("spec.externalIPs[3]", "1.2.3.4/8", address),
        ]
    );
}

/// An empty list allows everybody; a list of mistakes must not.
#[test]
fn ranges_that_are_all_mistakes_close_the_load_balancer() {
    let status = json!({"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}});
    let spec = |ranges: &[&str]| json!({"clusterIP": "10.0.0.1", "loadBalancerSourceRanges": ranges});
    let (fact, problems) = service(spec(&["10.0.0.0/33"]), status.clone());
    assert_eq!((fact.load_balancer.len(), fact.source_ranges.len(), problems.len()), (0, 0, 2));
    for ranges in [&["10.0.0.0/33", "10.0.0.0/8"][..], &[], &["", " "], &["fd00::/8"]] {
        assert_eq!(service(spec(ranges), status.clone()).0.load_balancer.len(), 1, "{ranges:?}");
    }
}

#[test]
fn j16_leading_zeros_are_decimal_everywhere() {
    let (fact, problems) = service(
        json!({
            "clusterIP": "010.020.030.041", "clusterIPs": ["010.020.030.041"], "ipFamilies": ["IPv4"],
            "externalIPs": ["001.002.003.004", "08.0.0.1", "bogus"],
            "loadBalancerSourceRanges": ["010.0.0.0/08", "bogus/8"],
        }),
        json!({"loadBalancer": {"ingress": [{"ip": "09.8.7.6"}, {"ip": "bogus"}]}}),
    );
    assert_eq!(fact.cluster_ip, ClusterIp::Ip(ip("10.20.30.41")));
    assert_eq!(*fact.cluster_ips, [Some(ip("10.20.30.41"))]);
    assert_eq!(*fact.external_ips, [ip("1.2.3.4"), ip("8.0.0.1")]);
    assert_eq!(fact.source_ranges[0].to_string(), "10.0.0.0/8");
    assert_eq!(fact.load_balancer[0].ip, ip("9.8.7.6"));
    assert_eq!(problems.len(), 3);
    let (fact, problems) = slice(json!({
        "ports": [{"name": "", "port": 80}],
        "endpoints": [{"addresses": ["010.180.000.001"]}, {"addresses": ["10.180.0.1.1"]}],
    }));
    assert_eq!(fact.unwrap().endpoints.iter().map(|endpoint| endpoint.ip).collect::<Vec<_>>(), [ip("10.180.0.1")]);
    assert_eq!(problems.len(), 1);
}

#[test]
fn affinity_and_its_timeout() {
    let spec = |config: Value| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
    assert_eq!(good(json!({"sessionAffinity": "None"})).affinity_seconds, None);
    assert_eq!(good(json!({})).affinity_seconds, None);
    assert_eq!(good(spec(Value::Null)).affinity_seconds, Some(10800));
    assert_eq!(good(spec(json!({"clientIP": {"timeoutSeconds": 86400}}))).affinity_seconds, Some(86400));
    for seconds in [0, -1, 86401, i64::MAX] {
        let (fact, problems) = service(spec(json!({"clientIP": {"timeoutSeconds": seconds}})), Value::Null);
        assert_eq!((fact.affinity_seconds, problems.len()), (Some(10800), 1), "{seconds}");
    }
}

#[test]
fn policies() {
    let fact = good(json!({"internalTrafficPolicy": "Local"}));
    assert_eq!((fact.internal_policy, fact.external_policy), (TrafficPolicy::Local, TrafficPolicy::Cluster));
    let (fact, problems) = service(json!({"externalTrafficPolicy": "local"}), Value::Null);
    assert_eq!(fact.external_policy, TrafficPolicy::Cluster);
    assert_eq!(problems, [left_out("spec.externalTrafficPolicy", "local", "Cluster or Local")]);
}

#[test]
fn ports_that_cannot_be() {
    let (fact, problems) = service(
        json!({"ports": [
            {"name": "a", "port": 0},
            {"name": "b", "port": 65536},
            {"name": "c", "port": 80, "protocol": "ICMP"},
            {"name": "d", "port": 80, "nodePort": -1, "protocol": ""},
            {"name": "d", "port": 81},
            {"name": "d", "port": 81, "protocol": "UDP"},
            {"name": "e\" -j ACCEPT", "port": 82},
        ]}),
        Value::Null,
    );
    let ports: Vec<_> = fact.ports.iter().map(|port| (port.port, port.protocol, port.node_port)).collect();
    assert_eq!(ports, [(80, Protocol::Tcp, 0), (81, Protocol::Udp, 0)]);
    let port = "a port from 1 to 65535";
    assert_eq!(
        problems,
        [
            left_out("spec.ports[0].port", "0", port),
            left_out("spec.ports[1].port", "65536", port),
            left_out("spec.ports[2].protocol", "ICMP", "TCP, UDP or SCTP"),
            left_out("spec.ports[3].nodePort", "-1", port),
            left_out("spec.ports[4].name", "d", "a name that no port before it has"),
            left_out("spec.ports[6].name", "e\" -j ACCEPT", NAME_EXPECTED),
        ]
    );
}

#[test]
fn selectors() {
    let service = |labels: Value, cluster_ip: &str| {
        let object = json!({"metadata": {"name": "x", "labels": labels}, "spec": {"clusterIP": cluster_ip}});
        serde_json::from_value::<Service>(object).unwrap().is_selected()
    };
    assert!(service(Value::Null, "10.0.0.1"));
    assert!(service(json!({"app": "x"}), ""));
    assert!(!service(json!({LABEL_PROXY_NAME: ""}), "10.0.0.1"), "any value counts, also none");
    assert!(!service(Value::Null, "None"));
    let slice = |labels: Value| {
        let object = json!({"metadata": {"name": "x", "labels": labels}});
        serde_json::from_value::<EndpointSlice>(object).unwrap().is_selected()
    };
    assert!(slice(Value::Null));
    assert!(!slice(json!({LABEL_HEADLESS: ""})));
}

#[test]
fn o16_o49_o56_slices() {
    let (fact, problems) = slice(json!({
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP"},
            {"name": "", "port": 443},
            {"name": "all"},
            {"name": "zero", "port": 0},
            {"port": 1},
        ],
        "endpoints": [
            {"addresses": ["10.0.0.1", "10.0.0.2"], "nodeName": "n1"},
            {"addresses": []},
            {},
            {"addresses": ["fd00::1"]},
        ],
    }));
    let fact = fact.unwrap();
    assert_eq!(fact.service_name().to_string(), "ns/svc");
    let ports: Vec<_> = fact.ports.iter().map(|port| (&*port.name, port.port)).collect();
    assert_eq!(ports, [("http", 80), ("", 443)]);
    let endpoints: Vec<_> = fact.endpoints.iter().map(|endpoint| (endpoint.ip, endpoint.node())).collect();
    assert_eq!(endpoints, [(ip("10.0.0.1"), Some("n1"))], "the first address of each endpoint");
    assert_eq!(problems.len(), 4, "{problems:?}");
}

/// Absent means ready and serving; terminating only if it is said (contract 2.4).
#[test]
fn o17_conditions() {
    for (conditions, expected) in [
        (Value::Null, (true, true, false)),
        (json!({}), (true, true, false)),
        (json!({"ready": null}), (true, true, false)),
        (json!({"ready": false}), (false, true, false)),
        (json!({"ready": false, "serving": false, "terminating": true}), (false, false, true)),
    ] {
        let (fact, _) = slice(json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]}));
        let found = fact.unwrap().endpoints[0].conditions;
        assert_eq!((found.ready, found.serving, found.terminating), expected);
    }
}

#[test]
fn hints_are_shared() {
    let endpoint = |ip: &str, hints: Value| json!({"addresses": [ip], "hints": hints});
    let zone = json!({"forZones": [{"name": "z1"}, {"name": "z2"}]});
    let (fact, _) = slice(json!({"endpoints": [
        endpoint("10.0.0.1", zone.clone()),
        endpoint("10.0.0.2", zone),
        endpoint("10.0.0.3", json!({"forNodes": [{"name": "n"}]})),
        endpoint("10.0.0.4", json!({"forZones": []})),
    ]}));
    let fact = fact.unwrap();
    let hints: Vec<_> = fact
        .endpoints
        .iter()
        .map(|endpoint| endpoint.location.as_ref().and_then(|location| location.hints.clone()))
        .collect();
    assert!(Arc::ptr_eq(hints[0].as_ref().unwrap(), hints[1].as_ref().unwrap()));
    assert_eq!(hints[2].as_ref().unwrap().nodes.len(), 1);
    assert_eq!(hints[3], None);
}

/// Equal locations are one; an empty zone is none.
#[test]
fn zones_are_part_of_shared_locations() {
    let endpoint = |ip: &str, node: Value, zone: Value| json!({"addresses": [ip], "nodeName": node, "zone": zone});
    let (fact, _) = slice(json!({"endpoints": [
        endpoint("10.0.0.1", json!("n1"), json!("a")),
        endpoint("10.0.0.2", json!("n1"), json!("a")),
        endpoint("10.0.0.3", json!("n1"), json!("b")),
        endpoint("10.0.0.4", json!("n1"), json!("")),
        endpoint("10.0.0.5", Value::Null, json!("a")),
        endpoint("10.0.0.6", Value::Null, json!("")),
    ]}));
    let fact = fact.unwrap();
    let locations: Vec<_> = fact.endpoints.iter().map(|endpoint| endpoint.location.as_ref()).collect();
    let zones: Vec<_> =
        locations.iter().map(|location| location.and_then(|location| location.zone.as_deref())).collect();
    assert_eq!(zones, [Some("a"), Some("a"), Some("b"), None, Some("a"), None]);
    assert!(Arc::ptr_eq(locations[0].unwrap(), locations[1].unwrap()));
    assert_eq!(locations[5], None);
}

#[test]
fn o27_o31_trigger_time() {
    let time = |text: &str| {
        let labels = json!({"kubernetes.io/service-name": "svc"});
        let (fact, problems) =
            slice(json!({"metadata": {"name": "s", "labels": labels, "annotations": {ANNOTATION_TRIGGER_TIME: text}}}));
        (fact.unwrap().trigger_time, problems.len())
    };
    assert_eq!(time("1970-01-01T00:00:01.5Z"), (Some(1_500_000_000), 0));
    assert_eq!(time("1970-01-01T01:00:00+01:00"), (Some(0), 0));
    assert_eq!(time("yesterday"), (None, 1));
    assert_eq!(time("9999-12-30T00:00:00Z").0, None, "nanoseconds of that time do not fit");
}

#[test]
fn o37_slices_that_are_no_facts() {
    let none = |fields| {
        let (fact, problems) = slice(fields);
        assert_eq!(fact, None);
        assert_eq!(problems.len(), 1, "{problems:?}");
    };
    none(json!({"addressType": "FQDN"}));
    none(json!({"addressType": null}));
    none(json!({"metadata": {"name": "s"}}));
    none(json!({"metadata": {"name": "s", "labels": {LABEL_SERVICE_NAME: ""}}}));
    none(json!({"metadata": {"name": "s", "labels": {LABEL_SERVICE_NAME: "a\nb"}}}));
}

#[test]
fn nodes() {
    let node = |object: Value| {
        let object: Node = serde_json::from_value(object).unwrap();
        let (fact, problems) = object.to_fact(&mut Interner::default());
        (fact, problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let (fact, problems) = node(json!({
        "metadata": {"name": "n", "labels": {LABEL_ZONE: "z1"}},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64"], "taints": [{"key": "other"}]},
        "status": {"addresses": [
            {"type": "ExternalIP", "address": "1.2.3.4"},
            {"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": "010.0.0.1"},
            {"type": "InternalIP", "address": "bad"},
        ]},
    }));
    assert_eq!((fact.zone.as_deref(), fact.leaving), (Some("z1"), false));
    assert_eq!(*fact.ips, [ip("10.0.0.1"), ip("1.2.3.4")]);
    assert_eq!(fact.pod_cidrs.len(), 2);
    assert_eq!(
        problems,
        ["Node n: status.addresses[3].address: \"bad\" is left out: expected an IPv4 or IPv6 address"]
    );
    let old = node(json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.1.0.0/24"}})).0;
    assert_eq!(old.pod_cidrs.len(), 1);
    let tainted = node(json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": TAINT_TO_BE_DELETED}]}})).0;
    assert!(tainted.leaving);
    let deleted = node(json!({"metadata": {"name": "n", "deletionTimestamp": "2026-01-01T00:00:00Z"}})).0;
    assert!(deleted.leaving);
    let unlabelled = node(json!({"metadata": {"name": "n", "labels": {LABEL_ZONE: ""}}})).0;
    assert_eq!(unlabelled.zone, None);
}

#[test]
fn service_cidrs() {
    let object = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12", "bad", "fd00::/108"]}});
    let object: ServiceCidr = serde_json::from_value(object).unwrap();
    let (fact, problems) = object.to_fact(&mut Interner::default());
    assert_eq!(fact.cidrs.len(), 2);
    let text =
        "ServiceCIDR kubernetes: spec.cidrs[1]: \"bad\" is left out: expected a CIDR such as 10.0.0.0/8 or fd00::/64";
    assert_eq!(problems[0].to_string(), text);
}

#[test]
fn equal_strings_are_one_and_swept_when_unused() {
    let mut names = Interner::default();
    let first = names.intern("zone");
    assert!(Arc::ptr_eq(&first, &names.intern("zone")));
    names.intern("gone");
    names.sweep();
    assert_eq!(names.strings.len(), 1);
}

/// Every field that is read.
const FIELDS: [&str; 50] = [
    "metadata",
    "name",
    "namespace",
    "labels",
    "annotations",
    "deletionTimestamp",
    "spec",
    "status",
    "type",
    "clusterIP",
    "clusterIPs",
    "ipFamilies",
    "ports",
    "externalIPs",
    "loadBalancerSourceRanges",
    "sessionAffinity",
    "sessionAffinityConfig",
    "clientIP",
    "timeoutSeconds",
    "internalTrafficPolicy",
    "externalTrafficPolicy",
    "healthCheckNodePort",
    "protocol",
    "port",
    "nodePort",
    "loadBalancer",
    "ingress",
    "ip",
    "ipMode",
    "addressType",
    "endpoints",
    "addresses",
    "conditions",
    "ready",
    "serving",
    "terminating",
    "nodeName",
    "hints",
    "forZones",
    "forNodes",
    "podCIDR",
    "podCIDRs",
    "taints",
    "key",
    "address",
    "cidrs",
    LABEL_PROXY_NAME,
    LABEL_SERVICE_NAME,
    LABEL_ZONE,
    ANNOTATION_TRIGGER_TIME,
];

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..70000i64).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[0-9./:a-f]{0,20}".prop_map(Value::from),
        proptest::sample::select(vec![
            "IPv4",
            "IPv6",
            "None",
            "Local",
            "ClientIP",
            "VIP",
            "LoadBalancer",
            "10.0.0.1",
            "fd00::1",
            "::ffff:1.2.3.4",
            "0.0.0.0/0",
            "::/0",
            "TCP",
            "9999-12-31T23:59:59.999999999Z",
            "-009999-01-02T01:59:59Z",
        ])
        .prop_map(Value::from),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            vec((proptest::sample::select(&FIELDS[..]), inner), 0..6).prop_map(|entries| Value::Object(
                entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

/// A list of a few values.
fn some(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    vec(values, 0..4).prop_map(Value::from)
}

/// Objects of the right shape with arbitrary scalars of the right type.
fn shaped() -> impl Strategy<Value = Value> {
    let text = || scalar().prop_map(|value| if value.is_string() { value } else { Value::from(value.to_string()) });
    let number = || prop_oneof![any::<i64>(), -2..70000i64].prop_map(Value::from);
    let port = (text(), text(), number(), number()).prop_map(
        |(name, protocol, port, node)| json!({"name": name, "protocol": protocol, "port": port, "nodePort": node}),
    );
    let endpoint = (some(text()), text(), any::<Option<bool>>(), text()).prop_map(|(addresses, node, ready, zone)| {
        json!({"addresses": addresses, "nodeName": node, "conditions": {"ready": ready}, "hints": {"forZones": [{"name": zone}]}})
    });
    let first = (some(port), some(endpoint), some(text()), some(text()), some(text()), some(text()));
    let second = (text(), text(), text(), text(), number(), text());
    (first, second).prop_map(|((ports, endpoints, ips, families, ranges, cidrs), (a, b, c, d, number, time))| {
        json!({
            "metadata": {
                "name": a, "namespace": b, "labels": {LABEL_SERVICE_NAME: c, LABEL_ZONE: d},
                "annotations": {ANNOTATION_TRIGGER_TIME: time},
            },
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
            "spec": {
                "type": c, "clusterIP": d, "clusterIPs": ips, "ipFamilies": families, "ports": ports, "externalIPs": ips,
                "loadBalancerSourceRanges": ranges, "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": number}}, "healthCheckNodePort": number,
                "podCIDRs": ranges, "cidrs": cidrs,
            },
            "status": {"loadBalancer": {"ingress": [{"ip": d, "ipMode": a}]}, "addresses": [{"type": "InternalIP", "address": d}]},
        })
    })
}

/// Converts a value as every kind that it decodes as; how many did.
fn convert(value: &Value) -> usize {
    let names = &mut Interner::default();
    let mut decoded = 0;
    if let Ok(object) = serde_json::from_value::<Service>(value.clone()) {
        object.is_selected();
        let (fact, _) = object.to_fact(names);
        assert!(fact.ports.iter().all(|port| port.port != 0));
        assert!(fact.affinity_seconds.is_none_or(|seconds| (1..=86400).contains(&seconds)));
        for (family, ip) in fact.ip_families.iter().zip(&fact.cluster_ips) {
            assert!(ip.is_none_or(|ip| Family::of(&ip) == *family));
        }
        decoded += 1;
    }
    if let Ok(object) = serde_json::from_value::<EndpointSlice>(value.clone()) {
        object.is_selected();
        if let (Some(fact), _) = object.to_fact(names) {
            assert!(fact.ports.iter().all(|port| port.port != 0 && (port.name.is_empty() || is_name(&port.name))));
            assert!(fact.endpoints.iter().all(|endpoint| Family::of(&endpoint.ip) == fact.family));
            assert!(is_name(&fact.service));
        }
        decoded += 1;
    }
    if let Ok(object) = serde_json::from_value::<Node>(value.clone()) {
        object.to_fact(names);
        decoded += 1;
    }
    if let Ok(object) = serde_json::from_value::<ServiceCidr>(value.clone()) {
        object.to_fact(names);
        decoded += 1;
    }
    decoded
}

proptest! {
    #[test]
    fn arbitrary_values_never_panic(value in any_json(), metadata in any_json()) {
        convert(&value);
        convert(&json!({"metadata": metadata, "spec": value, "status": value, "addressType": "IPv6", "endpoints": value}));
    }

    #[test]
    fn objects_of_the_right_shape_become_sound_facts(value in shaped()) {
        prop_assert_eq!(convert(&value), 4);
    }
}
