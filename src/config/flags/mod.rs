//! kube-proxy's flags as they were typed (contract 1.3): what was not typed is `None`. A switch alone is `true`, of a
//! flag that is given twice the last one counts, and lists grow.
//!
//! These structures are the one catalogue of the flags: parsing, `--help`, the manual page and shell completions come of
//! it, and a test compares the defaults in the texts with those that count.

mod parse;

pub use parse::switch;

use std::collections::BTreeMap;

use clap::{ArgAction, Args};

use super::{GoDuration, Quantity, VmoduleItem};
use parse::{bool_map, duration, float32, int32, ip, ip_port, list, quantity, verbosity, vmodule};

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Flags {
    #[command(flatten)]
    pub config: ConfigFlags,
    #[command(flatten)]
    pub client: ClientFlags,
    #[command(flatten)]
    pub node: NodeFlags,
    #[command(flatten)]
    pub rules: RuleFlags,
    #[command(flatten)]
    pub pacing: PacingFlags,
    #[command(flatten)]
    pub ipvs: IpvsFlags,
    #[command(flatten)]
    pub endpoints: EndpointFlags,
    #[command(flatten)]
    pub conntrack: ConntrackFlags,
    #[command(flatten)]
    pub process: ProcessFlags,
    #[command(flatten)]
    pub gates: GateFlags,
    #[command(flatten)]
    pub log: LogFlags,
}

/// The elements of one comma-separated list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List(pub Vec<String>);

/// The elements of one `--vmodule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vmodule(pub Vec<VmoduleItem>);

/// The configuration file.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigFlags {
    /// Read kube-proxy's configuration from this file, YAML or JSON. Of kube-proxy's flags only those of logs,
    /// --hostname-override and --master count beside it
    #[arg(long = "config", value_name = "FILE")]
    pub file: Option<String>,
    /// Write the configuration that follows from flags, file and defaults to this file, and exit
    #[arg(long, value_name = "FILE")]
    pub write_config_to: Option<String>,
    /// Remove what proxies of every mode have left, and exit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub cleanup: Option<bool>,
    /// Do what needs privileges, and exit: afterwards CAP_NET_ADMIN is enough
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub init_only: Option<bool>,
}

/// The API server.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Source")]
pub struct ClientFlags {
    /// Kubeconfig file of the API server; without it and --master: the cluster that this pod runs in
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<String>,
    /// URL of the API server; overrides the one of the kubeconfig
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Content type of requests; no effect: protobuf is asked for first, and JSON is understood
    /// [default: application/vnd.kubernetes.protobuf]
    #[arg(long, value_name = "TYPE")]
    pub kube_api_content_type: Option<String>,
    /// Requests to the API server at once; no effect: each kind has one request open, and failures are spaced
    /// [default: 10]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = int32)]
    pub kube_api_burst: Option<i32>,
    /// Requests to the API server a second; no effect, as --kube-api-burst [default: 5]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = float32)]
    pub kube_api_qps: Option<f32>,
    /// How often everything would be told again; no effect: nothing is lost that would have to be [default: 15m0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub config_sync_period: Option<GoDuration>,
}

/// This node.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeFlags {
    /// Name of this node, as Node objects and EndpointSlices have it [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// Address of this node, if not the Node object's. Nothing listens there [default: 0.0.0.0]
    #[arg(long, value_name = "IP", value_parser = ip)]
    pub bind_address: Option<String>,
}

/// What rules depend on.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Rules")]
pub struct RuleFlags {
    /// Which proxy mode to use: iptables or ipvs; empty is iptables
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,
    /// The networks of the cluster's pods, one or one of each family; tells local pods with --detect-local-mode=ClusterCIDR
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub cluster_cidr: Option<String>,
    /// How to tell traffic of local pods: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix; empty is
    /// ClusterCIDR
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<String>,
    /// The bridge of local pods, with --detect-local-mode=BridgeInterface
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,
    /// The prefix of local pods' interface names, with --detect-local-mode=InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,
    /// Networks whose local addresses accept node ports; all addresses if empty. `primary` is the node's own address
    #[arg(long, value_name = "CIDR[,CIDR…]", value_parser = list, action = ArgAction::Append)]
    pub nodeport_addresses: Option<Vec<List>>,
    /// Let node ports answer on 127.0.0.1 (IPv4; needs route_localnet, which is switched on; never in IPVS mode)
    /// [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub iptables_localhost_nodeports: Option<bool>,
    /// The bit of the packet mark that means "masquerade", 0 to 31 [default: 14]
    #[arg(long, value_name = "BIT", allow_negative_numbers = true, value_parser = int32)]
    pub iptables_masquerade_bit: Option<i32>,
    /// Masquerade all traffic to cluster IPs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub masquerade_all: Option<bool>,
}

/// When rules are written. The periods of a mode count in that mode.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Pacing")]
pub struct PacingFlags {
    /// How often the kernel is compared with what is wanted; also the longest wait before a failed change is retried
    /// [default: 30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub iptables_sync_period: Option<GoDuration>,
    /// The shortest time between the end of a change and the start of the next. Unless it is given, changes are followed
    /// by three times what they took, up to 5s: one change goes to the kernel at once, many are gathered. A
    /// configuration that is written says kube-proxy's default [default: 1s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub iptables_min_sync_period: Option<GoDuration>,
    /// --iptables-sync-period in IPVS mode [default: 30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub ipvs_sync_period: Option<GoDuration>,
    /// --iptables-min-sync-period in IPVS mode [default: 1s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub ipvs_min_sync_period: Option<GoDuration>,
}

/// IPVS mode.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "IPVS mode")]
pub struct IpvsFlags {
    /// The scheduler of services that do not ask for another one with the annotation weir.dev/scheduler; rr if empty
    #[arg(id = "ipvs-scheduler", long = "ipvs-scheduler", value_name = "NAME")]
    pub scheduler: Option<String>,
    /// Virtual servers with addresses in these networks are somebody else's and never removed
    #[arg(id = "ipvs-exclude-cidrs", long = "ipvs-exclude-cidrs", value_name = "CIDR[,CIDR…]", value_parser = list, action = ArgAction::Append)]
    pub exclude_cidrs: Option<Vec<List>>,
    /// Answer ARP only for addresses of the interface that is asked on (arp_ignore 1, arp_announce 2)
    #[arg(id = "ipvs-strict-arp", long = "ipvs-strict-arp", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub strict_arp: Option<bool>,
    /// How long an idle TCP connection is kept; 0 leaves the kernel's
    #[arg(id = "ipvs-tcp-timeout", long = "ipvs-tcp-timeout", value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub tcp_timeout: Option<GoDuration>,
    /// How long a TCP connection is kept after a FIN; 0 leaves the kernel's
    #[arg(id = "ipvs-tcpfin-timeout", long = "ipvs-tcpfin-timeout", value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub tcpfin_timeout: Option<GoDuration>,
    /// How long a UDP flow is kept; 0 leaves the kernel's
    #[arg(id = "ipvs-udp-timeout", long = "ipvs-udp-timeout", value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub udp_timeout: Option<GoDuration>,
}

/// What is served to who watches this node.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Health and metrics")]
pub struct EndpointFlags {
    /// Where health is served: an address, or address and port [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP[:PORT]", value_parser = ip_port)]
    pub healthz_bind_address: Option<String>,
    /// Where metrics are served: an address, or address and port [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP[:PORT]", value_parser = ip_port)]
    pub metrics_bind_address: Option<String>,
    /// Exit if one of these addresses cannot be had, instead of trying again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub bind_address_hard_fail: Option<bool>,
    /// Serve profiles beside the metrics
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub profiling: Option<bool>,
    /// Show metrics that are hidden since this version, such as 1.35: the previous minor version or nothing
    #[arg(long, value_name = "MAJOR.MINOR")]
    pub show_hidden_metrics_for_version: Option<String>,
    /// Deprecated, use --healthz-bind-address: the port of an address without one; 0 serves no health [default: 10256]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true, value_parser = int32)]
    pub healthz_port: Option<i32>,
    /// Deprecated, use --metrics-bind-address: the port of an address without one [default: 10249]
    #[arg(long, value_name = "PORT", allow_negative_numbers = true, value_parser = int32)]
    pub metrics_port: Option<i32>,
}

/// Settings of the kernel's connection tracking.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Connection tracking")]
pub struct ConntrackFlags {
    /// Connections to track for each CPU core; 0 leaves the limit as it is, whatever --conntrack-min says
    /// [default: 32768]
    #[arg(id = "conntrack-max-per-core", long = "conntrack-max-per-core", value_name = "NUMBER", allow_negative_numbers = true, value_parser = int32)]
    pub max_per_core: Option<i32>,
    /// Connections to track at least [default: 131072]
    #[arg(id = "conntrack-min", long = "conntrack-min", value_name = "NUMBER", allow_negative_numbers = true, value_parser = int32)]
    pub min: Option<i32>,
    /// How long an idle TCP connection is tracked; 0 leaves the kernel's [default: 24h0m0s]
    #[arg(id = "conntrack-tcp-timeout-established", long = "conntrack-tcp-timeout-established", value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub tcp_timeout_established: Option<GoDuration>,
    /// How long a TCP connection is tracked in CLOSE_WAIT; 0 leaves the kernel's [default: 1h0m0s]
    #[arg(id = "conntrack-tcp-timeout-close-wait", long = "conntrack-tcp-timeout-close-wait", value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub tcp_timeout_close_wait: Option<GoDuration>,
    /// Track TCP packets that are out of window too (nf_conntrack_tcp_be_liberal 1)
    #[arg(id = "conntrack-tcp-be-liberal", long = "conntrack-tcp-be-liberal", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub tcp_be_liberal: Option<bool>,
    /// How long a UDP flow without a reply is tracked; 0 leaves the kernel's
    #[arg(id = "conntrack-udp-timeout", long = "conntrack-udp-timeout", value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub udp_timeout: Option<GoDuration>,
    /// How long a UDP flow with replies is tracked; 0 leaves the kernel's
    #[arg(id = "conntrack-udp-timeout-stream", long = "conntrack-udp-timeout-stream", value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub udp_timeout_stream: Option<GoDuration>,
}

/// This process.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Process")]
pub struct ProcessFlags {
    /// Whom the kernel kills first when memory is short: -1000 (never this process) to 1000 [default: -999]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = int32)]
    pub oom_score_adj: Option<i32>,
    /// No effect, as with kube-proxy [default: /proc/sys/kernel/random/boot_id]
    #[arg(long, value_name = "FILE[,FILE…]")]
    pub boot_id_file: Option<String>,
    /// No effect, as with kube-proxy [default: /etc/machine-id,/var/lib/dbus/machine-id]
    #[arg(long, value_name = "FILE[,FILE…]")]
    pub machine_id_file: Option<String>,
}

/// Feature gates.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Process")]
pub struct GateFlags {
    /// Features that are on or off. Of Kubernetes' gates these have an effect: AllowServiceExternalIPs, ComponentFlagz,
    /// ComponentStatusz, NativeHistograms, LoggingAlphaOptions, LoggingBetaOptions, AllAlpha, AllBeta
    #[arg(long = "feature-gates", value_name = "NAME=BOOL,…", value_parser = bool_map, action = ArgAction::Append)]
    pub feature_gates: Option<Vec<BTreeMap<String, bool>>>,
}

/// Logs. These count also beside a file.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogFlags {
    /// How much to log: 0 to 1 informs, 2 to 4 debugs, 5 and more traces [default: 0]
    #[arg(short = 'v', long = "v", value_name = "LEVEL", value_parser = verbosity)]
    pub verbosity: Option<u32>,
    /// Levels of their own for parts of the program, such as weir::engine=4; a name without colons is a file's, and * is
    /// anything (with --logging-format=text)
    #[arg(long, value_name = "PATTERN=N,…", value_parser = vmodule, action = ArgAction::Append)]
    pub vmodule: Option<Vec<Vmodule>>,
    /// How to write logs: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub logging_format: Option<String>,
    /// How often logs are written out; no effect: at once [default: 5s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = duration)]
    pub log_flush_frequency: Option<GoDuration>,
    /// Alpha, needs the gate LoggingAlphaOptions; no effect: all logs go to stderr
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub log_text_split_stream: Option<bool>,
    /// Alpha, needs the gate LoggingAlphaOptions; no effect [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = quantity)]
    pub log_text_info_buffer_size: Option<Quantity>,
    /// Alpha, needs the gate LoggingAlphaOptions; no effect: all logs go to stderr
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub log_json_split_stream: Option<bool>,
    /// Alpha, needs the gate LoggingAlphaOptions; no effect [default: 0]
    #[arg(long, value_name = "BYTES", value_parser = quantity)]
    pub log_json_info_buffer_size: Option<Quantity>,
}
