//! Parse, hand over, exit code.

use std::process::ExitCode;

// glibc's allocator keeps what bursts of changes took, and is half as fast (benches/results).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let args = weir::cmd::arguments(std::env::args_os());
    if args.get(1).is_some_and(|command| command == "proxy") {
        // Without a thread of its own the allocator gives memory back only when something is allocated: after a burst, a
        // quiet proxy would keep what the burst took. If that thread cannot be had, it keeps it. Only for the command
        // that lives long: the demo must not have threads before it has its namespaces.
        let _ = tikv_jemalloc_ctl::background_thread::write(true);
    }
    weir::cmd::main(args)
}
