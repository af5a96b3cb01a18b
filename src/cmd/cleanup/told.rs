//! Why something stays.

use crate::kernel::xtables::encode::rule_text;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{ObservedRule, Reference};
use crate::plan::removal::{Holder, Removal, by_what_they_hold};

/// One line for each thing that rules of others hold: what it is, the rule, and what to do. Chains that stay because such a
/// chain leads to them are counted.
pub fn held(removal: &Removal, variant: Option<Variant>) -> Vec<String> {
    let named = by_what_they_hold(&removal.holders);
    let direct = named.keys().filter(|(chain, _)| chain.as_ref().is_some_and(|c| removal.held.chains.contains(c)));
    let indirect = removal.held.chains.len() - direct.count();
    let mut lines: Vec<String> = named
        .into_iter()
        .map(|((chain, what), (holder, more))| {
            let kind = variant.map(|variant| format!(" of iptables-{variant}")).unwrap_or_default();
            let what = match (chain, what) {
                (Some(chain), _) => format!("the chain {chain}{kind}"),
                (None, Reference::Chain(name)) => format!("the chain {name}{kind}"),
                (None, Reference::Set(name)) => format!("the ipset {name}"),
                (None, Reference::Counter(name)) => format!("the accounting object {name}"),
            };
            let more = match more {
                0 => String::new(),
                1 => " and another one".to_owned(),
                n => format!(" and {n} others"),
            };
            format!("{what} stays, for this rule{kind} is not ours and names it: {}{more}", text(holder))
        })
        .collect();
    if let Some(last) = lines.last_mut().filter(|_| indirect > 0) {
        let chains = if indirect == 1 { "does 1 chain".to_owned() } else { format!("do {indirect} chains") };
        last.push_str(&format!("; and so {chains} that it leads to"));
    }
    if let Some(last) = lines.last_mut() {
        last.push_str("; delete such rules and run this again");
    }
    lines
}

/// `IPv4 nat -A POSTROUTING -s 10.0.0.0/8 -j KUBE-MARK-MASQ`
fn text(holder: &Holder) -> String {
    let chain = &holder.chain;
    let rule = match &holder.rule {
        ObservedRule::Known(rule) => rule_text(chain.family, rule),
        ObservedRule::Verbatim(text) => text.to_string(),
    };
    format!("{} {} -A {} {rule}", chain.family, chain.table, chain.name)
}
