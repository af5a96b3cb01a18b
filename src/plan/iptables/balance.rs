//! Choosing an endpoint, each with the same probability.
//!
//! Up to [`FLAT`] endpoints, one chain chooses as kube-proxy's does: rule *i* of *N* takes `1/(N-i)` of what comes to it
//! (contract 3.4). The rule sends it to the endpoint, or to the endpoint's chain where one is needed ([`Way`]). With more, a packet would test hundreds of rules and a change would rewrite them, so the chain first
//! chooses a group with a probability of the group's share, then the group's chain chooses an endpoint. An endpoint's
//! group comes from a hash of its text: adding or removing an endpoint rewrites its group and the shares, nothing else.
//!
//! Client IP affinity tests every endpoint's list before anything is chosen, as kube-proxy does: a list per group would
//! forget clients earlier, for `xt_recent` keeps 100 addresses in a list.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::names::{self, ServiceChains};
use crate::kernel::xtables::{ChainName, Match, RecentAction, Rule, Target};
use crate::net::{Endpoint, Protocol, stable_hash64};
use crate::plan::build::{Build, commented, rule};

/// How many endpoints one chain chooses among without groups.
pub const FLAT: usize = 32;

/// One in `2^31`: the unit of [`Match::Random`].
const ONE: u64 = 1 << 31;

/// Rules that choose an endpoint say which service's it is and which endpoint, as kube-proxy's do up to 1,000 endpoints.
const COMMENTED: bool = true;

/// How a packet gets from the rule that chooses an endpoint to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// The rule is the DNAT.
    Direct,
    /// By the endpoint's chain, which remembers clients, or marks what comes from the endpoint itself (`hairpin`).
    Chain { hairpin: bool },
}

/// An endpoint that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    pub endpoint: Endpoint,
    pub way: Way,
}

/// What the rules of an endpoint share.
#[derive(Clone)]
pub struct Shared {
    /// The comment `n -> EP`.
    comment: Arc<str>,
    /// Where it has one.
    pub chain: Option<ChainName>,
}

/// What the rules of a service port's endpoints share, each made once and only if it is asked for: a name costs a
/// SHA-256.
pub struct Targets<'a> {
    names: &'a ServiceChains,
    protocol: Protocol,
    made: HashMap<Endpoint, Shared>,
}

impl<'a> Targets<'a> {
    pub fn new(names: &'a ServiceChains, protocol: Protocol) -> Self {
        Targets { names, protocol, made: HashMap::new() }
    }

    pub fn get(&mut self, choice: &Choice) -> &Shared {
        self.made.entry(choice.endpoint).or_insert_with(|| {
            let text = choice.endpoint.to_string();
            let comment = format!("{} -> {}", self.names.text(), text).into();
            let chain = (choice.way != Way::Direct).then(|| self.names.endpoint(&text));
            Shared { comment, chain }
        })
    }

    /// A rule for this endpoint, without conditions.
    fn rule(&mut self, choice: &Choice) -> Rule {
        let protocol = self.protocol;
        let shared = self.get(choice);
        let start = if COMMENTED { commented(shared.comment.clone()) } else { rule() };
        match &shared.chain {
            Some(chain) => start.jump(chain.clone()),
            None => start.protocol(protocol).target(Target::Dnat(choice.endpoint)),
        }
    }
}

/// Endpoints by group number, in order; groups without endpoints are left out.
pub type Groups = Vec<(u8, Vec<Choice>)>;

/// The endpoints in groups, if there are enough of them.
///
/// The number of groups is a power of two near the square root of the number of endpoints, so that choosing the group
/// and choosing the endpoint cost about the same.
pub fn groups(endpoints: &[Choice]) -> Option<Groups> {
    if endpoints.len() <= FLAT {
        return None;
    }
    let mut bits = 1;
    while bits < 8 && 2usize << (2 * bits) < endpoints.len() {
        bits += 1;
    }
    let mut groups: Groups = (0..1u16 << bits).map(|number| (number as u8, Vec::new())).collect();
    for choice in endpoints {
        let number = (group_hash(&choice.endpoint) >> (64 - bits)) as usize;
        if let Some((_, members)) = groups.get_mut(number) {
            members.push(*choice);
        }
    }
    groups.retain(|(_, members)| !members.is_empty());
    Some(groups)
}

fn group_hash(endpoint: &Endpoint) -> u64 {
    let [high, low] = endpoint.port.to_be_bytes();
    match endpoint.ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            stable_hash64(&[a, b, c, d, high, low])
        }
        IpAddr::V6(ip) => {
            let mut bytes = [0; 18];
            bytes[..16].copy_from_slice(&ip.octets());
            bytes[16..].copy_from_slice(&[high, low]);
            stable_hash64(&bytes)
        }
    }
}

/// Rules that send a client to the endpoint that it had before.
pub fn push_affinity(endpoints: &[Choice], seconds: u32, targets: &mut Targets<'_>, rules: &mut Vec<Rule>) {
    let action = RecentAction::Check { seconds, reap: true };
    for choice in endpoints {
        let jump = targets.rule(choice);
        // With affinity, every endpoint has a chain: its list has the chain's name.
        if let Some(chain) = &targets.get(choice).chain {
            rules.push(jump.recent(chain.shared(), action));
        }
    }
}

/// Rules that choose an endpoint: rule *i* of *N* takes `1/(N-i)` of what comes to it; the last takes all.
pub fn push_flat(endpoints: &[Choice], targets: &mut Targets<'_>, rules: &mut Vec<Rule>) {
    rules.reserve_exact(endpoints.len());
    for (i, choice) in endpoints.iter().enumerate() {
        let mut rule = targets.rule(choice);
        let left = endpoints.len() - i;
        if left > 1 {
            rule = rule.matching(Match::Random { probability: one_in(left as u64) });
        }
        rules.push(rule);
    }
}

/// Rules that choose a group, each with its share of the endpoints.
pub fn push_groups(groups: &Groups, chain: &ChainName, names: &ServiceChains, rules: &mut Vec<Rule>) {
    let all: usize = groups.iter().map(|(_, members)| members.len()).sum();
    let mut left = all;
    rules.reserve_exact(groups.len());
    for (number, members) in groups {
        let mut rule = commented(format!("{} -> {} of {all} endpoints", names.text(), members.len()));
        if members.len() < left {
            rule = rule.matching(Match::Random { probability: share(members.len(), left) });
        }
        left -= members.len();
        rules.push(rule.jump(names::group(chain, *number)));
    }
}

/// `part/whole`, to the nearest step.
fn share(part: usize, whole: usize) -> u32 {
    ((part as u64 * ONE + whole as u64 / 2) / whole as u64) as u32
}

/// `1/n` as kube-proxy's ten decimals make it, so that taking over changes no rule: the text of `1/n` with ten decimals
/// (ties to even, as C and Go print), and of that the nearest step.
fn one_in(n: u64) -> u32 {
    const DECIMALS: u64 = 10_000_000_000;
    let (quotient, rest) = (DECIMALS / n, DECIMALS % n);
    let rounds_up = rest * 2 > n || (rest * 2 == n && quotient % 2 == 1);
    let text = quotient + u64::from(rounds_up);
    let steps = u128::from(text) * u128::from(ONE) + u128::from(DECIMALS / 2);
    (steps / u128::from(DECIMALS)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_n_is_what_kube_proxys_text_gives() {
        for n in 1..=5000u64 {
            let text = format!("{:.10}", 1.0 / n as f64);
            let tool = (text.parse::<f64>().unwrap() * 2_147_483_648.0).round() as u32;
            assert_eq!(one_in(n), tool, "1/{n} = {text}");
        }
    }
}
