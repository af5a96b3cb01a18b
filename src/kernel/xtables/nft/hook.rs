//! The built-in chains of iptables as nf_tables knows them: base chains on a hook, with upper-case names
//! (uapi `linux/netfilter.h`, `linux/netfilter_ipv4.h`).

use crate::kernel::xtables::Table;

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `NF_INET_*`
    pub number: u32,
    /// `NF_IP_PRI_*`; the same in IPv6.
    pub priority: i32,
    /// The type of chain.
    pub kind: &'static str,
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

const MANGLE: i32 = -150;
const DNAT: i32 = -100;
const FILTER: i32 = 0;
const SNAT: i32 = 100;

/// The hook of a built-in chain; `None` if iptables has no built-in chain of that name in the table.
pub fn hook(table: Table, chain: &str) -> Option<Hook> {
    let number = match chain {
        "PREROUTING" => PREROUTING,
        "INPUT" => INPUT,
        "FORWARD" => FORWARD,
        "OUTPUT" => OUTPUT,
        "POSTROUTING" => POSTROUTING,
        _ => return None,
    };
    let (priority, kind) = match (table, number) {
        (Table::Nat, PREROUTING | OUTPUT) => (DNAT, "nat"),
        (Table::Nat, INPUT | POSTROUTING) => (SNAT, "nat"),
        (Table::Filter, INPUT | FORWARD | OUTPUT) => (FILTER, "filter"),
        (Table::Mangle, OUTPUT) => (MANGLE, "route"),
        (Table::Mangle, _) => (MANGLE, "filter"),
        _ => return None,
    };
    Some(Hook { number, priority, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_the_chains_of_iptables() {
        let chains = |table| {
            let all = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "KUBE-SERVICES", "output"];
            all.into_iter().filter(|chain| hook(table, chain).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(chains(Table::Nat), ["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]);
        assert_eq!(chains(Table::Filter), ["INPUT", "FORWARD", "OUTPUT"]);
        assert_eq!(chains(Table::Mangle), ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]);
    }

    #[test]
    fn a_route_chain_sees_marks_before_routing() {
        assert_eq!(hook(Table::Mangle, "OUTPUT"), Some(Hook { number: 3, priority: -150, kind: "route" }));
    }
}
