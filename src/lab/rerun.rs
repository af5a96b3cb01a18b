//! Tests that need a lab, run by an ordinary user.
//!
//! A test binary has threads from the start, so it cannot enter a [`sandbox`](super::sandbox). Instead it runs itself
//! again, for one test, by way of util-linux's `unshare`.

use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use super::LabError;

/// Set for the run in the user namespace: it must not start another.
const RERUN: &str = "WEIR_LAB_RERUN";

/// Gives legacy tables a place for their lock, then becomes the test.
const SCRIPT: &str = r#"mount -t tmpfs tmpfs /run && exec "$0" "$@""#;

/// Whether the test that calls this can go on and build a lab.
///
/// For root the answer is yes. For others the test is run to its end in a user namespace of its own, and the answer is
/// no: nothing is left to do. A failure there is an error that holds what the test printed.
///
/// It must be called from the test's own thread: that has the test's name.
pub fn allowed() -> Result<bool, LabError> {
    if can_make_namespaces() {
        return Ok(true);
    }
    let test = thread::current().name().unwrap_or_default().to_owned();
    if std::env::var_os(RERUN).is_some() {
        return Err(LabError::Forbidden { host: test });
    }
    let program = std::env::current_exe().map_err(LabError::io(&test, "find its own program"))?;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", SCRIPT])
        .arg(program)
        .args([test.as_str(), "--exact", "--nocapture", "--include-ignored"])
        .env(RERUN, "1")
        .output()
        .map_err(LabError::io(&test, "run unshare (of util-linux)"))?;
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that is no test's would run none, and pass.
    if output.status.success() && printed.contains("1 passed") {
        print!("{printed}");
        Ok(false)
    } else {
        Err(LabError::Rerun { test, output: printed })
    }
}

fn can_make_namespaces() -> bool {
    // In a thread of its own: the caller stays where it is.
    let attempt = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET));
    attempt.join().is_ok_and(|result: Result<(), Errno>| result.is_ok())
}
