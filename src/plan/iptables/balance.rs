//! Choosing an endpoint, each with the same probability.
//!
//! Up to [`FLAT`] endpoints, the chain is kube-proxy's: rule *i* of *N* takes `1/(N-i)` of what comes to it
//! (contract 3.4). With more, a packet would test hundreds of rules and a change would rewrite them, so the chain first
//! chooses a group with a probability of the group's share, then the group's chain chooses an endpoint. An endpoint's
//! group comes from a hash of its text: adding or removing an endpoint rewrites its group and the shares, nothing else.
//!
//! Client IP affinity tests every endpoint's list before anything is chosen, as kube-proxy does: a list per group would
//! forget clients earlier, for `xt_recent` keeps 100 addresses in a list.

use std::sync::Arc;

use super::build::{Build, commented};
use super::names::{self, ServiceChains};
use crate::kernel::xtables::{ChainName, Match, RecentAction, Rule};
use crate::net::{Endpoint, stable_hash64};

/// How many endpoints one chain chooses among without groups.
pub const FLAT: usize = 32;

/// One in `2^31`: the unit of [`Match::Random`].
const ONE: u64 = 1 << 31;

/// An endpoint with its chain's name and its comment `n -> EP`: made once per service port, used by every chain.
pub struct Target {
    pub endpoint: Endpoint,
    pub chain: ChainName,
    text: String,
    comment: Arc<str>,
}

impl Target {
    pub fn new(chains: &ServiceChains, endpoint: Endpoint) -> Self {
        let text = endpoint.to_string();
        let comment = format!("{} -> {}", chains.text(), text).into();
        Target { endpoint, chain: chains.endpoint(&text), text, comment }
    }
}

/// The rules of `chain`, and the group chains that they need.
pub fn choose(
    chains: &ServiceChains,
    chain: &ChainName,
    targets: &[&Target],
    affinity_seconds: Option<u32>,
    mut rules: Vec<Rule>,
    groups_out: &mut Vec<(ChainName, Vec<Rule>)>,
) -> Vec<Rule> {
    if let Some(seconds) = affinity_seconds {
        let action = RecentAction::Check { seconds, reap: true };
        rules.extend(targets.iter().map(|target| {
            commented(target.comment.clone()).recent(target.chain.shared(), action).jump(target.chain.clone())
        }));
    }
    if targets.len() <= FLAT {
        push_flat(targets, &mut rules);
        return rules;
    }
    let mut left = targets.len();
    for (number, members) in groups(targets) {
        let group = names::group(chain, number);
        let comment = format!("{} -> {} of {} endpoints", chains.text(), members.len(), targets.len());
        let mut rule = commented(comment);
        if members.len() < left {
            rule = rule.matching(Match::Random { probability: share(members.len(), left) });
        }
        left -= members.len();
        rules.push(rule.jump(group.clone()));
        let mut group_rules = Vec::with_capacity(members.len());
        push_flat(&members, &mut group_rules);
        groups_out.push((group, group_rules));
    }
    rules
}

/// Rule *i* of *N* takes `1/(N-i)` of what comes to it; the last takes all.
fn push_flat(targets: &[&Target], rules: &mut Vec<Rule>) {
    for (i, target) in targets.iter().enumerate() {
        let mut rule = commented(target.comment.clone());
        let left = targets.len() - i;
        if left > 1 {
            rule = rule.matching(Match::Random { probability: one_in(left as u64) });
        }
        rules.push(rule.jump(target.chain.clone()));
    }
}

/// Endpoints by group number, groups without endpoints left out, order kept inside a group.
///
/// The number of groups is a power of two near the square root of the number of endpoints, so that choosing the group
/// and choosing the endpoint cost about the same.
fn groups<'a>(targets: &[&'a Target]) -> Vec<(u8, Vec<&'a Target>)> {
    let mut bits = 1;
    while bits < 8 && 2usize << (2 * bits) < targets.len() {
        bits += 1;
    }
    let mut groups: Vec<(u8, Vec<&Target>)> = (0..1u16 << bits).map(|i| (i as u8, Vec::new())).collect();
    for target in targets {
        let number = (stable_hash64(target.text.as_bytes()) >> (64 - bits)) as usize;
        if let Some((_, members)) = groups.get_mut(number) {
            members.push(target);
        }
    }
    groups.retain(|(_, members)| !members.is_empty());
    groups
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
