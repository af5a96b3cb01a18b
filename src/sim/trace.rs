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
//! The tracer does not route, so rules that look at the outgoing interface are an error, as are rules that look at the
//! source port, which [`Packet`] does not have. Built-in chains are taken to have the policy ACCEPT. The source address
//! of a masqueraded packet stays what it was for rules after the masquerade.

mod lint;
mod matching;
mod ruleset;
#[cfg(test)]
mod tests;
mod verdict;
mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

pub use lint::{MAX_COMMENT, MAX_DEPTH, lint};
pub use ruleset::Ruleset;

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
    /// No DNAT, and no rule refuses it.
    Untouched,
    /// No DNAT, and a rule in a chain below the filter table's INPUT accepts it.
    Accept,
    Reject,
    Drop,
    /// DNAT, and no rule refuses it.
    Serve(Outcome),
}

/// One way through the rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    pub probability: f64,
    pub fate: Fate,
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
