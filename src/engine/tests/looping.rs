//! The loop with its thread, in real time.

use std::sync::Mutex;
use std::sync::mpsc as sync;

use tokio::sync::{mpsc, oneshot};

use super::fake::{Fake, Fault};
use super::*;
use crate::state::{FactCounts, Kind, Trigger, Update};
use std::collections::BTreeMap;

/// Facts under a scripted store: the nth batch is the nth of these.
struct Scripted {
    batches: Vec<Resolved>,
    ready_after: usize,
    taken: usize,
}

impl Facts for Scripted {
    fn apply(&mut self, _batch: Vec<Update>) -> Resolved {
        self.taken += 1;
        self.batches.get(self.taken - 1).cloned().unwrap_or_default()
    }

    fn ready(&self) -> bool {
        self.taken >= self.ready_after
    }

    fn counts(&self) -> FactCounts {
        FactCounts { changed_services: self.taken as u64, ..FactCounts::default() }
    }

    /// Each batch changes the first service, at the time of its number.
    fn take_triggers(&mut self) -> BTreeMap<ObjectName, Vec<Trigger>> {
        let trigger = Trigger { family: Family::V4, time: self.taken as i64 };
        BTreeMap::from([(key(0).name.service, vec![trigger])])
    }
}

/// A fake that others can look into, and that can be made to wait.
#[derive(Clone, Default)]
struct Shared {
    fake: Arc<Mutex<Fake>>,
    gate: Arc<Mutex<Option<sync::Receiver<()>>>>,
    panic: bool,
}

impl Shared {
    fn pass_gate(&self) {
        assert!(!self.panic, "told to panic");
        // Another gate may be put there meanwhile.
        let gate = self.gate.lock().unwrap().take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
    }
}

impl Backend for Shared {
    fn apply(&mut self, moves: &[Move]) -> Result<(), ApplyError> {
        self.pass_gate();
        self.fake.lock().unwrap().apply(moves)
    }

    fn repair(&mut self, model: &[Arc<ServicePort>], scope: &Scope, mode: RepairMode) -> Result<Repair, RepairError> {
        self.pass_gate();
        self.fake.lock().unwrap().repair(model, scope, mode)
    }

    fn forget(&mut self) {
        self.fake.lock().unwrap().forget();
    }

    fn suspect(&self, error: &ApplyError) -> Option<ServicePortKey> {
        self.fake.lock().unwrap().suspect(error)
    }
}

struct Setup {
    updates: mpsc::Sender<Vec<Update>>,
    handle: Handle,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
    applied: Arc<Mutex<Vec<Move>>>,
    finished: Arc<Mutex<Vec<Finished>>>,
    programmed: Arc<Mutex<Vec<i64>>>,
}

fn setup(shared: &Shared, batches: Vec<Vec<Arc<ServicePort>>>, ready_after: usize) -> Setup {
    let batches =
        batches.into_iter().map(|batch| batch.into_iter().map(|v| (v.key.clone(), Some(v))).collect()).collect();
    let (updates, inbox) = mpsc::channel(16);
    let applied = Arc::new(Mutex::new(Vec::new()));
    let finished = Arc::new(Mutex::new(Vec::new()));
    let hooks = Hooks {
        applied: Box::new({
            let applied = applied.clone();
            move |moves| applied.lock().unwrap().extend(moves.iter().cloned())
        }),
        finished: Box::new({
            let finished = finished.clone();
            move |action| finished.lock().unwrap().push(action)
        }),
    };
    let kernel = KernelThread::spawn(shared.clone(), hooks).unwrap();
    let facts = Scripted { batches, ready_after, taken: 0 };
    let (runner, handle) = Runner::new(Pacing::new(ms(20), s(30)), facts, inbox, kernel);
    let programmed = Arc::new(Mutex::new(Vec::new()));
    let timing = programmed.clone();
    let runner = runner.timing(Box::new(move |trigger| timing.lock().unwrap().push(trigger.time)));
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(runner.run(async {
        let _ = stopped.await;
    }));
    Setup { updates, handle, stop, task, applied, finished, programmed }
}

fn batch() -> Vec<Update> {
    vec![Update::Replace { kind: Kind::Service, facts: Vec::new() }]
}

async fn until(handle: &Handle, what: impl Fn(&Status) -> bool) {
    let mut watch = handle.watch();
    let waited = tokio::time::timeout(s(20), watch.wait_for(|status| what(status))).await;
    assert!(waited.is_ok_and(|status| status.is_ok()), "it never came: {:?}", handle.status());
}

#[tokio::test]
async fn facts_become_rules_and_moves_are_told() {
    let shared = Shared::default();
    let setup = setup(&shared, vec![vec![value(0, 1)], vec![value(1, 1)], vec![value(0, 2)]], 2);
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.families.v4.unapplied == 1).await;
    assert!(shared.fake.lock().unwrap().kernel.is_empty(), "nothing before everything is told");
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.families.v4.applied == 2).await;
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.counters.applies == 1).await;
    assert_eq!(setup.handle.health(Family::V4), Ok(()));
    setup.stop.send(()).unwrap();
    setup.task.await.unwrap().unwrap();
    assert_eq!(shared.fake.lock().unwrap().versions(), [(0, 2), (1, 1)].into());
    let last = Move { before: Some(value(0, 1)), after: Some(value(0, 2)) };
    assert_eq!(setup.applied.lock().unwrap().last(), Some(&last), "told before the thread ended");
    let tasks: Vec<_> = setup.finished.lock().unwrap().iter().map(|f| (f.task, f.succeeded)).collect();
    assert_eq!(tasks, [(Task::Repair, true), (Task::Apply, true)]);
    let families: Vec<_> = setup.finished.lock().unwrap().iter().map(|f| (f.families.v4, f.families.v6)).collect();
    assert_eq!(families, [(true, true), (true, false)]);
}

#[tokio::test]
async fn times_wait_until_the_kernel_has_what_they_timed() {
    let shared = Shared::default();
    let (open, gate) = sync::channel();
    let batches = vec![vec![value(0, 1)], vec![value(0, 2)], vec![value(0, 2)], vec![value(0, 3)]];
    let setup = setup(&shared, batches, 1);
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.families.v4.applied == 1).await;
    assert_eq!(*setup.programmed.lock().unwrap(), [1]);
    *shared.gate.lock().unwrap() = Some(gate);
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.facts_taken.changed_services == 2).await;
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.facts_taken.changed_services == 3).await;
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.facts.changed_services == 4).await;
    assert_eq!(setup.handle.status().facts_taken.changed_services, 3, "the fourth waits for the kernel");
    assert_eq!(*setup.programmed.lock().unwrap(), [1], "the second is in flight, what repeats it as well");
    let (open_again, gate) = sync::channel();
    *shared.gate.lock().unwrap() = Some(gate);
    open.send(()).unwrap();
    until(&setup.handle, |status| status.counters.applies == 1).await;
    assert_eq!(*setup.programmed.lock().unwrap(), [1, 2], "though there is something newer");
    open_again.send(()).unwrap();
    until(&setup.handle, |status| status.counters.applies == 2).await;
    assert_eq!(*setup.programmed.lock().unwrap(), [1, 2, 3, 4]);
    assert_eq!(setup.handle.status().facts_taken.changed_services, 4);
    setup.stop.send(()).unwrap();
    setup.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn failures_are_retried_and_nudges_are_heard() {
    let shared = Shared::default();
    shared.fake.lock().unwrap().fault = Some(Fault::Observe);
    let setup = setup(&shared, vec![vec![value(0, 1)]], 1);
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.families.v4.applied == 1).await;
    assert_eq!(setup.handle.status().counters.observe_failures, 1);
    shared.fake.lock().unwrap().kernel.clear();
    setup.handle.drift_suspected();
    until(&setup.handle, |status| status.counters.drift.values().sum::<u64>() == 1).await;
    shared.fake.lock().unwrap().kernel.clear();
    for chains in [[fake::chain(&key(0))], [fake::chain(&key(5))]] {
        setup.handle.drift_seen(Suspicion { scope: Scope::Chains(chains.into()), by: [culprit()].into() });
    }
    until(&setup.handle, |status| status.counters.drift.values().sum::<u64>() == 2).await;
    assert!(setup.handle.status().counters.partial_repairs > 0);
    assert!(shared.fake.lock().unwrap().partials.iter().flatten().any(|chain| *chain == fake::chain(&key(0))));
    let repairs = setup.handle.status().counters.repairs;
    setup.handle.base_changed();
    until(&setup.handle, |status| status.counters.repairs > repairs).await;
    setup.stop.send(()).unwrap();
    setup.task.await.unwrap().unwrap();
    assert_eq!(shared.fake.lock().unwrap().kernel.len(), 1, "stopping leaves the rules");
}

#[tokio::test]
async fn shutdown_waits_for_the_action_in_flight() {
    let shared = Shared::default();
    let (open, gate) = sync::channel();
    *shared.gate.lock().unwrap() = Some(gate);
    let mut setup = setup(&shared, vec![vec![value(0, 1)]], 1);
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.synced.is_some()).await;
    setup.stop.send(()).unwrap();
    assert!(tokio::time::timeout(ms(200), &mut setup.task).await.is_err(), "the kernel is still at it");
    open.send(()).unwrap();
    setup.task.await.unwrap().unwrap();
    assert_eq!(shared.fake.lock().unwrap().kernel.len(), 1);
    assert_eq!(setup.handle.status().families.v4.applied, 1, "and its outcome counts");
}

#[tokio::test]
async fn a_source_that_ends_is_an_error() {
    let setup = setup(&Shared::default(), Vec::new(), 1);
    drop(setup.updates);
    assert!(matches!(setup.task.await.unwrap(), Err(RunError::SourceEnded)));
}

#[tokio::test]
async fn a_kernel_thread_that_dies_is_an_error() {
    let setup = setup(&Shared { panic: true, ..Shared::default() }, vec![vec![value(0, 1)]], 1);
    setup.updates.send(batch()).await.unwrap();
    assert!(matches!(setup.task.await.unwrap(), Err(RunError::KernelThread)));
}

#[tokio::test]
async fn the_loop_answers_while_the_kernel_is_at_work_and_not_when_it_has_ended() {
    let shared = Shared::default();
    let (open, gate) = sync::channel();
    *shared.gate.lock().unwrap() = Some(gate);
    let setup = setup(&shared, vec![vec![value(0, 1)]], 1);
    setup.updates.send(batch()).await.unwrap();
    until(&setup.handle, |status| status.synced.is_some()).await;
    for _ in 0..2 {
        assert_eq!(tokio::time::timeout(s(20), setup.handle.alive()).await, Ok(true));
    }
    open.send(()).unwrap();
    setup.stop.send(()).unwrap();
    setup.task.await.unwrap().unwrap();
    assert_eq!(tokio::time::timeout(s(20), setup.handle.alive()).await, Ok(false));
}
