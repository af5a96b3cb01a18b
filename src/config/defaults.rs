//! Defaults of contract 1.4, and what the platform adds to them (1.2, step 5).

use std::net::IpAddr;

use super::{Config, GoDuration};
use crate::net::parse_ip;

pub(super) const MASQUERADE_BIT: i32 = 14;
pub(super) const OOM_SCORE_ADJ: i32 = -999;
pub(super) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";
pub(super) const QPS: f32 = 5.0;
pub(super) const BURST: i32 = 10;
pub(super) const CONNTRACK_MAX_PER_CORE: i32 = 32 * 1024;
pub(super) const CONNTRACK_MIN: i32 = 128 * 1024;
pub(super) const HEALTHZ_PORT: i32 = 10256;
pub(super) const METRICS_PORT: i32 = 10249;
pub(super) const SYNC_PERIOD: GoDuration = GoDuration::from_secs(30);
pub(super) const MIN_SYNC_PERIOD: GoDuration = GoDuration::from_secs(1);
pub(super) const CONFIG_SYNC_PERIOD: GoDuration = GoDuration::from_secs(15 * 60);
pub(super) const FLUSH_FREQUENCY: GoDuration = GoDuration::from_secs(5);
pub(super) const TCP_ESTABLISHED_TIMEOUT: GoDuration = GoDuration::from_secs(24 * 3600);
pub(super) const TCP_CLOSE_WAIT_TIMEOUT: GoDuration = GoDuration::from_secs(3600);

/// A duration of zero counts as none.
pub(super) fn unless_zero(value: Option<GoDuration>, default: GoDuration) -> GoDuration {
    value.filter(|value| !value.is_zero()).unwrap_or(default)
}

pub(super) fn unless_empty(value: Option<String>, default: &str) -> String {
    value.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
}

pub(super) struct Addresses {
    pub bind: String,
    pub healthz: String,
    pub metrics: String,
}

/// The three addresses: those of the servers follow the family of the first, and get their ports.
pub(super) fn addresses(bind: String, healthz: String, metrics: String) -> Addresses {
    let bind = if bind.is_empty() { "0.0.0.0".to_owned() } else { bind };
    let (any, loopback) = match parse_ip(&bind) {
        Some(IpAddr::V4(_)) => ("0.0.0.0", "127.0.0.1"),
        _ => ("::", "::1"),
    };
    let or =
        |address: String, default: &str, port| with_port(if address.is_empty() { default } else { &address }, port);
    Addresses { healthz: or(healthz, any, HEALTHZ_PORT), metrics: or(metrics, loopback, METRICS_PORT), bind }
}

/// An address with a port, of one that may have one already. What is neither stays as it is, and is not valid.
pub(super) fn with_port(address: &str, port: i32) -> String {
    match parse_ip(address) {
        Some(_) if address.contains(':') => format!("[{address}]:{port}"),
        Some(_) => format!("{address}:{port}"),
        None => address.to_owned(),
    }
}

/// What depends on the platform: mode, node port addresses, how local pods are told.
pub(super) fn platform(config: &mut Config) {
    if config.mode.is_empty() {
        config.mode = "iptables".to_owned();
    }
    if config.mode == "nftables" && config.node_port_addresses.as_ref().is_none_or(Vec::is_empty) {
        config.node_port_addresses = Some(vec!["primary".to_owned()]);
    }
    if config.detect_local_mode.is_empty() {
        config.detect_local_mode = "ClusterCIDR".to_owned();
    }
}
