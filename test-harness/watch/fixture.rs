//! A watcher whose suspicions are collected, and somebody with tools.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use weir::kernel::watch::{OwnWrites, Watch, WatchConfig};
use weir::kernel::xtables::variant::Variant;
use weir::kernel::xtables::{ChainKey, ChainName, Scope, Suspicion, Table};
use weir::net::Family;

/// Changes must be noticed by then. The machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for what must not come.
pub const QUIET: Duration = Duration::from_millis(300);

pub struct Watched {
    pub own: OwnWrites,
    suspicions: Receiver<(Instant, Suspicion)>,
    pub addresses: Receiver<Instant>,
    /// Dropped last: it calls until then.
    pub watch: Watch,
}

impl Watched {
    /// Watches the network namespace of the calling thread.
    pub fn start(variant: Variant) -> Watched {
        Watched::with(variant, |_| ())
    }

    /// And does something with each suspicion first.
    pub fn with(variant: Variant, mut first: impl FnMut(&Suspicion) + Send + 'static) -> Watched {
        let own = OwnWrites::new();
        let (told, suspicions) = channel();
        let (moved, addresses) = channel();
        let config = WatchConfig {
            variant,
            families: Family::ALL.to_vec(),
            own: own.clone(),
            on_drift: Box::new(move |suspicion| {
                let now = Instant::now();
                first(&suspicion);
                let _ = told.send((now, suspicion));
            }),
            on_addresses: Box::new(move || _ = moved.send(Instant::now())),
        };
        Watched { own, suspicions, addresses, watch: Watch::spawn(config).unwrap() }
    }

    /// The next suspicion, and when it was told.
    pub fn next(&self, what: &str) -> (Instant, Suspicion) {
        self.suspicions.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("not noticed: {what}"))
    }

    /// All suspicions of a little while as one.
    pub fn all(&self, what: &str) -> Suspicion {
        let (_, mut all) = self.next(what);
        while let Ok((_, more)) = self.suspicions.recv_timeout(QUIET) {
            all.merge(more);
        }
        all
    }

    pub fn is_silent(&self, what: &str) {
        let told = self.suspicions.recv_timeout(QUIET).map(|(_, suspicion)| suspicion);
        assert_eq!(told, Err(RecvTimeoutError::Timeout), "{what}");
    }
}

pub fn chains(family: Family, table: Table, names: &[&str]) -> Scope {
    let key = |name: &&str| ChainKey { family, table, name: ChainName::new(*name) };
    Scope::Chains(names.iter().map(key).collect())
}

/// `iptables` or `ip6tables`, of a variant.
pub fn tool(family: Family, variant: Variant, suffix: &str) -> String {
    let name = if family == Family::V4 { "iptables" } else { "ip6tables" };
    format!("{name}-{variant}{suffix}")
}

/// Runs a program to its end; its process number, and when it ended.
pub fn run(program: &str, arguments: &str, input: &str) -> (u32, Instant) {
    let mut child = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let pid = child.id();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let end = Instant::now();
    assert!(output.status.success(), "{program} {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    (pid, end)
}

/// Whether a program can be started.
pub fn installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        weir::lab::skipped(&format!("watch: {program} is not installed"));
    }
    there
}

/// Rules of ours, of a network plugin and of the administrator, in the tables of both families.
pub fn populate(variant: Variant) {
    for (family, net) in [(Family::V4, "10.96.0.0/12"), (Family::V6, "fd00:10:96::/108")] {
        let mut text =
            String::from("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ABCDEFGHIJKLMNOP - [0:0]\n:CNI-X - [0:0]\n");
        text.push_str(&format!("-A KUBE-SVC-ABCDEFGHIJKLMNOP -d {net} -j RETURN\n"));
        for port in 1..20 {
            text.push_str(&format!("-A KUBE-SERVICES -d {net} -p tcp -m tcp --dport {port} -j RETURN\n"));
        }
        text.push_str("-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j CNI-X\nCOMMIT\n");
        text.push_str(
            "*filter\n:KUBE-FORWARD - [0:0]\n-A KUBE-FORWARD -j RETURN\n-A FORWARD -j KUBE-FORWARD\nCOMMIT\n",
        );
        run(&tool(family, variant, "-restore"), "-n", &text);
    }
}
