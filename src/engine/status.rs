//! The engine's state at one moment, and whether that is healthy.

use std::collections::BTreeMap;
use std::time::Duration;

use super::backend::DifferenceKind;
use super::backend::Standing;
use super::pacing::Moment;
use super::waits::Waits;
use crate::kernel::xtables::ApplyErrorKind;
use crate::model::ServicePortKey;
use crate::net::{Family, PerFamily};
use crate::state::FactCounts;

/// How many failures, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub busy: u64,
    pub refused: u64,
    pub unavailable: u64,
}

impl Failures {
    pub(super) fn count(&mut self, kind: ApplyErrorKind) {
        match kind {
            ApplyErrorKind::Busy => self.busy += 1,
            ApplyErrorKind::Refused => self.refused += 1,
            ApplyErrorKind::Unavailable => self.unavailable += 1,
        }
    }

    pub fn total(&self) -> u64 {
        self.busy + self.refused + self.unavailable
    }
}

/// Counters since the start. They only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Applies that succeeded.
    pub applies: u64,
    pub apply_failures: Failures,
    /// Fragments in successful applies.
    pub fragments: u64,
    /// Full compares that succeeded.
    pub repairs: u64,
    /// Partial compares that succeeded.
    pub partial_repairs: u64,
    /// Compares that could read the kernel but not write the difference.
    pub repair_failures: Failures,
    /// Compares that could not read the kernel.
    pub observe_failures: u64,
    /// Times that everything was written again after a refused compare.
    pub rebuilds: u64,
    /// Fragments that went into quarantine.
    pub quarantines: u64,
    /// Objects that someone else changed.
    pub drift: BTreeMap<DifferenceKind, u64>,
    /// Those of them that were put right.
    pub drift_repaired: BTreeMap<DifferenceKind, u64>,
    /// Actions that failed and are done again after a wait.
    pub retries: u64,
    /// Changes that came into force, by how long they waited. What was there before the first compare is not counted.
    pub waits: PerFamily<Waits>,
}

/// What is owed to the kernel in one family. Quarantined fragments are not counted: their wait is no fault of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyStatus {
    /// Fragments in force.
    pub applied: usize,
    /// Fragments whose newest value is not in force yet.
    pub unapplied: usize,
    /// When the oldest change that is not in force was made.
    pub oldest_unapplied: Option<Moment>,
    /// When something last became owed; before that, when the source had told everything.
    pub last_owed: Option<Moment>,
}

/// A fragment in quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedStatus {
    pub key: ServicePortKey,
    /// What the kernel or the tool said last.
    pub reason: String,
    pub since: Moment,
    pub attempts: u32,
    /// Its last good rules are in force.
    pub kept: bool,
}

/// Why the node must not be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unhealthy {
    #[error(
        "a change waits for the kernel since {age:.1?}, the limit is {limit:.1?}: see the log for why applying fails"
    )]
    Late { age: Duration, limit: Duration },
    #[error(
        "the kernel's rules were last read {age:.1?} ago, the limit is {limit:.1?}: see the log for why reading fails"
    )]
    Blind { age: Duration, limit: Duration },
}

/// A snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// When the source had told everything; `None`: not yet, and nothing is programmed.
    pub synced: Option<Moment>,
    /// Full compares have begun to succeed, or applies have taken over for them: changes go to the kernel one by one.
    pub started: bool,
    pub families: PerFamily<FamilyStatus>,
    /// Since when the kernel may differ from the books: an apply failed, or someone seems to have changed our rules.
    pub unsure_since: Option<Moment>,
    /// When the kernel was last read as a whole.
    pub last_observed: Option<Moment>,
    /// When an apply or a compare last succeeded.
    pub last_success: Option<Moment>,
    /// How long the last successful apply took.
    pub last_apply: Option<Duration>,
    /// In the order of their keys.
    pub quarantined: Vec<QuarantinedStatus>,
    pub counters: Counters,
    /// What is not as it was asked for, and what is only kept for a while.
    pub standing: Standing,
    /// What facts were told.
    pub facts: FactCounts,
    /// The same, when the last action was begun that took up everything there was.
    pub facts_taken: FactCounts,
    /// A change may be this old.
    pub late_after: Duration,
    /// The last look at the kernel may be this old.
    pub blind_after: Duration,
}

impl Status {
    /// Healthy: every change younger than the limit, or in force; and the kernel was read lately (contract 6.1, but
    /// never satisfied by a write alone). At the limit is unhealthy. Before the source has told everything nothing is
    /// owed, and the answer is yes.
    pub fn health(&self, family: Family, now: Moment) -> Result<(), Unhealthy> {
        let Some(synced) = self.synced else { return Ok(()) };
        let oldest = [self.families.get(family).oldest_unapplied, self.unsure_since].into_iter().flatten().min();
        if let Some(oldest) = oldest {
            let age = now.saturating_sub(oldest);
            if age >= self.late_after {
                return Err(Unhealthy::Late { age, limit: self.late_after });
            }
        }
        let age = now.saturating_sub(self.last_observed.unwrap_or(synced));
        if age >= self.blind_after {
            return Err(Unhealthy::Blind { age, limit: self.blind_after });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn status() -> Status {
        Status {
            synced: Some(s(10)),
            last_observed: Some(s(100)),
            late_after: s(60),
            blind_after: s(120),
            ..Status::default()
        }
    }

    #[test]
    fn before_synced_nothing_is_owed() {
        assert_eq!(Status::default().health(Family::V4, s(9999)), Ok(()));
    }

    #[test]
    fn the_limit_itself_is_unhealthy_and_only_for_its_family() {
        let mut status = status();
        status.families.v6.oldest_unapplied = Some(s(100));
        assert_eq!(status.health(Family::V6, s(159)), Ok(()));
        assert_eq!(status.health(Family::V6, s(160)), Err(Unhealthy::Late { age: s(60), limit: s(60) }));
        assert_eq!(status.health(Family::V4, s(160)), Ok(()));
    }

    #[test]
    fn an_unsure_kernel_counts_for_both_families() {
        let status = Status { unsure_since: Some(s(100)), ..status() };
        for family in Family::ALL {
            assert_eq!(status.health(family, s(161)), Err(Unhealthy::Late { age: s(61), limit: s(60) }));
        }
    }

    #[test]
    fn not_reading_the_kernel_is_unhealthy_even_if_nothing_is_owed() {
        assert_eq!(status().health(Family::V4, s(219)), Ok(()));
        assert_eq!(status().health(Family::V4, s(220)), Err(Unhealthy::Blind { age: s(120), limit: s(120) }));
        let never = Status { last_observed: None, ..status() };
        assert_eq!(never.health(Family::V4, s(130)), Err(Unhealthy::Blind { age: s(120), limit: s(120) }));
    }
}
