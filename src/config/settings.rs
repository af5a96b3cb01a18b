//! What counts: flags, file and defaults together, in the form that kube-proxy keeps inside (contract 1.4, *Internal
//! model*): one sync period, one minimum, one `masqueradeAll`, whatever section they came from.

use std::collections::BTreeMap;

use super::document::{self, FlushFrequency, VmoduleItem};
use super::{Document, GoDuration, Quantity, defaults};

/// The configuration with all defaults in place.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// As they were set; [`FeatureGates`](super::FeatureGates) says what follows from it.
    pub feature_gates: BTreeMap<String, bool>,
    pub client_connection: ClientConnection,
    pub logging: Logging,
    pub hostname_override: String,
    pub bind_address: String,
    /// `IP:port`; empty: not served.
    pub healthz_bind_address: String,
    pub metrics_bind_address: String,
    pub bind_address_hard_fail: bool,
    pub enable_profiling: bool,
    pub show_hidden_metrics_for_version: String,
    pub mode: String,
    pub sync_period: GoDuration,
    /// As kube-proxy has it; where it is only the default, weir itself uses 0.
    pub min_sync_period: GoDuration,
    /// Somebody said so: the flag of the mode, or a value other than zero in the mode's section of the file.
    pub min_sync_period_is_set: bool,
    pub masquerade_all: bool,
    pub iptables: Iptables,
    pub ipvs: Ipvs,
    pub nftables: Nftables,
    pub winkernel: Winkernel,
    pub detect_local_mode: String,
    pub detect_local: DetectLocal,
    pub node_port_addresses: Option<Vec<String>>,
    pub oom_score_adj: i32,
    pub conntrack: Conntrack,
    pub config_sync_period: GoDuration,
    pub windows_run_as_service: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClientConnection {
    pub kubeconfig: String,
    pub accept_content_types: String,
    pub content_type: String,
    pub qps: f32,
    pub burst: i32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Logging {
    pub format: String,
    pub flush_frequency: FlushFrequency,
    pub verbosity: u32,
    pub vmodule: Vec<VmoduleItem>,
    pub text: LogOptions,
    pub json: LogOptions,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Logging {
    /// The format, of logging that is valid.
    pub fn format(&self) -> LogFormat {
        if self.format == "json" { LogFormat::Json } else { LogFormat::Text }
    }
}

/// Options of a log format. They need the gate `LoggingAlphaOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub split_stream: bool,
    pub info_buffer_size: Quantity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iptables {
    /// Counts in IPVS mode as well.
    pub masquerade_bit: i32,
    pub localhost_node_ports: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ipvs {
    pub scheduler: String,
    pub exclude_cidrs: Option<Vec<String>>,
    pub strict_arp: bool,
    pub tcp_timeout: GoDuration,
    pub tcp_fin_timeout: GoDuration,
    pub udp_timeout: GoDuration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nftables {
    pub masquerade_bit: i32,
}

/// For Windows: kept, and of no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Winkernel {
    pub network_name: String,
    pub source_vip: String,
    pub enable_dsr: bool,
    pub root_hns_endpoint_name: String,
    pub forward_health_check_vip: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
    pub cluster_cidrs: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    /// 0 leaves the limit as it is, whatever `min` says.
    pub max_per_core: i32,
    pub min: i32,
    /// Zero leaves this and the other timeouts as they are.
    pub tcp_established_timeout: GoDuration,
    pub tcp_close_wait_timeout: GoDuration,
    pub tcp_be_liberal: bool,
    pub udp_timeout: GoDuration,
    pub udp_stream_timeout: GoDuration,
}

impl Default for Config {
    /// As if an empty file was given.
    fn default() -> Self {
        Config::from(Document::default())
    }
}

impl From<Document> for Config {
    /// Puts the defaults in place (contract 1.4). The mode's own defaults come later, in [`complete`](super::complete()).
    fn from(document: Document) -> Self {
        let mode = document.mode.unwrap_or_default();
        let periods = Periods::of(&mode, &document.iptables, &document.ipvs, &document.nftables);
        let masquerade_all = match mode.as_str() {
            "nftables" => document.nftables.masquerade_all,
            _ => document.iptables.masquerade_all,
        };
        let addresses = defaults::addresses(
            document.bind_address.unwrap_or_default(),
            document.healthz_bind_address.unwrap_or_default(),
            document.metrics_bind_address.unwrap_or_default(),
        );
        let cidrs = document.cluster_cidr.unwrap_or_default();
        Config {
            feature_gates: document.feature_gates.unwrap_or_default(),
            client_connection: document.client_connection.into(),
            logging: document.logging.into(),
            hostname_override: document.hostname_override.unwrap_or_default(),
            bind_address: addresses.bind,
            healthz_bind_address: addresses.healthz,
            metrics_bind_address: addresses.metrics,
            bind_address_hard_fail: document.bind_address_hard_fail.unwrap_or_default(),
            enable_profiling: document.enable_profiling.unwrap_or_default(),
            show_hidden_metrics_for_version: document.show_hidden_metrics_for_version.unwrap_or_default(),
            sync_period: periods.sync,
            min_sync_period: periods.min,
            min_sync_period_is_set: periods.min_is_set,
            masquerade_all: masquerade_all.unwrap_or_default(),
            iptables: Iptables {
                masquerade_bit: document.iptables.masquerade_bit.unwrap_or(defaults::MASQUERADE_BIT),
                localhost_node_ports: document.iptables.localhost_node_ports.unwrap_or(true),
            },
            ipvs: document.ipvs.into(),
            nftables: Nftables { masquerade_bit: document.nftables.masquerade_bit.unwrap_or(defaults::MASQUERADE_BIT) },
            winkernel: document.winkernel.into(),
            detect_local_mode: document.detect_local_mode.unwrap_or_default(),
            detect_local: DetectLocal {
                bridge_interface: document.detect_local.bridge_interface.unwrap_or_default(),
                interface_name_prefix: document.detect_local.interface_name_prefix.unwrap_or_default(),
                cluster_cidrs: if cidrs.is_empty() {
                    Vec::new()
                } else {
                    cidrs.split(',').map(str::to_owned).collect()
                },
            },
            node_port_addresses: document.node_port_addresses,
            oom_score_adj: document.oom_score_adj.unwrap_or(defaults::OOM_SCORE_ADJ),
            conntrack: document.conntrack.into(),
            config_sync_period: defaults::unless_zero(document.config_sync_period, defaults::CONFIG_SYNC_PERIOD),
            windows_run_as_service: document.windows_run_as_service.unwrap_or_default(),
            mode,
        }
    }
}

/// The periods of the mode's section.
struct Periods {
    sync: GoDuration,
    min: GoDuration,
    min_is_set: bool,
}

impl Periods {
    fn of(mode: &str, iptables: &document::Iptables, ipvs: &document::Ipvs, nftables: &document::Nftables) -> Self {
        // Only the IPVS section has no default minimum.
        let (sync, min, default) = match mode {
            "ipvs" => (ipvs.sync_period, ipvs.min_sync_period, GoDuration::ZERO),
            "nftables" => (nftables.sync_period, nftables.min_sync_period, defaults::MIN_SYNC_PERIOD),
            _ => (iptables.sync_period, iptables.min_sync_period, defaults::MIN_SYNC_PERIOD),
        };
        Periods {
            sync: defaults::unless_zero(sync, defaults::SYNC_PERIOD),
            min: defaults::unless_zero(min, default),
            min_is_set: min.is_some_and(|min| !min.is_zero()),
        }
    }
}

impl From<document::ClientConnection> for ClientConnection {
    fn from(document: document::ClientConnection) -> Self {
        ClientConnection {
            kubeconfig: document.kubeconfig.unwrap_or_default(),
            accept_content_types: document.accept_content_types.unwrap_or_default(),
            content_type: defaults::unless_empty(document.content_type, defaults::CONTENT_TYPE),
            qps: document.qps.filter(|qps| *qps != 0.0).unwrap_or(defaults::QPS),
            burst: document.burst.filter(|burst| *burst != 0).unwrap_or(defaults::BURST),
        }
    }
}

impl From<document::Logging> for Logging {
    fn from(document: document::Logging) -> Self {
        let options = |options: document::OutputOptions| LogOptions {
            split_stream: options.split_stream.unwrap_or_default(),
            info_buffer_size: options.info_buffer_size.unwrap_or_default(),
        };
        let flush = document.flush_frequency.filter(|flush| !flush.duration.is_zero());
        Logging {
            format: defaults::unless_empty(document.format, "text"),
            flush_frequency: flush.unwrap_or(FlushFrequency { duration: defaults::FLUSH_FREQUENCY, is_text: true }),
            verbosity: document.verbosity.unwrap_or_default(),
            vmodule: document.vmodule.unwrap_or_default(),
            text: options(document.options.text),
            json: options(document.options.json),
        }
    }
}

impl From<document::Ipvs> for Ipvs {
    fn from(document: document::Ipvs) -> Self {
        Ipvs {
            scheduler: document.scheduler.unwrap_or_default(),
            exclude_cidrs: document.exclude_cidrs,
            strict_arp: document.strict_arp.unwrap_or_default(),
            tcp_timeout: document.tcp_timeout.unwrap_or_default(),
            tcp_fin_timeout: document.tcp_fin_timeout.unwrap_or_default(),
            udp_timeout: document.udp_timeout.unwrap_or_default(),
        }
    }
}

impl From<document::Winkernel> for Winkernel {
    fn from(document: document::Winkernel) -> Self {
        Winkernel {
            network_name: document.network_name.unwrap_or_default(),
            source_vip: document.source_vip.unwrap_or_default(),
            enable_dsr: document.enable_dsr.unwrap_or_default(),
            root_hns_endpoint_name: document.root_hns_endpoint_name.unwrap_or_default(),
            forward_health_check_vip: document.forward_health_check_vip.unwrap_or_default(),
        }
    }
}

impl From<document::Conntrack> for Conntrack {
    /// A zero that somebody wrote stays one, where kube-proxy's field is a pointer.
    fn from(document: document::Conntrack) -> Self {
        Conntrack {
            max_per_core: document.max_per_core.unwrap_or(defaults::CONNTRACK_MAX_PER_CORE),
            min: document.min.unwrap_or(defaults::CONNTRACK_MIN),
            tcp_established_timeout: document.tcp_established_timeout.unwrap_or(defaults::TCP_ESTABLISHED_TIMEOUT),
            tcp_close_wait_timeout: document.tcp_close_wait_timeout.unwrap_or(defaults::TCP_CLOSE_WAIT_TIMEOUT),
            tcp_be_liberal: document.tcp_be_liberal.unwrap_or_default(),
            udp_timeout: document.udp_timeout.unwrap_or_default(),
            udp_stream_timeout: document.udp_stream_timeout.unwrap_or_default(),
        }
    }
}
