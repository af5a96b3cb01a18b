//! Clients that connect without pause while something happens.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use weir::lab::{Failure, Host, Probe, Reply};

/// How many connections each client makes before and after, at least.
const AROUND: usize = 5;

/// In a machine without hardware's help everything stands still for seconds now and then, and clients that never rest
/// would leave nothing for weir.
pub fn is_slow() -> bool {
    std::env::var_os("WEIR_MACHINE").is_some()
}

/// How long a connection may take, and the time between two of a client. A lost SYN is sent again after a second, and
/// counts as lost where that can be told.
fn pace() -> (Duration, Duration) {
    if is_slow() {
        (Duration::from_secs(15), Duration::from_millis(250))
    } else {
        (Duration::from_millis(900), Duration::ZERO)
    }
}

/// How many failures are shown at most.
const SHOWN: usize = 20;

/// Runs `work` while each of these clients opens one TCP connection after the other, and fails if one of them fails.
/// Returns what `work` does, and how many connections there were.
#[track_caller]
pub fn while_connecting<R>(clients: &[(&Host, SocketAddr)], work: impl FnOnce() -> R) -> (R, usize) {
    while_asking(clients, Result::is_ok, work)
}

/// What became of a connection.
pub type Outcome = Result<Reply, Failure>;

/// The same with another idea of what is fine.
#[track_caller]
pub fn while_asking<R>(
    clients: &[(&Host, SocketAddr)],
    is_fine: fn(&Outcome) -> bool,
    work: impl FnOnce() -> R,
) -> (R, usize) {
    let stop = AtomicBool::new(false);
    let counts: Vec<AtomicUsize> = clients.iter().map(|_| AtomicUsize::new(0)).collect();
    let begin = Instant::now();
    let (result, failures) = thread::scope(|scope| {
        // Stops the clients also if `work` panics.
        let stopper = Stopper(&stop);
        let threads: Vec<_> = clients
            .iter()
            .zip(&counts)
            .map(|((host, to), count)| scope.spawn(|| connect(host, *to, is_fine, count, stopper.0, begin)))
            .collect();
        wait_for_more(&counts);
        let result = work();
        wait_for_more(&counts);
        drop(stopper);
        let failures: Vec<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (result, failures)
    });
    let total = counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    let some = &failures[..failures.len().min(SHOWN)];
    assert!(failures.is_empty(), "{} of {total} connections failed:\n{}", failures.len(), some.join("\n"));
    (result, total)
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn wait_for_more(counts: &[AtomicUsize]) {
    let now: Vec<usize> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    for (count, now) in counts.iter().zip(now) {
        super::node::wait_until("every client has connected some more", || {
            count.load(Ordering::Relaxed) >= now + AROUND
        });
    }
}

/// Connects until it is told to stop; returns what was not fine.
fn connect(
    host: &Host,
    to: SocketAddr,
    is_fine: fn(&Outcome) -> bool,
    count: &AtomicUsize,
    stop: &AtomicBool,
    begin: Instant,
) -> Vec<String> {
    let (timeout, pause) = pace();
    let probe = Probe::tcp(to).timeout(timeout);
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let outcome = probe.run(host);
        if !is_fine(&outcome) {
            failures.push(format!("{} to {to} after {:?}: {outcome:?}", host.name(), begin.elapsed()));
        }
        count.fetch_add(1, Ordering::Relaxed);
        thread::sleep(pause);
    }
    failures
}
