//! What was typed: the flags that `weir proxy` and `weir diff` share. Names, defaults and habits are kube-proxy's
//! (contract 1.3): a switch alone is `true`, an empty value is no value, of a flag that is given twice the last one
//! counts. Flags that kube-proxy does not have say so.

mod egress;
mod ipvs;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, ValueEnum};
use ipnet::IpNet;

pub use egress::EgressOptions;
pub use ipvs::{IpvsOptions, SYSCTLS, Timeouts};

use super::{Failure, duration, logging};
use crate::engine::{Pacing, RepairMode};
use crate::net::{parse_cidr, parse_ip};

/// Where facts come from.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Source")]
pub struct SourceOptions {
    /// Read Services, EndpointSlices, Nodes and ServiceCIDRs from the YAML and JSON files of this folder and follow it;
    /// no cluster is needed (weir only)
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub manifests: Option<PathBuf>,
    /// Kubeconfig file of the API server; without it and --master: the cluster that this pod runs in
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub kubeconfig: Option<PathBuf>,
    /// URL of the API server; overrides the one of the kubeconfig
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,
    /// Name of this node, as Node objects and EndpointSlices have it [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
}

/// A source of facts, of which exactly one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceChoice<'a> {
    Manifests(&'a Path),
    /// Neither file nor URL: the cluster that this pod runs in.
    ApiServer {
        kubeconfig: Option<&'a Path>,
        master: Option<&'a str>,
    },
}

impl SourceOptions {
    /// Which source was typed; empty values are none.
    ///
    /// # Errors
    /// Two sources.
    pub fn choice(&self) -> Result<SourceChoice<'_>, Failure> {
        fn given(path: &Option<PathBuf>) -> Option<&Path> {
            path.as_deref().filter(|path| !path.as_os_str().is_empty())
        }
        let kubeconfig = given(&self.kubeconfig);
        let master = self.master.as_deref().filter(|master| !master.is_empty());
        let Some(dir) = given(&self.manifests) else { return Ok(SourceChoice::ApiServer { kubeconfig, master }) };
        let other = kubeconfig.map(|file| format!("--kubeconfig {}", file.display()));
        match other.or_else(|| master.map(|url| format!("--master {url}"))) {
            None => Ok(SourceChoice::Manifests(dir)),
            Some(other) => {
                Err(Failure::new(format!("--manifests {} and {other} are two sources: give one", dir.display())))
            }
        }
    }
}

/// For the line that says what was settled.
impl std::fmt::Display for SourceChoice<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SourceChoice::Manifests(dir) => write!(f, "manifests {}", dir.display()),
            SourceChoice::ApiServer { master: Some(url), .. } => write!(f, "API server {url}"),
            SourceChoice::ApiServer { kubeconfig: Some(file), .. } => write!(f, "kubeconfig {}", file.display()),
            SourceChoice::ApiServer { kubeconfig: None, master: None } => f.write_str("the cluster of this pod"),
        }
    }
}

/// The backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProxyMode {
    #[default]
    #[value(alias = "")]
    Iptables,
    Ipvs,
}

impl ProxyMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Ipvs => "ipvs",
        }
    }
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

/// How rules get into the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum IptablesDriver {
    /// nf_tables by netlink where the kernel can, everything else with the iptables tools
    #[default]
    Auto,
    /// nf_tables by netlink
    Netlink,
    /// The iptables tools
    Restore,
}

/// How traffic of local pods is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalMode {
    #[default]
    #[value(name = "ClusterCIDR", alias = "")]
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
    /// How rules get into the kernel (weir only)
    #[arg(long, value_enum, default_value_t, value_name = "DRIVER")]
    pub iptables_driver: IptablesDriver,
    /// The networks of the cluster's pods, one or one of each family; tells local pods with --detect-local-mode=ClusterCIDR
    #[arg(long, value_name = "CIDR[,CIDR]", default_value = "", hide_default_value = true, value_parser = cidr_list)]
    pub cluster_cidr: CidrList,
    /// How to tell traffic of local pods
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    pub detect_local_mode: DetectLocalMode,
    /// The bridge of local pods, with --detect-local-mode=BridgeInterface
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,
    /// The prefix of local pods' interface names, with --detect-local-mode=InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,
    /// Address of this node, if not the Node object's
    #[arg(long, value_name = "IP", default_value = "", hide_default_value = true, value_parser = ip)]
    pub bind_address: Ip,
    /// Networks whose local addresses accept node ports; all addresses if empty. `primary` is the node's own address
    #[arg(long, value_name = "CIDR[,CIDR…]", value_parser = node_port_addresses, action = ArgAction::Append)]
    pub nodeport_addresses: Vec<List<NodePortAddress>>,
    /// Let node ports answer on 127.0.0.1 (IPv4; needs route_localnet, which is switched on; never in IPVS mode)
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set)]
    pub iptables_localhost_nodeports: bool,
    /// The bit of the packet mark that means "masquerade"
    #[arg(long, value_name = "BIT", default_value_t = 14, value_parser = clap::value_parser!(u8).range(0..=31))]
    pub iptables_masquerade_bit: u8,
    /// Masquerade all traffic to cluster IPs
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set)]
    pub masquerade_all: bool,
    #[command(flatten)]
    pub ipvs: IpvsOptions,
    #[command(flatten)]
    pub egress: EgressOptions,
}

/// When rules are written. The periods of a mode count in that mode.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Pacing")]
pub struct PacingOptions {
    /// How often the kernel is compared with what is wanted; also the longest wait before a failed change is retried
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub iptables_sync_period: Duration,
    /// The shortest time between the end of a change and the start of the next. With 0 as well, changes are followed by
    /// three times what they took, up to 5s: one change goes to the kernel at once, many are gathered
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    pub iptables_min_sync_period: Duration,
    /// --iptables-sync-period in IPVS mode
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    pub ipvs_sync_period: Duration,
    /// --iptables-min-sync-period in IPVS mode
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    pub ipvs_min_sync_period: Duration,
    /// Report drift and leave it (weir only)
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, action = ArgAction::Set)]
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
    /// Starts logging as typed, for a program that runs on.
    pub fn start(&self) {
        logging::init(logging::level(self.verbosity), self.logging_format);
    }

    /// Starts logging as typed, for a program that answers and ends: its answer is not news, so only warnings are
    /// logged unless more is asked for.
    pub fn start_quiet(&self) {
        let level = if self.verbosity == 0 { "warn" } else { logging::level(self.verbosity) };
        logging::init(level, self.logging_format);
    }
}

impl RuleOptions {
    /// The elements of all `--nodeport-addresses`.
    pub fn node_port_addresses(&self) -> impl Iterator<Item = NodePortAddress> + '_ {
        self.nodeport_addresses.iter().flat_map(|list| list.0.iter().copied())
    }
}

impl PacingOptions {
    /// The periods of a mode, checked (contract 1.2 step 4, 1.6).
    ///
    /// # Errors
    /// One line that names the flags and values.
    pub fn settle(&self, mode: ProxyMode) -> Result<Pacing, Failure> {
        let (name, min, sync) = match mode {
            ProxyMode::Iptables => ("iptables", self.iptables_min_sync_period, self.iptables_sync_period),
            ProxyMode::Ipvs => ("ipvs", self.ipvs_min_sync_period, self.ipvs_sync_period),
        };
        if sync.is_zero() {
            return Err(Failure::new(format!("--{name}-sync-period 0s: must be more than 0, such as 30s")));
        }
        if min > sync {
            return Err(Failure::new(format!(
                "--{name}-sync-period {sync:?} must be greater than or equal to --{name}-min-sync-period {min:?}"
            )));
        }
        let mut pacing = Pacing::new(min, sync);
        if self.drift_report_only {
            pacing.drift = RepairMode::ReportOnly;
        }
        Ok(pacing)
    }
}

/// Networks. An alias, because clap takes a plain `Vec` for a flag that may be repeated.
pub type CidrList = Vec<IpNet>;

/// An address or none. An alias, because clap takes a plain `Option` for a flag that may be absent.
pub type Ip = Option<IpAddr>;

/// One element of `--nodeport-addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    Primary,
    Net(IpNet),
}

/// One value of a flag that takes a list; repeated values add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List<T>(pub Vec<T>);

/// A path that may be empty, which clap's own parser refuses.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The elements of a comma-separated list; an empty text has none.
fn elements<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    if text.is_empty() { Ok(Vec::new()) } else { text.split(',').map(|element| parse(element.trim())).collect() }
}

fn cidr(text: &str) -> Result<IpNet, String> {
    parse_cidr(text)
        .ok_or_else(|| format!("{text:?} is no CIDR: expected a network such as 10.244.0.0/16 or fd00::/48"))
}

fn cidr_list(text: &str) -> Result<CidrList, String> {
    elements(text, cidr)
}

fn cidrs(text: &str) -> Result<List<IpNet>, String> {
    elements(text, cidr).map(List)
}

fn ip(text: &str) -> Result<Ip, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let address = parse_ip(text);
    let bad = || format!("{text:?} is no address: expected one such as 192.168.0.2 or fd00::2");
    address.map(Some).ok_or_else(bad)
}

fn node_port_address(text: &str) -> Result<NodePortAddress, String> {
    if text == "primary" {
        return Ok(NodePortAddress::Primary);
    }
    cidr(text)
        .map(NodePortAddress::Net)
        .map_err(|_| format!("{text:?} is no CIDR: expected a network such as 192.168.0.0/24, or `primary` alone"))
}

fn node_port_addresses(text: &str) -> Result<List<NodePortAddress>, String> {
    elements(text, node_port_address).map(List)
}

/// A switch as Go's flags read it.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}
