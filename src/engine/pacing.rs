//! When a run may start: the minimum gap between runs, and growing waits after failures.

use std::time::Duration;

use super::backend::RepairMode;

/// A point in time on the engine's clock: how long after the clock's origin. Never goes back.
pub type Moment = Duration;

/// How often the engine acts, and what it does about drift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// From the end of a run to the start of the next, at least. Zero is fine.
    pub min_sync_period: Duration,
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
            sync_period,
            first_retry: Duration::from_millis(100),
            first_quarantine_retry: Duration::from_secs(30),
            max_quarantine_retry: Duration::from_secs(600),
            drift: RepairMode::Repair,
        }
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
