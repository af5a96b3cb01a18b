//! The real binary: running it, in a namespace or here, and reading what it said and did.

// Every suite uses its own part of it, and a test fails by panicking.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use weir::lab::{Host, Lab, LabConfig};

/// Variables that change what the program says.
const LOUD: [&str; 8] =
    ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "WEIR_LOG", "KUBERNETES_SERVICE_HOST", "KUBECONFIG", "COLUMNS", "TERM"];

/// The program with these arguments, in an environment that says nothing about colour or clusters.
pub fn weir(arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).stdin(Stdio::null());
    for name in LOUD {
        command.env_remove(name);
    }
    command
}

/// What a program that ended left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// Runs a command here.
pub fn run(mut command: Command) -> Ran {
    command.output().expect("the program starts").into()
}

/// How long a program may run that ends by itself.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command on a host. One that goes on serving where it should have ended is ended, and fails the test.
pub fn run_in(host: &Host, mut command: Command) -> Ran {
    let said = format!("{command:?}");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = host.spawn(command).expect("the program starts");
    let (out, err) = (reading(child.stdout.take()), reading(child.stderr.take()));
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            let err = err.join().expect("a reader");
            panic!("{said} still runs after {PATIENCE:?}: {}", String::from_utf8_lossy(&err));
        }
        thread::sleep(Duration::from_millis(5));
    };
    let (stdout, stderr) = (out.join().expect("a reader"), err.join().expect("a reader"));
    Output { status, stdout, stderr }.into()
}

/// Reads what a program says, so that it never waits for a reader.
fn reading(from: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut said = Vec::new();
        // What a program that was ended has not said is not there.
        let _ = from.map(|mut from| from.read_to_end(&mut said));
        said
    })
}

/// A lab without pods.
pub fn small_lab() -> Lab {
    Lab::new(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() }).unwrap()
}

/// The tools that print rules, of those that are installed.
pub fn save_tools() -> Vec<&'static str> {
    ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"]
        .into_iter()
        .filter(|tool| installed(tool).is_some())
        .collect()
}

/// Where a tool is.
pub fn installed(tool: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().map(|folder| Path::new(folder).join(tool)).find(|p| p.exists())
}

/// All rules of a host in all tables of both variants, without dates and without the counters of policies.
pub fn all_rules(host: &Host) -> String {
    save_tools().into_iter().map(|tool| format!("## {tool}\n{}", rules(host, tool))).collect()
}

/// What a tool prints about a host, without dates and without the counters of policies.
pub fn rules(host: &Host, tool: &str) -> String {
    let text = host.check(tool, &[], "").unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| if line.starts_with(':') { line.split(" [").next().unwrap() } else { line }.to_owned() + "\n")
        .collect()
}

/// A folder of this repository's test data.
pub fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test-harness").join(path)
}

/// Text that must be what a file of the repository holds; `WEIR_BLESS=1` writes the file instead, to be looked at.
pub fn assert_golden(text: &str, path: &str) {
    let file = data(path);
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    if text != expected {
        let diff = similar::TextDiff::from_lines(expected.as_str(), text);
        panic!("not what {} holds:\n{}", file.display(), diff.unified_diff().header("expected", "printed"));
    }
}

/// A program in a folder of its own, for `PATH`.
pub fn script(folder: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join(name);
    std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// `PATH` with a folder before everything else.
pub fn path_with(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(folder.to_owned()).chain(std::env::split_paths(&path))).unwrap()
}
