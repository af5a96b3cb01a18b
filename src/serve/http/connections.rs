//! How many connections may be open.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// The open connections of one server, or of many that share a limit.
#[derive(Debug)]
pub struct Connections {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Numbers grow, so the first is the oldest.
    next: u64,
    tasks: BTreeMap<u64, AbortHandle>,
}

/// A place among the open connections, given back when it is dropped.
struct Seat {
    number: u64,
    connections: Arc<Connections>,
}

impl Connections {
    /// At most so many, and at least one.
    pub fn limited(limit: usize) -> Arc<Self> {
        Arc::new(Connections { limit: limit.max(1), open: Mutex::default() })
    }

    /// How many are open now.
    pub fn count(&self) -> usize {
        self.open().tasks.len()
    }

    /// Lets a connection in. Where there are too many, the oldest is closed.
    pub(super) fn enter(self: &Arc<Self>, connection: impl Future<Output = ()> + Send + 'static) {
        // Its end waits for the lock, so it cannot leave before it is in.
        let mut open = self.open();
        while open.tasks.len() >= self.limit {
            open.close_oldest();
        }
        let number = open.next;
        open.next += 1;
        let seat = Seat { number, connections: self.clone() };
        let task = tokio::spawn(async move {
            let _seat = seat;
            connection.await;
        });
        open.tasks.insert(number, task.abort_handle());
    }

    /// Closes one, to have its file descriptor.
    pub(super) fn close_oldest(&self) {
        self.open().close_oldest();
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn close_oldest(&mut self) {
        if let Some((_, task)) = self.tasks.pop_first() {
            task.abort();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.open().tasks.remove(&self.number);
    }
}
