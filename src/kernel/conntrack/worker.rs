//! The thread that cleans up, so that programming rules never waits for a table of a million entries.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::run::{lists, purge};
use super::{Cleanup, Conntrack, ConntrackError, Ending, Flow, FlowTable, Judgement, Purged, Run};
use crate::net::{Family, PerFamily};

/// When the worker does what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From a request to its run. Packets that were in the middle of the old rules when the new ones came have made
    /// their entries by then, and requests of one burst become one.
    pub settle: Duration,
    /// How long a run of one family may take before it is given up and counted as failed.
    pub deadline: Duration,
    /// Wait after a failure; doubles with each further one.
    pub first_retry: Duration,
    /// The longest wait after a failure.
    pub longest_retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            settle: Duration::from_millis(20),
            deadline: Duration::from_secs(30),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(60),
        }
    }
}

/// What the worker did so far in one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyStats {
    /// Runs that succeeded.
    pub runs: u64,
    /// Runs that failed; each is tried again.
    pub failures: u64,
    /// Entries deleted, also by runs that failed later on.
    pub deleted: u64,
    /// Of the last run that succeeded.
    pub last_duration: Option<Duration>,
}

pub type Stats = PerFamily<FamilyStats>;

/// The worker's thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that cleans up connection tracking: {0}")]
pub struct WorkerError(#[from] std::io::Error);

/// A thread that deletes stale entries.
///
/// The thread is in the network namespace of the thread that spawned it. Requests that wait add up to one; their number
/// is bounded by [`Cleanup::merge`]. What fails is tried again until it succeeds. Dropping the worker stops it; what
/// it has not done by then is done by the sweep at the next start.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts it for the kernel's table. `report` is called on its thread after each run that succeeded.
    pub fn spawn(timing: Timing, report: impl FnMut(&Run) + Send + 'static) -> Result<Self, WorkerError> {
        Worker::spawn_for(Conntrack::open, timing, report)
    }

    /// Starts it for the table that `open` opens; on its thread, first when there is something to do, and again after a
    /// failure.
    pub fn spawn_for<T: FlowTable + Send + 'static>(
        open: impl FnMut() -> Result<T, ConntrackError> + Send + 'static,
        timing: Timing,
        report: impl FnMut(&Run) + Send + 'static,
    ) -> Result<Self, WorkerError> {
        let shared = Arc::new(Shared::default());
        let mut job = Job { shared: shared.clone(), timing, open, report, table: None, failures: 0 };
        let thread = std::thread::Builder::new().name("conntrack".to_owned()).spawn(move || job.work())?;
        Ok(Worker { shared, thread: Some(thread) })
    }

    /// Requests a cleanup, after the rules that it is about came into force. Never blocks for long.
    pub fn submit(&self, cleanup: Cleanup) {
        let dropped = self.shared.queue().pending.merge(cleanup);
        if dropped > 0 {
            tracing::warn!(
                dropped,
                "too many connection tracking cleanups wait; left those of addresses without endpoints"
            );
        }
        self.shared.wake.notify_all();
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        self.figures().stats()
    }

    /// What will have been done, to be asked from elsewhere, also after this worker is gone.
    pub fn figures(&self) -> Figures {
        Figures(self.shared.clone())
    }

    /// Nothing waits and nothing is being done.
    pub fn is_idle(&self) -> bool {
        let queue = self.shared.queue();
        queue.pending.is_empty() && !queue.busy
    }
}

/// Tells what a worker did. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Figures(Arc<Shared>);

impl Figures {
    /// What was done so far.
    pub fn stats(&self) -> Stats {
        *lock(&self.0.stats)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        {
            // With the lock held the worker is either waiting or will look at the flag before it waits.
            let _queue = self.shared.queue();
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        self.shared.wake.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that cleans up connection tracking panicked");
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    stop: AtomicBool,
    stats: Mutex<Stats>,
}

#[derive(Debug, Default)]
struct Queue {
    pending: Cleanup,
    busy: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for requests and takes them, not before `earliest`. `None` if the worker is to stop.
    fn take(&self, earliest: Instant, settle: Duration) -> Option<Cleanup> {
        let mut queue = self.queue();
        queue.busy = false;
        let mut start = None;
        while !self.stopping() {
            if queue.pending.is_empty() {
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let now = Instant::now();
            let wait = start.get_or_insert_with(|| earliest.max(now + settle)).saturating_duration_since(now);
            if wait.is_zero() {
                queue.busy = true;
                return Some(std::mem::take(&mut queue.pending));
            }
            queue = self.wake.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    /// Puts back what was not done, as older than what waits.
    fn put_back(&self, mut cleanup: Cleanup) {
        let mut queue = self.queue();
        cleanup.merge(std::mem::take(&mut queue.pending));
        queue.pending = cleanup;
    }

    /// A newer request is about this entry.
    fn superseded(&self, flow: &Flow) -> bool {
        self.queue().pending.covers(flow)
    }
}

/// What the thread has.
struct Job<T, Open, Report> {
    shared: Arc<Shared>,
    timing: Timing,
    open: Open,
    report: Report,
    table: Option<T>,
    /// Failures since the last success.
    failures: u32,
}

impl<T, Open, Report> Job<T, Open, Report>
where
    T: FlowTable,
    Open: FnMut() -> Result<T, ConntrackError>,
    Report: FnMut(&Run),
{
    fn work(&mut self) {
        let mut earliest = Instant::now();
        while let Some(cleanup) = self.shared.take(earliest, self.timing.settle) {
            let mut failure = None;
            for family in Family::ALL {
                if let Err(error) = self.clean(&cleanup, family) {
                    self.shared.put_back(cleanup.clone().only(family));
                    failure = Some(error);
                }
            }
            earliest = Instant::now() + self.settle_failures(failure);
        }
    }

    /// Counts and logs a failure, or the end of a series of them. Gives the time to wait.
    fn settle_failures(&mut self, failure: Option<ConntrackError>) -> Duration {
        let Some(error) = failure else {
            if self.failures > 0 {
                tracing::info!(failures = self.failures, "connection tracking is being cleaned up again");
            }
            self.failures = 0;
            return Duration::ZERO;
        };
        let doubled = 2u32.saturating_pow(self.failures.min(16));
        let wait = self.timing.first_retry.saturating_mul(doubled).min(self.timing.longest_retry);
        if self.failures == 0 {
            tracing::warn!(%error, retry_in = ?wait, "stale UDP connection tracking entries stay for now");
        } else {
            tracing::debug!(%error, retry_in = ?wait, failures = self.failures, "cleaning up failed again");
        }
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Cleans up one family. On an error the table is opened anew the next time.
    fn clean(&mut self, cleanup: &Cleanup, family: Family) -> Result<(), ConntrackError> {
        let lists = lists(cleanup, family);
        if lists.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let mut purged = Purged::default();
        let mut superseded = false;
        let shared = self.shared.clone();
        let mut judge = |flow: &Flow| {
            if shared.stopping() {
                Judgement::Stop
            } else if !cleanup.is_stale(flow) {
                Judgement::Keep
            } else if shared.superseded(flow) {
                superseded = true;
                Judgement::Keep
            } else {
                tracing::trace!(%flow, "stale");
                Judgement::Delete
            }
        };
        let ended = self.purge(&lists, start, &mut judge, &mut purged);
        let mut all = lock(&self.shared.stats);
        let stats = all.get_mut(family);
        stats.deleted += purged.deleted;
        let partial = match ended {
            Ok(Ending::Stopped) => return Ok(()),
            Ok(ending) => ending == Ending::Interrupted,
            Err(error) => {
                stats.failures += 1;
                drop(all);
                self.table = None;
                return Err(error);
            }
        };
        let run = Run { family, purged, duration: start.elapsed() };
        stats.runs += 1;
        stats.last_duration = Some(run.duration);
        drop(all);
        if superseded {
            self.shared.put_back(cleanup.clone().only(family));
        }
        self.tell(&run, partial);
        Ok(())
    }

    fn purge(
        &mut self,
        lists: &[super::Filter],
        start: Instant,
        judge: &mut dyn FnMut(&Flow) -> Judgement,
        purged: &mut Purged,
    ) -> Result<Ending, ConntrackError> {
        let table = match &mut self.table {
            Some(table) => table,
            none => none.insert((self.open)()?),
        };
        purge(table, lists, start + self.timing.deadline, judge, purged)
    }

    fn tell(&mut self, run: &Run, partial: bool) {
        let Run { family, purged: Purged { seen, deleted }, duration } = run;
        if partial {
            tracing::warn!(%family, seen, deleted, "the connection tracking table kept changing; cleaned up what was seen");
        } else if *deleted > 0 {
            tracing::info!(%family, seen, deleted, ?duration, "deleted stale UDP connection tracking entries");
        } else {
            tracing::debug!(%family, seen, ?duration, "no stale UDP connection tracking entries");
        }
        (self.report)(run);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves what is guarded here whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
