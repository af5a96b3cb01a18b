//! What is counted for metrics: how long changes waited, retries, drift put right, rules.

use std::sync::Mutex;

use super::fake::{Bench, Fault};
use super::*;
use crate::kernel::xtables::ownership::is_owned;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{RuleCounts, Xtables};
use crate::model::{EndpointFlags, ModelEndpoint, Settings};
use crate::net::{Endpoint, PerFamily};
use crate::sim::SimKernel;

fn pacing() -> Pacing {
    Pacing { rest: 0, ..Pacing::new(Duration::ZERO, s(3600)) }
}

fn waits(engine: &Engine) -> PerFamily<(u64, Duration)> {
    let waits = engine.status().counters.waits;
    PerFamily::new(|family| (waits.get(family).total(), waits.get(family).sum()))
}

#[test]
fn a_change_waits_from_being_told_to_the_kernels_yes() {
    let mut engine = started(pacing(), 4, s(5));
    assert_eq!(waits(&engine), PerFamily::default(), "what was there at the start does not count");
    assert_eq!(engine.status().families.v4.last_owed, engine.status().synced);
    engine.step_since(put([value(0, 2), value(3, 2)]), s(8), s(10));
    assert_eq!(engine.status().families.v4.last_owed, Some(s(8)));
    engine.step(put([value(0, 3)]), s(11));
    engine.step(applied(), s(12));
    assert_eq!(waits(&engine), PerFamily { v4: (1, s(4)), v6: (1, s(4)) });
    engine.step(applied(), s(20));
    assert_eq!(waits(&engine).v4, (2, s(13)), "the second change was told at 11 and is in force at 20");
}

#[test]
fn what_changes_nothing_is_not_owed() {
    let mut engine = started(pacing(), 1, s(5));
    engine.step(put([value(0, 1)]), s(9));
    assert_eq!(engine.status().families.v4.last_owed, engine.status().synced);
    assert_eq!(engine.progress(&key(0)), Progress::InForce);
    engine.step(put([value(0, 2)]), s(9));
    assert_eq!((engine.progress(&key(0)), engine.all_sent()), (Progress::Owed, true));
    engine.step(put([value(0, 3)]), s(9));
    assert!(!engine.all_sent());
}

#[test]
fn a_refused_service_is_told_as_such_and_a_failure_keeps_the_age() {
    let mut bench = Bench::started(pacing(), 2);
    bench.fake.fault = Some(Fault::Apply(ApplyErrorKind::Busy));
    bench.send(put([value(0, 2)]));
    bench.fake.fault = None;
    bench.pass(s(1));
    let retries = bench.engine.status().counters.retries;
    assert!(retries > 0);
    let (count, sum) = waits(&bench.engine).v4;
    assert!(count == 1 && sum >= ms(100), "{sum:?}: the first attempt is not the last");
    bench.send(put([poison(1, 2)]));
    bench.pass(s(1));
    assert_eq!(bench.engine.progress(&key(1)), Progress::Refused);
    assert_eq!(waits(&bench.engine).v4.0, 1, "it never came into force");
    assert_eq!(bench.engine.status().counters.retries, retries, "a refusal is answered by splitting");
}

/// What a rebuild writes again did not wait for anything.
#[test]
fn a_rebuild_is_no_wait() {
    let mut engine = started(pacing(), 3, s(5));
    engine.step(drift(), s(10));
    let error = RepairError::Apply(error(ApplyErrorKind::Refused, "no"));
    engine.step(Event::RepairDone(Err(error)), s(11));
    assert_eq!(engine.status().counters.rebuilds, 1);
    engine.step(applied(), s(12));
    assert_eq!(waits(&engine), PerFamily::default());
}

#[test]
fn drift_that_is_only_reported_is_not_put_right() {
    for (mode, repaired) in [(RepairMode::Repair, true), (RepairMode::ReportOnly, false)] {
        let mut bench = Bench::started(Pacing { drift: mode, ..pacing() }, 2);
        bench.fake.kernel.clear();
        bench.send(drift());
        let counters = bench.engine.status().counters;
        assert_eq!(counters.drift.values().sum::<u64>(), 2);
        assert_eq!(counters.drift_repaired == counters.drift, repaired);
    }
}

/// Rules in chains that are ours.
fn held(kernel: &mut SimKernel, family: Family, table: Table) -> i64 {
    let mut held = 0;
    kernel
        .observe(family, table, &mut |chain| {
            held += if is_owned(table, chain.name.as_str()) { chain.rules.len() } else { 0 };
        })
        .unwrap();
    held as i64
}

fn backed(n: usize, endpoints: u8) -> Arc<ServicePort> {
    let endpoint = |e| Endpoint { ip: [10, 1, n as u8, e].into(), port: 80 };
    let flags = EndpointFlags::CLUSTER.with(EndpointFlags::READY);
    let endpoints = (0..endpoints).map(|e| ModelEndpoint::new(endpoint(e), flags)).collect();
    let ip = Ipv4Addr::new(10, 96, 0, n as u8);
    Arc::new(ServicePort { endpoints, has_any_endpoint: true, ..ServicePort::new(key(4 * n), ip.into(), 80) })
}

#[test]
fn rules_are_counted_as_the_kernel_holds_them() {
    let settings = Arc::new(Mutex::new(Arc::new(Settings::default())));
    let counts = RuleCounts::default();
    let kernel = SimKernel::new(Variant::Nft);
    let mut backend = IptablesBackend::new(kernel, settings, Family::ALL.into()).counting(counts.clone());
    let check = |backend: &mut IptablesBackend<SimKernel>, what: &str| {
        for (family, table) in Family::ALL.into_iter().flat_map(|family| Table::ALL.map(|table| (family, table))) {
            assert_eq!(counts.owned(family, table), held(backend.xtables(), family, table), "{what}: {family} {table}");
        }
    };
    let model = [backed(1, 2), backed(2, 1)];
    backend.repair(&model, &Scope::All, RepairMode::Repair).unwrap();
    check(&mut backend, "the first compare");
    backend.repair(&model, &Scope::All, RepairMode::Repair).unwrap();
    check(&mut backend, "a compare that changes nothing");
    let steps = [
        Move { before: Some(backed(1, 2)), after: Some(backed(1, 3)) },
        Move { before: Some(backed(2, 1)), after: None },
        Move { before: None, after: Some(backed(3, 40)) },
    ];
    for step in steps {
        backend.apply(&[step]).unwrap();
        check(&mut backend, "a move");
    }
    assert!(counts.last(Family::V4, Table::Nat) > 40);
    backend.xtables().flush_table(Family::V4, Table::Nat);
    backend.repair(&[backed(1, 3), backed(3, 40)], &Scope::All, RepairMode::Repair).unwrap();
    check(&mut backend, "a repair");
}
