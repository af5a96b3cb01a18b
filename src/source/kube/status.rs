//! What the source knows about its connections, for health checks, metrics and the status socket.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

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

/// Readable from any thread while the source runs.
#[derive(Debug, Default)]
pub struct Status {
    kinds: [Mutex<KindStatus>; 4],
    problems: AtomicU64,
}

impl Status {
    /// A copy of what is known about a kind.
    pub fn of(&self, kind: Kind) -> KindStatus {
        self.lock(kind).clone()
    }

    /// How many parts of objects were left out because they could not be used.
    pub fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    pub(super) fn count_problem(&self) {
        self.problems.fetch_add(1, Ordering::Relaxed);
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
