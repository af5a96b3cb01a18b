//! Changes gathered by what they cost.

use super::fake::Bench;
use super::*;

/// What happens to single changes of fragment 0, 1, … that are made at these times, when a kernel action takes `cost`.
struct Outcome {
    /// How long each was owed.
    waits: Vec<Duration>,
    /// How long the kernel was worked on, as a share of the time.
    duty: f64,
}

/// The events of the world and the ends of kernel actions, in order.
fn play(pacing: Pacing, changes: &[Duration], cost: impl Fn(usize) -> Duration) -> Outcome {
    let start = s(100);
    let mut engine = started(pacing, changes.len(), s(1));
    let mut actions = 0;
    let (mut wake, mut done): (Option<Moment>, Option<(Moment, Vec<Move>)>) = (None, None);
    let mut waits = vec![None; changes.len()];
    let mut busy = Duration::ZERO;
    let mut next = 0;
    loop {
        let change = changes.get(next).map(|at| start + *at);
        let ended = done.as_ref().map(|(at, _)| *at);
        let Some(now) = change.into_iter().chain(ended).chain(wake.filter(|at| *at < s(500))).min() else { break };
        let event = if ended == Some(now) {
            for step in done.take().into_iter().flat_map(|(_, moves)| moves) {
                let n = (0..changes.len()).find(|n| key(*n) == fake::key_of(&step)).expect("one of ours");
                waits[n] = Some(now - start - changes[n]);
            }
            applied()
        } else if change == Some(now) {
            next += 1;
            put([value(next - 1, 2)])
        } else {
            wake = None;
            Event::Wake
        };
        for action in engine.step(event, now) {
            match action {
                Action::Apply { moves, .. } => {
                    busy += cost(actions);
                    done = Some((now + cost(actions), moves));
                    actions += 1;
                }
                Action::Repair { .. } => {
                    assert!(engine.step(compared(), now).iter().all(|a| !matches!(a, Action::Apply { .. })));
                }
                Action::WakeAt(at) => wake = Some(at),
                Action::Applied(_) | Action::Notice(_) => {}
            }
        }
    }
    let waits: Vec<_> = waits.into_iter().map(|wait| wait.expect("in force in the end")).collect();
    let last = changes.iter().zip(&waits).map(|(at, wait)| *at + *wait).max().unwrap_or_default();
    Outcome { waits, duty: busy.as_secs_f64() / last.as_secs_f64() }
}

/// The periodic compare stays out of the way.
fn pacing() -> Pacing {
    Pacing::new(Duration::ZERO, s(3600))
}

fn storm(changes: u64, gap: Duration) -> Vec<Duration> {
    (0..changes).map(|n| gap * n as u32).collect()
}

#[test]
fn a_lone_change_waits_for_nothing() {
    let outcome = play(pacing(), &[s(0), s(60)], |_| ms(250));
    assert_eq!(outcome.waits, [ms(250); 2]);
}

#[test]
fn a_storm_of_dear_changes_is_gathered() {
    let outcome = play(pacing(), &storm(3_000, ms(10)), |_| ms(250));
    assert!(outcome.duty <= 0.30, "{}", outcome.duty);
    assert!(outcome.waits.iter().all(|wait| *wait <= s(2)), "{:?}", outcome.waits.iter().max());
}

#[test]
fn a_storm_in_which_one_change_in_ten_is_dear_is_gathered_too() {
    let outcome = play(pacing(), &storm(3_000, ms(10)), |n| if n % 10 == 0 { ms(250) } else { ms(2) });
    assert!(outcome.duty <= 0.30, "{}", outcome.duty);
    assert!(outcome.waits.iter().all(|wait| *wait <= s(2)), "{:?}", outcome.waits.iter().max());
}

#[test]
fn cheap_changes_close_together_are_hardly_held() {
    let outcome = play(pacing(), &storm(1_000, ms(5)), |_| ms(1));
    assert!(outcome.waits.iter().all(|wait| *wait <= ms(5)), "{:?}", outcome.waits.iter().max());
}

#[test]
fn a_very_dear_change_holds_the_next_for_five_seconds_at_most() {
    let outcome = play(pacing(), &[s(0), ms(10)], |_| s(20));
    assert_eq!(outcome.waits, [s(20), s(20) + s(5) + s(20) - ms(10)]);
}

#[test]
fn a_longer_gap_that_was_configured_is_kept() {
    let outcome = play(Pacing::new(s(2), s(3600)), &[s(0), ms(10)], |_| ms(100));
    assert_eq!(outcome.waits[1], ms(100) + s(2) + ms(100) - ms(10));
}

#[test]
fn all_parts_of_a_bisected_batch_count() {
    let mut bench = Bench::started(pacing(), 64);
    bench.cost = ms(100);
    let begun = bench.now;
    bench.send(put((0..64).map(|n| if n == 5 { poison(n, 2) } else { value(n, 2) })));
    let spent = bench.now - begun;
    assert!(spent > ms(1_000), "{spent:?}");
    bench.began.clear();
    bench.send(put([value(7, 3)]));
    let ended = bench.now;
    bench.pass(s(5));
    assert_eq!(bench.began.first(), Some(&(ended + (3 * spent).min(s(5)))));
}

#[test]
fn what_the_start_costs_holds_nobody() {
    let mut engine = Engine::new(pacing());
    engine.step(put([value(0, 1)]), s(1));
    engine.step(Event::Synced, s(1));
    engine.step(compared(), s(4));
    assert!(moves(&engine.step(put([value(0, 2)]), s(4))).is_some());
}
