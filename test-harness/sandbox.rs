//! The sandbox, entered by root and by an ordinary user.
//!
//! This is a program of its own, not a set of libtest's tests: a user namespace is only for a process with one thread.
//! It starts a copy of itself for each part, as `weir demo` would be started.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use weir::lab::sandbox::{self, Entered, SandboxError};
use weir::lab::{EchoServer, Host, Lab, LabConfig, connect};
use weir::net::{Family, Protocol};

/// Which part a copy plays.
const PART: &str = "WEIR_SANDBOX_TEST";
const NOBODY: u32 = 65534;
/// The exit code of a part that went well: that it comes out shows that exit codes do.
const WELL: u8 = 42;
/// The exit code of a part on a machine where ordinary users may not make namespaces.
const FORBIDDEN: u8 = 43;

fn main() -> ExitCode {
    if let Ok(part) = std::env::var(PART) {
        return play(&part);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("sandbox: test");
        return ExitCode::SUCCESS;
    }
    let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
    if filters.peek().is_some() && !filters.any(|filter| "sandbox".contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    test_all();
    ExitCode::SUCCESS
}

/// The part of a program such as `weir demo`.
fn play(part: &str) -> ExitCode {
    let other = (part == "threads").then(|| thread::spawn(|| thread::sleep(Duration::from_secs(20))));
    match sandbox::enter() {
        Ok(Entered::Ended(code)) => return ExitCode::from(code),
        Ok(Entered::Inside) => {}
        Err(error @ (SandboxError::Setting { .. } | SandboxError::Refused { .. })) => {
            eprintln!("{error}");
            return ExitCode::from(FORBIDDEN);
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    drop(other);
    assert!(geteuid().is_root());
    fs::write("/run/only-here", "").unwrap();
    let lab = Lab::new(&LabConfig { pods: 2, node2_pods: 1, ..LabConfig::default() }).unwrap();
    if part == "wait" {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let child = lab.node().spawn(command).unwrap();
        println!("pids {} {}", std::process::id(), child.id());
        thread::sleep(Duration::from_secs(60));
        unreachable!("the test ends this process");
    }
    serve(&lab);
    ExitCode::from(WELL)
}

/// A service by hand: through iptables as it is installed, and through legacy tables, which want a lock below /run.
fn serve(lab: &Lab) {
    let _server = EchoServer::start(&lab.node2_pods()[0], &[(Protocol::Tcp, 8080)]).unwrap();
    for (index, program) in ["iptables", "iptables-legacy"].into_iter().enumerate() {
        let available = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
        if !available {
            println!("SKIPPED: there is no {program}");
            continue;
        }
        let service: SocketAddr = format!("10.96.0.{}:80", index + 1).parse().unwrap();
        let pod = lab.node2_pods()[0].address(Family::V4).unwrap();
        let rule = format!(
            "-w -t nat -A PREROUTING -p tcp -d {} --dport 80 -j DNAT --to-destination {pod}:8080",
            service.ip()
        );
        lab.node().check(program, &rule.split(' ').collect::<Vec<_>>(), "").unwrap();
        let masquerade = ["-w", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"];
        lab.node().check(program, &masquerade, "").unwrap();
        let reply = connect(lab.client(), service, Protocol::Tcp, None).unwrap();
        assert_eq!((reply.server.as_str(), Some(reply.peer.ip())), ("pod3", Host::address(lab.node(), Family::V4)));
        println!("{program}: served by {} in {:?}", reply.server, reply.elapsed);
    }
}

fn test_all() {
    // Where everyone may read: the ordinary user starts a copy from here.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("sandbox");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();

    let users: &[Option<u32>] = if geteuid().is_root() { &[None, Some(NOBODY)] } else { &[None] };
    for user in users {
        let who = user.map_or_else(|| format!("user {}", geteuid()), |user| format!("user {user}"));
        let start = Instant::now();
        let output = as_user(&program, *user, "serve").output().unwrap();
        if output.status.code() == Some(i32::from(FORBIDDEN)) {
            println!("SKIPPED for {who}: {}", said(&output));
            continue;
        }
        assert_eq!(output.status.code(), Some(i32::from(WELL)), "{who}: {}", said(&output));
        println!("sandbox as {who}, from start to end in {:?}:\n{}", start.elapsed(), said(&output));
        assert!(!Path::new("/run/only-here").exists(), "/run is its own");
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
            nothing_is_left_after(signal, as_user(&program, *user, "wait"));
        }
        if user.is_some() || !geteuid().is_root() {
            let output = as_user(&program, *user, "threads").output().unwrap();
            assert!(said(&output).contains("before the program starts threads; it has 2"), "{}", said(&output));
        }
        println!("test sandbox as {who} ... ok");
    }
}

fn as_user(program: &Path, user: Option<u32>, part: &str) -> Command {
    let mut command = Command::new(program);
    command.env(PART, part).current_dir("/").stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Sends the signal to the process that was started, the first run, and expects that all others end too.
fn nothing_is_left_after(signal: Signal, mut command: Command) {
    let mut first = command.stderr(Stdio::inherit()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pids: Vec<u32> = line.split_whitespace().skip(1).map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{line:?}");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    kill(Pid::from_raw(i32::try_from(first.id()).unwrap()), signal).unwrap();
    let status = first.wait().unwrap();
    if signal == Signal::SIGKILL {
        assert_eq!(status.signal(), Some(signal as i32));
    } else {
        assert_eq!(status.code(), Some(128 + signal as i32), "as a shell tells of a signal");
    }
    let start = Instant::now();
    while pids.iter().any(|pid| is_alive(*pid)) {
        assert!(start.elapsed() < Duration::from_secs(5), "left after {signal}: {pids:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The process is there, and no zombie.
fn is_alive(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| !text.is_empty())
}
