//! A network namespace for one test.

use nix::sched::{CloneFlags, unshare};
use weir::lab::rerun;

/// Runs in a network namespace of its own; so does what it starts.
pub fn in_namespace(test: impl FnOnce() + Send) {
    if !rerun::allowed().unwrap() {
        return;
    }
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    };
    std::thread::scope(|scope| {
        if let Err(panic) = scope.spawn(inside).join() {
            std::panic::resume_unwind(panic);
        }
    });
}
