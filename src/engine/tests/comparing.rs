//! Full compares: start, drift, settings, rebuilds.

use super::fake::{Bench, Fault};
use super::*;

fn pacing() -> Pacing {
    Pacing::new(s(1), s(30))
}

fn fragments(range: std::ops::Range<usize>) -> std::collections::BTreeMap<ServicePortKey, Arc<ServicePort>> {
    range.map(|n| (key(n), value(n, 1))).collect()
}

#[test]
fn start_is_one_compare_that_adopts_what_is_there() {
    let mut bench = Bench::new(pacing());
    bench.fake.kernel = fragments(0..90);
    bench.fake.kernel.insert(key(500), value(500, 1));
    bench.send(put((0..100).map(|n| value(n, 1))));
    bench.send(Event::Synced);
    assert_eq!((bench.fake.compares, bench.fake.applies.len()), (1, 0));
    assert_eq!(bench.fake.kernel, fragments(0..100));
    assert_eq!(bench.applied.len(), 100);
    let (_, Notice::Started { fragments: 100, repair }) = &bench.notices[0] else { panic!("{:?}", bench.notices) };
    assert_eq!(repair.total(), 11);
    assert!(bench.engine.status().counters.drift.is_empty(), "what the start finds is no drift");
}

#[test]
fn a_change_during_the_first_compare_is_applied_after_it() {
    let mut engine = Engine::new(pacing());
    engine.step(put([value(0, 1), value(1, 1)]), s(1));
    engine.step(Event::Synced, s(1));
    assert!(engine.step(put([value(0, 2)]), s(1)).is_empty());
    assert!(engine.step(gone(1), s(1)).is_empty());
    engine.step(compared(), s(1));
    let actions = engine.step(Event::Wake, s(2));
    let expected =
        [Move { before: Some(value(0, 1)), after: Some(value(0, 2)) }, Move { before: Some(value(1, 1)), after: None }];
    assert_eq!(moves(&actions), Some(expected.as_slice()));
}

#[test]
fn drift_is_found_periodically_repaired_counted_and_named() {
    let mut bench = Bench::started(pacing(), 10);
    bench.fake.kernel.clear();
    bench.pass(s(30));
    assert_eq!(bench.fake.kernel, fragments(0..10));
    let drift: u64 = bench.engine.status().counters.drift.values().sum();
    assert_eq!(drift, 10);
    let (_, Notice::Drift { cause: Cause::Periodic, repaired: true, repair, .. }) = &bench.notices[0] else {
        panic!("{:?}", bench.notices)
    };
    assert!(repair.lines[0].contains("ns/svc-00000"));
}

#[test]
fn suspected_drift_is_repaired_at_once_also_in_a_quiet_cluster() {
    let mut bench = Bench::started(pacing(), 10);
    bench.fake.kernel.clear();
    bench.fake.base = false;
    bench.send(drift());
    assert_eq!(bench.fake.kernel, fragments(0..10));
    assert!(bench.fake.base);
    assert_eq!(bench.engine.status().unsure_since, None);
}

#[test]
fn suspicions_in_the_gap_are_one_compare() {
    let mut bench = Bench::started(pacing(), 10);
    for _ in 0..50 {
        bench.send(drift());
    }
    bench.pass(s(3));
    assert_eq!(bench.fake.compares, 1 + 2, "the start's, one at once, one for all others");
}

#[test]
fn a_fight_over_our_rules_is_told_once() {
    let mut bench = Bench::started(pacing(), 3);
    for _ in 0..60 {
        bench.fake.kernel.remove(&key(1));
        bench.send(drift());
        bench.pass(s(2));
        assert_eq!(bench.fake.kernel.len(), 3);
    }
    assert_eq!(bench.count(|n| matches!(n, Notice::Drift { .. })), 1);
    assert_eq!(bench.engine.status().counters.drift.values().sum::<u64>(), 60);
}

#[test]
fn report_only_tells_and_leaves_alone() {
    let mut bench = Bench::started(Pacing { drift: RepairMode::ReportOnly, ..pacing() }, 4);
    bench.fake.kernel.remove(&key(2));
    bench.pass(s(300));
    assert_eq!(bench.fake.kernel.len(), 3);
    assert_eq!(bench.count(|n| matches!(n, Notice::Drift { repaired: false, .. })), 1);
    assert!(bench.healthy());
    bench.send(Event::BaseChanged);
    assert_eq!(bench.fake.kernel.len(), 4, "changed settings are never only reported");
}

#[test]
fn a_compare_leaves_out_what_is_quarantined_and_keeps_its_last_good() {
    let mut bench = Bench::started(pacing(), 3);
    bench.send(put([poison(1, 2)]));
    bench.fake.kernel.clear();
    bench.send(drift());
    bench.pass(s(2));
    assert_eq!(bench.fake.kernel, fragments(0..3));
}

#[test]
fn changed_settings_compare_at_once_and_are_no_drift() {
    let mut bench = Bench::started(pacing(), 3);
    bench.fake.kernel.remove(&key(1));
    bench.send(Event::BaseChanged);
    assert_eq!(bench.fake.compares, 2);
    assert!(bench.engine.status().counters.drift.is_empty());
    assert_eq!(bench.count(|n| matches!(n, Notice::Repaired { cause: Cause::Settings, .. })), 1);
}

#[test]
fn not_being_able_to_read_turns_health_bad_while_applies_go_on() {
    let mut bench = Bench::started(pacing(), 2);
    let begun = bench.now;
    for n in 0..300 {
        bench.fake.fault = Some(Fault::Observe);
        bench.pass(s(1));
        if n % 10 == 0 {
            bench.fake.fault = None;
            bench.send(put([value(0, n + 2)]));
        }
        if bench.now < begun + s(100) {
            assert!(bench.healthy(), "{n}");
        }
    }
    let Err(Unhealthy::Blind { .. }) = bench.engine.status().health(Family::V4, bench.now) else {
        panic!("{:?}", bench.engine.status())
    };
    assert!(bench.fake.versions()[&0] > 280, "changes still come into force");
    assert_eq!(bench.count(|n| matches!(n, Notice::RepairFailed { .. })), 1);
    bench.fake.fault = None;
    bench.pass(s(60));
    assert!(bench.healthy());
    assert_eq!(bench.count(|n| matches!(n, Notice::RepairWorks { .. })), 1);
}

#[test]
fn a_poisoned_cold_start_serves_everyone_else() {
    for hints in [false, true] {
        let mut bench = Bench::new(Pacing::new(s(1), s(3600)));
        bench.fake.hints = hints;
        bench.send(put((0..300).map(|n| if n == 77 { poison(n, 1) } else { value(n, 1) })));
        bench.send(Event::Synced);
        bench.pass(s(20));
        assert_eq!(bench.quarantined(), [key(77)]);
        assert_eq!(bench.fake.kernel.len(), 299);
        assert!(bench.fake.base);
        assert_eq!(bench.fake.compares, 2, "the first, and one at the end");
        assert_eq!(bench.applied.len(), 299);
        assert_eq!(bench.count(|n| matches!(n, Notice::Rebuilding { .. })), 1);
        assert_eq!(bench.count(|n| matches!(n, Notice::Rebuilt { .. })), 1, "its end is told as well");
        assert!(bench.healthy());
    }
}

#[test]
fn a_poisoned_start_over_existing_rules_removes_what_is_stale_in_the_end() {
    let mut bench = Bench::new(pacing());
    bench.fake.kernel = fragments(0..50);
    bench.send(put((10..60).map(|n| if n == 30 { poison(n, 2) } else { value(n, 1) })));
    bench.send(Event::Synced);
    assert!(bench.fake.kernel.contains_key(&key(5)), "nothing is removed before everything is written");
    bench.pass(s(20));
    let mut expected = fragments(10..60);
    expected.remove(&key(30));
    assert_eq!(bench.fake.kernel, expected);
}

#[test]
fn a_refused_base_blames_nobody() {
    let mut bench = Bench::new(pacing());
    bench.fake.base_is_poison = true;
    bench.send(put((0..100).map(|n| value(n, 1))));
    bench.send(Event::Synced);
    bench.pass(s(600));
    assert!(bench.quarantined().is_empty());
    assert_eq!(bench.count(|n| matches!(n, Notice::BaseRefused { .. })), 1);
    assert!(!bench.healthy());
    assert!(bench.began.len() < 60, "{} attempts in ten minutes", bench.began.len());
    bench.fake.base_is_poison = false;
    bench.pass(s(60));
    assert_eq!(bench.fake.kernel, fragments(0..100));
    assert!(bench.healthy());
}

#[test]
fn a_refused_base_in_an_empty_cluster_recovers() {
    let mut bench = Bench::new(pacing());
    bench.fake.base_is_poison = true;
    bench.send(Event::Synced);
    bench.pass(s(100));
    assert!(!bench.fake.base);
    bench.fake.base_is_poison = false;
    bench.pass(s(60));
    assert!(bench.fake.base);
}

#[test]
fn a_leftover_in_use_costs_one_whole_batch_and_no_service() {
    let mut bench = Bench::started(pacing(), 100);
    bench.fake.stuck.insert(key(500));
    bench.fake.kernel.insert(key(500), value(500, 1));
    bench.pass(s(31));
    assert_eq!(bench.fake.applies.iter().map(Vec::len).collect::<Vec<_>>(), [100], "everything is written, in one go");
    assert!(bench.quarantined().is_empty());
    bench.pass(s(3600));
    assert!(bench.healthy(), "everything desired is in the kernel");
    assert!((5..12).contains(&bench.fake.applies.len()), "{} rebuilds in an hour", bench.fake.applies.len());
    bench.send(put([value(0, 2)]));
    assert_eq!(bench.fake.versions()[&0], 2, "changes still go one by one");
    bench.fake.stuck.clear();
    bench.pass(s(700));
    assert_eq!(bench.fake.kernel.len(), 100);
    assert_eq!(bench.count(|n| matches!(n, Notice::RepairWorks { .. })), 1);
}

#[test]
fn a_flush_beside_a_leftover_in_use_is_repaired() {
    let mut bench = Bench::started(pacing(), 100);
    bench.fake.stuck.insert(key(500));
    for _ in 0..5 {
        bench.fake.kernel = [(key(500), value(500, 1))].into();
        bench.fake.base = false;
        bench.send(drift());
        bench.pass(s(31));
        assert_eq!(bench.fake.kernel.len(), 101, "all of ours is back");
        assert!(bench.fake.base);
    }
}

#[test]
fn a_silent_flush_beside_a_leftover_in_use_is_noticed_in_time() {
    let mut bench = Bench::started(pacing(), 100);
    bench.fake.stuck.insert(key(500));
    bench.fake.kernel.insert(key(500), value(500, 1));
    bench.pass(s(2000));
    assert_eq!(bench.quarantined(), []);
    // By now writing compares are ten minutes apart; looking ones are not.
    bench.fake.kernel = [(key(500), value(500, 1))].into();
    let rebuilds = bench.engine.status().counters.rebuilds;
    bench.pass(s(31) + s(31));
    assert_eq!(bench.fake.kernel.len(), 101);
    assert!(bench.healthy());
    bench.pass(s(100));
    assert_eq!(bench.engine.status().counters.rebuilds, rebuilds + 1);
}

#[test]
fn a_fragment_that_is_refused_since_lately_takes_nobody_down_in_a_flush() {
    let mut bench = Bench::started(pacing(), 50);
    // The kernel took it once; it does not any more.
    bench.send(put([value(20, 2), value(30, 2)]));
    bench.pass(s(2));
    let mut engine = bench.engine;
    let now = bench.now;
    assert!(model(&engine.step(drift(), now)).is_some());
    let refused = RepairError::Apply(error(ApplyErrorKind::Refused, "no"));
    let mut actions = engine.step(Event::RepairDone(Err(refused)), now);
    assert!(matches!(actions.last(), Some(Action::Apply { forget: true, .. })));
    let mut largest = 0;
    while let Some(batch) = moves(&actions) {
        largest = largest.max(batch.len());
        let bad = batch.iter().any(|step| step.after == Some(value(20, 2)));
        actions = engine.step(if bad { failed(ApplyErrorKind::Refused) } else { applied() }, now);
    }
    assert_eq!(largest, 50);
    let status = engine.status();
    assert_eq!(status.quarantined.iter().map(|q| (&q.key, q.kept)).collect::<Vec<_>>(), [(&key(20), false)]);
    assert_eq!(status.families.v4.applied + status.families.v6.applied, 49);
    let actions = engine.step(Event::Wake, now + s(1));
    assert_eq!(model(&actions).map(<[_]>::len), Some(49), "a compare makes an end of it");
}

#[test]
fn a_rebuild_keeps_last_good_values_also_of_the_quarantined() {
    let mut bench = Bench::started(pacing(), 20);
    bench.send(put([poison(3, 2)]));
    assert_eq!(bench.quarantined(), [key(3)]);
    bench.fake.stuck.insert(key(500));
    bench.fake.kernel = [(key(500), value(500, 1))].into();
    bench.send(drift());
    // What is refused while everything is written again has a last good value too.
    bench.send(put([poison(4, 2)]));
    bench.pass(s(5));
    for n in 0..20 {
        assert_eq!(bench.fake.versions()[&n], 1);
    }
    assert_eq!(bench.quarantined(), [key(4), key(3)], "IPv4 first");
    assert!(bench.engine.status().quarantined.iter().all(|entry| entry.kept));
}

#[test]
fn compares_and_changes_take_turns() {
    let mut bench = Bench::started(pacing(), 2);
    bench.send(put([poison(1, 2)]));
    bench.pass(s(5));
    bench.began.clear();
    for n in 0..50 {
        bench.send(drift());
        bench.send(put([value(0, 2 + n), poison(1, 2 + n)]));
        bench.pass(ms(500));
    }
    bench.pass(s(5));
    assert_eq!(bench.fake.versions()[&0], 51);
    assert!(bench.fake.compares > 5 && bench.fake.applies.len() > 5);
    assert!(bench.began.windows(2).all(|pair| pair[1] - pair[0] >= s(1)), "each with its gap");
}
