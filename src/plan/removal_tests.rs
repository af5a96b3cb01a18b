//! What goes and what stays, case by case.

use super::*;
use crate::kernel::xtables::decode::read_scattered;

const OUR_COUNTER: &str = "ct_state_invalid_dropped_pkts";

/// What goes of these tables, as `iptables-save` prints them.
fn removal(saved: &str) -> Removal {
    let mut search = Search::new(|name| name == OUR_COUNTER);
    let show = &mut |table, chain| search.observed(Family::V4, table, chain);
    read_scattered(Family::V4, &mut saved.as_bytes(), show).unwrap();
    search.finish()
}

/// `nat KUBE-SERVICES`
fn short(key: &ChainKey) -> String {
    format!("{} {}", key.table, key.name)
}

fn gone(removal: &Removal) -> Vec<String> {
    assert!(removal.changes.chains.values().all(|change| change.after.is_none()), "{removal:?}");
    removal.changes.chains.keys().map(short).collect()
}

fn jumps(removal: &Removal) -> usize {
    let deleted = |change: &&BuiltinChange| matches!(change, BuiltinChange::Delete(..));
    assert_eq!(removal.changes.builtin.iter().filter(deleted).count(), removal.changes.builtin.len());
    removal.changes.builtin.len()
}

const NAT: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n\
                   :KUBE-SVC-XPGD46QRK7WJZT7O - [0:0]\n:KUBE-SEP-SXIVWICOYRO3J4NJ - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n\
                   :KUBE-KUBELET-CANARY - [0:0]\n:CNI - [0:0]\n\
                   -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n";

const RULES: &str = "-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-XPGD46QRK7WJZT7O\n\
                     -A KUBE-SVC-XPGD46QRK7WJZT7O -j KUBE-SEP-SXIVWICOYRO3J4NJ\n\
                     -A KUBE-SEP-SXIVWICOYRO3J4NJ -s 10.244.0.1/32 -j KUBE-MARK-MASQ\n\
                     -A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n";

/// Rules of others in nat, which chains of ours they hold, and which go nevertheless.
#[test]
fn j17_rules_of_others_hold_what_they_lead_to() {
    let all = ["KUBE-MARK-MASQ", "KUBE-SEP-SXIVWICOYRO3J4NJ", "KUBE-SERVICES", "KUBE-SVC-XPGD46QRK7WJZT7O"];
    let cases: [(&str, &[&str]); 9] = [
        ("", &[]),
        ("-A CNI -j ACCEPT\n-A PREROUTING -j CNI\n", &[]),
        ("-A POSTROUTING -s 10.9.0.0/16 -j KUBE-MARK-MASQ\n", &["KUBE-MARK-MASQ"]),
        ("-A CNI -g KUBE-MARK-MASQ\n", &["KUBE-MARK-MASQ"]),
        ("-A CNI -m odd --what -j KUBE-MARK-MASQ\n", &["KUBE-MARK-MASQ"]),
        ("-A PREROUTING -j KUBE-MARK-MASQ\n", &["KUBE-MARK-MASQ"]),
        (
            "-A CNI -m comment --comment \"kubernetes service portals\" -j KUBE-SVC-XPGD46QRK7WJZT7O\n",
            &["KUBE-MARK-MASQ", "KUBE-SEP-SXIVWICOYRO3J4NJ", "KUBE-SVC-XPGD46QRK7WJZT7O"],
        ),
        ("-A PREROUTING -i eth9 -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n", &all),
        ("-A CNI -m comment --comment \"not -j KUBE-SERVICES\" -j LOG\n", &[]),
    ];
    for (others, held) in cases {
        let removal = removal(&format!("{NAT}{RULES}{others}COMMIT\n"));
        let stays: Vec<&str> = removal.held.chains.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(stays, held, "{others}");
        let goes: Vec<String> =
            all.iter().filter(|name| !held.contains(name)).map(|name| format!("nat {name}")).collect();
        assert_eq!(gone(&removal), goes, "{others}");
        assert_eq!(jumps(&removal), 1, "{others}: our own jump, whatever is held");
        assert_eq!(removal.holders.is_empty(), held.is_empty(), "{others}");
    }
}

#[test]
fn sets_and_counters_are_held_by_rules_and_by_chains_that_stay() {
    let saved = "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FORWARD - [0:0]\n:KUBE-IPVS-FILTER - [0:0]\n:ADMIN - [0:0]\n\
                 -A ADMIN -m set --match-set KUBE-CLUSTER-IP dst,dst -j DROP\n\
                 -A ADMIN -m set --match-set blocklist src -j DROP\n\
                 -A INPUT -m nfacct --nfacct-name mine\n\
                 -A INPUT -s 10.0.0.0/8 -j KUBE-FORWARD\n\
                 -A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP\n\
                 -A KUBE-IPVS-FILTER -m set --match-set KUBE-IPVS-IPS dst -j REJECT\nCOMMIT\n";
    let removal = removal(saved);
    assert_eq!(gone(&removal), ["filter KUBE-IPVS-FILTER"]);
    assert_eq!(removal.held.chains.iter().map(short).collect::<Vec<_>>(), ["filter KUBE-FORWARD"]);
    assert_eq!(removal.held.sets, BTreeSet::from(["KUBE-CLUSTER-IP".into()]));
    assert_eq!(removal.held.counters, BTreeSet::from([OUR_COUNTER.into()]));
    let shown: Vec<_> = removal.holders.iter().map(|holder| (short(&holder.chain), holder.holds.clone())).collect();
    assert_eq!(
        shown,
        [
            ("filter ADMIN".to_owned(), Reference::Set("KUBE-CLUSTER-IP".into())),
            ("filter INPUT".to_owned(), Reference::Chain("KUBE-FORWARD".into())),
        ]
    );
}

/// A chain of the same name in another table is another chain.
#[test]
fn a_rule_holds_a_chain_of_its_own_table() {
    let filter = "*filter\n:KUBE-SERVICES - [0:0]\n:ADMIN - [0:0]\n-A ADMIN -j KUBE-SERVICES\nCOMMIT\n";
    let removal = removal(&format!("{NAT}COMMIT\n{filter}"));
    assert_eq!(removal.held.chains.iter().map(short).collect::<Vec<_>>(), ["filter KUBE-SERVICES"]);
    assert!(gone(&removal).contains(&"nat KUBE-SERVICES".to_owned()));
}

#[test]
fn what_is_named_by_several_is_told_once() {
    let rules = "-A CNI -j KUBE-MARK-MASQ\n-A CNI -s 10.0.0.0/8 -j KUBE-MARK-MASQ\n-A CNI -j KUBE-SERVICES\n";
    let removal = removal(&format!("{NAT}{rules}COMMIT\n"));
    let told = by_what_they_hold(&removal.holders);
    let told: Vec<_> = told.values().map(|(holder, more)| (holder.holds.clone(), *more)).collect();
    let chain = |name: &str| Reference::Chain(name.into());
    assert_eq!(told, [(chain("KUBE-MARK-MASQ"), 1), (chain("KUBE-SERVICES"), 0)]);
}

/// The jumps of both modes as they are made, and what only looks like them.
#[test]
fn whose_jump_it_is_shows_in_all_of_it() {
    use crate::model::Settings;
    use crate::plan::{iptables, ipvs};
    let settings = Settings::default();
    let mut made = 0;
    for family in Family::ALL {
        let all = iptables::builtin_rules(&settings, family).into_iter().chain(ipvs::builtin_rules(&settings, family));
        for jump in all.filter(|rule| is_owned_target(rule.chain.table, &rule.rule)) {
            assert!(is_our_jump(jump.chain.table, &jump.rule.clone().into()), "{jump:?}");
            made += 1;
            let with_source = Rule {
                in_interface: Some(crate::kernel::xtables::InterfaceMatch { invert: false, name: "eth0".into() }),
                ..jump.rule.clone()
            };
            assert!(!is_our_jump(jump.chain.table, &with_source.into()));
            let without_comment = Rule { matches: Vec::new(), ..jump.rule };
            assert!(!is_our_jump(jump.chain.table, &without_comment.into()));
        }
    }
    assert_eq!(made, 2 * (12 + 9), "of KUBE-FIREWALL nobody's jump goes");
    let foreign = Rule {
        matches: vec![Match::Comment("mine".into())],
        target: Some(Target::Jump(ChainName::new("KUBE-SERVICES"))),
        ..Rule::default()
    };
    assert!(!is_our_jump(Table::Nat, &foreign.into()));
}

fn is_owned_target(table: Table, rule: &Rule) -> bool {
    matches!(&rule.target, Some(Target::Jump(to)) if is_owned(table, to.as_str()))
}
