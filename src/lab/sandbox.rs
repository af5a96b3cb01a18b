//! The right to make network namespaces, for an ordinary user too, and no effect on the machine.
//!
//! [`enter`] runs the program a second time, in a user, mount and network namespace of its own where it is root. (The
//! superuser needs no user namespace.) The second run starts with a single thread, as the kernel demands of who makes a
//! user namespace. It dies with the first.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{self, SigSet, Signal};
use nix::unistd::{Pid, getegid, geteuid, getpid, getppid};

/// Set for the second run to the process number of the first.
const STAGE: &str = "WEIR_SANDBOX_PARENT";

/// Where the programs that write legacy tables find their lock, if not at the usual place below /run.
const LOCK: &str = "XTABLES_LOCKFILE";

/// Signals that the first run hands on.
const FORWARDED: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Which run this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The second: go on.
    Inside,
    /// The first, and the second has ended: exit with this code.
    Ended(u8),
}

/// There is no sandbox to be had.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot run the program again in a sandbox: {0}")]
    Restart(#[source] io::Error),
    #[error("the sandbox must be entered before the program starts threads; it has {0}")]
    Threads(usize),
    #[error("ordinary users may not make namespaces: {setting} is {value}. Run it with sudo, or allow it: {remedy}")]
    Setting { setting: &'static str, value: String, remedy: &'static str },
    #[error(
        "there are as many namespaces as may be: raise user.max_user_namespaces, user.max_net_namespaces or \
         user.max_mnt_namespaces with sysctl, or run it with sudo"
    )]
    Limit,
    #[error("the kernel is built without user namespaces (CONFIG_USER_NS): run it with sudo")]
    NotBuilt,
    #[error(
        "the kernel does not allow to {action}: {errno}. No setting says why; in a container it is commonly its seccomp \
         profile. Run it with sudo, or outside of the container"
    )]
    Refused { action: &'static str, errno: Errno },
    #[error("cannot {action}: {source}")]
    Setup { action: &'static str, source: io::Error },
    #[error("the process that started the sandbox is gone")]
    Orphan,
}

/// Enters the sandbox. Call it first thing in `main`, before there are threads.
///
/// In the first run this starts the second with the same arguments, hands signals on to it, and returns when it ends.
pub fn enter() -> Result<Entered, SandboxError> {
    match env::var(STAGE).ok().and_then(|text| text.parse().ok()) {
        // A sandbox in a sandbox: the number is that of another first run.
        Some(first) if getppid() == Pid::from_raw(first) => settle(getppid()).map(|()| Entered::Inside),
        _ => run_again().map_err(SandboxError::Restart).map(|status| Entered::Ended(exit_code(status))),
    }
}

/// As a shell tells it: the exit code, or 128 and the signal.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

fn run_again() -> io::Result<ExitStatus> {
    let mut waited_for: SigSet = FORWARDED.into_iter().collect();
    waited_for.add(Signal::SIGCHLD);
    // Before the start: a signal that comes in between must not be lost. The second run unblocks them.
    waited_for.thread_block()?;
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("weir"));
    let child = Command::new("/proc/self/exe")
        .args(arguments)
        .env(STAGE, getpid().to_string())
        .env_remove(LOCK)
        .arg0(name)
        .spawn();
    let ended = child.and_then(|child| wait_and_forward(child, &waited_for));
    waited_for.thread_unblock()?;
    ended
}

fn wait_and_forward(mut child: Child, signals: &SigSet) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    loop {
        let signal = signals.wait()?;
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if signal != Signal::SIGCHLD {
            signal::kill(pid, signal)?;
        }
    }
}

/// The second run: makes the namespaces around this process.
fn settle(first: Pid) -> Result<(), SandboxError> {
    let refused = |action| move |errno| diagnose(action, errno, &setting);
    let mut inherited: SigSet = FORWARDED.into_iter().collect();
    inherited.add(Signal::SIGCHLD);
    inherited.thread_unblock().map_err(refused("receive signals"))?;
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    match unshare(namespaces) {
        Ok(()) => {}
        Err(Errno::EPERM) => become_root(namespaces)?,
        // The superuser needs no setting, but there are limits. To go on would be to change the machine's own mounts.
        Err(errno) => return Err(diagnose("make namespaces", errno, &|_| None)),
    }
    // After the change of credentials, which resets it.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(refused("end with its parent"))?;
    if getppid() != first {
        return Err(SandboxError::Orphan);
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount::<str, str, str, str>(None, "/", None, private, None).map_err(refused("keep mounts to itself"))?;
    cover_run()
}

/// Makes a user namespace, and the others in it, where this user is root and no one else is anybody.
fn become_root(namespaces: CloneFlags) -> Result<(), SandboxError> {
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(SandboxError::Threads(threads));
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | namespaces)
        .map_err(|errno| diagnose("make a user namespace", errno, &setting))?;
    let maps =
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {user} 1")), ("gid_map", format!("0 {group} 1"))];
    for (file, content) in maps {
        // One write, whole: the kernel takes no second.
        fs::write(format!("/proc/self/{file}"), content).map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            diagnose("map its user to root", errno, &setting)
        })?;
    }
    Ok(())
}

/// Puts an empty file system over /run, where iptables wants to make its lock. Symbolic links are kept: on some systems
/// they lead to the programs.
fn cover_run() -> Result<(), SandboxError> {
    let run = Path::new("/run");
    if !run.is_dir() {
        return Ok(());
    }
    let failed = |source| SandboxError::Setup { action: "put an empty file system over /run", source };
    let links = symlinks(run).map_err(failed)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount::<str, Path, str, str>(Some("tmpfs"), run, Some("tmpfs"), flags, Some("mode=0755"))
        .map_err(|errno| diagnose("put an empty file system over /run", errno, &setting))?;
    for (link, target) in links {
        symlink(target, link).map_err(failed)?;
    }
    // Shows at once, and not with the first iptables, that it can be written to.
    File::create(run.join("xtables.lock")).map(drop).map_err(failed)
}

fn symlinks(folder: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            links.push((entry.path(), fs::read_link(entry.path())?));
        }
    }
    Ok(links)
}

fn setting(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.trim().to_owned())
}

/// Settings that forbid namespaces to ordinary users: name, the value that does, and what allows them.
const FORBIDDING: [(&str, &str, &str); 5] = [
    ("user.max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=10000"),
    ("user.max_net_namespaces", "0", "sudo sysctl user.max_net_namespaces=10000"),
    ("user.max_mnt_namespaces", "0", "sudo sysctl user.max_mnt_namespaces=10000"),
    ("kernel.unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
];

/// Why the kernel refused, as far as its settings tell. `read` gives the value of a setting, if there is such a one.
fn diagnose(action: &'static str, errno: Errno, read: &dyn Fn(&str) -> Option<String>) -> SandboxError {
    for (setting, forbids, remedy) in FORBIDDING {
        if let Some(value) = read(setting).filter(|value| value == forbids) {
            return SandboxError::Setting { setting, value, remedy };
        }
    }
    match errno {
        Errno::ENOSPC | Errno::EUSERS => SandboxError::Limit,
        Errno::EINVAL if action == "make a user namespace" => SandboxError::NotBuilt,
        _ => SandboxError::Refused { action, errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(errno: Errno, settings: &[(&str, &str)]) -> String {
        let read = |name: &str| settings.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        diagnose("make a user namespace", errno, &read).to_string()
    }

    #[test]
    fn each_setting_that_forbids_is_named_with_its_remedy() {
        for (setting, value, remedy) in FORBIDDING {
            let text = message(Errno::EPERM, &[(setting, value)]);
            assert!(text.contains(&format!("{setting} is {value}")), "{text}");
            assert!(text.ends_with(remedy) && text.contains("sudo"), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
    }

    #[test]
    fn settings_that_allow_are_not_blamed() {
        let settings = [
            ("user.max_user_namespaces", "96365"),
            ("kernel.unprivileged_userns_clone", "1"),
            ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ];
        assert!(message(Errno::EPERM, &settings).contains("seccomp"));
        assert!(message(Errno::ENOSPC, &settings).contains("as many namespaces as may be"));
        assert!(message(Errno::EINVAL, &[]).contains("CONFIG_USER_NS"));
    }

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(Signal::SIGTERM as i32)), 143);
    }
}
