//! Tables, chains, rules, matches and targets.
//!
//! A [`Rule`] has the canonical order in which every `iptables-save` prints: addresses, interfaces and protocol first,
//! then the matches in the order in which they were given, then the target. Two rules are the same to the kernel if
//! and only if they are equal here.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;

use crate::kernel::ipset::SetName;
use crate::net::{Endpoint, Family, Protocol};

/// A table that weir writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    Mangle,
    Filter,
    Nat,
}

impl Table {
    pub const ALL: [Table; 3] = [Table::Mangle, Table::Filter, Table::Nat];

    pub const fn as_str(self) -> &'static str {
        match self {
            Table::Mangle => "mangle",
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a chain: at most 28 bytes (`XT_EXTENSION_MAXNAMELEN` of uapi `linux/netfilter/x_tables.h` less the NUL).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Arc<str>);

impl ChainName {
    /// The longest name that the kernel takes, in bytes.
    pub const MAX: usize = 28;

    /// `name` must not be longer than [`ChainName::MAX`]; names that weir makes never are, and names that the kernel
    /// told cannot be.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        debug_assert!(name.len() <= Self::MAX, "chain name {name:?} is too long");
        ChainName(name)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainKey {
    pub family: Family,
    pub table: Table,
    pub name: ChainName,
}

impl fmt::Display for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.name)
    }
}

/// `[!] -s NET` or `[!] -d NET`. A `/0` is not a match: leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetMatch {
    pub invert: bool,
    pub net: IpNet,
}

/// `[!] -i NAME` or `[!] -o NAME`; the name ends in `+` if it is a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InterfaceMatch {
    pub invert: bool,
    pub name: Box<str>,
}

/// Ports from `first` to `last`, both included. `0..=65535` is not a match: leave it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    pub invert: bool,
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    pub const fn one(port: u16) -> Self {
        PortRange { invert: false, first: port, last: port }
    }
}

/// Conntrack states, the bits of `XT_CONNTRACK_STATE_*` (uapi `linux/netfilter/xt_conntrack.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CtStates(pub u16);

impl CtStates {
    pub const INVALID: CtStates = CtStates(1);
    pub const ESTABLISHED: CtStates = CtStates(2);
    pub const RELATED: CtStates = CtStates(4);
    pub const NEW: CtStates = CtStates(8);
    pub const UNTRACKED: CtStates = CtStates(0x100);
    pub const SNAT: CtStates = CtStates(0x40);
    pub const DNAT: CtStates = CtStates(0x80);

    #[must_use]
    pub const fn with(self, other: CtStates) -> CtStates {
        CtStates(self.0 | other.0)
    }
}

/// What `-m recent` does. The mask is always all ones and the address the source, as kube-proxy writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecentAction {
    /// `--set`
    Set,
    /// `--rcheck --seconds N [--reap]`
    Check { seconds: u32, reap: bool },
}

/// `-m addrtype`: whether the source or destination is (or is not) an address of type LOCAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddrTypeMatch {
    /// `Some(false)` = `--src-type LOCAL`, `Some(true)` = `! --src-type LOCAL`.
    pub source_local: Option<bool>,
    /// The same for `--dst-type LOCAL`.
    pub destination_local: Option<bool>,
}

/// An extension match, in the order of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Match {
    /// `-m comment --comment TEXT`, at most 255 bytes.
    Comment(Arc<str>),
    /// `-m tcp|udp|sctp [--sport R] [--dport R]`. The rule's protocol must be the same.
    Ports { protocol: Protocol, source: Option<PortRange>, destination: Option<PortRange> },
    /// `-m mark [!] --mark VALUE/MASK`
    Mark { invert: bool, value: u32, mask: u32 },
    /// `-m statistic --mode random --probability P`, with P in units of 2^-31 as the kernel keeps it
    /// (uapi `linux/netfilter/xt_statistic.h`).
    Random { probability: u32 },
    /// `-m recent --name NAME …`
    Recent { name: Arc<str>, action: RecentAction },
    /// `-m addrtype …`
    AddrType(AddrTypeMatch),
    /// `-m conntrack [!] --ctstate …`
    CtState { invert: bool, states: CtStates },
    /// `-m nfacct --nfacct-name NAME`
    Nfacct(Arc<str>),
    /// `-m set [!] --match-set NAME dst,dst,src`: one direction for each part of the set's entries, one to three.
    Set { invert: bool, set: SetName, directions: Box<[Direction]> },
}

/// Which of a packet's addresses and ports is looked up in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Source,
    Destination,
}

/// What happens to a packet that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Jump(ChainName),
    Goto(ChainName),
    Accept,
    Drop,
    Return,
    /// `REJECT` with the family's port-unreachable message, the default.
    Reject,
    /// `DNAT --to-destination ENDPOINT`
    Dnat(Endpoint),
    /// `MASQUERADE [--random-fully]`
    Masquerade {
        random_fully: bool,
    },
    /// `MARK --set-xmark VALUE/MASK`: clears the mask's bits, then flips the value's. `--or-mark M` is `M/M`,
    /// `--xor-mark M` is `M/0`.
    Mark {
        value: u32,
        mask: u32,
    },
}

/// A rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    pub source: Option<NetMatch>,
    pub destination: Option<NetMatch>,
    pub in_interface: Option<InterfaceMatch>,
    pub out_interface: Option<InterfaceMatch>,
    /// `-p`. Never inverted.
    pub protocol: Option<Protocol>,
    pub matches: Vec<Match>,
    /// `None`: the rule only counts.
    pub target: Option<Target>,
}

/// A rule that the kernel holds: understood, or as it was printed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ObservedRule {
    Known(Rule),
    /// The text after `-A CHAIN `, verbatim.
    Verbatim(Box<str>),
}

impl ObservedRule {
    /// The rule, if it was understood.
    pub fn known(&self) -> Option<&Rule> {
        match self {
            ObservedRule::Known(rule) => Some(rule),
            ObservedRule::Verbatim(_) => None,
        }
    }
}

impl From<Rule> for ObservedRule {
    fn from(rule: Rule) -> Self {
        ObservedRule::Known(rule)
    }
}

impl PartialEq<Rule> for ObservedRule {
    fn eq(&self, other: &Rule) -> bool {
        self.known() == Some(other)
    }
}
