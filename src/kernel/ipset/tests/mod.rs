//! | module | what it checks |
//! |---|---|
//! | `rows` | scenarios of sets: differences, entries, text |
//! | `messages` | bytes, as captured and as nobody sends them |
//! | `kernel` | a real kernel, beside the tool `ipset` |
//! | `random` | any state to any state, on a real kernel and simulated |

mod kernel;
mod messages;
mod random;
mod rows;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sched::{CloneFlags, unshare};

use super::text::{entry, parse, push_set};
use super::*;
use crate::lab::skipped;
use crate::net::Family;

/// What should be there.
type Wanted = BTreeMap<SetName, (SetSpec, Entries)>;

fn spec(set_type: SetType, family: Family) -> SetSpec {
    SetSpec { set_type, family, comments: false }
}

/// Entries from their texts.
fn entries(spec: SetSpec, texts: &[&str]) -> Entries {
    texts.iter().map(|text| (entry(spec.set_type, spec.family, text).unwrap(), None)).collect()
}

/// Everything that is there, whoever made it.
fn observe(kernel: &mut dyn Sets) -> BTreeMap<SetName, ObservedSet> {
    let mut found = BTreeMap::new();
    kernel.observe(&|_| true, &mut |set| drop(found.insert(set.name.clone(), set))).unwrap();
    found
}

/// What must be done so that everything is as wanted.
fn difference(wanted: &Wanted, found: &BTreeMap<SetName, ObservedSet>) -> Changes {
    let Compared { changes, mismatches } = compare(wanted, found.values(), &|_| true);
    assert_eq!(mismatches, []);
    changes
}

fn assert_holds(found: &BTreeMap<SetName, ObservedSet>, wanted: &Wanted, what: &str) {
    assert!(found.keys().eq(wanted.keys()), "{what}: {:?} and {:?}", found.keys(), wanted.keys());
    for (name, (spec, entries)) in wanted {
        assert_eq!(found[name].spec, Ok(*spec), "{what}: {name}");
        assert!(found[name].entries == *entries, "{what}: {name}: {:?} and {entries:?}", found[name].entries);
    }
}

/// Runs in a network namespace that goes away with the test, as root; says so where it cannot.
fn in_namespace(what: &str, test: impl FnOnce(IpsetDriver) + Send) {
    let run = || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            return skipped(&format!("ipset: {what}: no network namespace: {errno} (run as root)"));
        }
        match IpsetDriver::open() {
            Ok(driver) => test(driver),
            Err(IpsetError::Absent) => skipped(&format!("ipset: {what}: the kernel has no ipset")),
            Err(error) => panic!("{what}: {error}"),
        }
    };
    let outcome = std::thread::scope(|scope| scope.spawn(run).join());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// The same beside the tool.
fn beside_the_tool(what: &str, test: impl FnOnce(IpsetDriver) + Send) {
    match Command::new("ipset").arg("--version").output() {
        Ok(_) => in_namespace(what, test),
        Err(error) => skipped(&format!("ipset: {what}: {error}")),
    }
}

/// Runs `ipset`; gives what it printed, or its complaint.
fn ipset(arguments: &str, input: &str) -> Result<String, String> {
    let mut child = Command::new("ipset")
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).ok());
        child.wait_with_output().unwrap()
    });
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// What the tool sees.
fn saved() -> BTreeMap<SetName, ObservedSet> {
    parse(&ipset("save", "").unwrap()).unwrap().into_iter().map(|set| (set.name.clone(), set)).collect()
}
