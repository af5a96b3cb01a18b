//! A network namespace for one test.

use nix::sched::{CloneFlags, unshare};

/// Runs in a network namespace of its own, as root; says so where it cannot. What it starts is in there as well.
pub fn in_namespace(name: &str, test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => test(),
            Err(errno) => weir::lab::skipped(&format!("watch, {name}: no network namespace: {errno} (run as root)")),
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
