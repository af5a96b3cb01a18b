//! Runs a tool: input and output streamed, both at once, and no longer than allowed.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// What is kept of standard error, in bytes.
const MAX_STDERR: u64 = 64 * 1024;

/// What goes to standard input.
pub(super) enum Input<'a> {
    None,
    /// Called once, on a thread of its own.
    Stream(&'a (dyn Fn(&mut dyn Write) -> io::Result<()> + Sync)),
}

/// A tool that ended by itself.
#[derive(Debug)]
pub(super) struct Finished<T> {
    /// The exit status; `None` if a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stderr: String,
    /// What the reader of standard output made of it.
    pub(super) output: T,
}

/// The tool did not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunError {
    #[error("cannot start: {0}")]
    Start(io::Error),
    #[error("still running after {} s: killed", .0.as_secs())]
    TimedOut(Duration),
    #[error("cannot wait for it: {0}")]
    Wait(io::Error),
}

/// Runs `program` with messages in English. `read` gets standard output; if it does not read all of it, the program
/// ends at its next write.
pub(super) fn run<T>(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    input: Input<'_>,
    patience: Duration,
    read: impl FnOnce(&mut dyn BufRead) -> T,
) -> Result<Finished<T>, RunError> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(if matches!(input, Input::None) { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that what the tool starts (modprobe) can be ended with it.
        .process_group(0)
        .spawn()
        .map_err(RunError::Start)?;
    let timed_out = AtomicBool::new(false);
    let ended = attend(&mut child, &input, patience, &timed_out, read);
    let status = child.wait().map_err(RunError::Wait)?;
    if timed_out.load(Ordering::Relaxed) {
        return Err(RunError::TimedOut(patience));
    }
    let (output, stderr) = ended.map_err(RunError::Wait)?;
    Ok(Finished { code: status.code(), stderr, output })
}

/// Feeds and reads the child until it ends, and leaves it unreaped, so that its id stays its own.
fn attend<T>(
    child: &mut Child,
    input: &Input<'_>,
    patience: Duration,
    timed_out: &AtomicBool,
    read: impl FnOnce(&mut dyn BufRead) -> T,
) -> io::Result<(T, String)> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let (alive, ended) = channel::<()>();
        scope.spawn(move || watch(pid, patience, &ended, timed_out));
        if let (Input::Stream(write), Some(mut stdin)) = (input, stdin) {
            // A tool that stops reading says why on standard error.
            scope.spawn(move || write(&mut stdin).and_then(|()| stdin.flush()).ok());
        }
        let messages = scope.spawn(move || stderr.map(read_messages).unwrap_or_default());
        let output = match stdout {
            Some(stdout) => read(&mut BufReader::with_capacity(64 * 1024, stdout)),
            None => read(&mut io::empty()),
        };
        let waited = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        drop(alive);
        waited.map_err(io::Error::from)?;
        Ok((output, messages.join().unwrap_or_default()))
    })
}

/// Ends the group if it is still there after `patience`.
fn watch(pid: Pid, patience: Duration, ended: &Receiver<()>, timed_out: &AtomicBool) {
    if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        timed_out.store(true, Ordering::Relaxed);
        // It fails only if the group ended just now.
        killpg(pid, Signal::SIGKILL).ok();
    }
}

fn read_messages(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    // The rest is read as well: a tool must not block on a full pipe.
    let read = stderr.by_ref().take(MAX_STDERR).read_to_end(&mut kept);
    read.and_then(|_| io::copy(&mut stderr, &mut io::sink())).ok();
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, input: Input, patience: Duration) -> Result<Finished<String>, RunError> {
        run(Path::new("/bin/sh"), &["-c", script], input, patience, |output| {
            let mut text = String::new();
            output.read_to_string(&mut text).map(|_| text).unwrap_or_default()
        })
    }

    #[test]
    fn much_on_every_pipe_does_not_deadlock() {
        let text = "0123456789abcde\n".repeat(50_000);
        let write = |stdin: &mut dyn Write| stdin.write_all(text.as_bytes());
        let done = shell("tee /dev/stderr; exit 3", Input::Stream(&write), Duration::from_secs(60)).unwrap();
        assert_eq!((done.code, done.output.len()), (Some(3), text.len()));
        assert_eq!(done.stderr.len() as u64, MAX_STDERR);
    }

    #[test]
    fn a_tool_that_does_not_read_is_no_error_here() {
        let write = |stdin: &mut dyn Write| stdin.write_all(&vec![b'x'; 1 << 20]);
        let done = shell("echo no >&2; exit 2", Input::Stream(&write), Duration::from_secs(60)).unwrap();
        assert_eq!((done.code, done.stderr.as_str()), (Some(2), "no\n"));
    }

    #[test]
    fn a_tool_that_hangs_is_killed_with_what_it_started() {
        let start = Instant::now();
        let error = shell("sleep 60 & sleep 60", Input::None, Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, RunError::TimedOut(_)), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_does_not_exist_cannot_start() {
        let error = run(Path::new("/nonexistent"), &["x"], Input::None, Duration::from_secs(1), |_| ()).unwrap_err();
        assert!(matches!(&error, RunError::Start(e) if e.kind() == io::ErrorKind::NotFound), "{error}");
    }

    #[test]
    fn messages_are_english() {
        assert_eq!(shell("echo $LC_ALL", Input::None, Duration::from_secs(60)).unwrap().output, "C\n");
    }
}
