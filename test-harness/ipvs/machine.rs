//! A machine whose kernel has IPVS, for a host whose kernel has none: QEMU with what `test-harness/vm/prepare` made.
//!
//! The machine has no disk. Its initial file system is the prepared one and behind it a second archive: this program,
//! `weir` and the folder `rules`, each at the place where it is on the host, so that the paths which the compiler wrote
//! into the tests lead there too. What the tests print arrives on standard output while they run; how they ended, and
//! what they skipped, comes by a serial port of its own.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::archive::Archive;

/// Set in the machine.
pub const INSIDE: &str = "WEIR_MACHINE";

/// How long the machine may run, in seconds, if not [`PATIENCE`].
const TIMEOUT: &str = "WEIR_MACHINE_TIMEOUT";
const PATIENCE: u64 = 2400;

/// QEMU's `-accel`, if not the one that works everywhere. KVM on a nested host may hang while the machine boots.
const ACCELERATOR: &str = "WEIR_MACHINE_ACCEL";

/// What of the environment is handed on.
const HANDED_ON: [&str; 4] = ["RUST_BACKTRACE", "RUST_LOG", "PROPTEST_CASES", "WEIR_BLESS"];

/// Lines of the kernel's log that are shown when something went wrong.
const LOG_LINES: usize = 40;

/// There is no machine to be had here: the one line that says why.
#[derive(Debug)]
pub struct NoMachine(pub String);

/// Runs this program in a machine with these arguments and gives its exit status.
///
/// # Errors
/// The machine cannot be had on this host. One that was had and did not end well is a failure, not an error.
pub fn run(arguments: &[String]) -> Result<ExitCode, NoMachine> {
    let prepared = prepare()?;
    let run = Run::new(&prepared).expect("a folder for the run");
    run.pack(&prepared.join("base.cpio"), arguments).expect("the initial file system");
    let start = Instant::now();
    let mut machine = run.boot(&prepared.join("vmlinuz")).expect("start qemu-system-x86_64");
    let ended = wait(&mut machine);
    let report = fs::read_to_string(run.path("report")).unwrap_or_default();
    for skipped in report.lines().filter_map(|line| line.strip_prefix("skipped ")) {
        weir::lab::skipped(skipped);
    }
    run.show_complaints();
    let status = report.lines().last().and_then(|line| line.strip_prefix("status ")?.parse::<u8>().ok());
    if let Some(status) = status {
        println!("the machine was up for {:.1} s", start.elapsed().as_secs_f64());
        return Ok(ExitCode::from(status));
    }
    eprintln!("the machine {}; the end of its kernel's log:\n{}", ended, run.log_tail());
    Ok(ExitCode::FAILURE)
}

fn prepare() -> Result<PathBuf, NoMachine> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-harness/vm/prepare");
    let output = Command::new(&script).stdin(Stdio::null()).output();
    let output = output.map_err(|error| NoMachine(format!("cannot run {}: {error}", script.display())))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() {
        return Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    Err(NoMachine(said.lines().last().unwrap_or("test-harness/vm/prepare failed without a word").to_owned()))
}

/// Waits for the machine to end; kills it when its time is up. Gives what became of it, for people.
fn wait(machine: &mut Child) -> String {
    let patience = std::env::var(TIMEOUT).ok().and_then(|text| text.parse().ok()).unwrap_or(PATIENCE);
    let start = Instant::now();
    loop {
        match machine.try_wait() {
            Ok(Some(status)) => return format!("ended without a report (QEMU: {status})"),
            Ok(None) if start.elapsed() < Duration::from_secs(patience) => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                let _ = machine.kill();
                let _ = machine.wait();
                return format!("was killed after {patience} s (set {TIMEOUT} for more)");
            }
            Err(error) => return format!("cannot be waited for: {error}"),
        }
    }
}

/// The files of one run, which go with it.
struct Run {
    folder: PathBuf,
}

impl Run {
    fn new(prepared: &Path) -> io::Result<Run> {
        // What runs that were killed have left.
        for entry in fs::read_dir(prepared)? {
            let entry = entry?;
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix("run-"));
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let folder = prepared.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Run { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the initial file system.
    fn pack(&self, base: &Path, arguments: &[String]) -> io::Result<()> {
        let mut initial = BufWriter::new(File::create(self.path("initrd"))?);
        io::copy(&mut File::open(base)?, &mut initial)?;
        let program = std::env::current_exe()?;
        let weir = Path::new(env!("CARGO_BIN_EXE_weir"));
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut archive = Archive::new(initial);
        archive.file(Path::new("/run-tests"), script(root, &program, arguments).as_bytes())?;
        archive.file(&program, &self.stripped(&program)?)?;
        archive.file(weir, &self.stripped(weir)?)?;
        archive.folder(&root.join("rules"))?;
        archive.finish()?.flush()
    }

    /// A program without what only a debugger wants, which is most of it.
    fn stripped(&self, program: &Path) -> io::Result<Vec<u8>> {
        let small = self.path("stripped");
        let strip = Command::new("strip").arg("--strip-debug").arg("-o").args([&small, program]).status();
        match strip {
            Ok(status) if status.success() => fs::read(small),
            // Without binutils it goes in as it is.
            _ => fs::read(program),
        }
    }

    fn boot(&self, kernel: &Path) -> io::Result<Child> {
        let accelerator = std::env::var(ACCELERATOR).unwrap_or_else(|_| "tcg".to_owned());
        let port = |id: &str, name: &str| format!("file,id={id},path={}", self.path(name).display());
        // Dies with this program, however that ends.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", &accelerator])
            .args(["-machine", "pc", "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-chardev", &port("log", "kernel.log"), "-serial", "chardev:log"])
            .args(["-chardev", "stdio,id=out,signal=off", "-serial", "chardev:out"])
            .args(["-chardev", &port("report", "report"), "-serial", "chardev:report"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(self.path("initrd"))
            .args(["-append", "console=ttyS0 panic=-1 reboot=t quiet loglevel=5 mitigations=off random.trust_cpu=on"])
            .stdin(Stdio::null())
            .spawn()
    }

    /// Warnings of the machine's kernel are told, also where all tests passed.
    fn show_complaints(&self) {
        let log = fs::read(self.path("kernel.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        for line in log.lines().filter(|line| ["WARNING:", "BUG:", "Oops", "panic"].iter().any(|w| line.contains(w))) {
            eprintln!("the machine's kernel: {line}");
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.path("kernel.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// What the machine's first process runs.
fn script(root: &Path, program: &Path, arguments: &[String]) -> String {
    let mut text = format!("#!/bin/sh\ncd {} || exit\nexport {INSIDE}=1\n", quoted(&root.to_string_lossy()));
    for name in HANDED_ON {
        if let Ok(value) = std::env::var(name) {
            text.push_str(&format!("export {name}={}\n", quoted(&value)));
        }
    }
    text.push_str(&format!("exec {}", quoted(&program.to_string_lossy())));
    for argument in arguments {
        text.push(' ');
        text.push_str(&quoted(argument));
    }
    text.push('\n');
    text
}

/// For a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
