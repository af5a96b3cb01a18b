//! The packet tracer: what typed rules do to the first packet of a flow, without a kernel.
//!
//! [`trace`] walks the hooks in the kernel's order and reports every way that the packet can go, with its
//! probability. It knows nothing of services: it judges rules by what they do, whoever wrote them. [`lint()`] says
//! whether a kernel would take the rules at all.
//!
//! The order of the hooks:
//!
//! | packet | hooks |
//! |---|---|
//! | comes in, for this node after DNAT | PREROUTING, INPUT |
//! | comes in, for another | PREROUTING, FORWARD, POSTROUTING |
//! | made here, for another | OUTPUT, POSTROUTING |
//! | made here, for this node after DNAT | OUTPUT, POSTROUTING, (back in through `lo`) PREROUTING, INPUT |
//!
//! A packet that comes in and stays never meets POSTROUTING, so its source stays what it is even if it is marked for
//! masquerade. A packet that comes back in through `lo` has its NAT already, so it does not meet the nat table again.
//!
//! # IPVS
//!
//! A [`Ruleset`] with virtual servers has IPVS in the two hooks where it schedules. Sources: `ip_vs_core.c` (`ip_vs_ops4`,
//! `ip_vs_ops6`, `ip_vs_in`, `ip_vs_schedule`, `ip_vs_leave`), `ip_vs_xmit.c` (`ip_vs_nat_xmit`,
//! `ip_vs_nat_send_or_cont`, `crosses_local_route_boundary`) and `ip_vs_nfct.c` (`ip_vs_update_conntrack`) of
//! `net/netfilter/ipvs`, `nf_conntrack_in`, and `nf_nat_inet_fn`.
//!
//! | packet to a virtual server | what it meets |
//! |---|---|
//! | comes in | PREROUTING; mangle and filter INPUT; **IPVS**; mangle and filter OUTPUT; POSTROUTING |
//! | comes in, the real server is on this node | PREROUTING; mangle and filter INPUT; **IPVS**; nat INPUT |
//! | made here | mangle and nat OUTPUT; **IPVS**; mangle (again) and filter OUTPUT; POSTROUTING |
//! | made here, the real server is on this node | mangle and nat OUTPUT; **IPVS**; filter OUTPUT; POSTROUTING; (`lo`) mangle PREROUTING; mangle and filter INPUT |
//!
//! * What comes in is scheduled at INPUT only: its destination must be an address of this node, on the service device or
//!   on another. IPVS has priority `NF_IP_PRI_NAT_SRC - 1` there, after filter (0). What is made here is scheduled
//!   wherever it goes, at `NF_IP_PRI_NAT_DST + 2`: after mangle (-150) and nat (-100), before filter.
//! * Everything after IPVS sees the real server's address and port; the source is the client's until POSTROUTING. The
//!   packet keeps its mark.
//! * IPVS sends by running through the hook OUTPUT from its start, also what came in. Mangle and filter see the packet,
//!   without an incoming interface. Nat OUTPUT does not: the connection has its destination, if only a null binding.
//!   FORWARD is for answers alone.
//! * Nat POSTROUTING sees the connection for the first time and may masquerade it, since with
//!   `net.ipv4.vs.conntrack = 1` IPVS leaves it tracked (else nothing of it is ever masqueraded). Its state is NEW, not
//!   DNAT: IPVS alters the reply's addresses and sets no status.
//! * What stays on this node goes on with the hook that it is in. If it came in, it never meets POSTROUTING.
//! * A virtual server without a usable real server answers with ICMP port unreachable, and its packet goes no further.
//! * A packet from a loopback address to a real server elsewhere is dropped, as is one that comes in, to a real server
//!   with a loopback address.
//! * Lookups in sets follow ipset: a bitmap of ports knows TCP and UDP only, and a match with fewer directions than
//!   entries have parts finds nothing.
//!
//! Not followed: virtual servers by firewall mark or of port 0, persistence, real servers without NAT.
//!
//! # Limits
//!
//! The tracer does not route, so rules that look at the outgoing interface are an error, as are rules that look at the
//! source port, which [`Packet`] does not have. Built-in chains are taken to have the policy ACCEPT. The source address
//! of a masqueraded packet stays what it was for rules after the masquerade.

mod hooks;
mod lint;
mod lookup;
mod matching;
mod ruleset;
mod schedule;
#[cfg(test)]
mod tests;
mod verdict;
mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use lint::{MAX_COMMENT, MAX_DEPTH, lint};
pub use ruleset::{Ruleset, Servers, Sets};

use crate::kernel::ipset::SetName;
use crate::kernel::ipvs::VirtualServerKey;
use crate::kernel::xtables::{ChainName, Table};
use crate::model::oracle::{Host, Outcome, Packet, Verdict};

/// Where a rule is: table, chain, and its place in the chain, counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    pub table: Table,
    pub chain: ChainName,
    pub index: usize,
}

impl fmt::Display for Step {
    /// `nat KUBE-SERVICES rule 3`, counted from 1 as `iptables -L --line-numbers` does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} rule {}", self.table, self.chain, self.index + 1)
    }
}

/// The end of one way through the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// No DNAT and no virtual server, and no rule refuses it.
    Untouched,
    /// The same, and a rule in a chain below the filter table's INPUT accepts it.
    Accept,
    Reject,
    Drop,
    /// DNAT or a virtual server, and no rule refuses it.
    Serve(Outcome),
}

/// One way through the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    pub probability: f64,
    pub fate: Fate,
    /// The virtual server that chose where it goes.
    pub scheduled_by: Option<VirtualServerKey>,
    /// Rules that matched and have a target, in the order in which the packet met them.
    pub path: Vec<Step>,
    /// How many rules were tried, matching or not, in all tables.
    pub rules_tested: usize,
    /// Lists of `-m recent` into which the packet's source was put, sorted.
    pub recent: BTreeSet<Arc<str>>,
}

/// How many rules a packet meets, over all branches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RulesTested {
    pub min: usize,
    pub max: usize,
    /// Weighted by probability.
    pub expected: f64,
}

/// What the rules do to a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub verdict: Verdict,
    pub rules_tested: RulesTested,
    /// In the order of the rules that decide between them.
    pub branches: Vec<Branch>,
}

impl Trace {
    /// Branches that end in this fate.
    pub fn branches_to(&self, fate: Fate) -> impl Iterator<Item = &Branch> {
        self.branches.iter().filter(move |branch| branch.fate == fate)
    }
}

/// The rules cannot be followed, or what they do is no verdict.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TraceError {
    #[error("{step}: the rule is not understood, so the packet cannot be followed: {text}")]
    Verbatim { step: Step, text: Box<str> },
    #[error("{step}: jumps to {target}, which does not exist")]
    NoChain { step: Step, target: ChainName },
    #[error("{step}: jumps to {target}, which the packet is already in")]
    Loop { step: Step, target: ChainName },
    #[error("{step}: jumps to {target}, deeper than {MAX_DEPTH} chains below the built-in one")]
    TooDeep { step: Step, target: ChainName },
    #[error("{step}: looks at {what}, which the tracer does not know")]
    Unknown { step: Step, what: &'static str },
    #[error("{step}: looks into the set {set}, which the tracer was not given")]
    NoSet { step: Step, set: SetName },
    #[error("the virtual server {server} {what}: the tracer does not follow its packets")]
    Ipvs { server: VirtualServerKey, what: &'static str },
    #[error("{step}: the target {target} has no place in the {table} table at {hook}")]
    Misplaced { step: Step, target: &'static str, table: Table, hook: &'static str },
    #[error("the packet goes from {source_family} to {destination_family}, the rules are for {rules}")]
    Family { source_family: crate::net::Family, destination_family: crate::net::Family, rules: crate::net::Family },
    #[error("the packet is masqueraded but not served, last by {}", last_step(.path))]
    MasqueradedOnly { path: Vec<Step> },
    #[error("the rules do not decide what kind of fate the packet has: {}", kinds(.0))]
    Mixed(Vec<(Fate, f64)>),
    #[error("more than {0} ways through the rules: this is not a ruleset of a service proxy")]
    TooManyBranches(usize),
}

fn last_step(path: &[Step]) -> String {
    path.last().map_or_else(|| "no rule".to_owned(), Step::to_string)
}

fn kinds(fates: &[(Fate, f64)]) -> String {
    let texts: Vec<String> = fates.iter().map(|(fate, p)| format!("{fate:?} with probability {p:.6}")).collect();
    texts.join(", ")
}

/// Follows the packet through the rules. No list of `-m recent` has an entry yet.
pub fn trace(rules: &Ruleset, host: &Host, packet: &Packet) -> Result<Trace, TraceError> {
    trace_with(rules, host, packet, &BTreeSet::new())
}

/// Follows the packet through the rules, with a fresh entry for its source in each of the `recent` lists.
pub fn trace_with(
    rules: &Ruleset,
    host: &Host,
    packet: &Packet,
    recent: &BTreeSet<Arc<str>>,
) -> Result<Trace, TraceError> {
    let branches = walk::walk(rules, host, packet, recent)?;
    verdict::sum_up(branches)
}
