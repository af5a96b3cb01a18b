//! What the source knows about its connections, for health checks, metrics and the status socket.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::net::ObjectName;
use crate::source::wire::Problem;
use crate::state::Kind;

/// How one kind is being followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindStatus {
    /// A list or watch is being answered.
    pub connected: bool,
    /// When `connected` last changed. `None` before the first answer or failure.
    pub since: Option<SystemTime>,
    /// A complete list has arrived at least once.
    pub synced: bool,
    /// The version that was last seen.
    pub resource_version: Option<String>,
    /// Complete lists after the first one.
    pub relists: u64,
    /// Failed requests and broken watches.
    pub failures: u64,
    /// The most recent failure, on one line; kept after a recovery.
    pub last_error: Option<String>,
    /// Lists are asked for as streams.
    pub streaming_list: bool,
}

/// Who is told of every new problem of an object, with the object's name. It must not block.
#[derive(Clone, Default)]
pub struct ProblemListener(Option<Arc<OnProblem>>);

type OnProblem = dyn Fn(&ObjectName, &Problem) + Send + Sync;

impl ProblemListener {
    pub fn new(listener: impl Fn(&ObjectName, &Problem) + Send + Sync + 'static) -> Self {
        ProblemListener(Some(Arc::new(listener)))
    }
}

impl fmt::Debug for ProblemListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ProblemListener" } else { "no ProblemListener" })
    }
}

/// Readable from any thread while the source runs.
#[derive(Debug, Default)]
pub struct Status {
    kinds: [Mutex<KindStatus>; 4],
    problems: AtomicU64,
    listener: ProblemListener,
}

impl Status {
    pub(super) fn telling(listener: ProblemListener) -> Self {
        Status { listener, ..Status::default() }
    }

    /// A copy of what is known about a kind.
    pub fn of(&self, kind: Kind) -> KindStatus {
        self.lock(kind).clone()
    }

    /// How many parts of objects were left out because they could not be used.
    pub fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    /// Counts a problem that is new, and tells the listener.
    pub(super) fn found_problem(&self, object: &ObjectName, problem: &Problem) {
        self.problems.fetch_add(1, Ordering::Relaxed);
        if let Some(listener) = &self.listener.0 {
            listener(object, problem);
        }
    }

    pub(super) fn update(&self, kind: Kind, change: impl FnOnce(&mut KindStatus)) {
        change(&mut self.lock(kind));
    }

    pub(super) fn set_connected(&self, kind: Kind, connected: bool) {
        let mut status = self.lock(kind);
        if status.connected != connected || status.since.is_none() {
            status.connected = connected;
            status.since = Some(SystemTime::now());
        }
    }

    /// A thread that died while it held the lock left a complete value: fields are set one by one.
    fn lock(&self, kind: Kind) -> MutexGuard<'_, KindStatus> {
        let [service, slice, node, cidr] = &self.kinds;
        let mutex = match kind {
            Kind::Service => service,
            Kind::EndpointSlice => slice,
            Kind::Node => node,
            Kind::ServiceCidr => cidr,
        };
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
