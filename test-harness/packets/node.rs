//! A running weir on a host, and what it is told.

use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sched::{CloneFlags, setns};
use tokio::sync::{mpsc, oneshot};
use weir::cmd::proxy::{NodeConfig, Observers, RunningNode};
use weir::cmd::settle::complete;
use weir::cmd::{Cli, Command, Failure};
use weir::engine::{Handle, Pacing, Status};
use weir::kernel::xtables::Driver;
use weir::lab::Host;
use weir::source::QUEUE;
use weir::state::Update;

use super::manifests::NODE;

/// How long a change may take to come into force. A machine without hardware's help takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `weir proxy` is, without a process of its own. Dropping it stops it and leaves its rules.
pub struct Weir {
    handle: Handle,
    updates: mpsc::Sender<Vec<Update>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

impl Weir {
    /// Starts on a host, with flags as typed, and compares the kernel with what is wanted this often.
    pub fn start(host: &Host, driver: impl Into<Driver>, flags: &[&str], sync_period: Duration) -> Weir {
        let driver = driver.into();
        let typed = ["weir", "proxy"].iter().chain(flags);
        let Command::Proxy(args) = Cli::parse_from(typed).command else { unreachable!() };
        let pacing = Pacing::new(Duration::ZERO, sync_period);
        let settled = complete(&args.options).unwrap();
        let config = NodeConfig { node_name: NODE.into(), rules: settled.rules, pacing, gates: settled.gates };
        let (updates, receiver) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel::<()>();
        let (report, reported) = sync_channel(1);
        let namespace = host.namespace().try_clone().unwrap();
        let thread = thread::spawn(move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let node = RunningNode::start(config, driver, receiver, Observers::default())?;
                report.send(node.handle().clone()).unwrap();
                let stopped = async {
                    // An error is a sender that was dropped, which means the same.
                    let _ = stopped.await;
                };
                node.until(stopped).await
            })
        });
        let handle = reported.recv().expect("it starts");
        Weir { handle, updates, stop: Some(stop), thread: Some(thread) }
    }

    /// Tells it something, and waits until that is in force.
    pub fn tell(&self, batch: Vec<Update>) {
        self.hand_over(batch);
        // The loop has made its step for a batch when it takes the next.
        self.hand_over(Vec::new());
        self.wait_until("everything is in force", |status| {
            assert!(status.quarantined.is_empty(), "{status:?}");
            let owed = status.families.iter().any(|(_, family)| family.unapplied > 0);
            status.started && !owed
        });
    }

    /// Tells it something, and waits until it has heard that.
    pub fn hand_over(&self, batch: Vec<Update>) {
        self.updates.blocking_send(batch).unwrap();
        wait_until("the batch is taken in", || self.updates.capacity() == QUEUE);
    }

    /// Waits for a status.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Status) -> bool) {
        wait_until(what, || condition(&self.handle.status()));
    }

    pub fn status(&self) -> Status {
        (*self.handle.status()).clone()
    }

    /// Stops it, as SIGTERM does, and returns its last status.
    pub fn stop(mut self) -> Status {
        self.end();
        self.status()
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic").expect("it ends as asked");
        }
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(self.stop.take());
        } else {
            self.end();
        }
    }
}

/// Waits for a condition that is to come true.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited too long until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}
