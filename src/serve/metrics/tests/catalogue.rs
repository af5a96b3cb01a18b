//! Names, types, labels, buckets and help texts, against a list written by hand from a scrape of kube-proxy 1.36.

use std::collections::BTreeSet;

use super::super::{kube, own};
use super::parser::{Read, parse};
use super::*;

/// The bounds of kube-proxy's classes of its own work.
const WORK: &str = "0.001 0.002 0.004 0.008 0.016 0.032 0.064 0.128 0.256 0.512 1.024 2.048 4.096 8.192 16.384 +Inf";
const PROGRAMMING: &str = "0 0.25 0.5 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 \
                           32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 65 70 75 \
                           80 85 90 95 100 105 110 115 120 150 180 210 240 270 300 +Inf";
const REQUESTS: &str = "0.005 0.025 0.1 0.25 0.5 1 2 4 8 15 60 +Inf";

const BOTH: bool = false;
const IPTABLES_ONLY: bool = true;

/// Name, type, labels, help, bounds, and whether it is of mode iptables alone.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, bool);

#[rustfmt::skip]
const KUBE_PROXY: &[Row] = &[
    ("disabled_metrics_total", "counter", "", "[BETA] The count of disabled metrics.", "", BOTH),
    ("hidden_metrics_total", "counter", "", "[BETA] The count of hidden metrics.", "", BOTH),
    ("kubeproxy_conntrack_reconciler_deleted_entries_total", "counter", "ip_family", "[ALPHA] Cumulative conntrack flows deleted by conntrack reconciler", "", BOTH),
    ("kubeproxy_conntrack_reconciler_sync_duration_seconds", "histogram", "ip_family", "[ALPHA] ReconcileConntrackFlowsLatency latency in seconds", WORK, BOTH),
    ("kubeproxy_iptables_ct_state_invalid_dropped_packets_total", "counter", "", "[ALPHA] packets dropped by iptables to work around conntrack problems", "", IPTABLES_ONLY),
    ("kubeproxy_iptables_localhost_nodeports_accepted_packets_total", "counter", "", "[ALPHA] Number of packets accepted on nodeports of loopback interface", "", IPTABLES_ONLY),
    ("kubeproxy_network_programming_duration_seconds", "histogram", "ip_family", "[ALPHA] In Cluster Network Programming Latency in seconds", PROGRAMMING, BOTH),
    ("kubeproxy_proxy_healthz_total", "counter", "code", "[ALPHA] Cumulative proxy healthz HTTP status", "", BOTH),
    ("kubeproxy_proxy_livez_total", "counter", "code", "[ALPHA] Cumulative proxy livez HTTP status", "", BOTH),
    ("kubeproxy_sync_full_proxy_rules_duration_seconds", "histogram", "ip_family", "[ALPHA] SyncProxyRules latency in seconds for full resyncs", WORK, IPTABLES_ONLY),
    ("kubeproxy_sync_partial_proxy_rules_duration_seconds", "histogram", "ip_family", "[ALPHA] SyncProxyRules latency in seconds for partial resyncs", WORK, IPTABLES_ONLY),
    ("kubeproxy_sync_proxy_rules_duration_seconds", "histogram", "ip_family", "[ALPHA] SyncProxyRules latency in seconds", WORK, BOTH),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "gauge", "", "[ALPHA] Pending proxy rules Endpoint changes", "", BOTH),
    ("kubeproxy_sync_proxy_rules_endpoint_changes_total", "counter", "", "[ALPHA] Cumulative proxy rules Endpoint changes", "", BOTH),
    ("kubeproxy_sync_proxy_rules_iptables_last", "gauge", "ip_family table", "[ALPHA] Number of iptables rules written by kube-proxy in last sync", "", IPTABLES_ONLY),
    ("kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total", "counter", "ip_family", "[ALPHA] Cumulative proxy iptables partial restore failures", "", IPTABLES_ONLY),
    ("kubeproxy_sync_proxy_rules_iptables_restore_failures_total", "counter", "ip_family", "[ALPHA] Cumulative proxy iptables restore failures", "", BOTH),
    ("kubeproxy_sync_proxy_rules_iptables_total", "gauge", "ip_family table", "[ALPHA] Total number of iptables rules owned by kube-proxy", "", IPTABLES_ONLY),
    ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "gauge", "ip_family", "[ALPHA] The last time a sync of proxy rules was queued", "", BOTH),
    ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "gauge", "ip_family", "[ALPHA] The last time proxy rules were successfully synced", "", BOTH),
    ("kubeproxy_sync_proxy_rules_no_local_endpoints_total", "gauge", "ip_family traffic_policy", "[ALPHA] Number of services with a Local traffic policy and no endpoints", "", BOTH),
    ("kubeproxy_sync_proxy_rules_service_changes_pending", "gauge", "", "[ALPHA] Pending proxy rules Service changes", "", BOTH),
    ("kubeproxy_sync_proxy_rules_service_changes_total", "counter", "", "[ALPHA] Cumulative proxy rules Service changes", "", BOTH),
    ("kubernetes_feature_enabled", "gauge", "name stage", "[BETA] This metric records the data about the stage and enablement of a k8s feature.", "", BOTH),
    ("process_cpu_seconds_total", "counter", "", "Total user and system CPU time spent in seconds.", "", BOTH),
    ("process_max_fds", "gauge", "", "Maximum number of open file descriptors.", "", BOTH),
    ("process_open_fds", "gauge", "", "Number of open file descriptors.", "", BOTH),
    ("process_resident_memory_bytes", "gauge", "", "Resident memory size in bytes.", "", BOTH),
    ("process_start_time_seconds", "gauge", "", "Start time of the process since unix epoch in seconds.", "", BOTH),
    ("process_virtual_memory_bytes", "gauge", "", "Virtual memory size in bytes.", "", BOTH),
    ("process_virtual_memory_max_bytes", "gauge", "", "Maximum amount of virtual memory available in bytes.", "", BOTH),
    ("registered_metrics_total", "counter", "deprecated_version stability_level", "[BETA] The count of registered metrics broken by stability level and deprecation version.", "", BOTH),
    ("rest_client_request_duration_seconds", "histogram", "host verb", "[ALPHA] Request latency in seconds. Broken down by verb, and host.", REQUESTS, BOTH),
    ("rest_client_requests_total", "counter", "code host method", "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.", "", BOTH),
];

/// What the engine tells is there only when it runs; see the tests of the engine, and `node/life.rs` of the harness.
const OF_THE_ENGINE: [&str; 5] = [
    "kubeproxy_sync_proxy_rules_endpoint_changes_pending",
    "kubeproxy_sync_proxy_rules_endpoint_changes_total",
    "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
    "kubeproxy_sync_proxy_rules_service_changes_pending",
    "kubeproxy_sync_proxy_rules_service_changes_total",
];

/// The labels' names, in the order in which they are written.
fn labels_of(family: &Read) -> String {
    let names: BTreeSet<Vec<&str>> = family
        .samples
        .iter()
        .map(|sample| sample.labels.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "le").collect())
        .collect();
    assert_eq!(names.len(), 1, "{}: all samples have the same labels", family.name);
    names.into_iter().next().unwrap().join(" ")
}

/// The bounds of the first histogram of a family.
fn bounds_of(family: &Read) -> String {
    let mut bounds: Vec<String> = Vec::new();
    for sample in family.samples.iter().filter(|sample| sample.name.ends_with("_bucket")) {
        let (_, bound) = sample.labels.last().unwrap().clone();
        let is_last = bound == "+Inf";
        bounds.push(bound);
        if is_last {
            break;
        }
    }
    bounds.join(" ")
}

#[test]
fn what_is_told_is_what_kube_proxy_tells() {
    for mode in [Mode::Iptables, Mode::Ipvs] {
        let read = parse(&filled(mode).text(Format::Text), Format::Text).unwrap();
        for (name, kind, labels, help, bounds, iptables_only) in KUBE_PROXY {
            let found = read.iter().find(|family| family.name == *name);
            if OF_THE_ENGINE.contains(name) || (*iptables_only && mode == Mode::Ipvs) {
                assert_eq!(found, None, "{name} in {mode:?}");
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("{name} is missing in {mode:?}"));
            assert_eq!((found.kind.as_str(), found.help.as_str()), (*kind, *help), "{name}");
            assert_eq!((labels_of(found).as_str(), bounds_of(found).as_str()), (*labels, *bounds), "{name}");
        }
        let known: BTreeSet<&str> = KUBE_PROXY.iter().map(|row| row.0).collect();
        let others = read.iter().map(|family| family.name.as_str()).filter(|name| !known.contains(name));
        let strangers: Vec<&str> = others.filter(|name| !name.starts_with("weir_")).collect();
        assert_eq!(strangers, [""; 0], "neither kube-proxy's nor weir's");
    }
}

/// Also what only a running engine tells is described as kube-proxy describes it.
#[test]
fn descriptions_are_kube_proxys() {
    for description in kube::ALL {
        let row = KUBE_PROXY.iter().find(|row| row.0 == description.name);
        let (_, kind, _, help, ..) = row.unwrap_or_else(|| panic!("{}: not in the list", description.name));
        let stability = description.stability.unwrap().as_str();
        assert_eq!(
            (description.kind.as_str(), format!("[{stability}] {}", description.help)),
            (*kind, (*help).to_owned())
        );
    }
    let described = kube::ALL.iter().map(|description| description.name);
    let listed = KUBE_PROXY.iter().map(|row| row.0).filter(|name| !name.starts_with("process_"));
    assert_eq!(described.collect::<BTreeSet<_>>(), listed.collect::<BTreeSet<_>>());
}

/// Names of weir's own are an interface as well: who removes or renames one breaks somebody's dashboard.
#[test]
fn own_metrics_are_these() {
    let names = "
        weir_applies_total weir_apply_failures_total weir_build_info weir_change_to_kernel_seconds
        weir_compare_failures_total weir_compares_total weir_configuration_reloads_total
        weir_conntrack_cleanup_failures_total weir_conntrack_cleanups_total weir_denied_frontends
        weir_draining_endpoints weir_drift_objects_total weir_drift_repaired_objects_total
        weir_kernel_observed_timestamp_seconds weir_kernel_sent_bytes_total weir_kernel_sent_messages_total
        weir_memory_allocated_bytes weir_memory_resident_bytes weir_oldest_unapplied_change_age_seconds
        weir_quarantined_service_port weir_quarantined_service_ports weir_quarantines_total weir_rebuilds_total
        weir_retries_total weir_service_ports weir_source_connected weir_source_failures_total
        weir_source_relists_total weir_source_synced weir_source_unusable_parts_total weir_substituted_schedulers
        weir_unapplied_service_ports";
    let described: BTreeSet<&str> = own::ALL.iter().map(|description| description.name).collect();
    assert_eq!(described, names.split_whitespace().collect());
    for description in own::ALL.iter().chain(kube::ALL) {
        let name = description.name;
        let well_formed = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        assert!(well_formed && description.kind != Kind::Counter || name.ends_with("_total"), "{name}");
        assert!(!description.help.contains('\n') && !description.help.is_empty(), "{name}");
    }
    for description in own::ALL {
        assert!(description.kind == Kind::Counter || !description.name.ends_with("_total"), "{}", description.name);
    }
}
