//! Writing with a buffer as small as an ordinary user's, on a real kernel.

use nix::sched::{CloneFlags, unshare};

use super::NftDriver;
use super::driver::Written;
use super::write::{Limits, Writer};
use crate::kernel::netlink::{Protocol, Socket};
use crate::kernel::watch::OwnWrites;
use crate::kernel::xtables::order::{Cut, cut};
use crate::kernel::xtables::{
    BuiltinChange, ChainChange, ChainKey, ChainName, Changes, Match, Rule, Table, Target, Xtables,
};
use crate::net::Family;

fn nat(name: &str) -> ChainKey {
    ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new(name) }
}

fn jump(name: &str) -> Rule {
    Rule { target: Some(Target::Jump(ChainName::new(name))), ..Rule::default() }
}

/// 200 chains of 20 rules with comments, some 2 MB, that a root chain leads to.
fn changes() -> Changes {
    let comment = |i: u32| Rule { matches: vec![Match::Comment(format!("{i:0200}").into())], ..Rule::default() };
    let names: Vec<String> = (0..200).map(|i| format!("KUBE-SVC-{i:016}")).collect();
    let change = |rules| ChainChange { before: None, after: Some(rules) };
    let leaves = names.iter().map(|name| (nat(name), change((0..20).map(comment).collect())));
    let root = (nat("KUBE-SERVICES"), change(names.iter().map(|name| jump(name)).collect()));
    Changes {
        chains: leaves.chain([root]).collect(),
        builtin: vec![BuiltinChange::Insert(nat("PREROUTING"), jump("KUBE-SERVICES"))],
    }
}

/// An ordinary user may not raise the limit of a socket's buffer (`SO_SNDBUFFORCE`).
#[test]
fn what_does_not_fit_into_one_transaction_is_cut() {
    let run = || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            return crate::lab::skipped(&format!("nf_tables with a small buffer: {errno} (run as root)"));
        }
        let (changes, own) = (changes(), OwnWrites::new());
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let limits = Limits::new(200 << 10);
        let mut written = Written::default();
        let mut write = |how: Cut, atomic: bool| {
            let script = cut(&changes, Family::V4, how).unwrap();
            Writer::new(&mut socket, Family::V4, limits, atomic, &own, &mut written).write(&script)
        };
        assert!(matches!(write(Cut::Atomic, true), Err(super::driver::Stop::TooLarge)));
        write(Cut::Apart, false).unwrap();
        assert!(written.transactions > 5, "{written:?}");
        let mut seen = 0;
        let mut driver = NftDriver::new(vec![Family::V4]);
        let visit = &mut |chain: crate::kernel::xtables::ObservedChain| {
            let change = changes.chains.get(&nat(chain.name.as_str()));
            let wanted = change.and_then(|change| change.after.as_ref()).map_or(1, Vec::len);
            assert_eq!(chain.rules.len(), wanted, "{}", chain.name);
            seen += 1;
        };
        driver.observe(Family::V4, Table::Nat, visit).unwrap();
        assert_eq!(seen, 202);
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap();
}
