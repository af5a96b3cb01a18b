//! When the next compare is due, how much of the kernel it is about, and why.
//!
//! A *full* compare is about everything. A *partial* one is about the chains that someone was seen to change, and has no
//! other reason. It says nothing about the rest of the kernel: the schedule of full compares is not touched by it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::backend::RepairMode;
use super::pacing::{Backoff, Moment, Pacing, Rest};
use crate::kernel::xtables::{Culprit, Scope, Suspicion};

/// Compares that only clean up after failed applies are at least this far from the compare before.
const LEFTOVERS_GAP: Duration = Duration::from_secs(10);

/// So many culprits are remembered.
const CULPRITS: usize = 16;

/// Why the kernel is compared.
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

/// A suspicion, and since when.
#[derive(Debug)]
struct Suspected {
    suspicion: Suspicion,
    since: Moment,
}

impl Suspected {
    /// This and another: the older time counts.
    fn merge(&mut self, other: Suspected) {
        self.suspicion.merge(other.suspicion);
        self.since = self.since.min(other.since);
        while self.suspicion.by.len() > CULPRITS {
            self.suspicion.by.pop_last();
        }
    }
}

/// A compare to be made.
#[derive(Debug)]
pub(super) struct Compare {
    pub(super) causes: BTreeSet<Cause>,
    pub(super) purpose: Purpose,
    suspected: Option<Suspected>,
    partial: bool,
}

impl Compare {
    /// Which part of the kernel it is about.
    pub(super) fn scope(&self) -> Scope {
        let suspected = self.suspected.as_ref().filter(|_| self.partial);
        suspected.map_or(Scope::All, |suspected| suspected.suspicion.scope.clone())
    }

    /// It is about chains that someone was seen to change, and nothing else.
    pub(super) fn is_partial(&self) -> bool {
        self.partial
    }

    /// Who may have made the differences that it finds.
    pub(super) fn by(&self) -> BTreeSet<Culprit> {
        self.suspected.as_ref().map(|suspected| suspected.suspicion.by.clone()).unwrap_or_default()
    }
}

/// The schedule of compares.
#[derive(Debug)]
pub(super) struct Upkeep {
    period: Duration,
    drift: RepairMode,
    causes: BTreeSet<Cause>,
    /// Beside the causes.
    suspected: Option<Suspected>,
    /// When the last full compare ended.
    ended: Option<Moment>,
    /// After compares that were asked for: whoever keeps changing our rules must not keep us at work.
    /// After full compares that were asked for.
    rest: Rest,
    /// After partial compares: a full one that took seconds must not hold up what takes a millisecond.
    partial_rest: Rest,
    retry: Backoff,
    /// The next compare is the one that follows a rebuild.
    confirming: bool,
    /// Of compares that are refused even after a rebuild.
    slow_retry: Backoff,
    unsure_since: Option<Moment>,
    /// The same, for what the compare in flight will clear up.
    checking_since: Option<Moment>,
}

impl Upkeep {
    pub(super) fn new(pacing: &Pacing) -> Self {
        Upkeep {
            period: pacing.sync_period,
            drift: pacing.drift,
            causes: BTreeSet::from([Cause::Start]),
            suspected: None,
            ended: None,
            rest: Rest::new(pacing),
            partial_rest: Rest::new(pacing),
            retry: Backoff::new(pacing.first_retry, pacing.sync_period),
            confirming: false,
            slow_retry: Backoff::new(pacing.first_quarantine_retry, pacing.max_quarantine_retry),
            unsure_since: None,
            checking_since: None,
        }
    }

    /// Someone seems to have changed our rules.
    pub(super) fn suspect(&mut self, suspicion: Suspicion, now: Moment) {
        self.add(Suspected { suspicion, since: now });
        self.hurry();
    }

    fn add(&mut self, suspected: Suspected) {
        match &mut self.suspected {
            Some(known) => known.merge(suspected),
            none => *none = Some(suspected),
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
        let suspected = self.suspected.as_ref().map(|suspected| suspected.since);
        [self.unsure_since, self.checking_since, suspected].into_iter().flatten().min()
    }

    /// When the next full compare may start. `tidy`: this is a good time to clean up after failed applies.
    pub(super) fn ready(&self, tidy: bool) -> Option<Moment> {
        let suspected = self.suspected.is_some() && !self.is_partial();
        let urgent = suspected || self.causes.iter().any(|cause| *cause != Cause::Leftovers);
        let leftovers = tidy && self.causes.contains(&Cause::Leftovers);
        let asked = [
            urgent.then(|| self.rest.until()),
            leftovers.then(|| self.ended.map_or(Moment::ZERO, |ended| ended.saturating_add(LEFTOVERS_GAP))),
        ];
        let asked = asked.into_iter().flatten().min().map(|at| at.max(self.slow_retry.ready()));
        let periodic = self.ended.map(|ended| ended.saturating_add(self.period));
        let due = asked.into_iter().chain(periodic).min()?;
        Some(due.max(self.retry.ready()))
    }

    /// When a partial compare may start; `None`: there is no reason for one, or a full one is due anyway.
    pub(super) fn partial_ready(&self) -> Option<Moment> {
        self.is_partial().then(|| self.partial_rest.until().max(self.retry.ready()))
    }

    /// Whether what is suspected asks for no more than a partial compare.
    fn is_partial(&self) -> bool {
        let chains = |suspected: &Suspected| matches!(suspected.suspicion.scope, Scope::Chains(_));
        self.causes.is_empty() && self.suspected.as_ref().is_some_and(chains)
    }

    /// How long a compare that failed waits.
    pub(super) fn wait(&self, now: Moment) -> Duration {
        self.retry.ready().max(self.slow_retry.ready()).saturating_sub(now)
    }

    /// A full compare starts: what for, and how. While writing is known to be refused it only looks.
    pub(super) fn start(&mut self, now: Moment) -> Compare {
        if now < self.slow_retry.ready() {
            let causes = BTreeSet::from([Cause::Periodic]);
            return Compare { causes, purpose: Purpose::Look, suspected: None, partial: false };
        }
        let mut causes = std::mem::take(&mut self.causes);
        if self.suspected.is_some() {
            causes.insert(Cause::Suspected);
        }
        if causes.is_empty() {
            causes.insert(Cause::Periodic);
        }
        self.starting(causes, false)
    }

    /// A partial compare starts.
    pub(super) fn start_partial(&mut self) -> Compare {
        self.starting(BTreeSet::from([Cause::Suspected]), true)
    }

    fn starting(&mut self, causes: BTreeSet<Cause>, partial: bool) -> Compare {
        let suspected = self.suspected.take();
        self.checking_since = suspected.as_ref().map(|suspected| suspected.since);
        let only_drift = causes.iter().all(|cause| is_drift(*cause));
        let report = only_drift && self.drift == RepairMode::ReportOnly;
        Compare { causes, purpose: if report { Purpose::Report } else { Purpose::Repair }, suspected, partial }
    }

    /// A compare took so long, whatever came of it. After those that were asked for follows a rest.
    pub(super) fn took(&mut self, compare: &Compare, took: Duration, now: Moment) {
        if compare.causes.iter().any(|cause| matches!(cause, Cause::Suspected | Cause::Settings)) {
            let rest = if compare.partial { &mut self.partial_rest } else { &mut self.rest };
            rest.worked(took);
            rest.run_over(now);
        }
    }

    /// A full compare succeeded. Returns how many failures came before.
    pub(super) fn succeeded(&mut self, now: Moment) -> u32 {
        self.ended = Some(now);
        self.unsure_since = None;
        self.confirming = false;
        self.slow_retry.succeed();
        self.partial_succeeded()
    }

    /// A partial compare succeeded: what was seen is cleared up. Returns how many failures came before.
    pub(super) fn partial_succeeded(&mut self) -> u32 {
        self.checking_since = None;
        self.retry.succeed()
    }

    /// It only looked, and could.
    pub(super) fn looked(&mut self, now: Moment) -> u32 {
        self.ended = Some(now);
        self.retry.succeed()
    }

    /// It failed and is to be done again. Returns how long to wait.
    pub(super) fn failed(&mut self, compare: Compare, now: Moment) -> Duration {
        if !compare.partial {
            self.ended = Some(now);
        }
        self.again(compare);
        self.retry.fail(now)
    }

    /// A partial compare was refused: something else may be wrong, so everything is compared.
    pub(super) fn partial_refused(&mut self, mut compare: Compare) {
        if let Some(suspected) = &mut compare.suspected {
            suspected.suspicion.scope = Scope::All;
        }
        self.again(compare);
    }

    fn again(&mut self, compare: Compare) {
        self.checking_since = None;
        self.causes.extend(compare.causes.into_iter().filter(|cause| *cause != Cause::Suspected));
        if let Some(suspected) = compare.suspected {
            self.add(suspected);
        }
    }

    /// A full compare was refused. Everything is to be written again, and another compare follows; unless that has just been done
    /// and nothing happened since: then the compare itself is at fault, and waits long. Returns since when the kernel
    /// may differ from the books if everything is to be written again.
    pub(super) fn refused(&mut self, causes: &BTreeSet<Cause>, now: Moment) -> Option<Moment> {
        self.ended = Some(now);
        let since = self.unsure_since.take().into_iter().chain(self.checking_since.take()).min().unwrap_or(now);
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
