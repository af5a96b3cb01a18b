//! When a run may start: the rest after the one before, and growing waits after failures.

use std::time::Duration;

use super::backend::RepairMode;

/// A point in time on the engine's clock: how long after the clock's origin. Never goes back.
pub type Moment = Duration;

/// How often the engine acts, and what it does about drift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// From the end of a run to the start of the next, at least. Zero is fine: what runs cost makes a rest of its own.
    pub min_sync_period: Duration,
    /// After changes that took a time follows a rest of so many times that time. Three: the kernel is worked on a
    /// quarter of the time at most. Zero: no rest but the minimum.
    pub rest: u32,
    /// The longest such rest.
    pub max_rest: Duration,
    /// From the end of a full compare to the start of the next; also the longest wait after a failure. Not zero.
    pub sync_period: Duration,
    /// The wait after the first failure; it doubles with each that follows.
    pub first_retry: Duration,
    /// The wait before a quarantined fragment that did not change is tried again; it doubles.
    pub first_quarantine_retry: Duration,
    /// The longest such wait.
    pub max_quarantine_retry: Duration,
    /// What a periodic compare, or one after suspected drift, does with a difference.
    pub drift: RepairMode,
}

impl Pacing {
    /// The two periods as configured, everything else as usual.
    pub fn new(min_sync_period: Duration, sync_period: Duration) -> Self {
        Pacing {
            min_sync_period,
            rest: 3,
            max_rest: Duration::from_secs(5),
            sync_period,
            first_retry: Duration::from_millis(100),
            first_quarantine_retry: Duration::from_secs(30),
            max_quarantine_retry: Duration::from_secs(600),
            drift: RepairMode::Repair,
        }
    }
}

/// A rest after work, as long as the work was dear.
///
/// What counts is the dearest of the last runs, halved with every run since: a cheap run in a storm of dear ones does not
/// cut the rest short. After a pause of the longest rest what was before is forgotten.
#[derive(Debug)]
pub(super) struct Rest {
    factor: u32,
    longest: Duration,
    /// What a run costs lately.
    cost: Duration,
    /// What the run in progress has taken so far.
    spent: Option<Duration>,
    until: Moment,
}

impl Rest {
    pub(super) fn new(pacing: &Pacing) -> Self {
        Rest { factor: pacing.rest, longest: pacing.max_rest, cost: Duration::ZERO, spent: None, until: Moment::ZERO }
    }

    /// A kernel action of the run in progress took so long.
    pub(super) fn worked(&mut self, took: Duration) {
        self.spent = Some(self.spent.unwrap_or_default().saturating_add(took));
    }

    /// The run in progress is over, if there was one.
    pub(super) fn run_over(&mut self, now: Moment) {
        let Some(spent) = self.spent.take() else { return };
        let idle = now.saturating_sub(spent).saturating_sub(self.until);
        let before = if idle >= self.longest { Duration::ZERO } else { self.cost / 2 };
        self.cost = before.max(spent);
        let rest = self.cost.checked_mul(self.factor).unwrap_or(self.longest).min(self.longest);
        self.until = now.saturating_add(rest);
    }

    /// When it is over.
    pub(super) fn until(&self) -> Moment {
        self.until
    }
}

/// A wait that doubles with each failure in a row.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
    failed_at: Moment,
    until: Moment,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Backoff { first: first.min(max), max, failures: 0, failed_at: Moment::ZERO, until: Moment::ZERO }
    }

    /// Counts a failure; returns how long to wait.
    pub(super) fn fail(&mut self, now: Moment) -> Duration {
        let doubled = 1u32.checked_shl(self.failures).and_then(|factor| self.first.checked_mul(factor));
        let wait = doubled.unwrap_or(self.max).min(self.max);
        self.failures = self.failures.saturating_add(1);
        self.failed_at = now;
        self.until = now.saturating_add(wait);
        wait
    }

    /// Something new is worth an attempt before the wait is over, but never sooner than the first wait.
    pub(super) fn hurry(&mut self) {
        self.until = self.until.min(self.failed_at.saturating_add(self.first));
    }

    /// Back to no wait; returns how many failures there were.
    pub(super) fn succeed(&mut self) -> u32 {
        self.until = Moment::ZERO;
        std::mem::take(&mut self.failures)
    }

    pub(super) fn failing(&self) -> bool {
        self.failures > 0
    }

    /// The earliest time of the next attempt.
    pub(super) fn ready(&self) -> Moment {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn rest() -> Rest {
        Rest::new(&Pacing::new(Duration::ZERO, 30 * SECOND))
    }

    /// A run that ends then; returns how long the rest is.
    fn run(rest: &mut Rest, took: Duration, ends: Moment) -> Duration {
        rest.worked(took);
        rest.run_over(ends);
        rest.until().saturating_sub(ends)
    }

    #[test]
    fn a_run_is_followed_by_three_times_what_it_took() {
        assert_eq!(rest().until(), Moment::ZERO, "the first waits for nothing");
        assert_eq!(run(&mut rest(), ms(1), SECOND), ms(3));
        assert_eq!(run(&mut rest(), ms(250), SECOND), ms(750));
        assert_eq!(run(&mut rest(), 2 * SECOND, 9 * SECOND), 5 * SECOND, "but not by more than the longest");
        assert_eq!(run(&mut rest(), Duration::MAX, 9 * SECOND), 5 * SECOND);
        let none = Pacing { rest: 0, ..Pacing::new(Duration::ZERO, SECOND) };
        assert_eq!(run(&mut Rest::new(&none), SECOND, SECOND), Duration::ZERO);
    }

    #[test]
    fn all_actions_of_a_run_count_and_a_rest_begins_once() {
        let mut rest = rest();
        rest.worked(ms(100));
        rest.worked(ms(100));
        rest.run_over(SECOND);
        assert_eq!(rest.until(), SECOND + ms(600));
        rest.run_over(2 * SECOND);
        assert_eq!(rest.until(), SECOND + ms(600), "there was no run");
    }

    #[test]
    fn a_cheap_run_in_a_storm_does_not_open_the_gate() {
        let mut rest = rest();
        run(&mut rest, ms(200), SECOND);
        let rests: Vec<_> = (0..4).map(|n| run(&mut rest, ms(2), ms(1700 + 10 * n)).as_millis()).collect();
        assert_eq!(rests, [300, 150, 75, 37]);
        assert_eq!(run(&mut rest, ms(200), 2 * SECOND), ms(600), "a dear one counts at once");
    }

    #[test]
    fn what_was_before_a_pause_is_forgotten() {
        let mut rest = rest();
        run(&mut rest, SECOND, 10 * SECOND);
        assert_eq!(rest.until(), 13 * SECOND);
        assert_eq!(run(&mut rest, ms(1), 18 * SECOND + ms(1)), ms(3));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        let waits: Vec<u64> = (0..5).map(|_| backoff.fail(Moment::ZERO).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(backoff.succeed(), 5);
        assert!(!backoff.failing());
        assert_eq!(backoff.fail(SECOND), SECOND);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(SECOND, 30 * SECOND);
        for _ in 0..100 {
            assert!(backoff.fail(SECOND) <= 30 * SECOND);
        }
    }

    #[test]
    fn a_first_wait_above_the_longest_is_cut() {
        assert_eq!(Backoff::new(9 * SECOND, SECOND).fail(Moment::ZERO), SECOND);
    }

    #[test]
    fn hurrying_never_undercuts_the_first_wait() {
        let mut backoff = Backoff::new(SECOND, 60 * SECOND);
        for _ in 0..6 {
            backoff.fail(10 * SECOND);
        }
        assert_eq!(backoff.ready(), 42 * SECOND);
        backoff.hurry();
        assert_eq!(backoff.ready(), 11 * SECOND);
    }
}
