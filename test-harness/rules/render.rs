//! Rules as text for people: chain after chain in the order in which a packet may meet them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use weir::kernel::xtables::encode::rule_text;
use weir::kernel::xtables::order::scripts;
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{ChainName, Changes, ObservedRule, Rule, Table, Target};
use weir::net::Family;
use weir::sim::SimKernel;

const BUILTIN: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

type Chains = BTreeMap<ChainName, Vec<ObservedRule>>;

/// The chains of a family that are not as in `base`; `None` if there are none. Built-in chains without rules say nothing.
pub fn rules(kernel: &SimKernel, family: Family, base: Option<&SimKernel>) -> Option<String> {
    let mut out = String::new();
    for table in Table::ALL {
        let chains = kernel.chains(family, table);
        let base = base.map(|base| base.chains(family, table)).unwrap_or_default();
        let says_something = |name: &ChainName| {
            let empty_builtin = BUILTIN.contains(&name.as_str()) && chains.get(name).is_some_and(Vec::is_empty);
            base.get(name) != chains.get(name) && !(base.is_empty() && empty_builtin)
        };
        let shown: Vec<&ChainName> = reading_order(&chains).into_iter().filter(|name| says_something(name)).collect();
        if shown.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n*{table}");
        for name in shown {
            out.push_str(&chain(family, name, &chains[name]));
        }
        out.push_str("COMMIT\n");
    }
    (!out.is_empty()).then_some(out)
}

/// `-A` lines under a blank line; a chain without rules is one `:` line.
fn chain(family: Family, name: &ChainName, rules: &[ObservedRule]) -> String {
    let mut out = "\n".to_owned();
    if rules.is_empty() {
        let policy = if BUILTIN.contains(&name.as_str()) { "ACCEPT" } else { "-" };
        let _ = writeln!(out, ":{name} {policy} [0:0]");
    }
    for rule in rules {
        let text = match rule {
            ObservedRule::Known(rule) => rule_text(family, rule),
            ObservedRule::Verbatim(text) => text.to_string(),
        };
        let _ = writeln!(out, "-A {name} {text}");
    }
    out
}

/// Built-in chains, then each chain where a rule first leads to it, then what nothing leads to.
fn reading_order(chains: &Chains) -> Vec<&ChainName> {
    let builtin = BUILTIN.iter().map(|name| ChainName::new(*name));
    let mut order: Vec<&ChainName> =
        builtin.filter_map(|name| chains.get_key_value(&name).map(|(name, _)| name)).collect();
    let mut seen: BTreeSet<&ChainName> = order.iter().copied().collect();
    for root in order.clone() {
        follow(chains, root, &mut seen, &mut order);
    }
    order.extend(chains.keys().filter(|name| !seen.contains(name)));
    order
}

fn follow<'a>(
    chains: &'a Chains,
    from: &ChainName,
    seen: &mut BTreeSet<&'a ChainName>,
    order: &mut Vec<&'a ChainName>,
) {
    for rule in chains.get(from).into_iter().flatten() {
        if let ObservedRule::Known(Rule { target: Some(Target::Jump(to) | Target::Goto(to)), .. }) = rule
            && let Some((to, _)) = chains.get_key_value(to)
            && seen.insert(to)
        {
            order.push(to);
            follow(chains, to, seen, order);
        }
    }
}

/// The restore input that makes the changes. Both variants send the same; only large changes are cut differently.
pub fn restore(changes: &Changes) -> String {
    let text = |variant| {
        let mut out = String::new();
        for script in scripts(changes, variant).unwrap() {
            let tool = if script.family == Family::V4 { "iptables" } else { "ip6tables" };
            let _ = write!(out, "\n# {tool}-restore --noflush\n{}", script.text());
        }
        out
    };
    assert_eq!(text(Variant::Legacy), text(Variant::Nft));
    match text(Variant::Nft) {
        text if text.is_empty() => "\n# Nothing changes.\n".to_owned(),
        text => text,
    }
}
