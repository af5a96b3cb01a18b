//! Runs cases, each in a process and a network namespace of its own.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::arguments::Arguments;
use super::tally::{self, Outcome};

/// A test: its name, and what panics if it fails.
pub type Case = (String, fn());

/// Set for the process of one case to its name.
pub const CASE: &str = "WEIR_IPVS_CASE";

/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs these cases, some at the same time. `over` gets what became of each, and the line that tells it.
pub fn run(cases: &[&Case], arguments: &Arguments, over: impl FnMut(&str, &str, Outcome) + Send) {
    let queue = Mutex::new(cases.iter());
    let over = Mutex::new(over);
    // With --nocapture what they print would be mixed up.
    let at_once = if arguments.nocapture { 1 } else { arguments.threads };
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                // Not in the head of a loop, which would hold the lock.
                let next = || queue.lock().expect("no panic").next();
                while let Some((name, _)) = next() {
                    let start = Instant::now();
                    if arguments.nocapture {
                        println!("---- {name} ----");
                    }
                    let outcome = run_apart(name, arguments.nocapture);
                    let outcome = outcome.unwrap_or_else(|error| Some(format!("cannot run it: {error}")));
                    let line = tally::over(name, &outcome, start.elapsed().as_secs_f64());
                    (over.lock().expect("no panic"))(name, &line, outcome);
                }
            });
        }
    });
}

/// Runs one case as a process of its own: this program again.
fn run_apart(name: &str, nocapture: bool) -> io::Result<Outcome> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(CASE, name).stdin(Stdio::null());
    let mut printed = tempfile::tempfile()?;
    if !nocapture {
        command.stdout(printed.try_clone()?).stderr(printed.try_clone()?);
    }
    let status = wait(&mut command.spawn()?)?;
    if status.is_some_and(|status| status.success()) {
        return Ok(None);
    }
    let why = status.map_or(format!("it took longer than {} s", PATIENCE.as_secs()), |status| status.to_string());
    Ok(Some(format!("{}{name}: {why}", read(&mut printed)?)))
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for the end of a case; `None` if it had to be killed.
fn wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The process of one case: enters a network namespace of its own while there is but one thread, then runs it.
pub fn play(name: &str, cases: &[Case]) {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own");
    let (_, case) = cases.iter().find(|(case, _)| case == name).expect("a case of this name");
    case();
}
