//! Rows of the catalogue that are about a kernel which others use too. (J9 to J12, what a change sends, are the files
//! `step-N.restore` of the rule book.)

use std::sync::{Arc, Mutex};
use std::time::Duration;

use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{BuiltinChange, Changes, ObservedRule, Rule, Table, Target, Xtables};
use weir::model::oracle::{Host, Packet, Verdict, judge};
use weir::model::{ServicePort, Settings};
use weir::net::{Family, Protocol};
use weir::plan::iptables::Desired;
use weir::sim::scenario::Fixture;
use weir::sim::trace::trace;
use weir::sim::{Faults, SimKernel};

use crate::cluster::{Cluster, Random};
use crate::kernel::{self, Shared, lock};
use crate::proxy::{Proxy, drift, shared};

const FAMILY: Family = Family::V4;

fn settings() -> Arc<Settings> {
    Arc::new(Settings::default())
}

/// A proxy that has written its rules for some services, and the kernel under it.
pub fn served(variant: Variant) -> (Shared, Proxy, Cluster) {
    let kernel: Shared = Arc::new(Mutex::new(SimKernel::new(variant)));
    let mut random = Random::new(7);
    let mut cluster = Cluster::empty(&mut random);
    (0..12).for_each(|i| cluster.put(&mut random, i));
    let mut proxy = Proxy::start(&kernel, &shared((*settings()).clone()), Duration::ZERO);
    proxy.tell(cluster.lists(), &mut ());
    proxy.pass(Duration::from_secs(1), &mut ());
    kernel::assert_holds(&kernel, &settings(), &cluster.model(), "at the start");
    (kernel, proxy, cluster)
}

fn compare(kernel: &Shared, desired: Desired) -> Changes {
    let mut comparison = desired.compare();
    for family in Family::ALL {
        for table in Table::ALL {
            lock(kernel).observe(family, table, &mut |chain| comparison.observed(family, table, chain)).unwrap();
        }
    }
    comparison.finish()
}

/// Some endpoint's chain, of a service port that has one.
fn some_endpoint_chain(kernel: &Shared) -> String {
    let ours = kernel::ours(kernel).into_keys().filter(|key| key.family == FAMILY);
    ours.map(|key| key.name.to_string()).find(|name| name.starts_with("KUBE-SEP-")).unwrap()
}

fn verdict(kernel: &Shared, port: &ServicePort) -> Verdict {
    let (_, source) = Fixture::client("pod", port.family()).unwrap();
    let host = Host { addresses: Fixture::host_addresses() };
    let protocol = port.key.name.protocol;
    let in_interface = Some(Fixture::POD_INTERFACE.to_owned());
    let packet = Packet { source, destination: port.cluster_ip, protocol, port: port.port, in_interface };
    let found = trace(&kernel::rules(kernel, port.family()), &host, &packet).unwrap().verdict;
    let expected = judge([port].into_iter(), &settings(), &host, &packet);
    assert!(found.agrees_with(&expected) || found == Verdict::Untouched, "{found:?} instead of {expected:?}");
    found
}

fn is_served(kernel: &Shared, port: &ServicePort) -> bool {
    matches!(verdict(kernel, port), Verdict::Serve(_))
}

/// J13: a rule that somebody added by hand refers to a chain that is to go. Everyone else is served; when the rule is
/// gone the leftover goes too.
#[test]
fn j13_a_reference_from_outside_holds_up_only_what_it_refers_to() {
    for variant in Variant::ALL {
        let (kernel, mut proxy, mut cluster) = served(variant);
        let chain = some_endpoint_chain(&kernel);
        let by_hand = format!("*nat\n:ADMIN - [0:0]\n-A ADMIN -j {chain}\nCOMMIT\n");
        lock(&kernel).edit(FAMILY, &by_hand).unwrap();
        // Everything changes: the chain is among what is to go.
        let before = cluster.model();
        let mut random = Random::new(99);
        (0..12).for_each(|i| cluster.put_endpoints(&mut random, i));
        (0..12).filter(|i| i % 3 == 0).for_each(|i| cluster.remove(i));
        cluster.entries.retain(|_, entry| {
            entry.slices.iter_mut().flat_map(|slice| slice.ports.iter_mut()).for_each(|port| port.port += 1);
            true
        });
        proxy.tell(cluster.lists(), &mut ());
        proxy.pass(Duration::from_secs(60), &mut ());
        assert!(kernel::chain(&kernel, FAMILY, Table::Nat, &chain).is_some(), "{variant}: it is in use");
        let status = proxy.engine().status();
        assert!(status.counters.apply_failures.refused + status.counters.repair_failures.refused > 0, "{variant}");
        assert!(status.quarantined.len() <= 1, "{variant}: {:?}", status.quarantined);
        let stuck = |port: &ServicePort| status.quarantined.iter().any(|entry| entry.key == port.key);
        let model = cluster.model();
        assert!(model.iter().filter(|port| !stuck(port)).all(|port| {
            let endpoints = port.cluster_endpoints().next().is_some();
            !endpoints || port.internal_policy != weir::state::TrafficPolicy::Cluster || is_served(&kernel, port)
        }));
        assert_ne!(before, model);

        lock(&kernel).edit(FAMILY, "*nat\n:ADMIN - [0:0]\n-X ADMIN\nCOMMIT\n").unwrap();
        proxy.step(drift(), &mut ());
        proxy.pass(Duration::from_secs(300), &mut ());
        kernel::assert_holds(&kernel, &settings(), &model, &format!("{variant}"));
    }
}

/// J17: cleaning up is a plan of nothing. Ours goes, the rest stays as it is.
#[test]
fn j17_cleanup_takes_away_what_is_ours_and_nothing_else() {
    for variant in Variant::ALL {
        let (kernel, _, _) = served(variant);
        let others = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n\
            *filter\n:DOCKER-USER - [0:0]\n-A DOCKER-USER -j RETURN\n-I FORWARD -j DOCKER-USER\n\
            -A KUBE-FIREWALL -p tcp -m comment --comment \"the kubelet's\" -j DROP\nCOMMIT\n\
            *nat\n:KUBE-KUBELET-CANARY - [0:0]\n:CNI-HOSTPORT-DNAT - [0:0]\n-A CNI-HOSTPORT-DNAT -j RETURN\n\
            -A PREROUTING -j CNI-HOSTPORT-DNAT\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n";
        lock(&kernel).edit(FAMILY, others).unwrap();
        let foreign = kernel::foreign(&kernel);
        assert!(foreign.len() >= 7, "{foreign:?}");
        let changes = compare(&kernel, Desired::nothing());
        lock(&kernel).apply(&changes).unwrap();
        assert!(kernel::ours(&kernel).is_empty(), "{variant}: {:?}", kernel::ours(&kernel).keys());
        assert_eq!(kernel::foreign(&kernel), foreign, "{variant}");
        // The kubelet's chain, its jumps and the martian rule in it stay too.
        let jumps = |chain| kernel::chain(&kernel, FAMILY, Table::Filter, chain).unwrap();
        let to_firewall = |rule: &ObservedRule| goes_to(rule, "KUBE-FIREWALL");
        assert!(jumps("INPUT").iter().any(to_firewall) && jumps("OUTPUT").iter().any(to_firewall));
        assert_eq!(jumps("KUBE-FIREWALL").len(), 2);
        assert!(compare(&kernel, Desired::nothing()).is_empty(), "{variant}: nothing is left to do");
    }
}

fn goes_to(rule: &ObservedRule, chain: &str) -> bool {
    matches!(rule, ObservedRule::Known(Rule { target: Some(Target::Jump(to)), .. }) if to.as_str() == chain)
}

/// J19: whatever is flushed comes back, all tables or one; and no look is taken for a change where there is none.
#[test]
fn j19_flushed_tables_are_written_again() {
    for tables in [&Table::ALL[..], &[Table::Nat], &[Table::Filter], &[Table::Mangle]] {
        let (kernel, mut proxy, cluster) = served(Variant::Nft);
        let commits = lock(&kernel).commits();
        proxy.pass(Duration::from_secs(300), &mut ());
        assert_eq!(lock(&kernel).commits(), commits, "nothing to do, nothing written");
        for family in Family::ALL {
            tables.iter().for_each(|table| lock(&kernel).flush_table(family, *table));
        }
        proxy.step(drift(), &mut ());
        proxy.pass(Duration::from_secs(1), &mut ());
        kernel::assert_holds(&kernel, &settings(), &cluster.model(), &format!("{tables:?}"));
        let canary = |table: &Table| kernel::chain(&kernel, FAMILY, *table, "KUBE-PROXY-CANARY");
        assert!(tables.iter().all(|table| canary(table).is_some()));
    }
}

/// J19: while the kernel cannot be read, nothing is taken for flushed.
#[test]
fn j19_a_locked_kernel_is_no_drift() {
    let (kernel, mut proxy, cluster) = served(Variant::Legacy);
    lock(&kernel).set_faults(Faults { seed: 1, busy: 1.0, ..Faults::default() });
    let commits = lock(&kernel).commits();
    proxy.step(drift(), &mut ());
    proxy.pass(Duration::from_secs(120), &mut ());
    assert_eq!(lock(&kernel).commits(), commits);
    assert!(proxy.engine().status().health(FAMILY, proxy.now).is_err(), "and health says so");
    lock(&kernel).set_faults(Faults::default());
    proxy.pass(Duration::from_secs(60), &mut ());
    assert!(proxy.engine().status().health(FAMILY, proxy.now).is_ok());
    kernel::assert_holds(&kernel, &settings(), &cluster.model(), "unlocked");
}

/// J22: each of our rules in others' chains is ensured by itself: what is there stays where it is, what is missing comes
/// to the head (or the end, in the kubelet's chain), and nothing comes twice.
#[test]
fn j22_jumps_are_ensured_one_by_one() {
    let (kernel, _, cluster) = served(Variant::Nft);
    let model = cluster.model();
    let desired = || Desired::plan(&settings(), &Family::ALL, &model).0;
    assert!(compare(&kernel, desired()).is_empty());
    let wanted: Vec<_> = desired().builtin().to_vec();
    for missing in &wanted {
        let key = &missing.chain;
        let before = kernel::chain(&kernel, key.family, key.table, key.name.as_str()).unwrap();
        let at = before.iter().position(|rule| *rule == missing.rule).unwrap();
        lock(&kernel).remove_rule(key.family, key.table, key.name.as_str(), at).unwrap();
        let changes = compare(&kernel, desired());
        assert!(changes.chains.is_empty());
        let [BuiltinChange::Insert(chain, rule) | BuiltinChange::Append(chain, rule)] = &changes.builtin[..] else {
            panic!("{:?}", changes.builtin)
        };
        assert_eq!((chain, rule), (key, &missing.rule));
        lock(&kernel).apply(&changes).unwrap();
        let mut after = kernel::chain(&kernel, key.family, key.table, key.name.as_str()).unwrap();
        let now_at = after.iter().position(|rule| *rule == missing.rule).unwrap();
        assert_eq!(now_at, if matches!(changes.builtin[0], BuiltinChange::Insert(..)) { 0 } else { after.len() - 1 });
        after.remove(now_at);
        let others: Vec<_> = before.into_iter().filter(|rule| *rule != missing.rule).collect();
        assert_eq!(after, others, "what was there did not move");
    }
    // The kubelet's chain is made if it is not there, before what leads to it.
    lock(&kernel).remove_chain(FAMILY, Table::Filter, "KUBE-FIREWALL");
    let changes = compare(&kernel, desired());
    assert!(matches!(changes.builtin[0], BuiltinChange::CreateChain(_)), "{:?}", changes.builtin);
    lock(&kernel).apply(&changes).unwrap();
    assert!(compare(&kernel, desired()).is_empty());
}

/// T50: all rules of the node are flushed and nobody tells. A packet is served again after the period.
#[test]
fn t50_a_silent_flush_is_noticed_after_the_period() {
    let (kernel, mut proxy, cluster) = served(Variant::Legacy);
    let served_ports: Vec<_> = cluster.model().into_iter().filter(|port| is_served(&kernel, port)).collect();
    assert!(served_ports.len() > 5);
    assert!(served_ports.iter().any(|port| port.key.name.protocol != Protocol::Tcp));
    for family in Family::ALL {
        Table::ALL.iter().for_each(|table| lock(&kernel).flush_table(family, *table));
    }
    assert!(!served_ports.iter().any(|port| is_served(&kernel, port)));
    proxy.pass(Duration::from_secs(31), &mut ());
    assert!(served_ports.iter().all(|port| is_served(&kernel, port)));
}

/// A restart over rules that are right writes nothing at all.
#[test]
fn a_restart_changes_nothing() {
    let (kernel, proxy, cluster) = served(Variant::Nft);
    let commits = lock(&kernel).commits();
    drop(proxy);
    let mut again = Proxy::start(&kernel, &shared((*settings()).clone()), Duration::ZERO);
    again.tell(cluster.lists(), &mut ());
    again.pass(Duration::from_secs(100), &mut ());
    assert_eq!(lock(&kernel).commits(), commits);
    assert!(again.engine().status().started);
}
