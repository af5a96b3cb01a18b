//! Which chains are ours, told by table and name alone: a proxy that starts knows nothing else (contract 3.1, 3.6,
//! 3.13).

use super::Table;

/// A chain in `filter` that kube-proxy and the kubelet share: made if absent, never flushed, never deleted.
pub const SHARED_FIREWALL: &str = "KUBE-FIREWALL";

/// The chain whose absence tells that somebody flushed the tables.
const CANARY: &str = "KUBE-PROXY-CANARY";

/// Of both modes: who takes a node over in one mode finds what the other left.
const FILTER: [&str; 10] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    CANARY,
    "KUBE-NODE-PORT",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];

const NAT: [&str; 8] = [
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    CANARY,
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "WEIR-EGRESS",
];

const MANGLE: [&str; 3] = [CANARY, "KUBE-IPVS-OUT-FILTER", "KUBE-SOURCE-RANGES-FIREWALL"];

/// Chains of one service port or endpoint, and the inner chains of the dispatch trees.
const PREFIXES: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-FW-", "KUBE-EXT-", "KUBE-SEP-"];

/// Whether the chain is ours to rewrite and delete: kube-proxy's names, which are also weir's.
///
/// Not ours: built-in chains, the kubelet's `KUBE-KUBELET-CANARY`, `KUBE-IPTABLES-HINT` and `KUBE-MARK-DROP`,
/// [`SHARED_FIREWALL`], and everything else.
pub fn is_owned(table: Table, chain: &str) -> bool {
    let has_prefix = || PREFIXES.iter().any(|prefix| chain.len() > prefix.len() && chain.starts_with(prefix));
    match table {
        Table::Mangle => MANGLE.contains(&chain),
        Table::Filter => FILTER.contains(&chain) || has_prefix(),
        Table::Nat => NAT.contains(&chain) || has_prefix(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [Table; 2] = [Table::Filter, Table::Nat];

    #[test]
    fn fixed_names_belong_to_their_tables() {
        let all: [(&str, &[Table]); 8] = [
            ("KUBE-SERVICES", &OURS),
            ("KUBE-NODEPORTS", &OURS),
            ("KUBE-EXTERNAL-SERVICES", &[Table::Filter]),
            ("KUBE-FORWARD", &[Table::Filter]),
            ("KUBE-PROXY-FIREWALL", &[Table::Filter]),
            ("KUBE-POSTROUTING", &[Table::Nat]),
            ("KUBE-MARK-MASQ", &[Table::Nat]),
            ("KUBE-PROXY-CANARY", &Table::ALL),
        ];
        for (name, tables) in all {
            for table in Table::ALL {
                assert_eq!(is_owned(table, name), tables.contains(&table), "{table} {name}");
            }
        }
    }

    #[test]
    fn prefixes_are_ours_in_filter_and_nat() {
        for prefix in PREFIXES {
            let name = format!("{prefix}XPGD46QRK7WJZT7O");
            assert!(is_owned(Table::Nat, &name) && is_owned(Table::Filter, &name), "{name}");
            assert!(!is_owned(Table::Mangle, &name), "{name}");
            assert!(!is_owned(Table::Nat, prefix), "{prefix} alone is nobody's");
        }
    }

    #[test]
    fn j17_foreign_chains_stay() {
        let foreign = [
            "KUBE-FIREWALL",
            "KUBE-KUBELET-CANARY",
            "KUBE-IPTABLES-HINT",
            "KUBE-MARK-DROP",
            "KUBE-NWPLCY-ABC",
            "KUBE-SERVICES-X",
            "kube-svc-x",
            "INPUT",
            "POSTROUTING",
            "CNI-HOSTPORT-DNAT",
            "",
        ];
        for table in Table::ALL {
            for name in foreign {
                assert!(!is_owned(table, name), "{table} {name}");
            }
        }
    }
}
