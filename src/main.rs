//! Parse, hand over, exit code.

use std::process::ExitCode;

// glibc's allocator keeps what bursts of changes took, and is half as fast (benches/results).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    weir::cmd::main(std::env::args_os().collect())
}
