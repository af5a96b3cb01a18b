use super::*;
use crate::kernel::xtables::{Match, Target};

fn key(table: Table, name: &str) -> ChainKey {
    ChainKey { family: Family::V4, table, name: ChainName::new(name) }
}

fn jump(name: &str) -> Rule {
    Rule { target: Some(Target::Jump(ChainName::new(name))), ..Rule::default() }
}

fn comment(text: &str) -> Rule {
    Rule { matches: vec![Match::Comment(text.into())], ..Rule::default() }
}

type Rules = Option<Vec<Rule>>;

fn changes(chains: &[(Table, &str, Rules, Rules)], builtin: Vec<BuiltinChange>) -> Changes {
    let chains = chains.iter().map(|(table, name, before, after)| {
        let before = before.as_ref().map(|rules| rules.iter().cloned().map(ObservedRule::Known).collect());
        (key(*table, name), ChainChange { before, after: after.clone() })
    });
    Changes { chains: chains.collect(), builtin }
}

fn text(changes: &Changes, variant: Variant) -> String {
    scripts(changes, variant).unwrap().iter().map(Script::text).collect()
}

#[test]
fn declare_fill_switch_delete() {
    let changes = changes(
        &[
            (Table::Nat, "KUBE-SERVICES", None, Some(vec![jump("KUBE-SVC-A")])),
            (Table::Nat, "KUBE-SVC-A", None, Some(vec![comment("x")])),
            (Table::Nat, "KUBE-SVC-B", Some(vec![jump("KUBE-SVC-C")]), None),
            (Table::Nat, "KUBE-SVC-C", Some(vec![]), None),
            (Table::Nat, "KUBE-SVC-NEVER", None, None),
        ],
        vec![
            BuiltinChange::Insert(key(Table::Nat, "PREROUTING"), jump("KUBE-SERVICES")),
            BuiltinChange::Delete(key(Table::Nat, "OUTPUT"), jump("KUBE-SVC-B")),
        ],
    );
    let expected = "*nat\n\
        :KUBE-SVC-B - [0:0]\n:KUBE-SVC-C - [0:0]\n:KUBE-SVC-A - [0:0]\n:KUBE-SERVICES - [0:0]\n\
        -A KUBE-SVC-A -m comment --comment x\n-A KUBE-SERVICES -j KUBE-SVC-A\n\
        -I PREROUTING -j KUBE-SERVICES\n-D OUTPUT -j KUBE-SVC-B\n\
        -X KUBE-SVC-B\n-X KUBE-SVC-C\nCOMMIT\n";
    assert_eq!(text(&changes, Variant::Legacy), expected);
    assert_eq!(text(&changes, Variant::Nft), expected);
}

#[test]
fn the_shared_firewall_chain_is_created_and_never_flushed() {
    let shared = key(Table::Filter, "KUBE-FIREWALL");
    let made = changes(
        &[],
        vec![
            BuiltinChange::CreateChain(shared.clone()),
            BuiltinChange::Append(shared.clone(), comment("x")),
            BuiltinChange::Insert(key(Table::Filter, "INPUT"), jump("KUBE-FIREWALL")),
        ],
    );
    let expected =
        "*filter\n-N KUBE-FIREWALL\n-A KUBE-FIREWALL -m comment --comment x\n-I INPUT -j KUBE-FIREWALL\nCOMMIT\n";
    assert_eq!(text(&made, Variant::Nft), expected);
    for name in ["KUBE-FIREWALL", "INPUT", "KUBE-KUBELET-CANARY", "DOCKER"] {
        for after in [Some(vec![]), None] {
            let changes = changes(&[(Table::Filter, name, Some(vec![]), after)], vec![]);
            assert_eq!(scripts(&changes, Variant::Nft), Err(OrderError::NotOurs(key(Table::Filter, name))));
        }
    }
}

#[test]
fn filter_keeps_old_rules_until_nat_has_switched() {
    let changes = changes(
        &[
            (
                Table::Filter,
                "KUBE-SERVICES",
                Some(vec![comment("old"), comment("both")]),
                Some(vec![comment("both"), comment("new")]),
            ),
            (Table::Nat, "KUBE-SERVICES", Some(vec![]), Some(vec![comment("n")])),
            (Table::Mangle, "KUBE-PROXY-CANARY", None, Some(vec![])),
        ],
        vec![],
    );
    assert_eq!(
        text(&changes, Variant::Legacy),
        "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n\
         *filter\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -m comment --comment both\n\
         -A KUBE-SERVICES -m comment --comment new\n-A KUBE-SERVICES -m comment --comment old\nCOMMIT\n\
         *nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -m comment --comment n\nCOMMIT\n\
         *filter\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -m comment --comment both\n\
         -A KUBE-SERVICES -m comment --comment new\nCOMMIT\n"
    );
}

#[test]
fn filter_alone_changes_in_one_step() {
    let changes =
        changes(&[(Table::Filter, "KUBE-SERVICES", Some(vec![comment("old")]), Some(vec![comment("new")]))], vec![]);
    assert_eq!(scripts(&changes, Variant::Legacy).unwrap()[0].sections.len(), 1);
}

/// Table by table, how many sections filter and nat need.
#[test]
fn filter_is_written_no_more_often_than_needed() {
    let nat = (Table::Nat, "KUBE-SERVICES", None, Some(vec![comment("n")]));
    let filter = |before: Rules, after: Rules| (Table::Filter, "KUBE-SERVICES", before, after);
    let (a, b) = (comment("a"), comment("b"));
    for (what, chain, tables) in [
        ("added", filter(Some(vec![a.clone()]), Some(vec![a.clone(), b.clone()])), vec![Table::Filter, Table::Nat]),
        ("removed", filter(Some(vec![a.clone(), b.clone()]), Some(vec![a.clone()])), vec![Table::Nat, Table::Filter]),
        (
            "removed before others",
            filter(Some(vec![a.clone(), b.clone()]), Some(vec![b.clone()])),
            vec![Table::Nat, Table::Filter],
        ),
        ("deleted", filter(Some(vec![a.clone()]), None), vec![Table::Nat, Table::Filter]),
        ("replaced", filter(Some(vec![a]), Some(vec![b])), vec![Table::Filter, Table::Nat, Table::Filter]),
    ] {
        let changes = changes(&[nat.clone(), chain], vec![]);
        let found = scripts(&changes, Variant::Legacy).unwrap();
        assert_eq!(found[0].sections.iter().map(|s| s.table).collect::<Vec<_>>(), tables, "{what}");
    }
}

#[test]
fn old_jumps_keep_their_targets_until_the_end() {
    let changes = changes(
        &[
            (Table::Filter, "KUBE-SERVICES", Some(vec![jump("KUBE-SVC-OLD")]), Some(vec![comment("new")])),
            (Table::Filter, "KUBE-SVC-OLD", Some(vec![comment("o")]), None),
            (Table::Nat, "KUBE-SERVICES", None, Some(vec![])),
        ],
        vec![BuiltinChange::Delete(key(Table::Filter, "INPUT"), jump("KUBE-SVC-OLD"))],
    );
    let found = scripts(&changes, Variant::Legacy).unwrap();
    let [first, _, last] = &found[0].sections[..] else { panic!("{found:?}") };
    assert!(first.delete.is_empty() && first.builtin.is_empty() && first.fill.len() == 2);
    assert!(last.delete.len() == 1 && last.builtin.len() == 1 && last.fill.len() == 1);
}

#[test]
fn when_old_and_new_jumps_loop_the_new_ones_must_do() {
    let changes = changes(
        &[
            (Table::Filter, "KUBE-SVC-A", Some(vec![jump("KUBE-SVC-B")]), Some(vec![])),
            (Table::Filter, "KUBE-SVC-B", Some(vec![]), Some(vec![jump("KUBE-SVC-A")])),
            (Table::Nat, "KUBE-SERVICES", None, Some(vec![])),
        ],
        vec![],
    );
    let found = scripts(&changes, Variant::Legacy).unwrap();
    assert_eq!(found[0].sections.iter().map(|s| s.table).collect::<Vec<_>>(), [Table::Filter, Table::Nat]);
}

#[test]
fn mistakes_are_named() {
    let services = |rules| changes(&[(Table::Nat, "KUBE-SERVICES", None, Some(rules))], vec![]);
    let at = key(Table::Nat, "KUBE-SERVICES");
    assert_eq!(scripts(&services(vec![jump("KUBE-SERVICES")]), Variant::Nft), Err(OrderError::Loop(at.clone())));
    for text in ["a\n-F", "\0", &"x".repeat(256)] {
        let changes = services(vec![comment(text)]);
        let found = scripts(&changes, Variant::Nft);
        assert!(matches!(found, Err(OrderError::Unwritable { chain, .. }) if chain == at), "{text:?}");
    }
    for name in ["KUBE-SVC-A -F", "KUBE-SVC-A\n-F", "KUBE-SVC-\"A"] {
        let changes = changes(&[(Table::Nat, name, None, Some(vec![]))], vec![]);
        assert!(matches!(scripts(&changes, Variant::Nft), Err(OrderError::Unwritable { .. })), "{name:?}");
    }
    let deleted = changes(&[], vec![BuiltinChange::Delete(key(Table::Nat, "OUTPUT"), comment("a\n-F"))]);
    assert!(matches!(scripts(&deleted, Variant::Nft), Err(OrderError::Unwritable { .. })));
    let mut dangling = services(vec![jump("KUBE-SVC-A")]);
    dangling.chains.insert(key(Table::Nat, "KUBE-SVC-A"), ChainChange { before: Some(vec![]), after: None });
    assert!(matches!(scripts(&dangling, Variant::Nft), Err(OrderError::JumpToDeleted { chain, .. }) if chain == at));
}

/// 2,500 services with a chain each, and the dispatch chain.
fn many(count: usize) -> Changes {
    let name = |i: usize| format!("KUBE-SVC-{i:05}");
    let mut changes = changes(
        &[(Table::Nat, "KUBE-SERVICES", None, Some((0..count).map(|i| jump(&name(i))).collect()))],
        vec![BuiltinChange::Insert(key(Table::Nat, "OUTPUT"), jump("KUBE-SERVICES"))],
    );
    for i in 0..count {
        let change = ChainChange { before: None, after: Some(vec![comment("x")]) };
        changes.chains.insert(key(Table::Nat, &name(i)), change);
    }
    changes
}

#[test]
fn large_changes_through_nft_are_cut_leaves_first() {
    let add = many(2_500);
    let found = scripts(&add, Variant::Nft).unwrap();
    let sizes: Vec<usize> = found[0].sections.iter().map(|s| s.fill.len()).collect();
    assert_eq!(sizes, [250, 250, 250, 250, 250, 250, 250, 250, 250, 250, 1]);
    let last = found[0].sections.last().unwrap();
    assert_eq!(last.fill.last().unwrap().chain.as_str(), "KUBE-SERVICES");
    assert_eq!(last.builtin.len(), 1);
    assert_eq!(scripts(&add, Variant::Legacy).unwrap()[0].sections.len(), 1);

    let mut remove = add.clone();
    for change in remove.chains.values_mut() {
        *change = ChainChange { before: Some(vec![]), after: None };
    }
    remove.builtin = vec![BuiltinChange::Delete(key(Table::Nat, "OUTPUT"), jump("KUBE-SERVICES"))];
    let found = scripts(&remove, Variant::Nft).unwrap();
    let shape: Vec<_> = found[0].sections.iter().map(|s| (s.builtin.len(), s.empty.len(), s.delete.len())).collect();
    assert_eq!(shape.first(), Some(&(1, 0, 0)));
    let (empty, delete) = shape.split_at(12);
    assert!(empty.iter().skip(1).all(|s| s.1 > 0 && s.2 == 0), "all are emptied before the first goes: {empty:?}");
    assert!(delete.iter().all(|s| s.1 == 0 && s.2 > 0), "{delete:?}");
    assert_eq!((empty.iter().map(|s| s.1).sum::<usize>(), delete.iter().map(|s| s.2).sum()), (2_501, 2_501));

    let small = many(999);
    assert_eq!(scripts(&small, Variant::Nft).unwrap()[0].sections.len(), 1, "one COMMIT, atomic");
}

#[test]
fn small_changes_through_nft_are_one_commit() {
    assert_eq!(scripts(&many(999), Variant::Nft).unwrap()[0].sections.len(), 1);
}

#[test]
fn the_text_in_pieces_is_the_text() {
    let changes = many(2_000);
    for script in scripts(&changes, Variant::Nft).unwrap() {
        let mut written = Vec::new();
        script.write_to(&mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), script.text());
    }
}
