//! Counting instructions with valgrind's callgrind.
//!
//! The program runs itself a second time, under valgrind, without counting: there it prepares what it measures at almost
//! the usual speed, and counts only what [`count`] is given. What switches counting on and off are valgrind's client
//! requests (`valgrind.h`, `callgrind.h`): instructions that do nothing outside of it. So the program may be optimised and
//! without symbols, and needs neither a framework nor a build of its own.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

/// Set for the run under valgrind.
const INSIDE: &str = "WEIR_BENCH_UNDER_VALGRIND";

/// `VG_USERREQ__…` of `callgrind.h`: `'C' << 24 | 'T' << 16`, and the number of the request.
const DUMP_STATS_AT: usize = 0x4354_0003;
const START_INSTRUMENTATION: usize = 0x4354_0004;
const STOP_INSTRUMENTATION: usize = 0x4354_0005;

/// Whether this is the run under valgrind.
pub fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program under valgrind; instructions by the names given to [`count`].
///
/// # Errors
/// Why it cannot be done here.
pub fn run() -> Result<BTreeMap<String, u64>, String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("valgrind's requests are written for x86_64 only".to_owned());
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("callgrind");
    let io = |error: std::io::Error| format!("{}: {error}", folder.display());
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(io)?;
    let program = env::current_exe().map_err(io)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind", "--instr-atstart=no"]);
    valgrind.arg(format!("--callgrind-out-file={}/out", folder.display())).arg(program).env(INSIDE, "1");
    match valgrind.status() {
        Ok(status) if status.success() => counts(&folder).map_err(io),
        Ok(status) => Err(format!("valgrind: {status}")),
        Err(error) => Err(format!("there is no valgrind ({error}): apt-get install valgrind")),
    }
}

/// Counts the instructions of `work`, without those of dropping what it returns.
pub fn count<R>(name: &str, work: impl FnOnce() -> R) {
    let name = format!("{name}\0");
    request(START_INSTRUMENTATION, 0);
    let result = black_box(work());
    request(STOP_INSTRUMENTATION, 0);
    request(DUMP_STATS_AT, name.as_ptr() as usize);
    drop(result);
}

/// One file for each count, with its name and its sum.
fn counts(folder: &Path) -> std::io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let text = fs::read_to_string(entry?.path())?;
        let after = |start| text.lines().find_map(|line| line.strip_prefix(start));
        let name = after("desc: Trigger: Client Request: ");
        let total = after("totals: ").and_then(|total| total.trim().parse().ok());
        found.extend(name.map(str::to_owned).zip(total));
    }
    Ok(found)
}

/// A client request, as `VALGRIND_DO_CLIENT_REQUEST_STMT` makes it.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn request(number: usize, argument: usize) {
    let words: [usize; 6] = [number, argument, 0, 0, 0, 0];
    // SAFETY: rotating rdi by 128 bits in all and exchanging rbx with itself leaves both as they were. valgrind, if it is
    // there, reads the six words that rax points to and writes rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0usize => _,
        );
    }
}

/// [`run`] has refused.
#[cfg(not(target_arch = "x86_64"))]
fn request(_: usize, _: usize) {}
