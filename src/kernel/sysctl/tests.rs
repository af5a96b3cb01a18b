//! From what is wanted to what is written, below a root of the test's own.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const NEW: KernelVersion = KernelVersion::new(6, 1);
const STRICT: Options = Options { strict_arp: true };

/// Name, value before, value that is wanted.
const ALL: [(&str, &str, &str); 6] = [
    ("net/ipv4/vs/conntrack", "0", "1"),
    ("net/ipv4/vs/expire_nodest_conn", "0", "1"),
    ("net/ipv4/vs/expire_quiescent_template", "0", "1"),
    ("net/ipv4/ip_forward", "0", "1"),
    ("net/ipv4/conf/all/arp_ignore", "0", "1"),
    ("net/ipv4/conf/all/arp_announce", "0", "2"),
];

/// A machine with these parameters as they are at boot.
fn machine() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, before, _) in ALL {
        put(root.path(), &format!("proc/sys/{name}"), before);
    }
    put(root.path(), "proc/sys/net/ipv4/vs/conn_reuse_mode", "1");
    put(root.path(), "proc/sys/kernel/osrelease", "6.1.0-56-cloud-amd64");
    root
}

fn put(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, format!("{text}\n")).unwrap();
}

fn get(root: &Path, name: &str) -> String {
    fs::read_to_string(root.join("proc/sys").join(name)).unwrap().trim().to_owned()
}

fn lines(decisions: &[Decision]) -> Vec<String> {
    decisions.iter().map(Decision::to_string).collect()
}

#[test]
fn conn_reuse_mode_is_chosen_by_the_kernel() {
    for (major, minor, value) in [
        (3, 10, None),
        (4, 0, None),
        (4, 1, Some("0")),
        (4, 19, Some("0")),
        (5, 8, Some("0")),
        (5, 9, None),
        (6, 1, None),
    ] {
        let list = wanted(KernelVersion::new(major, minor), Options::default());
        let found = list.iter().find(|wanted| wanted.name == "net/ipv4/vs/conn_reuse_mode").unwrap();
        assert_eq!(found.value, value, "{major}.{minor}");
        assert_eq!(found.required, value.is_some(), "{major}.{minor}");
    }
}

#[test]
fn strict_arp_is_an_option() {
    let names = |options| -> Vec<&str> { wanted(NEW, options).iter().map(|wanted| wanted.name).collect() };
    let without = names(Options::default());
    assert!(!without.iter().any(|name| name.contains("arp")));
    assert_eq!(names(STRICT).len(), without.len() + 2);
}

#[test]
fn all_is_written_and_a_second_start_writes_nothing() {
    let root = machine();
    let sysctls = Sysctls::below(root.path());
    assert_eq!(sysctls.kernel_version().unwrap(), NEW);
    let list = wanted(NEW, STRICT);
    let decisions = sysctls.decide(&list, &Pins::default()).unwrap();
    sysctls.apply(&decisions).unwrap();
    for (name, _, expected) in ALL {
        assert_eq!(get(root.path(), name), expected, "{name}");
    }
    assert_eq!(get(root.path(), "net/ipv4/vs/conn_reuse_mode"), "1");
    let again = sysctls.decide(&list, &Pins::default()).unwrap();
    assert!(again.iter().all(|decision| matches!(decision.action, Action::AsWanted | Action::Leave)), "{again:?}");
}

#[test]
fn the_report_says_what_and_why() {
    let root = machine();
    put(root.path(), "etc/sysctl.d/10-lb.conf", "net.ipv4.vs.expire_nodest_conn = 0");
    put(root.path(), "proc/sys/net/ipv4/ip_forward", "1");
    let pins = Pins::by_name(["net.ipv4.vs.conntrack"]).and_files(root.path());
    let mut list = wanted(NEW, Options::default());
    list.extend(estimation(20_001, 20_000));
    let decisions = Sysctls::below(root.path()).decide(&list, &pins).unwrap();
    let report = lines(&decisions);
    for (line, beginning) in report.iter().zip([
        "net.ipv4.vs.conntrack: 0, pinned by name; 1 would be better (rules masquerade",
        "net.ipv4.vs.conn_reuse_mode: 1, left alone (since Linux 5.9",
        "net.ipv4.vs.expire_nodest_conn: 0, pinned to 0 by /etc/sysctl.d/10-lb.conf; 1 would be better (a client",
        "net.ipv4.vs.expire_quiescent_template: 0 -> 1 (clients with",
        "net.ipv4.ip_forward: 1, as wanted (packets",
        "net.ipv4.vs.run_estimation: this kernel has none (estimating",
    ]) {
        assert!(line.starts_with(beginning), "{line}");
    }
    assert_eq!(report.len(), 6);
    let old = wanted(KernelVersion::new(3, 10), Options::default());
    fs::remove_file(root.path().join("proc/sys/net/ipv4/vs/conn_reuse_mode")).unwrap();
    let decisions = Sysctls::below(root.path()).decide(&old, &pins).unwrap();
    assert!(
        lines(&decisions)[1].starts_with("net.ipv4.vs.conn_reuse_mode: this kernel has none (this kernel is older")
    );
    Sysctls::below(root.path()).apply(&decisions).unwrap();
}

#[test]
fn estimators_are_stopped_above_the_limit() {
    assert_eq!(estimation(20_000, 20_000), None);
    let root = machine();
    let sysctls = Sysctls::below(root.path());
    let list: Vec<Wanted> = estimation(20_001, 20_000).into_iter().collect();
    // An old kernel has no such switch: that is no error.
    sysctls.apply(&sysctls.decide(&list, &Pins::default()).unwrap()).unwrap();
    put(root.path(), "proc/sys/net/ipv4/vs/run_estimation", "1");
    sysctls.apply(&sysctls.decide(&list, &Pins::default()).unwrap()).unwrap();
    assert_eq!(get(root.path(), "net/ipv4/vs/run_estimation"), "0");
}

#[test]
fn what_is_pinned_stays() {
    let pinned = |files: &[(&str, &str)], names: &[&str]| -> String {
        let root = machine();
        for (file, text) in files {
            put(root.path(), file, text);
        }
        let pins = Pins::by_name(names.iter().copied()).and_files(root.path());
        let sysctls = Sysctls::below(root.path());
        let decisions = sysctls.decide(&wanted(NEW, STRICT), &pins).unwrap();
        sysctls.apply(&decisions).unwrap();
        get(root.path(), "net/ipv4/conf/all/arp_ignore")
    };
    let zero = "net.ipv4.conf.all.arp_ignore = 0";
    assert_eq!(pinned(&[], &[]), "1");
    assert_eq!(pinned(&[], &["net/ipv4/conf/all/arp_ignore"]), "0");
    assert_eq!(pinned(&[], &[" net.ipv4.conf.*.arp_ignore "]), "0");
    for file in [
        "etc/sysctl.conf",
        "etc/sysctl.d/x.conf",
        "run/sysctl.d/x.conf",
        "usr/lib/sysctl.d/x.conf",
        "usr/local/lib/sysctl.d/x.conf",
    ] {
        assert_eq!(pinned(&[(file, zero)], &[]), "0", "{file}");
    }
    assert_eq!(pinned(&[("etc/sysctl.d/x.conf", "-net/ipv4/conf/all/arp_ignore=0")], &[]), "0");
    assert_eq!(pinned(&[("etc/sysctl.d/x.conf", "net.ipv4.conf.*.arp_ignore=0")], &[]), "0");
    assert_eq!(pinned(&[("etc/sysctl.d/readme.txt", zero)], &[]), "1", "no .conf");
    assert_eq!(pinned(&[("etc/sysctl.conf", "net.ipv4.conf.all.arp_ignore = 1")], &[]), "1", "what we want");
}

#[test]
fn the_file_that_is_loaded_last_counts() {
    let pinned = |files: &[(&str, &str)]| {
        let root = tempfile::tempdir().unwrap();
        for (file, value) in files {
            let line = format!("net.ipv4.conf.all.arp_ignore={value}");
            put(root.path(), file, if value.contains('.') { value } else { &line });
        }
        match Pins::default().and_files(root.path()).of("net/ipv4/conf/all/arp_ignore", "1") {
            Some(Pin::File { value, .. }) => value,
            other => format!("{other:?}"),
        }
    };
    // By the names of the files, not of the folders.
    assert_eq!(pinned(&[("etc/sysctl.d/10-a.conf", "2"), ("usr/lib/sysctl.d/50-b.conf", "8")]), "8");
    assert_eq!(pinned(&[("etc/sysctl.d/90-a.conf", "2"), ("usr/lib/sysctl.d/50-b.conf", "8")]), "2");
    assert_eq!(pinned(&[("etc/sysctl.d/90-a.conf", "2"), ("etc/sysctl.conf", "8")]), "8");
    // The same name hides.
    assert_eq!(pinned(&[("etc/sysctl.d/50-b.conf", "2"), ("usr/lib/sysctl.d/50-b.conf", "8")]), "2");
    assert_eq!(pinned(&[("run/sysctl.d/50-b.conf", "2"), ("usr/lib/sysctl.d/50-b.conf", "8")]), "2");
    // A name outweighs a pattern, before it or behind it.
    let pattern = "net.ipv4.conf.*.arp_ignore=8";
    assert_eq!(pinned(&[("etc/sysctl.d/1.conf", "2"), ("etc/sysctl.d/2.conf", pattern)]), "2");
    assert_eq!(pinned(&[("etc/sysctl.d/2.conf", pattern)]), "8");
    let exempt = "-net.ipv4.conf.all.arp_ignore";
    assert_eq!(pinned(&[("etc/sysctl.d/1.conf", exempt), ("etc/sysctl.d/2.conf", pattern)]), "None");
    assert_eq!(pinned(&[]), "None");
}

#[test]
fn what_is_needed_and_not_there_is_an_error() {
    let root = machine();
    fs::remove_dir_all(root.path().join("proc/sys/net/ipv4/vs")).unwrap();
    let sysctls = Sysctls::below(root.path());
    let decisions = sysctls.decide(&wanted(NEW, Options::default()), &Pins::default()).unwrap();
    let error = sysctls.apply(&decisions).unwrap_err().to_string();
    assert!(error.contains("/proc/sys/net/ipv4/vs/conntrack is not there, and is needed: rules masquerade"), "{error}");
    assert!(error.contains("load the module ip_vs") && error.lines().count() == 1, "{error}");
    assert!(!root.path().join("proc/sys/net/ipv4/vs/conntrack").exists(), "no file is created");
}

#[test]
fn what_cannot_be_written_names_file_value_and_remedy() {
    let message = |errno: i32| {
        let error = SysctlError::Write {
            file: "/proc/sys/net/ipv4/ip_forward".into(),
            name: "net/ipv4/ip_forward".to_owned(),
            value: "1",
            error: std::io::Error::from_raw_os_error(errno),
        };
        error.to_string()
    };
    assert_eq!(
        message(libc::EROFS),
        "cannot write 1 to /proc/sys/net/ipv4/ip_forward: Read-only file system (os error 30); /proc/sys is read-only \
         here: run as a privileged container, or set it on the node (sysctl -w net.ipv4.ip_forward=1)"
    );
    assert!(message(libc::EACCES).contains("run as root"));
    assert!(message(libc::EINVAL).ends_with("; set it on the node (sysctl -w net.ipv4.ip_forward=1)"));
    let root = machine();
    let decision = Decision { name: "net/ipv4/none", before: None, action: Action::Write("1"), why: "a test" };
    let error = Sysctls::below(root.path()).apply(&[decision]).unwrap_err();
    assert!(matches!(error, SysctlError::Write { .. }) && error.to_string().contains("proc/sys/net/ipv4/none"));
}

#[test]
fn a_version_that_makes_no_sense_is_an_error() {
    let root = machine();
    put(root.path(), "proc/sys/kernel/osrelease", "linux");
    let error = Sysctls::below(root.path()).kernel_version().unwrap_err().to_string();
    assert!(error.contains("osrelease: \"linux\\n\" is no version of a kernel"), "{error}");
    assert!(Sysctls::default().kernel_version().unwrap() > KernelVersion::new(3, 0), "the real one");
}
