//! What one event costs the engine does not depend on how many fragments there are.

use std::time::Instant;

use super::*;

/// Something that happens to a fragment, to become this version, at this time.
type Round = Box<dyn FnMut(&mut Engine, usize, u32, Moment)>;

/// The median time of a round of each kind, in nanoseconds, with so many fragments.
fn rounds(fragments: usize) -> Vec<(&'static str, u128)> {
    let mut engine = started(Pacing { rest: 0, ..Pacing::new(Duration::ZERO, s(3600)) }, fragments, s(1));
    let mut now = s(10);
    let mut version = 1;
    let mut median = |what, mut round: Round| {
        let mut times: Vec<u128> = (0..301)
            .map(|n| {
                now += ms(10);
                version += 1;
                let began = Instant::now();
                round(&mut engine, n * 7_919 % fragments, version, now);
                began.elapsed().as_nanos()
            })
            .collect();
        times.sort_unstable();
        (what, times[times.len() / 2])
    };
    vec![
        median(
            "a changed fragment",
            Box::new(|engine, n, version, now| {
                assert!(moves(&engine.step(put([value(n, version)]), now)).is_some());
                assert_eq!(engine.status().families.v4.unapplied + engine.status().families.v6.unapplied, 1);
                engine.step(applied(), now);
            }),
        ),
        median(
            "a partial compare",
            Box::new(|engine, n, _, now| {
                assert!(model(&engine.step(drift_of([n]), now)).is_some());
                engine.step(compared(), now);
                assert_eq!(engine.status().unsure_since, None);
            }),
        ),
        median(
            "the start of a full compare",
            Box::new(|engine, _, _, now| {
                assert!(model(&engine.step(drift(), now)).is_some());
                engine.step(compared(), now);
            }),
        ),
    ]
}

#[test]
fn one_event_costs_the_same_among_few_and_among_many() {
    let (few, many) = (rounds(1_000), rounds(30_000));
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        println!("{what}: {few} ns among 1,000, {many} ns among 30,000");
        // Going through all of them would be thirty times as much.
        assert!(many < few * 8 + 20_000, "{what}: {few} ns among 1,000, {many} ns among 30,000");
    }
}

#[test]
fn a_status_costs_the_same_while_much_is_owed() {
    let mut times = Vec::new();
    for fragments in [1_000, 30_000] {
        let mut engine = Engine::new(Pacing::new(Duration::ZERO, s(3600)));
        engine.step(put((0..fragments).map(|n| value(n, 1))), s(1));
        let began = Instant::now();
        for _ in 0..1_000 {
            let status = engine.status();
            assert_eq!(status.families.v4.unapplied + status.families.v6.unapplied, fragments);
        }
        times.push(began.elapsed().as_nanos() / 1_000);
    }
    println!("a status: {} ns with 1,000 owed, {} ns with 30,000", times[0], times[1]);
    assert!(times[1] < times[0] * 8 + 20_000, "{times:?}");
}

#[test]
fn a_compare_gets_a_snapshot_not_a_copy() {
    let mut engine = started(Pacing::new(Duration::ZERO, s(3600)), 100, s(1));
    let address = |actions: Vec<Action>| model(&actions).expect("a compare").as_ptr();
    let first = address(engine.step(drift_of([1]), s(10)));
    engine.step(compared(), s(10));
    assert!(moves(&engine.step(put([value(5, 2)]), s(10))).is_some());
    engine.step(applied(), s(10));
    assert_eq!(address(engine.step(drift_of([1]), s(20))), first, "nor is anything copied by a change");
}
