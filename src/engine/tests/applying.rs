//! Failed applies, bisecting, quarantine.

use super::fake::{Bench, Fault, key_of};
use super::*;

fn pacing() -> Pacing {
    Pacing::new(s(1), s(30))
}

fn versions(pairs: impl IntoIterator<Item = (usize, u32)>) -> std::collections::BTreeMap<usize, u32> {
    pairs.into_iter().collect()
}

/// The slowest bench: the periodic compare stays out of the way.
fn bench(fragments: usize) -> Bench {
    Bench::started(Pacing { first_retry: ms(100), ..Pacing::new(s(1), s(3600)) }, fragments)
}

#[test]
fn nothing_is_programmed_before_synced() {
    let mut bench = Bench::new(pacing());
    bench.send(put([value(0, 1)]));
    bench.send(Event::Wake);
    bench.send(Event::BaseChanged);
    bench.send(drift());
    bench.pass(s(3600));
    assert!(bench.began.is_empty());
    assert!(bench.healthy(), "nothing is owed before the source has told everything");
    bench.send(Event::Synced);
    assert_eq!(bench.fake.versions(), versions([(0, 1)]));
    assert!(bench.healthy());
}

#[test]
fn only_what_changed_is_applied_and_said() {
    let mut bench = bench(4);
    bench.send(put([value(1, 2), value(2, 1), value(9, 1)]));
    assert_eq!(bench.fake.applies, [vec![key(1), key(9)]]);
    let step = Move { before: Some(value(1, 1)), after: Some(value(1, 2)) };
    assert_eq!(bench.applied, [step, Move { before: None, after: Some(value(9, 1)) }]);
    bench.pass(s(2));
    bench.send(gone(1));
    assert_eq!(bench.fake.versions(), versions([(0, 1), (2, 1), (3, 1), (9, 1)]));
}

#[test]
fn a_change_that_is_undone_before_the_gap_is_over_is_not_applied() {
    let mut bench = bench(2);
    bench.send(put([value(0, 2)]));
    bench.send(put([value(1, 2)]));
    bench.send(put([value(1, 1)]));
    bench.pass(s(10));
    assert_eq!(bench.fake.applies, [vec![key(0)]]);
}

#[test]
fn busy_keeps_the_batch_whole_and_loses_nothing() {
    let mut bench = bench(3);
    bench.fake.partial = 50;
    bench.fake.fault = Some(Fault::Apply(ApplyErrorKind::Busy));
    bench.send(put([value(0, 2), value(1, 2)]));
    assert!(bench.quarantined().is_empty());
    bench.pass(s(1));
    assert_eq!(bench.fake.applies, [[key(0), key(1)], [key(0), key(1)]]);
    assert_eq!(bench.fake.versions(), versions([(0, 2), (1, 2), (2, 1)]));
    assert_eq!(bench.fake.compares, 1);
    bench.pass(s(20));
    assert_eq!(bench.fake.compares, 2, "one compare cleans up");
}

#[test]
fn an_undone_change_that_came_half_into_force_is_cleaned_up() {
    let mut bench = bench(2);
    bench.fake.partial = 100;
    bench.fake.fault = Some(Fault::Apply(ApplyErrorKind::Busy));
    bench.send(put([value(0, 2), value(1, 2)]));
    assert_eq!(bench.fake.versions(), versions([(0, 2), (1, 2)]));
    bench.send(put([value(0, 1), value(1, 1)]));
    assert_eq!(bench.engine.status().families.v4.unapplied, 0);
    assert!(bench.engine.status().unsure_since.is_some(), "nothing is dirty, but the kernel may hold leftovers");
    bench.pass(s(20));
    assert_eq!(bench.fake.versions(), versions([(0, 1), (1, 1)]));
    assert_eq!(bench.engine.status().unsure_since, None);
}

#[test]
fn unavailable_is_told_once_and_once_when_it_is_over() {
    let mut engine = started(Pacing::new(s(1), s(30)), 1, s(1));
    let mut now = s(10);
    let mut told = Vec::new();
    engine.step(put([value(0, 2)]), now);
    for _ in 0..12 {
        let actions = engine.step(failed(ApplyErrorKind::Unavailable), now);
        told.extend(notices(&actions).into_iter().cloned());
        now = wake_at(&actions).expect("a retry");
        while moves(&engine.step(Event::Wake, now)).is_none() {
            // The periodic compare has its turn.
            let actions = engine.step(compared(), now);
            told.extend(notices(&actions).into_iter().filter(|n| !matches!(n, Notice::ApplyWorks { .. })).cloned());
            now = wake_at(&actions).expect("a retry");
        }
    }
    let loud = told.iter().filter(|n| matches!(n, Notice::ApplyFailed { .. })).count();
    assert!(loud <= 5, "at most once between successes, not once per attempt: {loud}");
    let actions = engine.step(applied(), now);
    assert!(notices(&actions).iter().any(|n| matches!(n, Notice::ApplyWorks { .. })));
}

#[test]
fn one_bad_fragment_among_many_is_found_and_all_others_are_served_at_once() {
    let mut bench = bench(1000);
    let values = (0..1000).map(|n| if n == 617 { poison(n, 2) } else { value(n, 2) });
    bench.send(put(values));
    let mut expected = versions((0..1000).map(|n| (n, 2)));
    expected.insert(617, 1);
    assert_eq!(bench.fake.versions(), expected, "last good for the one, newest for all others, within one run");
    assert_eq!(bench.quarantined(), [key(617)]);
    assert!(bench.fake.applies.len() <= 2 * 10 + 1, "{} applies", bench.fake.applies.len());
    assert_eq!(bench.count(|n| matches!(n, Notice::Bisecting { .. })), 1);
    let quarantined: Vec<_> =
        bench.notices.iter().filter(|(_, n)| matches!(n, Notice::Quarantined { .. })).map(|(_, n)| n).collect();
    let [Notice::Quarantined { key: who, reason, kept: true }] = quarantined.as_slice() else {
        panic!("{quarantined:?}")
    };
    assert_eq!(who, &key(617));
    assert!(reason.contains("svc-00617"), "{reason}");
    assert!(bench.healthy());
    bench.pass(s(20));
    assert_eq!(bench.fake.compares, 2, "once after all of it, not once per failure");
    bench.pass(s(3000));
    assert!(bench.healthy(), "one bad service does not make a bad node");
}

#[test]
fn with_the_kernels_hint_one_refusal_is_enough() {
    let mut bench = bench(1000);
    bench.fake.hints = true;
    bench.send(put((0..1000).map(|n| if n == 617 { poison(n, 2) } else { value(n, 2) })));
    let sizes: Vec<_> = bench.fake.applies.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1000, 999, 1]);
    assert_eq!(bench.quarantined(), [key(617)]);
}

#[test]
fn many_bad_fragments_are_all_found_and_nobody_else() {
    let bad = [3, 4, 100, 511, 512, 640, 999];
    for hints in [false, true] {
        let mut bench = bench(0);
        bench.fake.hints = hints;
        bench.send(put((0..1000).map(|n| if bad.contains(&n) { poison(n, 1) } else { value(n, 1) })));
        bench.pass(s(20));
        let mut expected: Vec<_> = bad.iter().map(|n| key(*n)).collect();
        expected.sort();
        assert_eq!(bench.quarantined(), expected);
        assert_eq!(bench.fake.kernel.len(), 1000 - bad.len());
        assert!(bench.healthy());
    }
}

#[test]
fn a_wrong_hint_costs_attempts_and_blames_nobody() {
    let mut engine = started(pacing(), 0, s(1));
    let mut actions = engine.step(put((0..64).map(|n| value(n, 1))), s(5));
    let mut refusals = 0;
    while let Some(batch) = moves(&actions).map(<[_]>::to_vec) {
        // Fragment 40 is at fault; the kernel always blames the first.
        let bad = batch.iter().any(|step| key_of(step) == key(40));
        let error = error(ApplyErrorKind::Refused, "no");
        let failure = ApplyFailure { error, suspect: batch.first().map(key_of) };
        refusals += usize::from(bad);
        actions = engine.step(Event::ApplyDone(if bad { Err(failure) } else { Ok(()) }), s(5));
    }
    assert_eq!(engine.status().quarantined.len(), 1);
    assert_eq!(engine.status().quarantined[0].key, key(40));
    assert!(refusals <= 8 + 7, "{refusals}");
}

#[test]
fn fragments_refused_only_together_are_applied_apart() {
    let mut engine = started(pacing(), 0, s(1));
    let mut actions = engine.step(put((0..8).map(|n| value(n, 1))), s(5));
    while let Some(batch) = moves(&actions) {
        let result = if batch.len() > 2 { failed(ApplyErrorKind::Refused) } else { applied() };
        actions = engine.step(result, s(5));
    }
    assert_eq!(engine.status().families.v4.applied + engine.status().families.v6.applied, 8);
    assert!(engine.status().quarantined.is_empty());
}

#[test]
fn quarantined_is_tried_alone_and_ever_more_rarely() {
    let mut bench = bench(2);
    bench.send(put([poison(0, 2)]));
    bench.fake.applies.clear();
    let began = bench.now;
    bench.pass(s(3000));
    assert!(bench.fake.applies.iter().all(|batch| batch == &[key(0)]));
    // 30 + 60 + 120 + 240 + 480 + 600 + 600 + 600 seconds.
    assert_eq!(bench.fake.applies.len(), 8);
    let status = bench.engine.status();
    assert_eq!((status.quarantined[0].attempts, status.quarantined[0].since), (9, began));
    assert_eq!(bench.count(|n| matches!(n, Notice::Quarantined { .. })), 1, "told once");
}

#[test]
fn quarantined_changes_are_never_in_a_batch_with_others() {
    let mut bench = bench(3);
    bench.send(put([poison(0, 2)]));
    bench.pass(s(5));
    bench.fake.applies.clear();
    for version in 3..9 {
        bench.send(put([poison(0, version), value(1, version), value(2, version)]));
        bench.pass(s(5));
    }
    assert!(bench.fake.applies.iter().all(|batch| batch == &[key(0)] || batch == &[key(1), key(2)]));
    assert_eq!(bench.fake.applies.len(), 12, "each change is worth one attempt");
    assert_eq!(bench.fake.versions(), versions([(0, 1), (1, 8), (2, 8)]));
}

#[test]
fn a_quarantined_fragment_that_changes_all_the_time_starves_nobody() {
    let mut bench = Bench::started(Pacing::new(Duration::ZERO, s(3600)), 2);
    bench.send(put([poison(0, 2)]));
    bench.fake.applies.clear();
    for n in 0..1000 {
        bench.send(put([poison(0, 3 + n), value(1, 3 + n)]));
        assert_eq!(bench.fake.versions()[&1], 3 + n, "applied at once");
        bench.pass(ms(10));
    }
    let alone = bench.fake.applies.iter().filter(|batch| *batch == &[key(0)]).count();
    assert!((8..=11).contains(&alone), "at most once a second: {alone}");
}

#[test]
fn a_quarantined_fragment_recovers_with_a_good_value() {
    let mut bench = bench(1);
    bench.send(put([poison(0, 2)]));
    bench.pass(s(5));
    bench.send(put([value(0, 3)]));
    assert_eq!(bench.fake.versions(), versions([(0, 3)]));
    assert!(bench.quarantined().is_empty());
    assert_eq!(bench.count(|n| matches!(n, Notice::Recovered { attempts: 1, .. })), 1);
    bench.fake.applies.clear();
    bench.pass(s(2));
    bench.send(put([value(0, 4), value(1, 1)]));
    assert_eq!(bench.fake.applies, [[key(0), key(1)]], "an ordinary fragment again");
}

#[test]
fn a_quarantined_fragment_recovers_when_the_kernel_takes_it_after_all() {
    let mut bench = bench(1);
    bench.fake.fault = Some(Fault::Apply(ApplyErrorKind::Refused));
    bench.send(put([value(0, 2)]));
    assert_eq!(bench.quarantined(), [key(0)]);
    bench.pass(s(31));
    assert_eq!(bench.fake.versions(), versions([(0, 2)]));
    assert!(bench.quarantined().is_empty());
}

#[test]
fn a_quarantined_fragment_is_released_when_desired_as_it_is() {
    let mut bench = bench(1);
    bench.send(put([poison(0, 2)]));
    bench.pass(s(20));
    bench.fake.applies.clear();
    bench.send(put([value(0, 1)]));
    bench.pass(s(600));
    assert!(bench.quarantined().is_empty());
    assert!(bench.fake.applies.is_empty());
}

#[test]
fn a_quarantined_fragment_without_rules_is_released_when_it_is_deleted() {
    let mut bench = bench(0);
    bench.send(put([poison(0, 1)]));
    assert!(!bench.engine.status().quarantined[0].kept);
    bench.send(gone(0));
    assert!(bench.quarantined().is_empty());
    bench.pass(s(20));
    assert!(bench.fake.kernel.is_empty());
}

#[test]
fn a_quarantined_fragment_with_rules_is_removed_when_it_is_deleted() {
    let mut bench = bench(1);
    bench.send(put([poison(0, 2)]));
    bench.send(gone(0));
    bench.pass(s(2));
    assert!(bench.fake.kernel.is_empty());
    assert!(bench.quarantined().is_empty());
}

#[test]
fn a_newer_value_replaces_one_in_a_group_of_suspects() {
    let mut engine = started(pacing(), 0, s(1));
    engine.step(put((0..4).map(|n| value(n, 1))), s(5));
    let first = engine.step(failed(ApplyErrorKind::Refused), s(5));
    assert_eq!(moves(&first).map(<[_]>::len), Some(2));
    engine.step(put([value(2, 7), value(0, 9)]), s(5));
    let second = engine.step(applied(), s(5));
    let sent: Vec<_> = moves(&second).unwrap().iter().filter_map(|step| step.after.clone()).collect();
    assert_eq!(sent.len(), 2);
    assert!(!sent.contains(&value(2, 1)), "no old value is sent");
    let third = engine.step(applied(), s(5));
    assert_eq!(moves(&third), None, "the bisect is over, and with it the run");
    let rest = engine.step(Event::Wake, s(6));
    let sent: Vec<_> = moves(&rest).unwrap().iter().filter_map(|step| step.after.clone()).collect();
    assert!(sent.contains(&value(0, 9)), "what changed in flight follows: {sent:?}");
}

#[test]
fn a_value_that_arrives_while_another_is_refused_is_tried_before_it_is_given_up() {
    let mut engine = started(pacing(), 1, s(1));
    assert!(moves(&engine.step(put([poison(0, 2)]), s(5))).is_some());
    engine.step(put([value(0, 3)]), s(5));
    assert_eq!(wake_at(&engine.step(failed(ApplyErrorKind::Refused), s(5))), Some(s(6)));
    let actions = engine.step(Event::Wake, s(6));
    assert_eq!(moves(&actions), Some([Move { before: Some(value(0, 1)), after: Some(value(0, 3)) }].as_slice()));
    engine.step(applied(), s(6));
    assert!(engine.status().quarantined.is_empty());
}

#[test]
fn busy_in_the_middle_of_bisecting_goes_on_where_it_was() {
    let mut bench = bench(0);
    bench.send(put((0..64).map(|n| if n == 5 { poison(n, 1) } else { value(n, 1) })));
    let refusals = bench.fake.applies.len();
    let mut bench = self::bench(0);
    let mut engine = started(pacing(), 0, s(1));
    let mut now = s(5);
    let mut actions = engine.step(put((0..64).map(|n| if n == 5 { poison(n, 1) } else { value(n, 1) })), now);
    let mut busy = 0;
    for attempt in 0..500 {
        if let Some(batch) = moves(&actions) {
            let event = if attempt % 3 == 1 {
                busy += 1;
                failed(ApplyErrorKind::Busy)
            } else {
                bench.fake.remembered =
                    batch.iter().filter_map(|step| step.before.clone()).map(|v| (v.key.clone(), v)).collect();
                match bench.fake.apply(batch) {
                    Ok(()) => applied(),
                    Err(error) => Event::ApplyDone(Err(ApplyFailure { error, suspect: None })),
                }
            };
            actions = engine.step(event, now);
        } else if model(&actions).is_some() {
            break;
        } else {
            now = wake_at(&actions).expect("something to come");
            actions = engine.step(Event::Wake, now);
        }
    }
    assert!(busy > 2);
    assert_eq!(engine.status().quarantined.len(), 1);
    assert_eq!(engine.status().families.v4.unapplied + engine.status().families.v6.unapplied, 0);
    assert!(engine.status().counters.applies as usize <= refusals + busy);
}

#[test]
fn a_fragment_that_is_desired_as_it_is_while_it_is_tried_leaves_quarantine() {
    let mut engine = started(pacing(), 1, s(1));
    engine.step(put([value(0, 2)]), s(5));
    engine.step(failed(ApplyErrorKind::Refused), s(5));
    assert!(moves(&engine.step(put([value(0, 3)]), s(7))).is_some());
    assert!(engine.step(put([value(0, 1)]), s(7)).is_empty());
    let actions = engine.step(failed(ApplyErrorKind::Busy), s(7));
    assert!(notices(&actions).iter().any(|n| matches!(n, Notice::Recovered { .. })));
    assert!(engine.status().quarantined.is_empty());
}

#[test]
fn health_turns_bad_with_an_old_change_and_good_when_it_is_in() {
    let mut engine = started(Pacing::new(s(1), s(30)), 4, s(1));
    let begun = s(10);
    engine.step(put([value(0, 2)]), begun);
    engine.step(put([value(0, 3)]), begun + s(50));
    let health = |engine: &Engine, now| engine.status().health(Family::V4, now);
    assert_eq!(health(&engine, begun + s(59)), Ok(()));
    let late = Unhealthy::Late { age: s(60), limit: s(60) };
    assert_eq!(health(&engine, begun + s(60)), Err(late), "in flight is not in force");
    assert_eq!(engine.status().health(Family::V6, begun + s(60)), Ok(()));
    engine.step(applied(), begun + s(61));
    assert_eq!(health(&engine, begun + s(61)), Ok(()), "the newer change is only eleven seconds old");
    assert_eq!(engine.status().families.v4.oldest_unapplied, Some(begun + s(50)));
}
