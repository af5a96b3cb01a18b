//! How many files this process may have open.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that listeners of node ports leave to everything else: connections, the API server, kernel sockets, child
/// processes' pipes.
const RESERVE: u64 = 2048;

/// Lifts the soft limit of open files to the hard one; returns it.
///
/// # Errors
/// The kernel refuses, which a sandbox may make it do.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many listeners node ports may have: what the limit leaves, and at least half of it.
pub(super) fn most_listeners() -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(within(soft)).unwrap_or(usize::MAX)
}

fn within(limit: u64) -> u64 {
    limit - RESERVE.min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_left_for_others() {
        for (limit, listeners) in [(0, 0), (1024, 512), (4096, 2048), (65_536, 63_488), (u64::MAX, u64::MAX - 2048)] {
            assert_eq!(within(limit), listeners);
        }
    }
}
