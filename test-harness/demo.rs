//! `weir demo` as it is typed: by root and by an ordinary user, with both variants of iptables; what it says where it
//! cannot run; and that nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use tempfile::TempDir;
use weir::lab::skipped;

const NOBODY: u32 = 65534;
/// In the environment of every process that belongs to a demo.
const MARKER: &str = "WEIR_DEMO_TEST";

/// What the first column must say, row by row; rows with `[` only where the kernel has IPv6.
const ROWS: [&str; 27] = [
    "pod1 → 10.96.0.10:80",
    "pod1 → [fd00:10:96::10]:80",
    "client → 192.168.99.10:30080",
    "client → [2001:db8:99::10]:30080",
    "node → 127.0.0.1:30080",
    "client → 203.0.113.10:80",
    "client → [2001:db8:203::10]:80",
    "client → 198.51.100.20:80",
    "client → [2001:db8:51::20]:80",
    "blocked → 198.51.100.20:80",
    "blocked → [2001:db8:51::20]:80",
    "pod1 → 10.96.0.30:80",
    "pod1 → [fd00:10:96::30]:80",
    "client → 192.168.99.10:30082",
    "client → [2001:db8:99::10]:30082",
    "pod1 → 10.96.0.50:80",
    "pod1 → [fd00:10:96::50]:80",
    "pod1 → 10.96.0.60:80",
    "rolling.yaml is rewritten",
    "pod1 → 10.96.0.60:80",
    "the connection that was open",
    "KUBE-SERVICES is emptied",
    "pod1 → 10.96.0.10:80",
    "weir stops",
    "pod1 → 10.96.0.10:80",
    "pod1 → [fd00:10:96::10]:80",
    "client → 192.168.99.10:30080",
];

/// A copy of the program where everyone may run it.
struct Program {
    _folder: TempDir,
    path: PathBuf,
    marker: String,
}

impl Program {
    fn new() -> Program {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("weir");
        fs::copy(env!("CARGO_BIN_EXE_weir"), &path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let marker = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Program { _folder: folder, path, marker }
    }

    /// The demo, to be run by this user, or by the one who runs the test.
    fn demo(&self, user: Option<u32>, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("demo").args(arguments);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        self.prepare(&mut command);
        command
    }

    /// The demo at the end of a shell script, which finds it as `$WEIR`, in namespaces where it is root.
    fn scripted(&self, script: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]).env("WEIR", &self.path);
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        command.current_dir("/").env(MARKER, &self.marker).env_remove("WEIR_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    }

    /// Processes of this program's demos, with their command lines.
    fn processes(&self) -> Vec<String> {
        let marked = format!("{MARKER}={}", self.marker).into_bytes();
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let marked = entries.filter(|process| {
            // A process that ends meanwhile, or is a zombie, has none.
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == marked)
        });
        let command_line = |path: PathBuf| fs::read(path.join("cmdline")).unwrap_or_default();
        marked.map(|process| String::from_utf8_lossy(&command_line(process.path())).replace('\0', " ")).collect()
    }
}

/// What a demo must not change: interfaces, a sysctl that weir sets on its node, mounts, and the manifest folder.
fn machine() -> (Vec<String>, String, Vec<String>, bool) {
    let lines = |path: &str| -> Vec<String> { fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect() };
    let interfaces =
        lines("/proc/net/dev").iter().filter_map(|l| Some(l.split_once(':')?.0.trim().to_owned())).collect();
    let sysctl = fs::read_to_string("/proc/sys/net/ipv4/conf/all/route_localnet").unwrap();
    (interfaces, sysctl, lines("/proc/self/mounts"), Path::new("/run/weir-demo").exists())
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn installed(variant: &str) -> bool {
    Command::new(format!("iptables-{variant}"))
        .env("PATH", "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The rows of the table: whether as expected, and the first column.
fn rows(stdout: &str) -> Vec<(bool, String)> {
    let rows = stdout.lines().filter_map(|line| {
        let (word, rest) = (line.get(..6)?, line.get(6..)?.strip_prefix("  ")?);
        let good = match word.trim_start() {
            "ok" => true,
            "FAILED" => false,
            _ => return None,
        };
        let who: String = rest.chars().take(34).collect();
        Some((good, who.trim_end().to_owned()))
    });
    rows.collect()
}

/// Everything is shown, as expected, and looks as it should.
fn assert_shown(stdout: &str, by: &str) {
    let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let expected: Vec<(bool, String)> =
        ROWS.iter().filter(|row| ipv6 || !row.contains('[')).map(|row| (true, (*row).to_owned())).collect();
    assert_eq!(rows(stdout), expected, "{stdout}");
    let last = stdout.lines().last().unwrap();
    let summary = format!(" connections, {} checks, all as expected; {by}", expected.len());
    assert!(last.contains(&summary), "{last}");
    for line in stdout.lines() {
        assert!(line.chars().count() <= 100, "{line}");
        assert!(!line.contains('\u{1b}'), "no colours in a pipe: {line:?}");
    }
}

/// What writes the rules of a variant.
fn writer(variant: &str) -> &'static str {
    if variant == "nft" { "nf_tables by netlink" } else { "iptables-legacy-restore " }
}

fn shows(variant: &str, user: Option<u32>) {
    let who = user.map_or_else(|| format!("user {}", geteuid()), |user| format!("user {user}"));
    let what = format!("weir demo --iptables-variant={variant} by {who}");
    if !installed(variant) {
        return skipped(&format!("{what}: iptables-{variant} is not installed"));
    }
    let program = Program::new();
    let before = machine();
    let start = Instant::now();
    let output = program.demo(user, &["--iptables-variant", variant]).output().unwrap();
    let (stdout, stderr) = said(&output);
    if stderr.contains("ordinary users may not make namespaces") || stderr.contains("the kernel does not allow to") {
        return skipped(&format!("{what}: {}", stderr.trim()));
    }
    assert_eq!(stderr, "", "{stdout}");
    assert_shown(&stdout, writer(variant));
    assert!(output.status.success(), "{stdout}");
    assert_eq!(program.processes(), Vec::<String>::new());
    assert_eq!(machine(), before);
    println!("{what}: {:?}", start.elapsed());
}

#[test]
fn nft_is_shown() {
    shows("nft", None);
}

#[test]
fn legacy_is_shown() {
    shows("legacy", None);
}

#[test]
fn an_ordinary_user_is_shown_both() {
    if geteuid().is_root() {
        shows("nft", Some(NOBODY));
        shows("legacy", Some(NOBODY));
    }
}

#[test]
fn logs_are_there_for_who_wants_them() {
    let program = Program::new();
    let output = program.demo(None, &["-v"]).output().unwrap();
    let (stdout, stderr) = said(&output);
    if !output.status.success() && !stdout.contains(" checks") {
        return skipped(&format!("weir demo -v: {}", stderr.trim()));
    }
    assert!(output.status.success(), "{stdout}{stderr}");
    for expected in [" changed by ", ", repaired", "service ports are in the kernel"] {
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    let program = Program::new();
    let mut child = program.demo(None, &[]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // From here on there are namespaces, servers, and weir.
    if lines.by_ref().map_while(Result::ok).all(|line| !line.starts_with(" 1. ")) {
        child.wait().unwrap();
        return skipped("killing weir demo: it does not run here");
    }
    assert!(program.processes().len() >= 2, "the program and its second run: {:?}", program.processes());
    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    while !program.processes().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "left: {:?}", program.processes());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!Path::new("/run/weir-demo").exists());
}

/// Runs a script in which the demo cannot work, and must say why in one line. The script says `ready` before that;
/// `None` if it does not come so far.
fn refusal(what: &str, script: &str) -> Option<String> {
    let program = Program::new();
    let output = program.scripted(script).output().unwrap();
    let (stdout, stderr) = said(&output);
    if stdout.is_empty() {
        skipped(&format!("weir demo {what}: {}", stderr.trim()));
        return None;
    }
    assert_eq!((output.status.code(), stdout.as_str(), stderr.lines().count()), (Some(1), "ready\n", 1), "{stderr}");
    assert!(stderr.starts_with("Error: "), "{stderr}");
    assert_eq!(program.processes(), Vec::<String>::new());
    Some(stderr)
}

/// Hides all tools of iptables, wherever they are looked for.
const HIDE: &str = "for folder in /usr/sbin /sbin /usr/local/sbin; do
                    if [ -d $folder ]; then mount -t tmpfs tmpfs $folder; fi
                done
                echo ready
                PATH= exec \"$WEIR\" demo";

/// Nothing but a kernel is needed: no program is started at all.
#[test]
fn without_iptables_everything_is_shown() {
    let program = Program::new();
    let output = program.scripted(HIDE).output().unwrap();
    let (stdout, stderr) = said(&output);
    let Some(shown) = stdout.strip_prefix("ready\n") else {
        return skipped(&format!("weir demo without iptables: {}", stderr.trim()));
    };
    assert_eq!(stderr, "", "{stdout}");
    assert_shown(shown, writer("nft"));
    assert!(output.status.success(), "{stdout}");
}

#[test]
fn without_iptables_it_names_the_package() {
    let hide = format!("{HIDE} --iptables-driver restore");
    if let Some(error) = refusal("without iptables", &hide) {
        assert!(error.contains("iptables is not installed") && error.contains("apt-get install iptables"), "{error}");
    }
}

#[test]
fn where_users_may_make_no_namespaces_it_says_what_allows_them() {
    let forbid = "echo 0 >/proc/sys/user/max_user_namespaces
                  echo ready
                  exec setpriv --bounding-set=-all --inh-caps=-all \"$WEIR\" demo";
    if let Some(error) = refusal("without user namespaces", forbid) {
        assert!(error.contains("sudo sysctl user.max_user_namespaces="), "{error}");
    }
}

/// The mounts of the namespace that it was started in are not touched: /run is not covered.
#[test]
fn where_root_may_make_no_namespaces_it_stops_before_it_touches_anything() {
    let forbid = "echo 0 >/proc/sys/user/max_net_namespaces
                  echo ready
                  before=$(cat /proc/self/mounts)
                  \"$WEIR\" demo || code=$?
                  [ \"$before\" = \"$(cat /proc/self/mounts)\" ] || echo 'mounts have changed' >&2
                  exit $code";
    if let Some(error) = refusal("above a limit", forbid) {
        assert!(error.contains("as many namespaces as may be"), "{error}");
    }
}
