//! The choice between the variants: pure, from what was found on the host.

use std::fmt;

use super::Variant;

/// What was found on a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub nft: Found,
    pub legacy: Found,
    /// The variant of plain `iptables`.
    pub plain: Option<Variant>,
}

/// What was found of one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub installed: bool,
    /// The kubelet left `KUBE-IPTABLES-HINT` or `KUBE-KUBELET-CANARY` in its `mangle` table.
    pub kubelet: bool,
    /// Rules in all tables of both families.
    pub rules: usize,
}

impl Evidence {
    pub fn of(&self, variant: Variant) -> &Found {
        match variant {
            Variant::Nft => &self.nft,
            Variant::Legacy => &self.legacy,
        }
    }
}

/// Why a variant was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Forced,
    Kubelet,
    MoreRules { rules: usize, other: usize },
    Plain,
    OnlyOne,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Forced => f.write_str("it was asked for"),
            Reason::Kubelet => f.write_str("the kubelet's chains are there"),
            Reason::MoreRules { rules, other } => write!(f, "it holds {rules} rules, the other variant {other}"),
            Reason::Plain => f.write_str("`iptables` is of this variant"),
            Reason::OnlyOne => f.write_str("no other is installed"),
        }
    }
}

/// A variant and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub variant: Variant,
    pub reason: Reason,
}

/// Chooses as the ecosystem does: the kubelet's traces, nf_tables first; then whichever holds more rules; then what
/// plain `iptables` is; then what is there. `None` if nothing is installed.
pub fn choose(evidence: &Evidence) -> Option<Choice> {
    let installed = |variant: &Variant| evidence.of(*variant).installed;
    let choice = |variant, reason| Some(Choice { variant, reason });
    if let Some(variant) = [Variant::Nft, Variant::Legacy].into_iter().find(|v| installed(v) && evidence.of(*v).kubelet)
    {
        return choice(variant, Reason::Kubelet);
    }
    let (nft, legacy) = (evidence.nft.rules, evidence.legacy.rules);
    if evidence.nft.installed && nft > legacy {
        return choice(Variant::Nft, Reason::MoreRules { rules: nft, other: legacy });
    }
    if evidence.legacy.installed && legacy > nft {
        return choice(Variant::Legacy, Reason::MoreRules { rules: legacy, other: nft });
    }
    if let Some(variant) = evidence.plain.filter(installed) {
        return choice(variant, Reason::Plain);
    }
    choice([Variant::Nft, Variant::Legacy].into_iter().find(installed)?, Reason::OnlyOne)
}
