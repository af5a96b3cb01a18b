//! Node egress: what local pods send out of the cluster leaves with the node's address. Off unless it is asked for, the
//! same in every mode.
//!
//! One rule for each family, which looks the destination up in a set of networks that are not masqueraded. Another list
//! of networks changes entries of the set and no rule. The source must be told by a network: in POSTROUTING a packet no
//! longer has the interface that it came in by, and marking it earlier would let it through `KUBE-FORWARD`, whatever an
//! administrator's rules say.

use crate::kernel::ipset::{Entries, Entry, SetName, SetSpec, SetType};
use crate::kernel::xtables::{ChainKey, ChainName, Direction, Rule, Table, Target};
use crate::model::{LocalDetector, Settings};
use crate::net::Family;
use crate::plan::build::{Build, commented};
use crate::plan::iptables::{BuiltinRule, Place};

/// The chain in nat that masquerades.
pub const CHAIN: &str = "WEIR-EGRESS";

/// The set of networks to which pods' addresses are kept.
pub fn set_name(family: Family) -> SetName {
    SetName::new(match family {
        Family::V4 => "WEIR-NON-MASQUERADE",
        Family::V6 => "WEIR-6-NON-MASQUERADE",
    })
}

/// What that set is.
pub fn set_spec(family: Family) -> SetSpec {
    SetSpec { set_type: SetType::HashNet, family, comments: false }
}

/// The set with what is in it, if egress is masqueraded.
pub fn set(settings: &Settings, family: Family) -> Option<(SetName, SetSpec, Entries)> {
    let egress = settings.egress.as_ref()?;
    let entries = egress.non_masquerade.get(family).iter().map(|net| (Entry::Net(*net), None)).collect();
    Some((set_name(family), set_spec(family), entries))
}

/// The chain, if egress is masqueraded.
pub fn chain(settings: &Settings, family: Family) -> Option<(Table, ChainName, Vec<Rule>)> {
    settings.egress.as_ref()?;
    let detector @ LocalDetector::Cidr(_) = settings.detector.get(family) else { return None };
    let rule = commented("pods reach what is outside of the cluster with the node's address")
        .detected(detector, true)?
        .in_set(true, set_name(family), [Direction::Destination])
        .destination_elsewhere()
        .target(Target::Masquerade { random_fully: settings.random_fully });
    Some((Table::Nat, ChainName::new(CHAIN), vec![rule]))
}

/// The jump to the chain, if there is one.
pub fn jump(settings: &Settings, family: Family) -> Option<BuiltinRule> {
    let (table, name, _) = chain(settings, family)?;
    let postrouting = ChainKey { family, table, name: ChainName::new("POSTROUTING") };
    let rule = commented("weir masquerades what pods send out of the cluster").jump(name);
    Some(BuiltinRule { chain: postrouting, rule, place: Place::Tail })
}
