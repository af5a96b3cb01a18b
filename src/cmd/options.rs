//! What was typed: the flags that `weir proxy` and `weir diff` share. Names and defaults are kube-proxy's
//! (contract 1.3); those that it does not have say so.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use ipnet::IpNet;

use super::{duration, logging};
use crate::net::{parse_cidr, parse_ip};

/// Where facts come from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Source")]
pub struct SourceOptions {
    /// Read Services, EndpointSlices, Nodes and ServiceCIDRs from the YAML and JSON files of this folder and follow it;
    /// no cluster is needed (weir only)
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    pub manifests: Option<PathBuf>,
    /// Kubeconfig file of the API server; without it and --master: the cluster that this pod runs in
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server; overrides the one of the kubeconfig
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Name of this node, as Node objects and EndpointSlices have it [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
}

/// The backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProxyMode {
    #[default]
    Iptables,
}

/// Which iptables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VariantChoice {
    /// The one that the kubelet uses, or that already holds rules
    #[default]
    Auto,
    Legacy,
    Nft,
}

/// How traffic of local pods is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalMode {
    #[default]
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    #[value(name = "NodeCIDR")]
    NodeCidr,
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

/// What rules depend on.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Rules")]
pub struct RuleOptions {
    /// Which proxy mode to use
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub proxy_mode: ProxyMode,
    /// Which iptables to write: the legacy tables or those of nf_tables (weir only)
    #[arg(long, value_enum, default_value_t, value_name = "VARIANT")]
    pub iptables_variant: VariantChoice,
    /// The networks of the cluster's pods, one or one of each family; tells local pods with --detect-local-mode=ClusterCIDR
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', value_parser = cidr)]
    pub cluster_cidr: Vec<IpNet>,
    /// How to tell traffic of local pods
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub detect_local_mode: DetectLocalMode,
    /// The bridge of local pods, with --detect-local-mode=BridgeInterface
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,
    /// The prefix of local pods' interface names, with --detect-local-mode=InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,
    /// Address of this node, if not the Node object's [default: none]
    #[arg(long, value_name = "IP", value_parser = ip)]
    pub bind_address: Option<IpAddr>,
    /// Networks whose local addresses accept node ports; all addresses if empty. `primary` is the node's own address
    #[arg(long, value_name = "CIDR[,CIDR…]", value_delimiter = ',', value_parser = node_port_address)]
    pub nodeport_addresses: Vec<NodePortAddress>,
    /// Let node ports answer on 127.0.0.1 (IPv4; needs route_localnet, which is switched on)
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub iptables_localhost_nodeports: bool,
    /// The bit of the packet mark that means "masquerade"
    #[arg(long, value_name = "BIT", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..=31))]
    pub iptables_masquerade_bit: u8,
    /// Masquerade all traffic to cluster IPs
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub masquerade_all: bool,
}

/// When rules are written.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Pacing")]
pub struct PacingOptions {
    /// How often the kernel is compared with what is wanted; also the longest wait before a failed change is retried
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub iptables_sync_period: Duration,
    /// The shortest time between the end of a change and the start of the next; 0 = none
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration::parse)]
    pub iptables_min_sync_period: Duration,
    /// Report drift and leave it (weir only)
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = ArgAction::Set)]
    pub drift_report_only: bool,
}

/// Logs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Logs")]
pub struct LogOptions {
    /// How much to log: 0 to 1 informs, 2 to 4 debugs, 5 and more traces
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    pub verbosity: u8,
    /// How to write it
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub logging_format: logging::Format,
}

impl LogOptions {
    /// Starts logging as typed.
    pub fn start(&self) {
        logging::init(self.verbosity, self.logging_format);
    }
}

/// One element of `--nodeport-addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    Primary,
    Net(IpNet),
}

fn cidr(text: &str) -> Result<IpNet, String> {
    parse_cidr(text)
        .ok_or_else(|| format!("{text:?} is no CIDR: expected a network such as 10.244.0.0/16 or fd00::/48"))
}

fn ip(text: &str) -> Result<IpAddr, String> {
    parse_ip(text).ok_or_else(|| format!("{text:?} is no address: expected one such as 192.168.0.2 or fd00::2"))
}

fn node_port_address(text: &str) -> Result<NodePortAddress, String> {
    if text == "primary" {
        return Ok(NodePortAddress::Primary);
    }
    cidr(text)
        .map(NodePortAddress::Net)
        .map_err(|_| format!("{text:?} is no CIDR: expected a network such as 192.168.0.0/24, or `primary` alone"))
}
