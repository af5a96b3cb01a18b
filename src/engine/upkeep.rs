//! When the next full compare is due, and why.

use std::collections::BTreeSet;
use std::time::Duration;

use super::backend::RepairMode;
use super::pacing::{Backoff, Moment, Pacing};

/// Compares that only clean up after failed applies are at least this far from the compare before.
const LEFTOVERS_GAP: Duration = Duration::from_secs(10);

/// Why the kernel is compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The first action of all.
    Start,
    /// Settings that rules depend on changed.
    Settings,
    /// Someone seems to have changed our rules.
    Suspected,
    /// Everything was written again after a refused compare.
    Rebuilt,
    /// An apply failed since the last compare: the kernel may hold part of it.
    Leftovers,
    /// It is time.
    Periodic,
}

/// The schedule of full compares.
#[derive(Debug)]
pub(super) struct Upkeep {
    period: Duration,
    drift: RepairMode,
    causes: BTreeSet<Cause>,
    ended: Option<Moment>,
    retry: Backoff,
    refused: bool,
    /// Of compares that were refused twice in a row or more: each costs a rebuild.
    slow_retry: Backoff,
    unsure_since: Option<Moment>,
}

impl Upkeep {
    pub(super) fn new(pacing: &Pacing) -> Self {
        Upkeep {
            period: pacing.sync_period,
            drift: pacing.drift,
            causes: BTreeSet::from([Cause::Start]),
            ended: None,
            retry: Backoff::new(pacing.first_retry, pacing.sync_period),
            refused: false,
            slow_retry: Backoff::new(pacing.first_quarantine_retry, pacing.max_quarantine_retry),
            unsure_since: None,
        }
    }

    /// A compare is wanted as soon as the pacing allows.
    pub(super) fn ask(&mut self, cause: Cause) {
        self.causes.insert(cause);
        self.hurry();
    }

    /// An attempt may be worth it before the wait after a failure is over.
    pub(super) fn hurry(&mut self) {
        self.retry.hurry();
        self.slow_retry.hurry();
    }

    /// An apply failed: the kernel is to be tidied at a good time.
    pub(super) fn ask_tidy(&mut self, now: Moment) {
        self.causes.insert(Cause::Leftovers);
        self.unsure(now);
    }

    /// The kernel may not hold what the books say, from now on.
    pub(super) fn unsure(&mut self, now: Moment) {
        self.unsure_since.get_or_insert(now);
    }

    pub(super) fn unsure_since(&self) -> Option<Moment> {
        self.unsure_since
    }

    /// When the next compare may start. `tidy`: this is a good time to clean up after failed applies.
    pub(super) fn ready(&self, tidy: bool) -> Option<Moment> {
        let urgent = self.causes.iter().any(|cause| *cause != Cause::Leftovers);
        let leftovers = tidy && self.causes.contains(&Cause::Leftovers);
        let due = [
            urgent.then_some(Moment::ZERO),
            leftovers.then(|| self.ended.map_or(Moment::ZERO, |ended| ended + LEFTOVERS_GAP)),
            self.ended.map(|ended| ended + self.period),
        ];
        let due = due.into_iter().flatten().min()?;
        Some(due.max(self.retry.ready()).max(self.slow_retry.ready()))
    }

    /// A compare starts: what for, and whether it may write.
    pub(super) fn start(&mut self) -> (BTreeSet<Cause>, RepairMode) {
        let mut causes = std::mem::take(&mut self.causes);
        if causes.is_empty() {
            causes.insert(Cause::Periodic);
        }
        let only_drift = causes.iter().all(|cause| is_drift(*cause));
        (causes, if only_drift { self.drift } else { RepairMode::Repair })
    }

    /// It succeeded. Returns how many failures came before.
    pub(super) fn succeeded(&mut self, now: Moment) -> u32 {
        self.ended = Some(now);
        self.unsure_since = None;
        self.refused = false;
        self.slow_retry.succeed();
        self.retry.succeed()
    }

    /// It failed and is to be done again. Returns how long to wait.
    pub(super) fn failed(&mut self, causes: BTreeSet<Cause>, now: Moment) -> Duration {
        self.causes.extend(causes);
        self.ended = Some(now);
        self.retry.fail(now)
    }

    /// It was refused, and everything is written again: another compare follows, slowly if that is refused too.
    /// Returns since when the kernel may differ from the books.
    pub(super) fn refused(&mut self, now: Moment) -> Moment {
        self.causes = BTreeSet::from([Cause::Rebuilt]);
        self.ended = Some(now);
        let again = std::mem::replace(&mut self.refused, true);
        if again {
            self.slow_retry.fail(now);
        } else {
            self.retry.fail(now);
        }
        self.unsure_since.take().unwrap_or(now)
    }
}

/// Differences that such a compare finds were made by someone else.
pub(super) fn is_drift(cause: Cause) -> bool {
    matches!(cause, Cause::Periodic | Cause::Suspected)
}
