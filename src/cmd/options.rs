//! What was typed: kube-proxy's flags ([`config::Flags`]) and weir's own, as `weir proxy` and `weir diff` share them
//! ([`ProxyOptions`]); and what rules depend on, once [`settle`](super::settle) has found out what it means.

mod egress;
mod ipvs;
mod values;
mod version;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use ipnet::IpNet;

pub use egress::EgressOptions;
pub(super) use ipvs::scheduler;
pub use ipvs::{IpvsExtras, IpvsOptions, SYSCTLS, Timeouts};
pub use version::{VersionFlag, line as version_line, raw as version_raw};

use super::{Failure, duration};
use crate::config;
use crate::net::parse_cidr;

/// What can be typed after `weir proxy`, and after `weir diff` beside its own flags.
#[derive(Clone, Debug, Default, Args)]
pub struct ProxyOptions {
    #[command(flatten)]
    pub kube_proxy: config::Flags,
    #[command(flatten)]
    pub own: OwnOptions,
    /// Print the version and exit (true, raw), or report this one instead (vX.Y.Z)
    #[arg(long, value_name = "true|raw|vX.Y.Z", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = version::parse, help_heading = "Process")]
    pub version: Option<VersionFlag>,
    /// kube-proxy takes arguments that are empty, as templates leave them behind.
    #[arg(hide = true, value_parser = empty)]
    pub arguments: Vec<Empty>,
}

impl ProxyOptions {
    /// `--write-config-to`, if it names a file.
    pub fn write_config_to(&self) -> Option<&str> {
        self.kube_proxy.config.write_config_to.as_deref().filter(|path| !path.is_empty())
    }

    /// Prints the version, if that was asked for, and says whether it was.
    ///
    /// # Errors
    /// The reader is gone.
    pub fn tell_version(&self) -> Result<bool, Failure> {
        let text = match self.version {
            Some(VersionFlag::Print) => version_line(),
            Some(VersionFlag::Raw) => version_raw(),
            _ => return Ok(false),
        };
        writeln!(io::stdout(), "{text}").map_err(|error| Failure::new(format!("cannot write the version: {error}")))?;
        Ok(true)
    }

    /// Says on stderr which flags should not be used any more, in kube-proxy's words.
    pub fn tell_deprecated(&self) {
        let endpoints = &self.kube_proxy.endpoints;
        for (is_typed, name, instead) in [
            (endpoints.healthz_port.is_some(), "healthz-port", "healthz-bind-address"),
            (endpoints.metrics_port.is_some(), "metrics-port", "metrics-bind-address"),
        ] {
            if is_typed {
                // A terminal that is gone cannot be told.
                let _ = writeln!(
                    io::stderr(),
                    "Flag --{name} has been deprecated, This flag is deprecated and will be removed in a future release. \
                     Please use --{instead} instead."
                );
            }
        }
    }
}

/// An argument that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Empty;

fn empty(text: &str) -> Result<Empty, String> {
    if text.is_empty() { Ok(Empty) } else { Err("flags begin with --".to_owned()) }
}

/// Flags that kube-proxy does not have. They have no field in its configuration, so they count beside a file.
#[derive(Clone, Debug, Default, Args)]
pub struct OwnOptions {
    /// Read Services, EndpointSlices, Nodes and ServiceCIDRs from the YAML and JSON files of this folder and follow it;
    /// no cluster is needed (weir only)
    #[arg(long, value_name = "DIR", value_parser = path(), help_heading = "Source")]
    pub manifests: Option<PathBuf>,
    /// Which iptables to write: the legacy tables or those of nf_tables (weir only)
    #[arg(long, value_enum, default_value_t, value_name = "VARIANT", help_heading = "Rules")]
    pub iptables_variant: VariantChoice,
    /// How rules get into the kernel (weir only)
    #[arg(long, value_enum, default_value_t, value_name = "DRIVER", help_heading = "Rules")]
    pub iptables_driver: IptablesDriver,
    /// Report drift and leave it (weir only)
    #[arg(long, value_name = "BOOL", default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = config::switch, action = clap::ArgAction::Set, help_heading = "Pacing")]
    pub drift_report_only: bool,
    #[command(flatten)]
    pub ipvs: IpvsExtras,
    #[command(flatten)]
    pub egress: EgressOptions,
    /// How long after SIGTERM rules are still kept right while health already fails; 0 ends at once. Rules stay either
    /// way (weir only)
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse, help_heading = "Health and metrics")]
    pub shutdown_grace_period: Duration,
}

/// Where facts come from.
#[derive(Clone, Debug, Default)]
pub struct SourceOptions {
    pub manifests: Option<PathBuf>,
    /// The file that `--kubeconfig` or `clientConnection.kubeconfig` names.
    pub kubeconfig: Option<PathBuf>,
    pub master: Option<String>,
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
    /// Which source it is.
    ///
    /// # Errors
    /// Two sources.
    pub fn choice(&self) -> Result<SourceChoice<'_>, Failure> {
        let (kubeconfig, master) = (self.kubeconfig.as_deref(), self.master.as_deref());
        let Some(dir) = self.manifests.as_deref() else { return Ok(SourceChoice::ApiServer { kubeconfig, master }) };
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyMode {
    #[default]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DetectLocalMode {
    #[default]
    ClusterCidr,
    NodeCidr,
    BridgeInterface,
    InterfaceNamePrefix,
}

impl DetectLocalMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            DetectLocalMode::ClusterCidr => "ClusterCIDR",
            DetectLocalMode::NodeCidr => "NodeCIDR",
            DetectLocalMode::BridgeInterface => "BridgeInterface",
            DetectLocalMode::InterfaceNamePrefix => "InterfaceNamePrefix",
        }
    }
}

/// What rules depend on.
#[derive(Clone, Debug)]
pub struct RuleOptions {
    pub proxy_mode: ProxyMode,
    pub iptables_variant: VariantChoice,
    pub iptables_driver: IptablesDriver,
    /// The networks of the cluster's pods, one or one of each family.
    pub cluster_cidr: CidrList,
    pub detect_local_mode: DetectLocalMode,
    pub pod_bridge_interface: Option<String>,
    pub pod_interface_name_prefix: Option<String>,
    /// Unspecified: the Node object says.
    pub bind_address: Ip,
    pub nodeport_addresses: Vec<List<NodePortAddress>>,
    pub iptables_localhost_nodeports: bool,
    /// Below 32.
    pub iptables_masquerade_bit: u8,
    pub masquerade_all: bool,
    pub ipvs: IpvsOptions,
    pub egress: EgressOptions,
}

impl RuleOptions {
    /// The elements of all lists of node port addresses.
    pub fn node_port_addresses(&self) -> impl Iterator<Item = NodePortAddress> + '_ {
        self.nodeport_addresses.iter().flat_map(|list| list.0.iter().copied())
    }
}

/// Networks.
pub type CidrList = Vec<IpNet>;

/// An address or none.
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

fn cidrs(text: &str) -> Result<List<IpNet>, String> {
    elements(text, cidr).map(List)
}
