//! How long to wait after a failure: exponential, with jitter, at least what the server asked for.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::tuning::Tuning;

/// Random numbers that spread requests of many nodes. Not for secrets.
pub(super) struct Jitter(u64);

impl Jitter {
    /// Seeded by the operating system.
    pub fn new() -> Jitter {
        Jitter(RandomState::new().hash_one(std::process::id()))
    }

    /// A fraction from 0 to below 1 (SplitMix64).
    pub fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The wait of one kind.
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    retry_after_max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(tuning: &Tuning) -> Backoff {
        Backoff {
            min: tuning.backoff_min,
            max: tuning.backoff_max,
            retry_after_max: tuning.retry_after_max,
            next: tuning.backoff_min,
        }
    }

    /// The connection was healthy: the next wait is the shortest.
    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// The next wait: from half to one and a half of the base, which doubles each time. A `Retry-After` is exceeded by
    /// up to a quarter, never undercut: every node got the same one.
    pub fn next(&mut self, at_least: Option<Duration>, jitter: &mut Jitter) -> Duration {
        let wait = self.next.mul_f64(0.5 + jitter.fraction());
        self.next = (self.next * 2).min(self.max);
        match at_least {
            None => wait,
            Some(asked) => wait.max(asked.min(self.retry_after_max).mul_f64(1.0 + jitter.fraction() / 4.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_start_over() {
        let mut backoff = Backoff::new(&Tuning::default());
        let mut jitter = Jitter(1);
        for base in [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] {
            let wait = backoff.next(None, &mut jitter).as_secs_f64();
            assert!((base * 0.5..base * 1.5).contains(&wait), "{wait} for {base}");
        }
        backoff.reset();
        assert!(backoff.next(None, &mut jitter) < Duration::from_millis(1200));
    }

    #[test]
    fn retry_after_is_honoured_up_to_its_bound() {
        let mut backoff = Backoff::new(&Tuning::default());
        let mut jitter = Jitter(1);
        let wait = backoff.next(Some(Duration::from_secs(10)), &mut jitter).as_secs_f64();
        assert!((10.0..12.5).contains(&wait), "{wait}");
        let wait = backoff.next(Some(Duration::from_secs(u64::MAX)), &mut jitter).as_secs_f64();
        assert!((120.0..150.0).contains(&wait), "{wait}");
    }

    #[test]
    fn fractions_fill_the_unit_interval() {
        let mut jitter = Jitter::new();
        let fractions: Vec<f64> = (0..1000).map(|_| jitter.fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..1.0).contains(fraction)));
        let mean = fractions.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
