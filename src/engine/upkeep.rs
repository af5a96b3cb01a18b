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

/// What a compare is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Making the kernel right.
    Repair,
    /// Telling drift, as configured.
    Report,
    /// Knowing that the kernel can be read, and whether what is wrong with it is still the same.
    Look,
}

impl Purpose {
    pub(super) fn mode(self) -> RepairMode {
        match self {
            Purpose::Repair => RepairMode::Repair,
            Purpose::Report | Purpose::Look => RepairMode::ReportOnly,
        }
    }
}

/// The schedule of full compares.
#[derive(Debug)]
pub(super) struct Upkeep {
    period: Duration,
    drift: RepairMode,
    causes: BTreeSet<Cause>,
    ended: Option<Moment>,
    retry: Backoff,
    /// The next compare is the one that follows a rebuild.
    confirming: bool,
    /// Of compares that are refused even after a rebuild.
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
            confirming: false,
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
        let asked = [
            urgent.then_some(Moment::ZERO),
            leftovers.then(|| self.ended.map_or(Moment::ZERO, |ended| ended.saturating_add(LEFTOVERS_GAP))),
        ];
        let asked = asked.into_iter().flatten().min().map(|at| at.max(self.slow_retry.ready()));
        let periodic = self.ended.map(|ended| ended.saturating_add(self.period));
        let due = asked.into_iter().chain(periodic).min()?;
        Some(due.max(self.retry.ready()))
    }

    /// How long a compare that failed waits.
    pub(super) fn wait(&self, now: Moment) -> Duration {
        self.retry.ready().max(self.slow_retry.ready()).saturating_sub(now)
    }

    /// A compare starts: what for, and how. While writing is known to be refused it only looks.
    pub(super) fn start(&mut self, now: Moment) -> (BTreeSet<Cause>, Purpose) {
        if now < self.slow_retry.ready() {
            return (BTreeSet::from([Cause::Periodic]), Purpose::Look);
        }
        let mut causes = std::mem::take(&mut self.causes);
        if causes.is_empty() {
            causes.insert(Cause::Periodic);
        }
        let only_drift = causes.iter().all(|cause| is_drift(*cause));
        let report = only_drift && self.drift == RepairMode::ReportOnly;
        (causes, if report { Purpose::Report } else { Purpose::Repair })
    }

    /// It succeeded. Returns how many failures came before.
    pub(super) fn succeeded(&mut self, now: Moment) -> u32 {
        self.ended = Some(now);
        self.unsure_since = None;
        self.confirming = false;
        self.slow_retry.succeed();
        self.retry.succeed()
    }

    /// It only looked, and could.
    pub(super) fn looked(&mut self, now: Moment) -> u32 {
        self.ended = Some(now);
        self.retry.succeed()
    }

    /// It failed and is to be done again. Returns how long to wait.
    pub(super) fn failed(&mut self, causes: BTreeSet<Cause>, now: Moment) -> Duration {
        self.causes.extend(causes);
        self.ended = Some(now);
        self.retry.fail(now)
    }

    /// It was refused. Everything is to be written again, and another compare follows; unless that has just been done
    /// and nothing happened since: then the compare itself is at fault, and waits long. Returns since when the kernel
    /// may differ from the books if everything is to be written again.
    pub(super) fn refused(&mut self, causes: &BTreeSet<Cause>, now: Moment) -> Option<Moment> {
        self.ended = Some(now);
        let since = self.unsure_since.take().unwrap_or(now);
        let confirming = std::mem::replace(&mut self.confirming, false);
        if confirming {
            self.slow_retry.fail(now);
        } else {
            self.retry.fail(now);
        }
        if confirming && !causes.contains(&Cause::Suspected) && !causes.contains(&Cause::Settings) {
            self.causes.insert(Cause::Periodic);
            return None;
        }
        self.confirming = true;
        self.causes = BTreeSet::from([Cause::Rebuilt]);
        Some(since)
    }
}

/// Differences that such a compare finds were made by someone else.
pub(super) fn is_drift(cause: Cause) -> bool {
    matches!(cause, Cause::Periodic | Cause::Suspected)
}
