//! What `iptables-restore` said → what went wrong, and with which chain.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::sys::stat::{major, minor};

use super::saying;
use crate::kernel::xtables::order::{Line, Script};
use crate::kernel::xtables::{ApplyError, ApplyErrorKind, BuiltinChange, ChainKey, Table, Target};

/// The lock of iptables-legacy.
const LOCK_FILE: &str = "/run/xtables.lock";

/// Says that another process holds the lock. Both texts are iptables-legacy's own (1.8.2 to 1.8.13).
const LOCKED: [&str; 2] = ["holding the xtables lock", "Can't lock"];

/// Races and shortages that pass.
const PASSING: [&str; 4] = [
    "Resource temporarily unavailable",
    "Interrupted system call",
    "Cannot allocate memory",
    "No buffer space available",
];

/// Nothing can be applied as things are.
const UNAVAILABLE: [&str; 8] = [
    "Permission denied",
    "Operation not permitted",
    "you must be root",
    "can't initialize",
    "Cannot initialize",
    "unable to initialize table",
    "Protocol not supported",
    "Function not implemented",
];

/// The error of a restore that ended with `code` after saying `stderr`.
pub(crate) fn explain(script: &Script, program: &str, code: Option<i32>, stderr: &str) -> ApplyError {
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    if says(&LOCKED) {
        let holder = lock_holder().map_or_else(String::new, |pid| format!(" (process {pid} holds it)"));
        let message = format!("{program}: another program holds the xtables lock{holder}; it will be tried again");
        return ApplyError { kind: ApplyErrorKind::Busy, message, chain: None };
    }
    let kind = if code.is_none() || says(&PASSING) {
        ApplyErrorKind::Busy
    } else if says(&UNAVAILABLE) {
        ApplyErrorKind::Unavailable
    } else {
        ApplyErrorKind::Refused
    };
    let message = saying(program, code, stderr);
    let culprit = if kind == ApplyErrorKind::Refused { culprit(script, stderr) } else { None };
    let Some((table, line)) = culprit else { return ApplyError { kind, message, chain: None } };
    let mut text = String::new();
    line.push(&mut text, script.family);
    let chain = line.chain().map(|name| ChainKey { family: script.family, table, name: name.clone() });
    // A chain that has just been made, or a rule that has just gone: somebody else was here since we looked.
    let raced = matches!(line, Line::Builtin(BuiltinChange::CreateChain(_) | BuiltinChange::Delete(..)));
    let kind = if raced { ApplyErrorKind::Busy } else { kind };
    ApplyError { kind, message: format!("{message} [{table}: {}]", text.trim_end()), chain }
}

/// What of the text is worth telling, in one line.
pub(super) fn essence(stderr: &str) -> String {
    let told = |line: &&str| !line.is_empty() && !line.starts_with("Try `") && !line.starts_with("# Warning");
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(told).take(4).collect();
    lines.join(" ")
}

/// The remedy, with a separator before it.
pub(super) fn remedy(stderr: &str) -> &'static str {
    let says = |text: &str| stderr.contains(text);
    if says("Permission denied") || says("Operation not permitted") || says("you must be root") {
        "; remedy: run as root, with CAP_NET_ADMIN (and CAP_NET_RAW for the legacy variant)"
    } else if says("initialize") {
        "; remedy: load the kernel's module for this table, or choose the other iptables variant"
    } else {
        ""
    }
}

/// The line at fault, unless it is a COMMIT that says nothing more.
fn culprit<'a>(script: &Script<'a>, stderr: &str) -> Option<(Table, Line<'a>)> {
    let number = line_number(stderr)?;
    let (table, line) = script.lines().nth(number.checked_sub(1)?)?;
    match line {
        Line::Table(_) => None,
        Line::Commit => {
            // The kernel refused the table as a whole. Only iptables-nft sometimes says more.
            let missing = stderr.split_once("Chain '")?.1.split_once("' does not exist")?.0;
            script.lines().find(|(of, line)| *of == table && jumps_to(line, missing))
        }
        line => Some((table, line)),
    }
}

fn jumps_to(line: &Line, name: &str) -> bool {
    let target = line.added().and_then(|rule| rule.target.as_ref());
    matches!(target, Some(Target::Jump(chain) | Target::Goto(chain)) if chain.as_str() == name)
}

/// `line 5 failed`, `line 5: RULE_APPEND failed (…)`, `Error occurred at line: 5`: the first number after `line`
/// (scenario J24).
fn line_number(stderr: &str) -> Option<usize> {
    stderr.match_indices("line").find_map(|(at, word)| {
        let rest = stderr.get(at + word.len()..)?;
        let rest = rest.strip_prefix(": ").or_else(|| rest.strip_prefix(' '))?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest.get(..end)?.parse().ok()
    })
}

/// The process that holds the lock, if it still does and `/proc/locks` shows it.
fn lock_holder() -> Option<u32> {
    let lock = fs::metadata(LOCK_FILE).ok()?;
    let id = format!("{:02x}:{:02x}:{}", major(lock.dev()), minor(lock.dev()), lock.ino());
    holder_in(&fs::read_to_string("/proc/locks").ok()?, &id)
}

/// `1: FLOCK  ADVISORY  WRITE 16709 fe:00:9805825 0 EOF`; those that wait have `->` after the number.
fn holder_in(locks: &str, id: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, file, ..] if *file == id => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests;
