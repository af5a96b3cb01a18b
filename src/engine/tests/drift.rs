//! Chains that someone was seen to change.

use super::fake::{Bench, Fault, chain};
use super::*;

fn pacing() -> Pacing {
    Pacing::new(s(1), s(30))
}

fn bench() -> Bench {
    Bench::started(pacing(), 10)
}

fn partials(bench: &Bench) -> Vec<Vec<ChainKey>> {
    bench.fake.partials.iter().map(|chains| chains.iter().cloned().collect()).collect()
}

/// The drift that was told.
fn told(bench: &Bench) -> Vec<String> {
    let told = bench.notices.iter().filter(|(_, notice)| matches!(notice, Notice::Drift { .. }));
    told.map(|(_, notice)| notice.to_string()).collect()
}

#[test]
fn only_the_chains_that_were_changed_are_compared_and_who_did_it_is_told() {
    let mut bench = bench();
    bench.fake.kernel.remove(&key(3));
    bench.fake.kernel.remove(&key(4));
    bench.send(drift_of([3]));
    assert_eq!(bench.fake.versions().len(), 9, "what nobody was seen to change is left to the next full compare");
    assert_eq!((partials(&bench), bench.fake.compares), (vec![vec![chain(&key(3))]], 1));
    assert_eq!(told(&bench), ["1 kernel object of ours was changed by iptables (pid 4711), repaired"]);
    let status = bench.engine.status();
    assert_eq!((status.counters.partial_repairs, status.counters.repairs), (1, 1));
    assert_eq!(status.counters.drift.values().sum::<u64>(), 1);
    assert_eq!(status.unsure_since, None);
}

#[test]
fn it_does_not_put_off_the_full_compare_nor_cure_blindness() {
    let mut bench = bench();
    let looked = bench.engine.status().last_observed;
    for _ in 0..4 {
        bench.pass(s(6));
        bench.send(drift_of([1]));
    }
    assert_eq!((bench.fake.compares, bench.fake.partials.len()), (1, 4));
    assert_eq!(bench.engine.status().last_observed, looked);
    bench.pass(s(5));
    assert_eq!(bench.fake.compares, 2, "thirty seconds after the first");
}

#[test]
fn it_waits_for_no_gap_and_makes_none() {
    let mut engine = started(Pacing::new(s(10), s(30)), 2, s(1));
    let partial = engine.step(drift_of([0]), s(1) + ms(1));
    assert!(matches!(&partial[..], [Action::Repair { scope: Scope::Chains(_), .. }]), "{partial:?}");
    engine.step(compared(), s(5));
    let actions = engine.step(put([value(0, 2)]), s(5));
    assert_eq!(wake_at(&actions), Some(s(11)), "ten seconds after the start");
}

#[test]
fn suspicions_that_wait_add_up() {
    let mut engine = started(pacing(), 5, s(1));
    assert!(moves(&engine.step(put([value(4, 2)]), s(10))).is_some());
    assert!(engine.step(drift_of([1]), s(10)).is_empty());
    assert!(engine.step(drift_of([3]), s(10)).is_empty());
    assert_eq!(engine.status().unsure_since, Some(s(10)));
    let actions = engine.step(applied(), s(11));
    let expected = Scope::Chains([chain(&key(1)), chain(&key(3))].into());
    assert!(actions.iter().any(|a| matches!(a, Action::Repair { scope, .. } if *scope == expected)), "{actions:?}");
}

#[test]
fn everything_swallows_single_chains() {
    let mut engine = started(pacing(), 5, s(1));
    engine.step(put([value(4, 2)]), s(10));
    engine.step(drift_of([1]), s(10));
    engine.step(drift(), s(10));
    engine.step(applied(), s(10));
    let actions = engine.step(Event::Wake, s(11));
    assert!(actions.iter().any(|a| matches!(a, Action::Repair { scope: Scope::All, .. })), "{actions:?}");
    let actions = engine.step(compared(), s(11));
    assert_eq!(wake_at(&actions), Some(s(41)), "nothing is left to compare");
}

#[test]
fn what_is_seen_during_a_compare_is_compared_after_it() {
    let mut engine = started(pacing(), 5, s(1));
    engine.step(drift_of([1]), s(10));
    engine.step(drift_of([2]), s(11));
    let actions = engine.step(compared(), s(12));
    assert_eq!(engine.status().unsure_since, Some(s(11)), "the one after it is still to be looked at");
    assert_eq!(wake_at(&actions), Some(s(17)), "after a rest");
    let actions = engine.step(Event::Wake, s(17));
    let second = Scope::Chains([chain(&key(2))].into());
    assert!(matches!(&actions[..], [Action::Repair { scope, .. }] if *scope == second), "{actions:?}");
}

#[test]
fn a_fight_over_a_rule_is_told_once_and_costs_a_quarter_of_the_time() {
    let mut bench = bench();
    bench.cost = ms(50);
    let begun = bench.now;
    let mut flips = 0;
    while bench.now < begun + s(60) {
        bench.fake.kernel.remove(&key(1));
        bench.send(drift_of([1]));
        bench.send(put([value(2, flips + 2)]));
        bench.pass(ms(10));
        flips += 1;
    }
    let partials = bench.fake.partials.len();
    assert!((150..=320).contains(&partials), "{partials} in a minute");
    assert_eq!(told(&bench).len(), 1);
    assert!(bench.fake.applies.len() >= 45, "{} changes got through beside it", bench.fake.applies.len());
    assert!(bench.fake.compares >= 2, "and full compares");
    assert!(bench.healthy());
}

#[test]
fn report_only_leaves_single_chains_alone_too() {
    let mut bench = Bench::started(Pacing { drift: RepairMode::ReportOnly, ..pacing() }, 4);
    bench.fake.kernel.remove(&key(2));
    bench.send(drift_of([2]));
    assert_eq!((bench.fake.kernel.len(), bench.fake.partials.len()), (3, 1));
    assert_eq!(told(&bench), ["1 kernel object of ours was changed by iptables (pid 4711), left alone as configured"]);
    assert!(bench.healthy());
}

#[test]
fn a_busy_kernel_is_tried_again_about_the_same_chains() {
    let mut bench = bench();
    for fault in [Fault::Apply(ApplyErrorKind::Busy), Fault::Observe] {
        bench.fake.kernel.remove(&key(3));
        bench.fake.fault = Some(fault);
        bench.fake.partials.clear();
        let compares = bench.fake.compares;
        bench.send(drift_of([3]));
        assert_eq!(bench.fake.kernel.len(), 9);
        assert!(bench.engine.status().unsure_since.is_some());
        bench.pass(ms(100));
        assert_eq!(bench.fake.kernel.len(), 10);
        assert_eq!((bench.fake.partials.len(), bench.fake.compares), (2, compares));
        assert_eq!(bench.engine.status().unsure_since, None);
    }
    assert_eq!(bench.count(|n| matches!(n, Notice::RepairFailed { .. })), 2);
    assert_eq!(bench.count(|n| matches!(n, Notice::RepairWorks { .. })), 2);
}

#[test]
fn one_that_is_refused_becomes_a_full_one() {
    let mut bench = bench();
    bench.fake.kernel.remove(&key(3));
    bench.fake.kernel.remove(&key(4));
    bench.fake.fault = Some(Fault::Apply(ApplyErrorKind::Refused));
    bench.send(drift_of([3]));
    bench.pass(s(1));
    assert_eq!((bench.fake.partials.len(), bench.fake.compares), (1, 2));
    assert_eq!(bench.fake.kernel.len(), 10);
    assert_eq!(bench.engine.status().counters.rebuilds, 0);
    assert_eq!(told(&bench), ["2 kernel objects of ours were changed by iptables (pid 4711), repaired"]);
}

#[test]
fn one_that_is_refused_time_and_again_ends_in_a_rebuild() {
    let mut bench = bench();
    bench.fake.kernel.remove(&key(3));
    bench.fake.stuck.insert(key(77));
    bench.fake.kernel.insert(key(77), value(77, 1));
    bench.send(drift_of([3, 77]));
    bench.pass(s(2));
    assert_eq!(bench.engine.status().counters.rebuilds, 1);
    assert_eq!(bench.fake.versions().len(), 11, "everything of ours is there");
    bench.fake.stuck.clear();
    bench.pass(s(700));
    assert_eq!(bench.fake.versions().len(), 10);
    assert!(bench.healthy());
}

#[test]
fn after_a_failed_apply_everything_is_compared() {
    let mut bench = bench();
    bench.fake.fault = Some(Fault::Apply(ApplyErrorKind::Busy));
    bench.send(put([value(1, 2)]));
    bench.send(drift_of([3]));
    bench.pass(s(2));
    assert_eq!((bench.fake.partials.len(), bench.fake.compares), (0, 2));
}

#[test]
fn before_synced_there_is_nothing_to_suspect() {
    let mut bench = Bench::new(pacing());
    bench.send(drift_of([1]));
    bench.send(Event::Synced);
    assert_eq!((bench.fake.partials.len(), bench.fake.compares), (0, 1));
}
