//! Metrics: kube-proxy's, by the same names, and weir's own, for Prometheus to scrape.
//!
//! ```text
//!  kernel thread, source, health server ── hooks ──► Metrics ◄── Handle::status() ── engine
//!                                                      │ ▲
//!                                             families │ └── Readings: what parts tell at a scrape
//!                                                      ▼
//!                                   text ─► text format 0.0.4, or OpenMetrics 1.0
//! ```
//!
//! What happens often is counted where it happens, in atomic numbers, or in the engine's own counters, which are values;
//! everything else is worked out at a scrape. A change pays two clock readings and a few additions.
//!
//! # How the parts are put together
//!
//! | part | call |
//! |---|---|
//! | start | [`Metrics::new`] |
//! | engine | [`Metrics::follow`] with its [`Handle`](crate::engine::Handle) |
//! | kernel thread | [`Hooks::finished`](crate::engine::Hooks) → [`Metrics::finished`]; [`Hooks::applied`](crate::engine::Hooks) → [`Metrics::in_force`] |
//! | engine's loop | [`Runner::timing`](crate::engine::Runner::timing) → [`Metrics::programmed`] |
//! | conntrack worker | its report → [`Metrics::cleaned_up`] |
//! | health server | [`Metrics::probed`] |
//! | API client | its observer → [`Requests::finished`], of [`Setup::requests`] |
//! | configuration | [`Metrics::reloaded`] |
//! | what is read at a scrape | [`Metrics::ask`] with [`Readings`] |
//! | server | [`pages::handler`](super::pages::handler) |
//!
//! # Against kube-proxy 1.36
//!
//! Names, types, labels, buckets and help texts are those of a scrape of it. *Same* means also the same meaning.
//!
//! | metric (`kubeproxy_` unless written whole) | here |
//! |---|---|
//! | `sync_proxy_rules_duration_seconds`, `sync_full_…`, `sync_partial_…` | same; one kernel action may be about both families, and then counts in both |
//! | `sync_proxy_rules_last_timestamp_seconds`, `…_last_queued_timestamp_seconds` | same |
//! | `network_programming_duration_seconds` | better: measured for each service when the kernel said yes to it, not at the end of a sync of all; never negative |
//! | `sync_proxy_rules_{endpoint,service}_changes_{pending,total}` | better: a change counts once, where kube-proxy counts services once for each family |
//! | `sync_proxy_rules_no_local_endpoints_total` | same, always by service ports |
//! | `proxy_healthz_total`, `proxy_livez_total` | better: there from the start, at 0, so that `increase()` sees the first |
//! | `sync_proxy_rules_iptables_restore_failures_total`, `…_partial_restore_failures_total` | better: there from the start; of netlink as well |
//! | `sync_proxy_rules_iptables_total`, `…_iptables_last` | same |
//! | `iptables_ct_state_invalid_dropped_packets_total`, `iptables_localhost_nodeports_accepted_packets_total` | same: absent where the kernel has no accounting objects |
//! | `conntrack_reconciler_sync_duration_seconds`, `conntrack_reconciler_deleted_entries_total` | same |
//! | `sync_proxy_rules_nftables_*` | absent, as in kube-proxy's other modes: there is no mode nftables |
//! | `rest_client_requests_total`, `rest_client_request_duration_seconds` | same; the duration ends with the answer's header |
//! | `process_*` | same, but for the next line |
//! | `process_network_{receive,transmit}_bytes_total` | refused: they are of the network namespace, so of the whole node, whatever their name says; node_exporter has them |
//! | `kubernetes_feature_enabled` | same |
//! | `registered_metrics_total`, `hidden_metrics_total`, `disabled_metrics_total` | same: of what is registered here; nothing is hidden |
//! | `kubernetes_healthcheck`, `kubernetes_healthchecks_total` at `/metrics/slis` | same |
//! | `kubernetes_build_info` | refused: a common alert compares its `git_version` across a cluster; `weir_build_info` has weir's |
//! | `rest_client_rate_limiter_duration_seconds` | refused: there is no limiter, a kind has one request open at a time |
//! | `rest_client_{request,response}_size_bytes`, `rest_client_transport_*`, `rest_client_exec_plugin_*` | refused: bodies are streams, and the others are of the Go client's parts |
//! | `go_*` | refused: there is no Go runtime; `weir_memory_*` tells of the allocator |
//! | `aggregator_*`, `apiserver_*`, `cardinality_enforcement_*` | refused: always 0, of libraries that are linked into kube-proxy |
//!
//! Prometheus asks for OpenMetrics first, and gets it; kube-proxy never gives it. The samples are the same in both.
//! Neither protobuf (and with it native histograms) nor compression is offered: a scrape is some 60 kB on the node's network.

mod family;
mod instruments;
mod kube;
mod negotiation;
mod number;
mod own;
mod process;
mod readings;
mod registry;
mod requests;
mod text;

pub use family::{Description, Distribution, Family, Kind, Labels, Sample, Stability, Value};
pub use instruments::{Counter, Histogram};
pub use negotiation::{Negotiated, negotiate};
pub use process::{start_time, started};
pub use readings::{Cleanups, Followed, Memory, Packets, Readings, RuleNumbers, Sent};
pub use registry::{Feature, Metrics, Mode, Reload, Setup};
pub use requests::{Request, Requests};
pub use text::{Format, write};

/// When this process started, as a family.
pub(super) fn start_family() -> Option<Family> {
    Some(process::START.alone(start_time()?))
}

#[cfg(test)]
mod tests;
