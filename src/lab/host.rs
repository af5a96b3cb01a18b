//! A network namespace and what runs in it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use super::LabError;
use super::child::{HostChild, die_with_thread};
use crate::net::{Family, PerFamily};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace. It lasts until this, all programs started here and all sockets opened here are gone.
///
/// Its own thread starts the programs, so that they die with it; closures run in short-lived threads, many at a time
/// if need be.
#[derive(Debug)]
pub struct Host {
    name: String,
    addresses: PerFamily<Option<IpAddr>>,
    namespace: File,
    /// `None` only while the host is being dropped.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    /// Makes a namespace, empty but for a `lo` that is down.
    pub(super) fn create(name: &str, addresses: PerFamily<Option<IpAddr>>) -> Result<Host, LabError> {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (report, reported) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(format!("host {name}"))
            .spawn(move || work(&report, &to_do))
            .map_err(LabError::io(name, "start a thread"))?;
        let namespace = match reported.recv() {
            Ok(Ok(namespace)) => namespace,
            Ok(Err(error)) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                return Err(LabError::Forbidden { host: name.to_owned() });
            }
            Ok(Err(error)) => return Err(LabError::io(name, "make a network namespace")(error)),
            Err(_) => return Err(LabError::Gone { host: name.to_owned() }),
        };
        Ok(Host { name: name.to_owned(), addresses, namespace, jobs: Some(jobs), thread: Some(thread) })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address in the pod network or on the lan; `None` if the kernel has no such family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        *self.addresses.get(family)
    }

    /// Both addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().filter_map(|(_, address)| *address)
    }

    /// The namespace, for `setns` and the like.
    pub fn namespace(&self) -> &File {
        &self.namespace
    }

    /// Runs a closure in the namespace and waits for it. Sockets that it opens stay there wherever they are used.
    ///
    /// A panic of the closure goes on in the caller.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, LabError> {
        let inside = || setns(&self.namespace, CloneFlags::CLONE_NEWNET).map(|()| work());
        let result = thread::scope(|scope| {
            let thread = thread::Builder::new().name(format!("in {}", self.name)).spawn_scoped(scope, inside)?;
            Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let entered = result.map_err(LabError::io(&self.name, "start a thread"))?;
        entered.map_err(|errno| LabError::io(&self.name, "enter its network namespace")(errno.into()))
    }

    /// Starts a program.
    pub fn spawn(&self, command: Command) -> Result<HostChild, LabError> {
        self.start(command).map(HostChild::new)
    }

    /// Runs a program to its end and returns what it printed, whatever its exit status. It reads nothing, unless the
    /// command says so.
    pub fn output(&self, mut command: Command) -> Result<Output, LabError> {
        let text = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.start(command)?;
        child.wait_with_output().map_err(LabError::io(&self.name, format!("wait for {text}")))
    }

    /// Runs a program to its end, gives it `input` to read, and returns what it printed. A failure is an error that
    /// holds what it said.
    pub fn check(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, LabError> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start(command)?;
        let writer = child.stdin.take();
        let written = thread::scope(|scope| {
            // From a thread of its own: the program may want to be read before it reads on.
            scope.spawn(move || writer.map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes())));
            child.wait_with_output()
        });
        let output = written.map_err(LabError::io(&self.name, format!("wait for {program}")))?;
        if !output.status.success() {
            return Err(LabError::Command {
                host: self.name.clone(),
                command: std::iter::once(program).chain(arguments.iter().copied()).collect::<Vec<_>>().join(" "),
                status: output.status,
                stderr: String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets a kernel parameter, named by its path below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub fn set_sysctl(&self, path: &str, value: &str) -> Result<(), LabError> {
        let write = || fs::write(format!("/proc/sys/{path}"), value);
        self.run(write)?.map_err(LabError::io(&self.name, format!("set {path} to {value}")))
    }

    fn start(&self, mut command: Command) -> Result<std::process::Child, LabError> {
        let gone = || LabError::Gone { host: self.name.clone() };
        let text = format!("start {:?}", command.get_program());
        die_with_thread(&mut command);
        let (report, reported) = mpsc::channel();
        let job: Job = Box::new(move || {
            // Nobody listens only if the caller has panicked; the program is killed with this thread.
            let _ = report.send(command.spawn());
        });
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)?;
        reported.recv().map_err(|_| gone())?.map_err(LabError::io(&self.name, text))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // It runs only our own closures, which do not panic.
            let _ = thread.join();
        }
    }
}

/// The host's own thread: makes the namespace, reports it, and then does what it is sent.
fn work(report: &Sender<io::Result<File>>, to_do: &Receiver<Job>) {
    let made = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .and_then(|()| File::open("/proc/thread-self/ns/net"));
    let failed = made.is_err();
    if report.send(made).is_err() || failed {
        return;
    }
    for job in to_do {
        job();
    }
}
