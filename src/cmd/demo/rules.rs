//! Which way the kernel's rules lead a packet.

use std::collections::BTreeSet;

use super::fate::{Fate, Seen};
use super::names::Names;
use crate::kernel::xtables::{ObservedRule, Rule, Table, Target};
use crate::model::oracle::{Host, Packet, Verdict};
use crate::sim::trace::{self, Branch, Ruleset, Trace, TraceError};

/// What rules do to a packet.
pub struct Way {
    pub fate: Fate,
    /// The chains that decide it, such as `KUBE-SERVICES → KUBE-SVC-5K2X… → KUBE-SEP-7DA3…`.
    pub chains: String,
}

/// Follows a packet through rules that were read from the kernel.
pub fn way(rules: &Ruleset, host: &Host, packet: &Packet, names: &Names) -> Result<Way, TraceError> {
    let trace = trace::trace(rules, host, packet)?;
    Ok(Way { fate: fate(&trace.verdict, names), chains: chains(rules, &trace) })
}

/// A verdict in the words of the demo.
pub fn fate(verdict: &Verdict, names: &Names) -> Fate {
    match verdict {
        Verdict::Untouched => Fate::Unreachable,
        Verdict::Reject => Fate::Refused,
        Verdict::Drop => Fate::Dropped,
        Verdict::Accept => Fate::Other("let through, to no endpoint".to_owned()),
        Verdict::Serve(outcomes) => {
            let seen: BTreeSet<Seen> =
                outcomes.keys().map(|o| if o.masqueraded { Seen::Masqueraded } else { Seen::Kept }).collect();
            match (seen.first(), seen.len()) {
                (Some(seen), 1) => {
                    Fate::Answered { pods: outcomes.keys().map(|o| names.of(&o.endpoint.ip)).collect(), seen: *seen }
                }
                _ => Fate::Other("masqueraded for some endpoints only".to_owned()),
            }
        }
    }
}

fn chains(rules: &Ruleset, trace: &Trace) -> String {
    let Some(branch) = trace.branches.first() else { return String::new() };
    let nat = nat_chains(rules, branch);
    let refused = |verdict: &str| {
        let last = branch.path.last().filter(|step| step.table == Table::Filter);
        let at = last.map(|step| format!("filter {} → {verdict}", short(step.chain.as_str())));
        // Every packet enters the first chain; only if it leads to another one, that says something.
        let before = (nat.len() > 1).then(|| nat.join(" → "));
        before.into_iter().chain(at).collect::<Vec<_>>().join(", then ")
    };
    match &trace.verdict {
        Verdict::Serve(_) => {
            let others = match trace.branches.len() {
                0 | 1 => String::new(),
                all => format!(" or {} more", all - 1),
            };
            format!("{}{others}", nat.join(" → "))
        }
        Verdict::Reject => refused("REJECT"),
        Verdict::Drop => refused("DROP"),
        Verdict::Accept => refused("ACCEPT"),
        Verdict::Untouched => format!("{}: no rule for it", nat.join(" → ")),
    }
}

/// Chains of the nat table that the packet is sent to until it is decided upon, without built-in ones.
fn nat_chains(rules: &Ruleset, branch: &Branch) -> Vec<String> {
    const ASIDE: [&str; 2] = ["KUBE-MARK-MASQ", "KUBE-POSTROUTING"];
    let jumps = branch.path.iter().filter(|step| step.table == Table::Nat).filter_map(|step| match rules.rule(step) {
        Some(ObservedRule::Known(Rule { target: Some(Target::Jump(chain) | Target::Goto(chain)), .. })) => Some(chain),
        _ => None,
    });
    jumps.map(|chain| chain.as_str()).filter(|name| !ASIDE.contains(name)).map(short).collect()
}

/// Leaves four of the sixteen characters of a service's or endpoint's hash.
fn short(name: &str) -> String {
    const HASHED: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-SEP-", "KUBE-FW-"];
    let hash = HASHED.iter().find_map(|prefix| Some((*prefix, name.strip_prefix(prefix)?)));
    match hash.and_then(|(prefix, hash)| Some((prefix, hash.get(..4)?))) {
        Some((prefix, head)) => format!("{prefix}{head}…"),
        None => name.to_owned(),
    }
}
