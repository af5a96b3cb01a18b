//! What is fed while the proxy works, without locks, and read at a scrape.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::family::{Distribution, Value};

/// kube-proxy's classes of durations of its own work, in seconds: 1 ms, doubling up to 16 s (contract 6.4).
pub const WORK: [f64; 15] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

/// Classes of requests to an API server, in seconds, as all clients written in Go have them.
pub const REQUESTS: [f64; 11] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 60.0];

/// kube-proxy's classes of the time from a change at the API server to the kernel, in seconds (contract 6.4). The first is
/// of changes that were noted in the future, where clocks differ.
pub const PROGRAMMING: [f64; 81] = programming();

const fn programming() -> [f64; 81] {
    let mut bounds = [0.0; 81];
    bounds[1] = 0.25;
    bounds[2] = 0.5;
    let mut at = 3;
    while at < bounds.len() {
        let step = match at {
            ..=3 => 0.5,
            4..=62 => 1.0,
            63..=73 => 5.0,
            74 => 5.0,
            _ => 30.0,
        };
        bounds[at] = bounds[at - 1] + step;
        at += 1;
    }
    bounds
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A point in time; none at first.
#[derive(Debug, Default)]
pub struct Timestamp(AtomicU64);

impl Timestamp {
    /// Seconds since 1970.
    pub fn set(&self, seconds: f64) {
        self.0.store(seconds.to_bits(), Ordering::Relaxed);
    }

    pub fn get(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|seconds| *seconds > 0.0)
    }
}

/// Durations in classes.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what is beyond the last.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, nanoseconds: AtomicU64::new(0) }
    }

    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let class = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was observed so far. Figures that are fed meanwhile may be in one part and not yet in another.
    pub fn read(&self) -> Value {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let sum = Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        Value::Histogram(Distribution::of(self.bounds.iter().copied(), &counts, sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Read from a scrape of kube-proxy 1.36.
    #[test]
    fn classes_are_kube_proxys() {
        let wanted = [0.0, 0.25, 0.5].into_iter().chain((1..=59).map(f64::from));
        let wanted = wanted.chain((60..=115).step_by(5).map(f64::from)).chain((120..=300).step_by(30).map(f64::from));
        assert_eq!(PROGRAMMING.to_vec(), wanted.collect::<Vec<_>>());
        assert_eq!(WORK.to_vec(), (0..15).map(|k| f64::from(1 << k) / 1000.0).collect::<Vec<_>>());
    }

    #[test]
    fn a_bound_belongs_to_its_class_and_sums_are_exact() {
        let histogram = Histogram::new(&WORK);
        for millis in [0, 1, 2, 3, 16_384, 16_385] {
            histogram.observe(Duration::from_millis(millis));
        }
        let Value::Histogram(Distribution { buckets, sum, count }) = histogram.read() else { panic!() };
        assert_eq!(buckets[..4], [(0.001, 2), (0.002, 3), (0.004, 4), (0.008, 4)]);
        assert_eq!((buckets.last(), count, sum), (Some(&(16.384, 5)), 6, 32.775));
    }

    #[test]
    fn a_timestamp_is_none_until_it_is_set() {
        let timestamp = Timestamp::default();
        assert_eq!(timestamp.get(), None);
        timestamp.set(1.795e9);
        assert_eq!(timestamp.get(), Some(1.795e9));
    }
}
