//! A running `weir proxy`: its log, its end, and waiting for what it does.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use weir::lab::{Host, HostChild};

use crate::program::{Ran, run_in, weir};

/// Longest wait for something that must happen. The machine may be busy with other tests, or be emulated.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until something is so.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited for {PATIENCE:?} until {what}");
        std::thread::sleep(Duration::from_millis(40));
    }
}

/// The process and what it logged so far.
pub struct Proxy {
    child: HostChild,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts `weir proxy` with these flags on a host, with quick periods unless the flags say others.
    pub fn start(host: &Host, flags: &[&str]) -> Proxy {
        Proxy::run(host, proxy(flags))
    }

    /// Starts a command that becomes `weir proxy`.
    pub fn run(host: &Host, mut command: Command) -> Proxy {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = host.spawn(command).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = log.clone();
        let reader = std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        Proxy { child, log, reader: Some(reader) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far that contain a text.
    pub fn said(&self, text: &str) -> Vec<String> {
        self.log.lock().unwrap().iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// The whole log.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits for a line and returns it.
    pub fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.said(text).into_iter().next() {
                return line;
            }
            assert!(Instant::now() < deadline, "it never said {text:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the first compare is through.
    pub fn started(self) -> Proxy {
        self.says("service ports are in the kernel");
        self
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> (Option<i32>, String) {
        self.child.signal(Signal::SIGTERM).unwrap();
        let code = self.wait();
        (code, self.log())
    }

    pub fn signal(&mut self, signal: Signal) {
        self.child.signal(signal).unwrap();
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        let log = self.log.clone();
        let deadline = Instant::now() + PATIENCE;
        while status.is_none() {
            assert!(Instant::now() < deadline, "it does not end:\n{}", log.lock().unwrap().join("\n"));
            std::thread::sleep(Duration::from_millis(20));
            status = self.child.try_wait().unwrap();
        }
        self.reader.take().unwrap().join().unwrap();
        status.unwrap().code()
    }
}

/// The command, to be run with a different environment.
pub fn proxy(flags: &[&str]) -> Command {
    let periods = ["--iptables-sync-period=1s", "--iptables-min-sync-period=20ms"];
    weir(&["proxy"].into_iter().chain(periods).chain(flags.iter().copied()).collect::<Vec<_>>())
}

/// `weir diff` with the same flags in the same namespace.
pub fn diff(host: &Host, flags: &[&str]) -> Ran {
    run_in(host, weir(&["diff"].into_iter().chain(flags.iter().copied()).collect::<Vec<_>>()))
}

/// Whether the kernel holds what the flags' source says.
pub fn in_step(host: &Host, flags: &[&str]) -> bool {
    diff(host, flags).code == Some(0)
}
