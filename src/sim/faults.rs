//! Faults to inject, from a seed: the same seed gives the same faults.

/// How often a simulated kernel fails. All figures are probabilities from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    pub seed: u64,
    /// Of each COMMIT and each look at a table: somebody else holds the lock.
    pub busy: f64,
    /// Of each COMMIT: the kernel refuses it, naming no chain.
    pub refused: f64,
    /// Of each COMMIT: it succeeds, and then the tool is killed, so that later sections are lost.
    pub partial: f64,
}

/// splitmix64 of Sebastiano Vigna: small, and good enough to choose faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct SplitMix(pub(super) u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what a float between 0 and 1 can tell apart.
        ((self.next() >> 11) as f64 / (1u64 << 53) as f64) < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_met_and_repeatable() {
        let count = |probability: f64| {
            let mut random = SplitMix(7);
            (0..10_000).filter(|_| random.chance(probability)).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        assert!((2_300..2_700).contains(&count(0.25)));
        assert_eq!(count(0.25), count(0.25));
    }
}
