//! How long changes waited until they were in force, as figures that add up.

use std::time::Duration;

use super::pacing::Moment;

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

/// Upper bounds of the classes, the bound itself included; what took longer than the last is in a class of its own. Fine
/// where a single change lies (a millisecond or two), coarse where something is wrong.
pub const WAIT_BOUNDS: [Duration; 20] = [
    us(500),
    us(1_000),
    us(2_000),
    us(3_000),
    us(5_000),
    us(7_500),
    us(10_000),
    us(15_000),
    us(25_000),
    us(50_000),
    us(100_000),
    us(250_000),
    us(500_000),
    us(1_000_000),
    us(2_500_000),
    us(5_000_000),
    us(10_000_000),
    us(30_000_000),
    us(60_000_000),
    us(120_000_000),
];

/// Changes of fragments by how long each waited, from being told to the kernel's yes. Where a fragment changed again
/// before it was sent, its oldest change counts, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    counts: [u64; WAIT_BOUNDS.len() + 1],
    sum: Duration,
}

impl Waits {
    /// One waited from then until now.
    pub(super) fn record(&mut self, since: Moment, now: Moment) {
        let waited = now.saturating_sub(since);
        let class = WAIT_BOUNDS.partition_point(|bound| *bound < waited);
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(waited);
    }

    /// How many are in each class, in the order of [`WAIT_BOUNDS`], and beyond them.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How long all of them waited together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_class() {
        assert!(WAIT_BOUNDS.is_sorted());
        let mut waits = Waits::default();
        for micros in [0, 500, 501, 1_000, 120_000_000, 120_000_001] {
            waits.record(us(1), us(1 + micros));
        }
        assert_eq!(waits.counts()[..3], [2, 2, 0]);
        assert_eq!(waits.counts()[19..], [1, 1]);
        assert_eq!((waits.total(), waits.sum()), (6, us(240_002_002)));
        waits.record(us(2), us(1));
        assert_eq!(waits.counts()[0], 3, "a clock that went back is no wait");
    }
}
