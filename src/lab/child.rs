//! A program that runs on a host.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, getpid, getppid};

/// A program that was started on a host. It is killed when this is dropped, when its host is dropped, and when our
/// process dies of whatever cause.
#[derive(Debug)]
pub struct HostChild(Child);

impl HostChild {
    pub(super) fn new(child: Child) -> Self {
        HostChild(child)
    }

    /// Sends a signal. A program that has been waited for has none to get: `ESRCH`.
    pub fn signal(&mut self, signal: Signal) -> io::Result<()> {
        if self.0.try_wait()?.is_some() {
            return Err(Errno::ESRCH.into());
        }
        let pid = i32::try_from(self.0.id()).map_err(|_| io::Error::from(Errno::ESRCH))?;
        signal::kill(Pid::from_raw(pid), signal).map_err(io::Error::from)
    }
}

impl Deref for HostChild {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for HostChild {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for HostChild {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the program die with the thread that starts it.
#[allow(unsafe_code)]
pub(super) fn die_with_thread(command: &mut Command) {
    let parent = getpid();
    let set = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // Who died before the call sends no signal.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from(Errno::ESRCH)) }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes two plain system
    // calls (prctl, getppid), allocates nothing and takes no lock.
    unsafe { command.pre_exec(set) };
}
