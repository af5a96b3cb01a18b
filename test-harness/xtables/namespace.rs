//! A thread in a network namespace of its own, with a driver for it.

use nix::sched::{CloneFlags, unshare};
use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::{Variant, detect};

/// Runs `test` in a namespace that goes away with it, once for each installed variant.
pub fn with_each_variant(what: &str, test: impl Fn(Variant, RestoreDriver) + Sync) {
    for variant in Variant::ALL {
        std::thread::scope(|scope| {
            let outcome = scope.spawn(|| in_namespace(what, variant, &test)).join();
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }
}

fn in_namespace(what: &str, variant: Variant, test: &impl Fn(Variant, RestoreDriver)) {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("SKIPPED: {what} ({variant}): cannot make a network namespace: {error} (run as root)");
        return;
    }
    match detect(Some(variant)) {
        Ok(tools) => test(variant, RestoreDriver::new(tools)),
        Err(error) => eprintln!("SKIPPED: {what} ({variant}): {error}"),
    }
}
