use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::kernel::netlink::Batch;
use crate::kernel::netlink::nfnetlink::{Subsystem, header, message_type};
use crate::kernel::watch::Write;
use crate::kernel::watch::own::Unseen;
use crate::kernel::xtables::ownership::SHARED_FIREWALL;
use crate::kernel::xtables::{ChainKey, ChainName, Scope, Table};

const PORT: u32 = 77;
const CULPRIT: u32 = 4711;

fn both() -> PerFamily<bool> {
    PerFamily::new(|_| true)
}

fn following(families: PerFamily<bool>) -> Following {
    let own = OwnWrites::new();
    own.port(PORT);
    let (ledger, touched) = (Ledger::new(10), Touched::new(families));
    Following { own, ledger, touched, found: None, recheck: false }
}

/// Attributes that are texts, in a message of this command.
fn message(command: u8, family: Option<Family>, texts: &[(u16, &str)]) -> Vec<u8> {
    let mut batch = Batch::new("test");
    batch.message(message_type(Subsystem::NfTables, command), 0, |body| {
        body.raw(&header(family, 0));
        for (kind, text) in texts {
            body.put_text(*kind, text);
        }
    });
    batch.bytes().to_vec()
}

fn generation_message(id: u32) -> Vec<u8> {
    let mut batch = Batch::new("test");
    batch.message(message_type(Subsystem::NfTables, 15), 0, |body| {
        body.raw(&header(None, 0)).put_u32_be(1, id).put_u32_be(2, CULPRIT).put_text(3, "iptables");
    });
    batch.bytes().to_vec()
}

fn rule(family: Family, table: &str, chain: &str) -> Vec<u8> {
    message(6, Some(family), &[(1, table), (2, chain)])
}

impl Following {
    fn feed(&mut self, bytes: &[u8], port: u32) {
        let message = Message {
            kind: u16::from_ne_bytes([bytes[4], bytes[5]]),
            flags: 0,
            sequence: 0,
            port,
            payload: &bytes[16..],
        };
        self.take(&message, &mut None);
    }

    /// A commit by somebody; what was found by its end.
    fn commit(&mut self, messages: &[Vec<u8>], port: u32, id: u32) -> Option<Suspicion> {
        messages.iter().for_each(|message| self.feed(message, port));
        assert_eq!(self.found, None, "nothing is told before the end");
        self.feed(&generation_message(id), port);
        self.found.take()
    }
}

fn chains(keys: &[(Family, Table, &str)]) -> Option<Suspicion> {
    let key = |(family, table, name): &(Family, Table, &str)| ChainKey {
        family: *family,
        table: *table,
        name: ChainName::new(*name),
    };
    Some(Suspicion { scope: Scope::Chains(keys.iter().map(key).collect()), by: BTreeSet::from([culprit()]) })
}

fn everything() -> Option<Suspicion> {
    Some(Suspicion { scope: Scope::All, by: BTreeSet::from([culprit()]) })
}

fn culprit() -> Culprit {
    Culprit { pid: CULPRIT, name: "iptables".into() }
}

#[test]
fn only_our_chains_and_built_in_ones_matter() {
    use Family::{V4, V6};
    use Table::{Filter, Mangle, Nat};
    for (family, table, chain, matters) in [
        (V4, Nat, "KUBE-SERVICES", true),
        (V6, Nat, "KUBE-SVC-XPGD46QRK7WJZT7O", true),
        (V4, Filter, "KUBE-FORWARD", true),
        (V4, Filter, SHARED_FIREWALL, true),
        (V4, Nat, SHARED_FIREWALL, false),
        (V4, Mangle, "KUBE-PROXY-CANARY", true),
        (V4, Mangle, "KUBE-KUBELET-CANARY", false),
        (V4, Nat, "POSTROUTING", true),
        (V6, Filter, "FORWARD", true),
        (V4, Nat, "CNI-HOSTPORT-DNAT", false),
        (V4, Filter, "KUBE-NWPLCY-ABC", false),
        (V4, Nat, "KUBE-FORWARD", false),
    ] {
        for command in [3, 5, 6, 8, 27, 28] {
            let name = if [6, 8, 28].contains(&command) { 2 } else { 3 };
            let message = message(command, Some(family), &[(1, table.as_str()), (name, chain)]);
            let found = following(both()).commit(&[message], 1, 11);
            let expected = if matters { chains(&[(family, table, chain)]) } else { None };
            assert_eq!(found, expected, "{family} {table} {chain}, command {command}");
        }
    }
}

#[test]
fn other_tables_and_families_do_not_matter() {
    let only_v4 = PerFamily::new(|family| family == Family::V4);
    let mut following = following(only_v4);
    let messages = [
        rule(Family::V4, "raw", "PREROUTING"),
        rule(Family::V4, "kube-proxy", "KUBE-SERVICES"),
        rule(Family::V6, "nat", "KUBE-SERVICES"),
        message(2, Some(Family::V6), &[(1, "nat")]),
        message(2, Some(Family::V4), &[(1, "raw")]),
        // inet
        message(6, None, &[(1, "nat"), (2, "KUBE-SERVICES")]),
        message(2, None, &[(1, "nat")]),
        // A set, and a rule of no chain.
        message(9, Some(Family::V4), &[(1, "nat"), (2, "KUBE-SERVICES")]),
        message(6, Some(Family::V4), &[(1, "nat")]),
    ];
    assert_eq!(following.commit(&messages, 1, 11), None);
}

#[test]
fn a_table_is_everything() {
    for command in [0, 2, 26] {
        let messages = [
            rule(Family::V4, "nat", "KUBE-SERVICES"),
            message(command, Some(Family::V4), &[(1, "nat")]),
            rule(Family::V4, "nat", "POSTROUTING"),
        ];
        assert_eq!(following(both()).commit(&messages, 1, 11), everything(), "command {command}");
    }
}

#[test]
fn chains_of_a_commit_are_told_together_and_many_as_everything() {
    let mut following = following(both());
    let messages = [
        rule(Family::V4, "nat", "KUBE-SERVICES"),
        rule(Family::V4, "nat", "KUBE-SERVICES"),
        rule(Family::V6, "filter", "INPUT"),
        rule(Family::V4, "nat", "KUBE-SERVICES"),
    ];
    let expected = chains(&[(Family::V4, Table::Nat, "KUBE-SERVICES"), (Family::V6, Table::Filter, "INPUT")]);
    assert_eq!(following.commit(&messages, 1, 11), expected);
    assert_eq!(following.commit(&[], 1, 12), None, "the next commit begins anew");
    let many: Vec<Vec<u8>> = (0..5000).map(|number| rule(Family::V4, "nat", &format!("KUBE-SVC-{number}"))).collect();
    assert_eq!(following.commit(&many, 1, 13), everything());
    let long = format!("KUBE-SVC-{}", "X".repeat(40));
    assert_eq!(following.commit(&[rule(Family::V4, "nat", &long)], 1, 14), everything());
}

#[test]
fn our_own_commits_are_silent() {
    let mut following = following(both());
    let messages = [rule(Family::V4, "nat", "KUBE-SERVICES"), message(2, Some(Family::V4), &[(1, "nat")])];
    assert_eq!(following.commit(&messages, PORT, 11), None);
    assert_eq!(following.commit(&messages[..1], 1, 12), chains(&[(Family::V4, Table::Nat, "KUBE-SERVICES")]));
}

#[test]
fn a_commit_that_was_not_announced_is_anything() {
    let mut following = following(both());
    let foreign = [rule(Family::V4, "nat", "CNI-X")];
    assert_eq!(following.commit(&foreign, 1, 11), None);
    assert_eq!(following.commit(&foreign, 1, 13), Some(Suspicion::anything()));
    assert_eq!(following.commit(&foreign, 1, 14), None);
}

#[test]
fn unseen_commits_of_ours_explain_a_gap() {
    struct Nothing;
    impl Eyes for Nothing {
        fn close(&mut self) {}
        fn open(&mut self) {}
    }
    for (made, missing) in [(&[11, 12][..], false), (&[11], true), (&[12], true), (&[], true)] {
        let mut following = following(both());
        following.own.attach(Box::new(Nothing));
        let writing = following.own.begin(Write::Large);
        made.iter().for_each(|generation| writing.made(*generation));
        drop(writing);
        let expected = missing.then(Suspicion::anything);
        assert_eq!(following.commit(&[], 1, 13), expected, "{made:?}");
        assert!(following.recheck, "the generation in force is still to be asked for");
    }
}

/// What came before an announced commit is explained also if the next write has begun.
#[test]
fn a_gap_is_explained_while_we_write_on() {
    struct Nothing;
    impl Eyes for Nothing {
        fn close(&mut self) {}
        fn open(&mut self) {}
    }
    for kind in [Write::Large, Write::ByTool] {
        let mut following = following(both());
        following.own.attach(Box::new(Nothing));
        following.own.begin(kind).made(11);
        let _next = following.own.begin(Write::Large);
        assert_eq!(following.commit(&[], PORT, 12), None, "{kind:?}");
    }
}

fn unseen(generations: &[u32]) -> Unseen {
    Unseen { generations: generations.iter().copied().collect(), by_tool: false }
}

#[test]
fn the_ledger_finds_what_is_missing() {
    let mut ledger = Ledger::new(10);
    assert!(!ledger.stands(10) && !ledger.announced(11));
    ledger.unseen(unseen(&[12, 13]));
    assert!(!ledger.stands(13));
    ledger.unseen(unseen(&[14, 16]));
    assert!(ledger.stands(16), "15");
    assert!(!ledger.stands(16), "told once");
    ledger.unseen(Unseen { by_tool: true, ..unseen(&[]) });
    assert!(!ledger.stands(1000));
    assert!(ledger.stands(1001), "the tool's time is over");
    assert!(!ledger.announced(500), "late");
    assert!(ledger.stands(3_000_000));
}

#[test]
fn generations_wrap_around_without_zero() {
    let mut ledger = Ledger::new(u32::MAX - 1);
    assert!(!ledger.announced(u32::MAX));
    assert!(!ledger.announced(1), "0 is no generation");
    let mut ledger = Ledger::new(u32::MAX);
    assert!(ledger.stands(2));
}

#[test]
fn a_glance_waits_for_announcements_under_way() {
    let mut ledger = Ledger::new(10);
    assert!(!ledger.glance(10) && !ledger.glance(11) && !ledger.glance(11));
    assert!(!ledger.announced(11));
    assert!(!ledger.glance(12) && !ledger.glance(12));
    assert!(ledger.glance(12), "it will not come");
    assert!(!ledger.glance(12));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        command in any::<u8>(),
        kind in any::<u16>(),
        port in any::<u32>(),
        payload in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut following = following(both());
        for kind in [kind, message_type(Subsystem::NfTables, command), message_type(Subsystem::NfTables, command % 30)] {
            following.take(&Message { kind, flags: 0, sequence: 0, port, payload: &payload }, &mut None);
        }
    }

    /// Attributes in plausible places, with any bytes in them.
    #[test]
    fn no_attribute_makes_the_reader_panic(
        command in 0u8..30,
        family in prop::sample::select(vec![0u8, 2, 10]),
        table in prop::sample::select(vec!["nat", "filter", "raw"]),
        name in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut batch = Batch::new("test");
        batch.message(message_type(Subsystem::NfTables, command), 0, |body| {
            let name = [b"KUBE-SVC-", &name[..]].concat();
            body.raw(&[family, 0, 0, 0]).put_text(1, table).put(2, &name).put(3, &name);
        });
        let mut following = following(both());
        following.feed(batch.bytes(), 1);
        following.feed(&generation_message(11), 1);
    }
}
