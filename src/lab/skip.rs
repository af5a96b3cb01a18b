//! Suites that cannot run here say so.

use std::io::Write;

/// Says that a suite, or part of one, does not run here and why: on stderr, and in the file that `WEIR_SKIPPED` names,
/// which `test-harness/run` prints at its end. What is skipped is never counted as passed there.
pub fn skipped(what: &str) {
    eprintln!("SKIPPED: {what}");
    let Some(path) = std::env::var_os("WEIR_SKIPPED") else { return };
    let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    if let Err(error) = file.and_then(|mut file| writeln!(file, "{what}")) {
        eprintln!("cannot note it in {}: {error}", path.display());
    }
}
