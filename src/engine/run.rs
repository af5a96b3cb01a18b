//! The thin loop: facts in, kernel actions out, one task.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::event::{Action, Event, Resolved};
use super::machine::Engine;
use super::notice::{Notice, Severity};
use super::pacing::{Moment, Pacing};
use super::programming::{Programming, Touched};
use super::status::{Status, Unhealthy};
use super::worker::{Command, KernelThread};
use crate::kernel::xtables::Suspicion;
use crate::net::{Family, ObjectName};
use crate::source::Updates;
use crate::state::{FactCounts, Trigger, Update};

/// How many batches of facts are taken in before the engine steps.
const BATCHES: usize = crate::source::QUEUE;

const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The store of facts together with resolving.
pub trait Facts: Send {
    /// Takes in a batch as one step; returns every service port that may resolve differently now, as it does.
    fn apply(&mut self, batch: Vec<Update>) -> Resolved;

    /// The source has told everything there is.
    fn ready(&self) -> bool;

    /// What was told so far.
    fn counts(&self) -> FactCounts {
        FactCounts::default()
    }

    /// Hands out the times that were noted on what was told since the last call.
    fn take_triggers(&mut self) -> BTreeMap<ObjectName, Vec<Trigger>> {
        BTreeMap::new()
    }
}

/// The engine's clock: moments since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Clock(Instant::now())
    }

    pub fn now(&self) -> Moment {
        self.0.elapsed()
    }

    /// When a moment is or was, for arithmetic with other clocks. Moments beyond a century are a century away.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.0 + moment.min(CENTURY)
    }
}

/// What the rest of the program holds of a running engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    clock: Clock,
    status: watch::Receiver<Arc<Status>>,
    nudges: Arc<Nudges>,
    /// How often the loop answered a ping.
    answers: watch::Receiver<u64>,
}

#[derive(Default)]
struct Nudges {
    /// What the engine has not come to yet.
    suspicion: Mutex<Option<Suspicion>>,
    drift: Notify,
    base: Notify,
    facts: Notify,
    /// Asks the loop whether it still turns.
    ping: Notify,
}

impl Nudges {
    fn suspect(&self, suspicion: Suspicion) {
        let mut waiting = self.suspicion.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiting {
            Some(waiting) => waiting.merge(suspicion),
            none => *none = Some(suspicion),
        }
        drop(waiting);
        self.drift.notify_one();
    }

    fn suspicion(&self) -> Vec<Event> {
        let waiting = self.suspicion.lock().unwrap_or_else(PoisonError::into_inner).take();
        waiting.map(Event::DriftSeen).into_iter().collect()
    }
}

impl Handle {
    /// The newest snapshot. Its moments are on [`Handle::clock`].
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Snapshots as they come.
    pub fn watch(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether a family is healthy now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn health(&self, family: Family) -> Result<(), Unhealthy> {
        self.status().health(family, self.clock.now())
    }

    /// Ready when the loop has turned after this call, for a watchdog. False if it has ended. The kernel may be at work
    /// all the while: that it takes long is told by [`Handle::health`], and no restart would make it faster.
    pub async fn alive(&self) -> bool {
        let mut answers = self.answers.clone();
        let before = *answers.borrow();
        self.nudges.ping.notify_one();
        answers.wait_for(|answers| *answers != before).await.is_ok()
    }

    /// Someone seems to have changed our rules: compare what they may have changed, soon. Several calls before the
    /// engine comes to it add up to one.
    pub fn drift_seen(&self, suspicion: Suspicion) {
        self.nudges.suspect(suspicion);
    }

    /// Anyone may have changed anything: compare the whole kernel soon.
    pub fn drift_suspected(&self) {
        self.drift_seen(Suspicion::anything());
    }

    /// Facts may be complete now, although none of them came.
    pub fn facts_may_be_ready(&self) {
        self.nudges.facts.notify_one();
    }

    /// Settings that rules depend on changed, and the backend knows them: compare soon.
    pub fn base_changed(&self) {
        self.nudges.base.notify_one();
    }
}

/// Why the loop ended although nobody asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the source of facts ended, nothing would follow changes any more: restart the process")]
    SourceEnded,
    #[error(
        "the kernel thread died, nothing can be applied any more: restart the process and report its panic message"
    )]
    KernelThread,
}

/// The loop, ready to run.
pub struct Runner<F> {
    engine: Engine,
    facts: F,
    updates: Updates,
    kernel: KernelThread,
    clock: Clock,
    status: watch::Sender<Arc<Status>>,
    nudges: Arc<Nudges>,
    answers: watch::Sender<u64>,
    listener: Listener,
    programming: Programming,
    programmed: OnProgrammed,
    /// Services with a time that were told in this step.
    touched: Touched,
    /// What was told when the kernel was last asked for all of it.
    taken: FactCounts,
    wake: Option<Moment>,
    synced: bool,
}

/// Who is told of notices beside the log.
pub type Listener = Box<dyn FnMut(&Notice) + Send>;

/// Who is told that a change is in force which a time was noted on (contract 6.4, *network programming*).
pub type OnProgrammed = Box<dyn FnMut(Trigger) + Send>;

impl<F: Facts> Runner<F> {
    /// Puts the parts together.
    pub fn new(pacing: Pacing, facts: F, updates: Updates, kernel: KernelThread) -> (Self, Handle) {
        let engine = Engine::new(pacing);
        let clock = Clock::start();
        let nudges = Arc::new(Nudges::default());
        let (sender, status) = watch::channel(Arc::new(engine.status()));
        let (answers, answered) = watch::channel(0);
        let handle = Handle { clock, status, nudges: nudges.clone(), answers: answered };
        let runner = Runner {
            engine,
            facts,
            updates,
            kernel,
            clock,
            status: sender,
            nudges,
            answers,
            listener: Box::new(|_| {}),
            programming: Programming::default(),
            programmed: Box::new(|_| {}),
            touched: Touched::new(),
            taken: FactCounts::default(),
            wake: None,
            synced: false,
        };
        (runner, handle)
    }

    /// Tells a listener of every notice, on the loop: it must not block.
    #[must_use]
    pub fn telling(self, listener: Listener) -> Self {
        Runner { listener, ..self }
    }

    /// Tells when changes that carry a time are in force, on the loop: it must not block.
    #[must_use]
    pub fn timing(self, programmed: OnProgrammed) -> Self {
        Runner { programmed, ..self }
    }

    /// Runs until `shutdown` is ready; then waits for the kernel action in flight, leaves the rules and returns.
    ///
    /// # Errors
    /// The source ended, or the kernel thread died.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        tokio::pin!(shutdown);
        let mut batches = Vec::new();
        let result = loop {
            let wake = self.wake.map(|at| tokio::time::Instant::from_std(self.clock.instant(at)));
            let mut since = None;
            let events = tokio::select! {
                () = &mut shutdown => break Ok(()),
                outcome = self.kernel.next() => match outcome {
                    Some(event) => vec![event],
                    None => break Err(RunError::KernelThread),
                },
                count = self.updates.recv_many(&mut batches, BATCHES) => match count {
                    0 => break Err(RunError::SourceEnded),
                    _ => {
                        since = Some(self.clock.now());
                        self.take_in(&mut batches)
                    }
                },
                () = self.nudges.drift.notified() => self.nudges.suspicion(),
                () = self.nudges.base.notified() => vec![Event::BaseChanged],
                () = self.nudges.facts.notified() => self.completed().into_iter().collect(),
                () = self.nudges.ping.notified() => {
                    self.answers.send_modify(|answers| *answers = answers.wrapping_add(1));
                    continue;
                }
                () = sleep_until(wake) => {
                    self.wake = None;
                    vec![Event::Wake]
                }
            };
            if !self.step(events, since) {
                break Err(RunError::KernelThread);
            }
        };
        self.finish().await.and(result)
    }

    /// Facts become one event, and a second one when they are complete.
    fn take_in(&mut self, batches: &mut Vec<Vec<Update>>) -> Vec<Event> {
        let resolved = batches.drain(..).flat_map(|batch| self.facts.apply(batch)).collect();
        self.touched = self.programming.told(self.facts.take_triggers(), &resolved);
        let mut events = vec![Event::Resolved(resolved)];
        events.extend(self.completed());
        events
    }

    /// Told once, when facts are complete.
    fn completed(&mut self) -> Option<Event> {
        let completed = !self.synced && self.facts.ready();
        self.synced |= completed;
        completed.then_some(Event::Synced)
    }

    /// Events that came at this time, or now. False if the kernel thread is gone.
    fn step(&mut self, events: Vec<Event>, since: Option<Moment>) -> bool {
        let mut alive = true;
        for event in events {
            let now = self.clock.now();
            for action in self.engine.step_since(event, since.unwrap_or(now), now) {
                alive &= self.act(action);
            }
        }
        let touched = std::mem::take(&mut self.touched);
        self.tell_programmed(&touched);
        self.tell_status();
        alive
    }

    fn tell_programmed(&mut self, touched: &Touched) {
        let done = self.programming.settle(touched, |key| self.engine.progress(key));
        done.into_iter().for_each(&mut self.programmed);
    }

    fn tell_status(&mut self) {
        let facts = self.facts.counts();
        if self.engine.all_sent() {
            self.taken = facts;
        }
        let status = Status { facts, facts_taken: self.taken, ..self.engine.status() };
        self.status.send_replace(Arc::new(status));
    }

    fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Apply { moves, forget } => {
                self.programming.sent(&moves);
                self.kernel.send(Command::Apply { moves, forget })
            }
            Action::Repair { model, scope, mode } => {
                self.programming.sent_all();
                self.kernel.send(Command::Repair { model, scope, mode })
            }
            Action::Applied(moves) => {
                // Before anything newer is sent.
                let touched = self.programming.moved(&moves);
                self.tell_programmed(&touched);
                self.kernel.send(Command::Applied(moves))
            }
            Action::WakeAt(at) => {
                self.wake = Some(at);
                true
            }
            Action::Notice(notice) => {
                log(&notice);
                (self.listener)(&notice);
                true
            }
        }
    }

    /// Lets the action in flight end, and the thread after it.
    async fn finish(mut self) -> Result<(), RunError> {
        self.step(vec![Event::Stop], None);
        while self.engine.busy() {
            match self.kernel.next().await {
                Some(event) => self.step(vec![event], None),
                None => break,
            };
        }
        match tokio::task::spawn_blocking(move || self.kernel.join()).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(RunError::KernelThread),
        }
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn log(notice: &Notice) {
    let key = notice.key();
    let family = key.map(|key| key.family.as_str());
    let service_port = key.map(|key| key.name.to_string());
    let service_port = service_port.as_deref();
    match notice.severity() {
        Severity::Info => tracing::info!(service_port, family, "{notice}"),
        Severity::Warning => tracing::warn!(service_port, family, "{notice}"),
        Severity::Error => tracing::error!(service_port, family, "{notice}"),
    }
    let (Notice::Drift { repair, .. } | Notice::Repaired { repair, .. }) = notice else { return };
    for line in &repair.lines {
        tracing::info!(difference = %line, "differs");
    }
}
