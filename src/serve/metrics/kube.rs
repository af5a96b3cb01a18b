//! kube-proxy's metrics (contract 6.4): names, types, labels and help texts as its 1.36 gives them.

use super::family::Description;
use super::family::Kind::{Counter, Gauge, Histogram};
use super::family::Stability::{Alpha, Beta};

macro_rules! catalogue {
    ($($constant:ident = $stability:ident $kind:ident $name:literal: $help:literal;)*) => {
        $(pub(super) const $constant: Description = Description::new($name, $kind, $stability, $help);)*
        /// All of them, for the test that compares them with a list.
        #[cfg(test)]
        pub(super) const ALL: &[Description] = &[$($constant),*];
    };
}

catalogue! {
    SYNC = Alpha Histogram "kubeproxy_sync_proxy_rules_duration_seconds": "SyncProxyRules latency in seconds";
    SYNC_FULL = Alpha Histogram "kubeproxy_sync_full_proxy_rules_duration_seconds":
        "SyncProxyRules latency in seconds for full resyncs";
    SYNC_PARTIAL = Alpha Histogram "kubeproxy_sync_partial_proxy_rules_duration_seconds":
        "SyncProxyRules latency in seconds for partial resyncs";
    SYNCED_AT = Alpha Gauge "kubeproxy_sync_proxy_rules_last_timestamp_seconds":
        "The last time proxy rules were successfully synced";
    QUEUED_AT = Alpha Gauge "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds":
        "The last time a sync of proxy rules was queued";
    PROGRAMMING = Alpha Histogram "kubeproxy_network_programming_duration_seconds":
        "In Cluster Network Programming Latency in seconds";
    SLICES_PENDING = Alpha Gauge "kubeproxy_sync_proxy_rules_endpoint_changes_pending":
        "Pending proxy rules Endpoint changes";
    SLICES = Alpha Counter "kubeproxy_sync_proxy_rules_endpoint_changes_total":
        "Cumulative proxy rules Endpoint changes";
    SERVICES_PENDING = Alpha Gauge "kubeproxy_sync_proxy_rules_service_changes_pending":
        "Pending proxy rules Service changes";
    SERVICES = Alpha Counter "kubeproxy_sync_proxy_rules_service_changes_total":
        "Cumulative proxy rules Service changes";
    NO_LOCAL = Alpha Gauge "kubeproxy_sync_proxy_rules_no_local_endpoints_total":
        "Number of services with a Local traffic policy and no endpoints";
    HEALTHZ = Alpha Counter "kubeproxy_proxy_healthz_total": "Cumulative proxy healthz HTTP status";
    LIVEZ = Alpha Counter "kubeproxy_proxy_livez_total": "Cumulative proxy livez HTTP status";
    RESTORE_FAILURES = Alpha Counter "kubeproxy_sync_proxy_rules_iptables_restore_failures_total":
        "Cumulative proxy iptables restore failures";
    PARTIAL_RESTORE_FAILURES = Alpha Counter "kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total":
        "Cumulative proxy iptables partial restore failures";
    RULES = Alpha Gauge "kubeproxy_sync_proxy_rules_iptables_total":
        "Total number of iptables rules owned by kube-proxy";
    RULES_LAST = Alpha Gauge "kubeproxy_sync_proxy_rules_iptables_last":
        "Number of iptables rules written by kube-proxy in last sync";
    CT_INVALID = Alpha Counter "kubeproxy_iptables_ct_state_invalid_dropped_packets_total":
        "packets dropped by iptables to work around conntrack problems";
    LOCALHOST = Alpha Counter "kubeproxy_iptables_localhost_nodeports_accepted_packets_total":
        "Number of packets accepted on nodeports of loopback interface";
    CONNTRACK = Alpha Histogram "kubeproxy_conntrack_reconciler_sync_duration_seconds":
        "ReconcileConntrackFlowsLatency latency in seconds";
    CONNTRACK_DELETED = Alpha Counter "kubeproxy_conntrack_reconciler_deleted_entries_total":
        "Cumulative conntrack flows deleted by conntrack reconciler";
    REQUEST_DURATION = Alpha Histogram "rest_client_request_duration_seconds":
        "Request latency in seconds. Broken down by verb, and host.";
    REQUESTS = Alpha Counter "rest_client_requests_total":
        "Number of HTTP requests, partitioned by status code, method, and host.";
    FEATURES = Beta Gauge "kubernetes_feature_enabled":
        "This metric records the data about the stage and enablement of a k8s feature.";
    REGISTERED = Beta Counter "registered_metrics_total":
        "The count of registered metrics broken by stability level and deprecation version.";
    HIDDEN = Beta Counter "hidden_metrics_total": "The count of hidden metrics.";
    DISABLED = Beta Counter "disabled_metrics_total": "The count of disabled metrics.";
}
