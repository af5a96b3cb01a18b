//! Machines whose kernel has IPVS, for a host whose kernel has none: QEMU with what `test-harness/vm/prepare` made.
//!
//! A machine has no disk. Its initial file system is the prepared one and behind it a second archive: this program,
//! `weir` and the folder `rules`, each at the place where it is on the host, so that the paths which the compiler wrote
//! into the tests lead there too. What the tests print arrives on standard output while they run; how they ended, and
//! what they skipped, comes by a serial port of its own.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::archive::Archive;
use super::shards::Shard;

/// Set in a machine, to which one it is.
pub const INSIDE: &str = "WEIR_MACHINE";

/// How long machines may run, in seconds, if not [`PATIENCE`].
const TIMEOUT: &str = "WEIR_MACHINE_TIMEOUT";
const PATIENCE: u64 = 2400;

/// The memory of a machine, MiB.
const MEMORY: &str = "2048";

/// On the kernel's command line.
const SHARD: &str = "weir_shard";

/// QEMU's `-accel`, if not the one that works everywhere. KVM on a nested host may hang while the machine boots.
const ACCELERATOR: &str = "WEIR_MACHINE_ACCEL";

/// What of the environment is handed on.
const HANDED_ON: [&str; 4] = ["RUST_BACKTRACE", "RUST_LOG", "PROPTEST_CASES", "WEIR_BLESS"];

/// Lines of the kernel's log that are shown when something went wrong.
const LOG_LINES: usize = 40;

/// There is no machine to be had here: the one line that says why.
#[derive(Debug)]
pub struct NoMachine(pub String);

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

/// How long machines may run.
pub fn patience() -> Duration {
    let seconds = std::env::var(TIMEOUT).ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(PATIENCE))
}

/// What machines boot, and the files that they write. It all goes with the value.
pub struct Image {
    folder: PathBuf,
    kernel: PathBuf,
}

impl Image {
    /// Packs this program, which a machine runs with these arguments.
    ///
    /// # Errors
    /// Machines cannot be had on this host.
    pub fn pack(arguments: &[String]) -> Result<Image, NoMachine> {
        let prepared = prepare()?;
        let image = Image::new(&prepared).expect("a folder for the run");
        image.write(&prepared.join("base.cpio"), arguments).expect("the initial file system");
        Ok(image)
    }

    fn new(prepared: &Path) -> io::Result<Image> {
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
        Ok(Image { folder, kernel: prepared.join("vmlinuz") })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the initial file system.
    fn write(&self, base: &Path, arguments: &[String]) -> io::Result<()> {
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

    /// Starts a machine, which runs the cases of this shard.
    pub fn boot(&self, shard: Shard) -> io::Result<Machine> {
        let accelerator = std::env::var(ACCELERATOR).unwrap_or_else(|_| "tcg".to_owned());
        let file = |name: &str| self.path(&format!("{name}-{}", shard.number));
        let (log, report) = (file("kernel.log"), file("report"));
        let port = |id: &str, path: &Path| format!("file,id={id},path={}", path.display());
        let line = "console=ttyS0 panic=-1 reboot=t quiet loglevel=5 mitigations=off random.trust_cpu=on";
        // Dies with this thread, however that ends: the caller's lives as long as the program.
        let qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", &accelerator])
            .args(["-machine", "pc", "-cpu", "max", "-smp", if shard.of == 1 { "2" } else { "1" }, "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"])
            .args(["-chardev", &port("log", &log), "-serial", "chardev:log"])
            .args(["-chardev", "stdio,id=out,signal=off", "-serial", "chardev:out"])
            .args(["-chardev", &port("report", &report), "-serial", "chardev:report"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(self.path("initrd"))
            .args(["-append", &format!("{line} {SHARD}={shard}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Machine { qemu, log, report })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// A machine that runs. It is killed with the value.
pub struct Machine {
    qemu: Child,
    log: PathBuf,
    report: PathBuf,
}

/// How a machine ended.
pub struct Ended {
    /// What its cases could not test.
    pub skipped: Vec<String>,
    /// What went wrong with the machine itself.
    pub failure: Option<String>,
}

impl Machine {
    /// What the tests print.
    pub fn output(&mut self) -> ChildStdout {
        self.qemu.stdout.take().expect("it is asked for once")
    }

    pub fn kill(&mut self) {
        if let Err(error) = self.qemu.kill() {
            eprintln!("cannot kill a machine: {error}");
        }
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let status = self.qemu.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let report = fs::read_to_string(&self.report).unwrap_or_default();
        let skipped = report.lines().filter_map(|line| line.strip_prefix("skipped ")).map(str::to_owned).collect();
        self.show_complaints();
        let is_complete = report.lines().last().is_some_and(|line| line.starts_with("status "));
        let failure = (!is_complete).then(|| {
            let tail = self.log_tail();
            format!("the machine ended without a report (QEMU: {status}); the end of its kernel's log:\n{tail}")
        });
        Ended { skipped, failure }
    }

    /// Warnings of the machine's kernel are told, also where all tests passed.
    fn show_complaints(&self) {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        for line in log.lines().filter(|line| ["WARNING:", "BUG:", "Oops", "panic"].iter().any(|w| line.contains(w))) {
            eprintln!("the machine's kernel: {line}");
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // One that has ended is no longer there to be killed.
        if matches!(self.qemu.try_wait(), Ok(None)) {
            self.kill();
            drop(self.qemu.wait());
        }
    }
}

/// What the machine's first process runs.
fn script(root: &Path, program: &Path, arguments: &[String]) -> String {
    let mut text = format!("#!/bin/sh\ncd {} || exit\n", quoted(&root.to_string_lossy()));
    text.push_str(&format!("export {INSIDE}=$(sed 's,.* {SHARD}=\\([0-9/]*\\).*,\\1,' /proc/cmdline)\n"));
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
