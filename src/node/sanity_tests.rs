//! Rows Q90 to Q112.

use super::*;

const V4: &str = "10.0.0.0/8";
const V6: &str = "fd01:2345::/64";

fn nets(texts: &[&str]) -> &'static [IpNet] {
    texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>().leak()
}

/// Nothing is configured, for IPv4.
fn nothing() -> Configuration<'static> {
    Configuration {
        primary: Family::V4,
        dual_stack: false,
        detection: Detection::None,
        cluster_cidrs: &[],
        pod_cidrs: &[],
        node_port_addresses: &[],
        ipvs_exclude_cidrs: &[],
        winkernel_source_vip: None,
        healthz_bind_address: None,
        metrics_bind_address: None,
    }
}

#[test]
fn q90_to_q94_node_ports() {
    type Row<'a> = (&'a str, Family, &'a [&'a str], &'a [&'a str], Option<&'a str>);
    let rows: [Row<'_>; 9] = [
        ("Q90", Family::V4, &[V4], &[V4], None),
        ("Q91", Family::V4, &[V4, V6], &[V4, V6], None),
        ("Q92", Family::V4, &[], &[V4], Some("nodePortAddresses is unset; NodePort connections will be accepted")),
        (
            "Q93",
            Family::V4,
            &[V4],
            &[V4, V6],
            Some(
                "cluster appears to be dual-stack but nodePortAddresses contains only IPv4 addresses; NodePort \
                 connections will be accepted on all local IPv6 IPs",
            ),
        ),
        (
            "Q94",
            Family::V4,
            &[V6],
            &[V4],
            Some(
                "cluster appears to be IPv4-primary but nodePortAddresses contains only IPv6 addresses; NodePort \
                 connections will be accepted on all local IPv4 IPs",
            ),
        ),
        ("Q94 with both", Family::V4, &[V6], &[V4, V6], Some("cluster appears to be IPv4-primary but")),
        ("Q93 for IPv6", Family::V6, &[V6], &[V6, V4], Some("only IPv6 addresses")),
        ("Q90 for IPv6", Family::V6, &[V6], &[V6], None),
        ("more than a pair", Family::V4, &[V4, V4, V6], &[], None),
    ];
    for (row, primary, node_ports_on, cluster, expected) in rows {
        for dual_stack in [false, true] {
            let configuration = Configuration {
                primary,
                dual_stack,
                node_port_addresses: nets(node_ports_on),
                cluster_cidrs: nets(cluster),
                ..nothing()
            };
            let warning = node_ports(&configuration).map(|warning| warning.to_string());
            assert_eq!(warning.is_some(), expected.is_some(), "{row}");
            if let (Some(warning), Some(expected)) = (warning, expected) {
                let start = "Kube-proxy configuration may be incomplete or incorrect: ";
                assert!(warning.starts_with(start) && warning.contains(expected), "{row}: {warning}");
            }
        }
    }
}

/// Any list can be the one that looks dual-stack.
#[test]
fn q93_from_every_list() {
    let both = nets(&[V4, V6]);
    let base = Configuration { node_port_addresses: nets(&[V4]), ..nothing() };
    assert_eq!(node_ports(&base), None);
    for configuration in [
        Configuration { cluster_cidrs: both, ..base },
        Configuration { pod_cidrs: both, ..base },
        Configuration { ipvs_exclude_cidrs: both, ..base },
    ] {
        assert!(node_ports(&configuration).is_some(), "{configuration:?}");
    }
}

/// What comes of one configuration on a host of one family, and on one of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Ok,
    Warn(&'static str),
    Fatal(&'static str),
}

#[test]
fn q95_to_q112_families() {
    use Outcome::{Fatal, Ok, Warn};
    let (v4, v6, both, reversed) = (nets(&[V4]), nets(&[V6]), nets(&[V4, V6]), nets(&[V6, V4]));
    let ip = |text: &str| Some(text.parse().unwrap());
    let on_v6 = Configuration { primary: Family::V6, ..nothing() };
    let cluster =
        |cluster_cidrs| Configuration { detection: Detection::ClusterCidr(cluster_cidrs), cluster_cidrs, ..nothing() };
    let pods = |pod_cidrs| Configuration { detection: Detection::NodeCidr(pod_cidrs), pod_cidrs, ..nothing() };
    let bridged = Configuration { detection: Detection::BridgeInterface("eth0"), cluster_cidrs: v6, ..nothing() };
    let (clusters, node) = ("clusterCIDRs contains only IPv6 addresses", "podCIDRs contains only IPv6 addresses");
    let sources = "winkernel.sourceVip is IPv6";
    let rows = [
        ("Q95", nothing(), Ok, Ok),
        ("Q96", cluster(v4), Ok, Ok),
        ("Q97", cluster(both), Ok, Ok),
        ("Q98", cluster(reversed), Ok, Ok),
        ("Q99", bridged, Warn(clusters), Warn(clusters)),
        ("Q100", cluster(v6), Fatal(clusters), Warn(clusters)),
        ("Q101", pods(v4), Ok, Ok),
        ("Q102", pods(both), Ok, Ok),
        ("Q103", pods(reversed), Ok, Ok),
        ("Q104", pods(v6), Fatal(node), Fatal(node)),
        ("Q104 in another mode", Configuration { detection: Detection::None, ..pods(v6) }, Warn(node), Warn(node)),
        ("Q105", Configuration { winkernel_source_vip: ip("192.168.0.1"), ..nothing() }, Ok, Ok),
        ("Q106", Configuration { winkernel_source_vip: ip("fd00::1"), ..nothing() }, Warn(sources), Warn(sources)),
        ("Q107", Configuration { metrics_bind_address: ip("10.0.0.1"), ..nothing() }, Ok, Ok),
        ("Q108", Configuration { metrics_bind_address: ip("fd01:2345::1"), ..on_v6 }, Ok, Ok),
        ("Q109", Configuration { metrics_bind_address: ip("0.0.0.0"), ..on_v6 }, Ok, Ok),
        (
            "Q110",
            Configuration { metrics_bind_address: ip("10.0.0.1"), ..on_v6 },
            Warn("cluster is IPv6-only but metricsBindAddress is IPv4"),
            Ok,
        ),
        (
            "Q110 for health",
            Configuration { healthz_bind_address: ip("10.0.0.1"), ..on_v6 },
            Warn("cluster is IPv6-only but healthzBindAddress is IPv4"),
            Ok,
        ),
        ("Q111", Configuration { ipvs_exclude_cidrs: v4, ..nothing() }, Ok, Ok),
        (
            "Q112",
            Configuration { ipvs_exclude_cidrs: nets(&["10.0.0.0/8", "192.168.0.0/24"]), ..on_v6 },
            Warn("cluster is IPv6-only but ipvs.excludeCIDRs contains only IPv4 addresses"),
            Ok,
        ),
    ];
    for (row, configuration, single, dual) in rows {
        for (dual_stack, expected) in [(false, single), (true, dual)] {
            let found = families(&Configuration { dual_stack, ..configuration });
            match (expected, &found) {
                (Ok, Result::Ok(warnings)) => assert!(warnings.is_empty(), "{row}: {warnings:?}"),
                (Warn(text), Result::Ok(warnings)) => {
                    assert_eq!(warnings.len(), 1, "{row}");
                    assert!(warnings[0].to_string().contains(text), "{row}: {}", warnings[0]);
                }
                (Fatal(text), Err(error)) => {
                    let told = error.to_string();
                    assert!(told.starts_with("kube-proxy configuration is incorrect: cluster is IPv4-"), "{told}");
                    assert!(told.contains(text) && !told.contains('\n'), "{row}: {told}");
                }
                _ => panic!("{row}: expected {expected:?}, found {found:?}"),
            }
        }
    }
}
