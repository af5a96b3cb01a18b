//! A comparison of some chains only.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::xtables::ownership::SHARED_FIREWALL;
use crate::kernel::xtables::{ChainKey, ChainName, Changes, ObserveError, Table, Xtables};
use crate::net::Family;
use crate::plan::iptables::Desired;

/// Reads these chains, and compares them with what they should hold, which `wanted` says of all that are read.
pub(super) fn compare_chains(
    xtables: &mut impl Xtables,
    families: &[Family],
    names: &BTreeSet<ChainKey>,
    wanted: impl FnOnce(&BTreeSet<ChainKey>) -> Desired,
) -> Result<Changes, ObserveError> {
    let tables = by_table(names, families);
    let names = tables.iter().flat_map(|((family, table), names)| keys(*family, *table, names)).collect();
    let mut comparison = wanted(&names).compare();
    for ((family, table), names) in &tables {
        xtables.observe_chains(*family, *table, names, &mut |chain| comparison.observed(*family, *table, chain))?;
    }
    Ok(comparison.finish())
}

/// The chains of each table of the families that are planned for. Where a built-in chain may lead to the chain that we
/// share with the kubelet, that one is looked at as well: it is made if it is not there.
fn by_table(names: &BTreeSet<ChainKey>, families: &[Family]) -> BTreeMap<(Family, Table), BTreeSet<ChainName>> {
    let mut tables: BTreeMap<(Family, Table), BTreeSet<ChainName>> = BTreeMap::new();
    for key in names.iter().filter(|key| families.contains(&key.family)) {
        let chains = tables.entry((key.family, key.table)).or_default();
        chains.insert(key.name.clone());
        if key.table == Table::Filter && matches!(key.name.as_str(), "INPUT" | "OUTPUT") {
            chains.insert(ChainName::new(SHARED_FIREWALL));
        }
    }
    tables
}

fn keys(family: Family, table: Table, names: &BTreeSet<ChainName>) -> impl Iterator<Item = ChainKey> + '_ {
    names.iter().map(move |name| ChainKey { family, table, name: name.clone() })
}
