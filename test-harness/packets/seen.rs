//! What a client sees of a connection that it tries, and asking until it is known what it may see.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use weir::lab::{Failure, Reply};
use weir::model::oracle;

/// How often a question that is answered is put at least, so that an answer which should not come has its chance.
fn at_least() -> usize {
    if super::stream::is_slow() { 3 } else { 12 }
}

/// How often it is put until all expected answers have come. One of three is missed with a probability of 10^-26.
const AT_MOST: usize = 150;

/// A source port that nobody has used lately. The kernel chooses at random, and may choose one of a connection that
/// conntrack still remembers: then no rule is asked.
pub fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 33_000;
    FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % (u16::MAX - FIRST)
}

/// What became of a connection.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The server of this name saw the client's own address.
    Kept(String),
    /// The server of this name saw an address of the node.
    Masqueraded(String),
    Refused,
    Dropped,
    /// It came to where nobody answers and all is told to be unreachable.
    Untouched,
    /// What no rule of ours can lead to.
    Odd(String),
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Kept(server) => write!(f, "{server}, kept"),
            Seen::Masqueraded(server) => write!(f, "{server}, masqueraded"),
            Seen::Refused => f.write_str("refused"),
            Seen::Dropped => f.write_str("dropped"),
            Seen::Untouched => f.write_str("untouched"),
            Seen::Odd(what) => f.write_str(what),
        }
    }
}

impl Seen {
    /// The outcome of a probe that was sent from `source` through `node`.
    pub fn of(outcome: Result<Reply, Failure>, source: IpAddr, node: &oracle::Host) -> Seen {
        match outcome {
            Ok(reply) if reply.peer.ip() == source => Seen::Kept(reply.server),
            Ok(reply) if node.addresses.contains(&reply.peer.ip()) => Seen::Masqueraded(reply.server),
            Ok(reply) => Seen::Odd(format!("{} saw a stranger, {}", reply.server, reply.peer)),
            Err(Failure::Refused) => Seen::Refused,
            Err(Failure::TimedOut) => Seen::Dropped,
            Err(Failure::Unreachable) => Seen::Untouched,
            Err(other) => Seen::Odd(other.to_string()),
        }
    }

    pub fn is_answer(&self) -> bool {
        matches!(self, Seen::Kept(_) | Seen::Masqueraded(_))
    }
}

/// Asks until everything that is expected was seen. An error: what was seen beside that, or was never seen.
pub fn exactly(expected: &BTreeSet<Seen>, mut ask: impl FnMut() -> Seen) -> Result<(), String> {
    let at_least = match expected {
        some if some.iter().any(Seen::is_answer) => at_least(),
        one if one.contains(&Seen::Dropped) => 1,
        _ => 2,
    };
    let mut missing: BTreeSet<&Seen> = expected.iter().collect();
    for asked in 0..AT_MOST {
        if asked >= at_least && missing.is_empty() {
            return Ok(());
        }
        let seen = ask();
        if !expected.contains(&seen) {
            return Err(format!("expected {expected:?}, is {seen:?}"));
        }
        missing.remove(&seen);
    }
    Err(format!("expected {expected:?}, never seen: {missing:?}"))
}

/// Asks a few times. An error: what was seen that is not expected.
pub fn within(expected: &BTreeSet<Seen>, mut ask: impl FnMut() -> Seen) -> Result<(), String> {
    for _ in 0..at_least() {
        let seen = ask();
        if !expected.contains(&seen) {
            return Err(format!("expected any of {expected:?}, is {seen:?}"));
        }
    }
    Ok(())
}

/// Looks at all cases at the same time: a dropped packet takes as long as one waits for it. Returns what went wrong.
pub fn complaints<T: Sync>(cases: &[T], look: impl Fn(&T) -> Result<(), String> + Sync) -> Vec<String> {
    let look = &look;
    thread::scope(|scope| {
        let threads: Vec<_> = cases.iter().map(|case| scope.spawn(move || look(case))).collect();
        let results = threads.into_iter().map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        results.filter_map(Result::err).collect()
    })
}
