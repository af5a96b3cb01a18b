//! What becomes of each parameter.

use std::fmt;
use std::time::Duration;

use super::ConntrackSettings;
use crate::kernel::sysctl::{Pin, Pins};

/// What the number of CPUs gives is capped here: a tracked connection takes some 300 bytes.
const MOST_BY_CPUS: u64 = 1_048_576;

/// The kernel works best with no more than so many connections for each bucket of its hash table.
const BUCKET_SHARE: u64 = 4;

/// A parameter of connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Parameter {
    Max,
    HashSize,
    TcpEstablished,
    TcpCloseWait,
    TcpBeLiberal,
    Udp,
    UdpStream,
}

impl Parameter {
    /// Below the root of the file system.
    pub const fn path(self) -> &'static str {
        match self {
            Parameter::Max => "proc/sys/net/netfilter/nf_conntrack_max",
            Parameter::HashSize => "sys/module/nf_conntrack/parameters/hashsize",
            Parameter::TcpEstablished => "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
            Parameter::TcpCloseWait => "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait",
            Parameter::TcpBeLiberal => "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal",
            Parameter::Udp => "proc/sys/net/netfilter/nf_conntrack_udp_timeout",
            Parameter::UdpStream => "proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream",
        }
    }

    /// The file that is read. Everybody may read the sysctl with the number of buckets, and only root the module's
    /// parameter, which is the same.
    pub(super) const fn read_path(self) -> &'static str {
        match self {
            Parameter::HashSize => "proc/sys/net/netfilter/nf_conntrack_buckets",
            other => other.path(),
        }
    }

    /// The name below `/proc/sys`; the size of the hash table has one too.
    pub fn sysctl(self) -> &'static str {
        self.read_path().trim_start_matches("proc/sys/")
    }

    /// For people.
    pub const fn why(self) -> &'static str {
        match self {
            Parameter::Max => "a node that is full drops new connections",
            Parameter::HashSize => "looking a connection up takes longer, the more share a bucket",
            Parameter::TcpEstablished => "how long a TCP connection without a packet is remembered",
            Parameter::TcpCloseWait => "how long a TCP connection that one side has closed is remembered",
            Parameter::TcpBeLiberal => "packets outside of a TCP window are not invalid",
            Parameter::Udp => "how long a UDP packet without an answer is remembered",
            Parameter::UdpStream => "how long a UDP conversation without a packet is remembered",
        }
    }

    /// The setting of the configuration and the flag, for messages.
    pub const fn setting(self) -> (&'static str, &'static str) {
        match self {
            Parameter::Max | Parameter::HashSize => ("conntrack.maxPerCore", "--conntrack-max-per-core=0"),
            Parameter::TcpEstablished => ("conntrack.tcpEstablishedTimeout", "--conntrack-tcp-timeout-established=0s"),
            Parameter::TcpCloseWait => ("conntrack.tcpCloseWaitTimeout", "--conntrack-tcp-timeout-close-wait=0s"),
            Parameter::TcpBeLiberal => ("conntrack.tcpBeLiberal", "--conntrack-tcp-be-liberal=false"),
            Parameter::Udp => ("conntrack.udpTimeout", "--conntrack-udp-timeout=0s"),
            Parameter::UdpStream => ("conntrack.udpStreamTimeout", "--conntrack-udp-timeout-stream=0s"),
        }
    }
}

/// What is done about one parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConntrackAction {
    /// With what the administrator's files say instead.
    Write {
        value: u64,
        against: Option<Pin>,
    },
    AsWanted,
    /// More is there than is asked for, and that is fine.
    Larger {
        wanted: u64,
    },
    /// It is to be left alone.
    Pinned {
        wanted: u64,
    },
}

/// What becomes of one parameter. Displayed, it is a line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackDecision {
    pub parameter: Parameter,
    /// `None`: it could not be read.
    pub before: Option<u64>,
    pub action: ConntrackAction,
}

/// How many connections are to be tracked; `None`: the limit is left alone.
pub fn maximum(settings: &ConntrackSettings, cpus: u32) -> Option<u64> {
    let scaled = u64::from(settings.max_per_core) * u64::from(cpus);
    (settings.max_per_core > 0).then(|| scaled.min(MOST_BY_CPUS).max(settings.min.into()))
}

/// Decides on every parameter that is asked for, in the order in which they are to be written. `current` gives the
/// values now.
pub fn decide(
    settings: &ConntrackSettings,
    cpus: u32,
    current: impl Fn(Parameter) -> Option<u64>,
    pins: &Pins,
) -> Vec<ConntrackDecision> {
    let decided = |(parameter, wanted): (Parameter, u64)| {
        let before = current(parameter);
        ConntrackDecision { parameter, before, action: action(parameter, wanted, before, pins) }
    };
    wanted(settings, cpus).into_iter().map(decided).collect()
}

fn wanted(settings: &ConntrackSettings, cpus: u32) -> Vec<(Parameter, u64)> {
    let max = maximum(settings, cpus);
    let timeout = |parameter, time: Duration| (!time.is_zero()).then(|| (parameter, time.as_secs().max(1)));
    [
        max.map(|max| (Parameter::Max, max)),
        max.map(|max| (Parameter::HashSize, max / BUCKET_SHARE)),
        timeout(Parameter::TcpEstablished, settings.tcp_established),
        timeout(Parameter::TcpCloseWait, settings.tcp_close_wait),
        settings.tcp_be_liberal.then_some((Parameter::TcpBeLiberal, 1)),
        timeout(Parameter::Udp, settings.udp),
        timeout(Parameter::UdpStream, settings.udp_stream),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn action(parameter: Parameter, wanted: u64, before: Option<u64>, pins: &Pins) -> ConntrackAction {
    let may_be_larger = matches!(parameter, Parameter::Max | Parameter::HashSize);
    match (before, pins.of(parameter.sysctl(), &wanted.to_string())) {
        (Some(before), _) if before == wanted => ConntrackAction::AsWanted,
        (Some(before), _) if before > wanted && may_be_larger => ConntrackAction::Larger { wanted },
        (_, Some(Pin::Name)) => ConntrackAction::Pinned { wanted },
        (_, against) => ConntrackAction::Write { value: wanted, against },
    }
}

impl fmt::Display for ConntrackDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: ", self.parameter.path())?;
        match self.before {
            Some(before) => write!(f, "{before}")?,
            None => f.write_str("unknown")?,
        }
        match &self.action {
            ConntrackAction::Write { value, .. } => write!(f, " -> {value}")?,
            ConntrackAction::AsWanted => f.write_str(", as wanted")?,
            ConntrackAction::Larger { wanted } => write!(f, ", stays: {wanted} would do")?,
            ConntrackAction::Pinned { wanted } => write!(f, ", pinned by name; {wanted} is asked for")?,
        }
        write!(f, " ({})", self.parameter.why())
    }
}
