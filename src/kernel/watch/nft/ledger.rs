//! Book-keeping of generations: each commit makes the next one, so a missing number is a commit that was not seen.

use std::collections::BTreeSet;

use crate::kernel::watch::own::Unseen;

/// After how many looks in a row a commit that was never announced counts as lost. The number changes before the
/// notifications are written, which takes a while for a large commit.
const PATIENCE: u8 = 3;

/// Which generations are known.
#[derive(Debug)]
pub(super) struct Ledger {
    /// All up to this one are accounted for.
    accounted: u32,
    /// What we wrote unseen, beyond that one.
    ours: Unseen,
    /// Looks that found unknown commits, since the last announced one.
    doubts: u8,
}

impl Ledger {
    /// Begins with the generation in force.
    pub(super) fn new(generation: u32) -> Self {
        Ledger { accounted: generation, ours: Unseen::default(), doubts: 0 }
    }

    /// Commits that nobody will announce.
    pub(super) fn unseen(&mut self, ours: Unseen) {
        self.ours.generations.extend(ours.generations);
        self.ours.by_tool |= ours.by_tool;
    }

    /// Whether commits are missing before an announced one, told or not by [`Ledger::unseen`].
    pub(super) fn is_gap(&self, announced: u32) -> bool {
        self.distance(announced) > 1
    }

    /// A commit was announced. True if there are commits before it that were not, and that are not ours.
    pub(super) fn announced(&mut self, generation: u32) -> bool {
        let missing = self.distance(generation) > 1 && self.misses(generation.wrapping_sub(1));
        self.advance(generation);
        missing
    }

    /// This generation is in force, everything announced was taken, and nothing of ours is under way. True if there are
    /// commits up to it that were not announced, and that are not ours.
    pub(super) fn stands(&mut self, generation: u32) -> bool {
        let missing = self.misses(generation);
        self.advance(generation);
        self.ours = Unseen::default();
        missing
    }

    /// A look now and then, as [`Ledger::stands`], but commits may be under way.
    pub(super) fn glance(&mut self, generation: u32) -> bool {
        if self.distance(generation) == 0 {
            self.doubts = 0;
            return false;
        }
        self.doubts += 1;
        self.doubts >= PATIENCE && self.stands(generation)
    }

    fn advance(&mut self, generation: u32) {
        if self.distance(generation) > 0 {
            self.accounted = generation;
        }
        self.doubts = 0;
    }

    /// How many generations it is ahead of what is accounted for. The numbers wrap around.
    fn distance(&self, generation: u32) -> u32 {
        let ahead = generation.wrapping_sub(self.accounted);
        if ahead < 1 << 31 { ahead } else { 0 }
    }

    /// Whether some generation that is not accounted for, up to this one, is not ours.
    fn misses(&self, to: u32) -> bool {
        if self.ours.by_tool {
            return false;
        }
        let ours: &BTreeSet<u32> = &self.ours.generations;
        // There is no generation 0, not even after the last number.
        let unknown = |step: u32| Some(self.accounted.wrapping_add(step)).filter(|id| *id != 0 && !ours.contains(id));
        (1..=self.distance(to)).find_map(unknown).is_some()
    }
}
