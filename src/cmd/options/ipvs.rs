//! Flags of IPVS mode.

use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;

use super::{List, elements};
use crate::cmd::duration;
use crate::kernel::ipvs::Scheduler;

/// The sysctls that IPVS mode sets, or looks at to be right (contract 4.1).
pub const SYSCTLS: [&str; 8] = [
    "net.ipv4.vs.conntrack",
    "net.ipv4.vs.conn_reuse_mode",
    "net.ipv4.vs.expire_nodest_conn",
    "net.ipv4.vs.expire_quiescent_template",
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.arp_ignore",
    "net.ipv4.conf.all.arp_announce",
    "net.ipv4.vs.run_estimation",
];

/// How long an endpoint that goes keeps its connections, where neither flag nor annotation says.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// weir's own flags of IPVS mode.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "IPVS mode")]
pub struct IpvsExtras {
    /// How long an endpoint that goes keeps its TCP connections, where the annotation weir.dev/drain-seconds says
    /// nothing; 0 cuts them at once (weir only)
    #[arg(long = "ipvs-drain-timeout", value_name = "DURATION", default_value = "15m", value_parser = duration::parse)]
    pub drain_timeout: Duration,
    /// Sysctls to leave as they are, such as net.ipv4.vs.conn_reuse_mode (weir only)
    #[arg(long = "ipvs-keep-sysctls", value_name = "NAME[,NAME…]", value_parser = sysctls, action = ArgAction::Append)]
    pub keep_sysctls: Vec<List<&'static str>>,
}

impl Default for IpvsExtras {
    /// As if nothing was typed.
    fn default() -> Self {
        IpvsExtras { drain_timeout: DRAIN_TIMEOUT, keep_sysctls: Vec::new() }
    }
}

/// What IPVS mode depends on.
#[derive(Clone, Debug)]
pub struct IpvsOptions {
    pub scheduler: Scheduler,
    /// Virtual servers in these networks are somebody else's.
    pub exclude_cidrs: Vec<List<IpNet>>,
    pub strict_arp: bool,
    /// Zero leaves the kernel's, for this and the next two.
    pub tcp_timeout: Duration,
    pub tcpfin_timeout: Duration,
    pub udp_timeout: Duration,
    pub drain_timeout: Duration,
    pub keep_sysctls: Vec<List<&'static str>>,
}

impl Default for IpvsOptions {
    /// As if nothing was typed.
    fn default() -> Self {
        IpvsOptions {
            scheduler: Scheduler::round_robin(),
            exclude_cidrs: Vec::new(),
            strict_arp: false,
            tcp_timeout: Duration::ZERO,
            tcpfin_timeout: Duration::ZERO,
            udp_timeout: Duration::ZERO,
            drain_timeout: DRAIN_TIMEOUT,
            keep_sysctls: Vec::new(),
        }
    }
}

/// Timeouts of the kernel's IPVS connections in seconds; 0 leaves the one that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp: u32,
    pub tcp_fin: u32,
    pub udp: u32,
}

impl IpvsOptions {
    /// The networks of all `--ipvs-exclude-cidrs`, as typed.
    pub fn exclude_cidrs(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.exclude_cidrs.iter().flat_map(|list| list.0.iter().copied())
    }

    /// Those of [`SYSCTLS`] that stay as they are, whatever they are.
    pub fn kept_sysctls(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.keep_sysctls.iter().flat_map(|list| list.0.iter().copied())
    }

    /// What to tell the kernel once; `None` if nothing was asked for (contract 4.1, step 3).
    pub fn timeouts(&self) -> Option<Timeouts> {
        let seconds = |timeout: Duration| u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        let timeouts = Timeouts {
            tcp: seconds(self.tcp_timeout),
            tcp_fin: seconds(self.tcpfin_timeout),
            udp: seconds(self.udp_timeout),
        };
        (timeouts != Timeouts { tcp: 0, tcp_fin: 0, udp: 0 }).then_some(timeouts)
    }
}

/// A scheduler by its name; round robin if there is none.
///
/// # Errors
/// What cannot be a name.
pub(in crate::cmd) fn scheduler(text: &str) -> Result<Scheduler, String> {
    if text.is_empty() {
        return Ok(Scheduler::round_robin());
    }
    let bad = || {
        format!(
            "{text:?} is no scheduler: expected the name of one such as {}, of at most {} letters and digits",
            Scheduler::KNOWN.join(", "),
            Scheduler::MAX
        )
    };
    Scheduler::new(text).ok_or_else(bad)
}

/// Names with dots, or with slashes as below `/proc/sys`.
fn sysctls(text: &str) -> Result<List<&'static str>, String> {
    let known = |text: &str| {
        let dotted = text.replace('/', ".");
        let known = SYSCTLS.into_iter().find(|name| *name == dotted);
        known.ok_or_else(|| format!("{text:?} is no sysctl that weir sets: expected one of {}", SYSCTLS.join(", ")))
    };
    elements(text, known).map(List)
}
