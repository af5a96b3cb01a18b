//! The thread on which the kernel is spoken to. Its calls block.

use std::io;
use std::sync::mpsc as sync;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::backend::{Backend, RepairMode, Standing};
use super::event::{ApplyFailure, Event};
use super::fragments::Fragments;
use super::tending::{Next, Tending};
use crate::kernel::xtables::Scope;
use crate::net::{Family, PerFamily};
use crate::plan::Move;

/// Which kernel action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Task {
    /// Changes of fragments.
    Apply,
    /// A compare of everything.
    Repair,
    /// A compare of some chains.
    PartialRepair,
}

/// A kernel action is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    pub task: Task,
    pub took: Duration,
    pub succeeded: bool,
    /// Which families it was about; a compare of everything is about all that are served, which may be fewer.
    pub families: PerFamily<bool>,
}

/// Called with moves that the kernel said yes to.
pub type OnApplied = Box<dyn FnMut(&[Move]) + Send>;

/// What is called on the kernel thread, between kernel actions. A hook may block; the next action waits for it.
pub struct Hooks {
    /// The kernel said yes to these moves. After the first compare, or a rebuild, `before` is `None` throughout.
    pub applied: OnApplied,
    /// A kernel action is over.
    pub finished: Box<dyn FnMut(Finished) + Send>,
}

impl Default for Hooks {
    /// Hooks that do nothing.
    fn default() -> Self {
        Hooks { applied: Box::new(|_| {}), finished: Box::new(|_| {}) }
    }
}

pub(super) enum Command {
    Apply { moves: Vec<Move>, forget: bool },
    Repair { model: Fragments, scope: Scope, mode: RepairMode },
    Applied(Vec<Move>),
}

/// The running thread. It ends when this is dropped, after what it is doing.
pub struct KernelThread {
    commands: sync::Sender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    thread: JoinHandle<()>,
}

impl KernelThread {
    /// Starts it. It works in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn spawn(backend: impl Backend + 'static, hooks: Hooks) -> io::Result<Self> {
        let (commands, inbox) = sync::channel();
        let (outbox, events) = mpsc::unbounded_channel();
        let thread = thread::Builder::new().name("weir-kernel".into()).spawn(move || {
            Worker { backend, hooks, tending: Tending::default(), standing: Standing::default(), outbox }.serve(&inbox)
        })?;
        Ok(KernelThread { commands, events, thread })
    }

    /// False if the thread is gone.
    #[must_use]
    pub(super) fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok()
    }

    /// The outcome of the next action; `None` if the thread is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Ends the thread after all commands sent so far; false if it panicked.
    pub(super) fn join(self) -> bool {
        drop(self.commands);
        self.thread.join().is_ok()
    }
}

struct Worker<B> {
    backend: B,
    hooks: Hooks,
    tending: Tending,
    /// As it was told last.
    standing: Standing,
    outbox: mpsc::UnboundedSender<Event>,
}

impl<B: Backend> Worker<B> {
    fn serve(mut self, inbox: &sync::Receiver<Command>) {
        loop {
            let command = match self.tending.next(inbox) {
                Next::Command(command) => command,
                Next::Tend => {
                    let result = self.backend.tend();
                    self.tending.tended(result, self.backend.rest());
                    self.tell_standing();
                    continue;
                }
                Next::End => return,
            };
            let began = Instant::now();
            let (task, families) = described(&command);
            let (succeeded, event) = match command {
                Command::Apply { moves, forget } => self.apply(&moves, forget),
                Command::Repair { model, scope, mode } => self.repair(model, &scope, mode),
                Command::Applied(moves) => {
                    (self.hooks.applied)(&moves);
                    continue;
                }
            };
            (self.hooks.finished)(Finished { task, took: began.elapsed(), succeeded, families });
            self.tending.due_in(self.backend.rest());
            self.tell_standing();
            if self.outbox.send(event).is_err() {
                return;
            }
        }
    }

    /// Says what the backend could not do as it was asked, when that changes. Nobody may be there to hear it.
    fn tell_standing(&mut self) {
        let standing = self.backend.standing();
        if self.standing != standing {
            self.standing = standing;
            let _ = self.outbox.send(Event::Standing(standing));
        }
    }

    fn apply(&mut self, moves: &[Move], forget: bool) -> (bool, Event) {
        if forget {
            self.backend.forget();
        }
        let result = self.backend.apply(moves).map_err(|error| {
            let suspect = self.backend.suspect(&error);
            ApplyFailure { error, suspect }
        });
        (result.is_ok(), Event::ApplyDone(result))
    }

    fn repair(&mut self, model: Fragments, scope: &Scope, mode: RepairMode) -> (bool, Event) {
        let result = self.backend.repair(&model, scope, mode);
        // Before the outcome is told: the engine would copy a list that is still shared.
        drop(model);
        (result.is_ok(), Event::RepairDone(result))
    }
}

/// What a command is, and which families it is about.
fn described(command: &Command) -> (Task, PerFamily<bool>) {
    let all = PerFamily::new(|_| true);
    match command {
        // No moves: the base, which is every family's.
        Command::Apply { moves, .. } if moves.is_empty() => (Task::Apply, all),
        Command::Apply { moves, .. } | Command::Applied(moves) => {
            let ports = moves.iter().filter_map(|m| m.after.as_ref().or(m.before.as_ref()));
            (Task::Apply, among(ports.map(|port| port.key.family)))
        }
        Command::Repair { scope: Scope::All, .. } => (Task::Repair, all),
        Command::Repair { scope: Scope::Chains(chains), .. } => {
            (Task::PartialRepair, among(chains.iter().map(|chain| chain.family)))
        }
    }
}

fn among(families: impl Iterator<Item = Family>) -> PerFamily<bool> {
    let mut found = PerFamily::default();
    for family in families {
        *found.get_mut(family) = true;
    }
    found
}
