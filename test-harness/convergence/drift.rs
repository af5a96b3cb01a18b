//! Chains that somebody was seen to change are repaired, and nothing else is read or written.

use std::collections::BTreeSet;
use std::time::Duration;

use weir::engine::Notice;
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{ChainKey, Table};
use weir::net::Family;

use crate::kernel::{self, Shared, lock};
use crate::proxy::{Proxy, drift_of};
use crate::rows::served;

const FAMILY: Family = Family::V4;

/// What somebody does to the kernel.
type Edit = fn(&Shared);

fn edit(kernel: &Shared, text: &str) {
    lock(kernel).edit(FAMILY, text).unwrap();
}

/// Some chain of ours whose name begins so, with rules in it.
fn chain(kernel: &Shared, prefix: &str) -> String {
    let ours = kernel::ours(kernel).into_iter().filter(|(key, rules)| key.family == FAMILY && !rules.is_empty());
    ours.map(|(key, _)| key.name.to_string()).find(|name| name.starts_with(prefix)).unwrap()
}

const EDITS: [(&str, Edit); 9] = [
    ("the chain that all ways begin in is flushed", |kernel| {
        kernel::flush(kernel, FAMILY, Table::Nat, "KUBE-SERVICES")
    }),
    ("a rule is deleted", |kernel| {
        let chain = chain(kernel, "KUBE-SVC-");
        lock(kernel).remove_rule(FAMILY, Table::Nat, &chain, 0).unwrap();
    }),
    ("a rule is added", |kernel| {
        let chain = chain(kernel, "KUBE-SEP-");
        edit(kernel, &format!("*nat\n-I {chain} -p tcp -j ACCEPT\nCOMMIT\n"));
    }),
    ("a rule that nobody here understands is added", |kernel| {
        edit(kernel, "*filter\n-A KUBE-FORWARD -m bpf --bytecode x\nCOMMIT\n");
    }),
    ("a chain is deleted, with all that leads to it", |kernel| {
        let chain = chain(kernel, "KUBE-SEP-");
        assert!(lock(kernel).remove_chain(FAMILY, Table::Nat, &chain));
    }),
    ("a chain is made that has a name of ours", |kernel| {
        edit(kernel, "*nat\n:KUBE-SVC-0000000000000000 - [0:0]\n-A KUBE-SVC-0000000000000000 -j RETURN\nCOMMIT\n");
    }),
    ("such a chain is made and used in a built-in chain", |kernel| {
        let text = ":KUBE-SVC-0000000000000000 - [0:0]\n-I OUTPUT -j KUBE-SVC-0000000000000000";
        edit(kernel, &format!("*nat\n{text}\nCOMMIT\n"));
    }),
    ("our rules in a built-in chain are flushed with all others", |kernel| {
        ["PREROUTING", "OUTPUT"].iter().for_each(|chain| kernel::flush(kernel, FAMILY, Table::Nat, chain));
    }),
    ("the chain that the kubelet shares is deleted", |kernel| {
        assert!(lock(kernel).remove_chain(FAMILY, Table::Filter, "KUBE-FIREWALL"));
    }),
];

/// A proxy that has nothing to do, and forgets how it came to that.
fn quiet(variant: Variant) -> (Shared, Proxy) {
    let (kernel, mut proxy, _) = served(variant);
    proxy.notices.clear();
    let _ = proxy.spy.traffic();
    (kernel, proxy)
}

fn told(proxy: &Proxy) -> Vec<&Notice> {
    proxy.notices.iter().collect()
}

/// What was told, and the kernel, are as they should be.
fn assert_repaired(kernel: &Shared, proxy: &Proxy, before: &kernel::Chains, what: &str) {
    let differing = kernel::difference(before, &kernel::all(kernel));
    assert!(differing.iter().all(|key| !key.name.as_str().starts_with("KUBE")), "{what}: {differing:?} differ");
    let [notice @ Notice::Drift { repaired: true, .. }] = told(proxy)[..] else { panic!("{what}: {:?}", told(proxy)) };
    assert!(notice.to_string().contains("changed by iptables (pid 4711), repaired"), "{what}: {notice}");
}

#[test]
fn what_was_seen_to_change_is_repaired_and_nothing_else_is_touched() {
    for variant in Variant::ALL {
        for (what, edit) in EDITS {
            let (kernel, mut proxy) = quiet(variant);
            let before = kernel::all(&kernel);
            edit(&kernel);
            let changed = kernel::difference(&before, &kernel::all(&kernel));
            assert!(!changed.is_empty(), "{what}");
            proxy.step(drift_of(changed.clone()), &mut ());
            proxy.pass(Duration::from_secs(1), &mut ());
            assert_repaired(&kernel, &proxy, &before, what);
            let traffic = proxy.spy.traffic();
            assert_eq!(traffic.tables, 0, "{what}: no table is read as a whole");
            assert_eq!(beside(&traffic.read, &changed), Vec::<String>::new(), "{what}: read");
            assert_eq!(beside(&traffic.chains_written(), &changed), Vec::<String>::new(), "{what}: written");
            assert_eq!(traffic.written.len(), 1, "{what}: one change");
            assert_eq!(proxy.engine().status().counters.repairs, 1, "{what}: the one of the start");
        }
    }
}

/// What is among the first and not among the second; the chain that the kubelet shares is always looked at.
fn beside(chains: &BTreeSet<ChainKey>, changed: &BTreeSet<ChainKey>) -> Vec<String> {
    let others = chains.difference(changed).filter(|key| key.name.as_str() != "KUBE-FIREWALL");
    others.map(ToString::to_string).collect()
}

#[test]
fn a_false_alarm_reads_and_writes_nothing_more() {
    let (kernel, mut proxy) = quiet(Variant::Nft);
    let name = chain(&kernel, "KUBE-SVC-");
    let key = kernel::ours(&kernel).into_keys().find(|key| key.name.as_str() == name).unwrap();
    proxy.step(drift_of([key.clone()].into()), &mut ());
    proxy.pass(Duration::from_secs(1), &mut ());
    let traffic = proxy.spy.traffic();
    assert_eq!((traffic.tables, traffic.read, traffic.written.len()), (0, [key].into(), 0));
    assert_eq!(told(&proxy), Vec::<&Notice>::new());
}

/// Somebody deletes a chain that a rule by hand still needs elsewhere: what was seen is not all that is wrong.
#[test]
fn what_cannot_be_repaired_alone_is_repaired_with_everything() {
    for variant in Variant::ALL {
        let (kernel, mut proxy) = quiet(variant);
        let before = kernel::all(&kernel);
        let (service, endpoint) = (chain(&kernel, "KUBE-SVC-"), chain(&kernel, "KUBE-SEP-"));
        let all_endpoints: Vec<_> = kernel::ours(&kernel).into_keys().filter(|key| key.family == FAMILY).collect();
        let key = |name: &str| all_endpoints.iter().find(|key| key.name.as_str() == name).unwrap().clone();
        // Both go, and only the caller is told of.
        let callers = lock(&kernel).chains(FAMILY, Table::Nat);
        assert!(callers.len() > 5 && lock(&kernel).remove_chain(FAMILY, Table::Nat, &endpoint));
        let caller =
            kernel::difference(&before, &kernel::all(&kernel)).into_iter().find(|key| key.name.as_str() != endpoint);
        proxy.step(drift_of([caller.unwrap(), key(&service)].into()), &mut ());
        proxy.pass(Duration::from_secs(2), &mut ());
        assert_eq!(kernel::difference(&before, &kernel::all(&kernel)), BTreeSet::new(), "{variant}");
        assert!(proxy.spy.traffic().tables > 0, "{variant}: everything was looked at");
        assert_eq!(proxy.engine().status().counters.rebuilds, 0, "{variant}");
    }
}
