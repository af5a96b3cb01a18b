//! Rows P14 to P23: the runner. A run is an apply or a compare. The configured gap alone: what runs cost is in `resting`.

use super::*;

const MIN: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(30);

fn paced(min_sync_period: Duration, sync_period: Duration) -> Pacing {
    Pacing { rest: 0, ..Pacing::new(min_sync_period, sync_period) }
}

fn pacing() -> Pacing {
    paced(MIN, MAX)
}

fn runs(actions: &[Action]) -> bool {
    moves(actions).is_some() || model(actions).is_some()
}

#[test]
fn p14_request_on_idle_runs_at_once() {
    let mut engine = started(pacing(), 1, s(1));
    let actions = engine.step(put([value(0, 2)]), s(5));
    assert_eq!(moves(&actions).map(<[_]>::len), Some(1));
}

#[test]
fn p14_first_request_runs_at_once() {
    let mut engine = Engine::new(pacing());
    assert!(runs(&engine.step(Event::Synced, Moment::ZERO)));
}

#[test]
fn p15_request_right_after_a_run_waits_for_the_gap() {
    let mut engine = started(pacing(), 1, s(5));
    let actions = engine.step(put([value(0, 2)]), s(5) + ms(10));
    assert_eq!(actions, [Action::WakeAt(s(6))]);
    assert!(!runs(&engine.step(Event::Wake, s(6) - ms(1))));
    assert!(runs(&engine.step(Event::Wake, s(6))));
}

#[test]
fn p15_gap_is_measured_from_the_end_of_the_run() {
    let mut engine = started(pacing(), 1, s(1));
    assert!(runs(&engine.step(put([value(0, 2)]), s(10))));
    assert!(engine.step(put([value(0, 3)]), s(14)).is_empty());
    assert_eq!(wake_at(&engine.step(applied(), s(15))), Some(s(16)));
}

#[test]
fn p16_many_requests_in_the_interval_are_one_run() {
    let mut engine = started(pacing(), 3, s(5));
    for n in 0..100 {
        assert!(!runs(&engine.step(put([value(n % 3, 2 + n as u32)]), s(5) + ms(n as u64))));
    }
    let actions = engine.step(Event::Wake, s(6));
    let versions: Vec<_> = moves(&actions).unwrap().iter().filter_map(|m| m.after.as_deref().map(version)).collect();
    assert_eq!(versions, [101, 99, 100], "the newest value of each, in the order of the keys");
    assert_eq!(wake_at(&engine.step(applied(), s(6))), Some(s(5) + MAX), "nothing is left but the periodic compare");
}

#[test]
fn p16_zero_gap_runs_when_the_previous_run_ended() {
    let mut engine = started(paced(Duration::ZERO, MAX), 1, s(5));
    assert!(runs(&engine.step(put([value(0, 2)]), s(5))));
    assert!(engine.step(put([value(0, 3)]), s(5)).is_empty());
    assert!(runs(&engine.step(applied(), s(6))));
}

#[test]
fn p17_no_request_runs_at_the_max_interval() {
    let mut engine = started(pacing(), 1, s(5));
    assert_eq!(engine.step(Event::Wake, s(20)), [Action::WakeAt(s(35))]);
    let actions = engine.step(Event::Wake, s(35));
    assert_eq!(model(&actions), Some([value(0, 1)].as_slice()));
    assert_eq!(wake_at(&engine.step(compared(), s(36))), Some(s(66)));
}

#[test]
fn p18_failed_run_runs_again_at_the_retry_interval() {
    let mut pacing = pacing();
    pacing.first_retry = s(4);
    let mut engine = started(pacing, 1, s(5));
    engine.step(put([value(0, 2)]), s(10));
    assert_eq!(wake_at(&engine.step(failed(ApplyErrorKind::Busy), s(11))), Some(s(15)));
    assert!(!runs(&engine.step(Event::Wake, s(14))));
    let again = engine.step(Event::Wake, s(15));
    assert_eq!(moves(&again).unwrap()[0].after, Some(value(0, 2)), "the same batch");
    assert_eq!(wake_at(&engine.step(failed(ApplyErrorKind::Busy), s(16))), Some(s(24)), "the wait doubles");
}

#[test]
fn p18_failed_first_run_runs_again() {
    let mut engine = Engine::new(pacing());
    engine.step(put([value(0, 1)]), s(1));
    assert!(runs(&engine.step(Event::Synced, s(1))));
    let mut now = s(1);
    for _ in 0..20 {
        now = wake_at(&engine.step(unreadable(), now)).expect("a retry");
        let again = engine.step(Event::Wake, now);
        assert_eq!(model(&again), Some([value(0, 1)].as_slice()), "nothing is lost, nothing is applied blindly");
    }
    assert_eq!(moves(&engine.step(compared(), now)), None);
    assert_eq!(engine.status().families.v4.applied, 1);
}

#[test]
fn p19_request_before_the_retry_time_runs_after_the_gap() {
    let mut engine = started(paced(MIN, s(120)), 2, s(5));
    let mut now = s(10);
    engine.step(put([value(0, 2)]), now);
    for _ in 0..8 {
        now = wake_at(&engine.step(failed(ApplyErrorKind::Busy), now)).expect("a retry");
        assert!(runs(&engine.step(Event::Wake, now)));
    }
    let retry = wake_at(&engine.step(failed(ApplyErrorKind::Busy), now)).expect("a retry");
    assert!(retry > now + s(20), "the retry is far away");
    assert_eq!(engine.step(put([value(1, 2)]), now + ms(10)), [Action::WakeAt(now + MIN)]);
    let actions = engine.step(Event::Wake, now + MIN);
    assert_eq!(moves(&actions).map(<[_]>::len), Some(2), "what failed goes along");
    let done = engine.step(applied(), now + MIN);
    assert_eq!(wake_at(&done), Some(now + 2 * MIN), "no retry: only the compare after failures, a gap later");
    assert!(model(&engine.step(Event::Wake, now + 2 * MIN)).is_some());
}

#[test]
fn p20_success_after_error_ends_the_retries() {
    let mut engine = started(pacing(), 1, s(5));
    engine.step(put([value(0, 2)]), s(20));
    engine.step(failed(ApplyErrorKind::Busy), s(20));
    assert!(runs(&engine.step(Event::Wake, s(21))));
    assert_eq!(wake_at(&engine.step(applied(), s(21))), Some(s(22)));
    assert!(model(&engine.step(Event::Wake, s(22))).is_some(), "one compare cleans up after the failure");
    assert_eq!(wake_at(&engine.step(compared(), s(22))), Some(s(22) + MAX), "then the max interval applies");
}

#[test]
fn p21_retry_shorter_than_the_gap_waits_for_the_gap() {
    let mut engine = started(paced(s(8), MAX), 1, s(5));
    engine.step(put([value(0, 2)]), s(20));
    assert_eq!(wake_at(&engine.step(failed(ApplyErrorKind::Busy), s(20))), Some(s(28)));
    assert!(!runs(&engine.step(put([value(0, 3)]), s(21))), "nor does a request undercut it");
    assert!(runs(&engine.step(Event::Wake, s(28))));
}

#[test]
fn p22_retry_longer_than_the_max_is_cut_to_it() {
    let mut pacing = paced(MIN, s(10));
    pacing.first_retry = s(500);
    let mut engine = started(pacing, 1, s(5));
    engine.step(put([value(0, 2)]), s(6));
    let actions = engine.step(failed(ApplyErrorKind::Busy), s(8));
    assert_eq!(wake_at(&actions), Some(s(15)), "the periodic compare comes even earlier");
    assert!(model(&engine.step(Event::Wake, s(15))).is_some());
    engine.step(compared(), s(15));
    assert!(moves(&engine.step(Event::Wake, s(18))).is_some());
}

#[test]
fn p23_stop_ends_the_loop() {
    let mut engine = started(pacing(), 1, s(5));
    assert!(runs(&engine.step(put([value(0, 2)]), s(10))));
    assert!(engine.step(Event::Stop, s(10)).is_empty());
    assert!(engine.busy(), "what is in flight is not forgotten");
    assert_eq!(engine.step(applied(), s(11)).len(), 1, "and is accounted for");
    assert!(!engine.busy());
    assert!(engine.step(put([value(0, 3)]), s(12)).is_empty());
    assert!(engine.step(Event::Wake, s(99)).is_empty());
}

#[test]
fn absurd_periods_do_not_overflow() {
    let mut engine = started(paced(Duration::MAX, Duration::MAX), 1, s(5));
    let actions = engine.step(put([value(0, 2)]), s(6));
    let at = wake_at(&actions).expect("a time");
    assert!(Clock::start().instant(at) > std::time::Instant::now());
    assert_eq!(engine.status().health(Family::V4, s(7)), Ok(()));
}
