//! Rows S48 to S59, and what is different from kube-proxy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::kernel::sysctl::Pins;

const ALL: [Parameter; 7] = [
    Parameter::Max,
    Parameter::HashSize,
    Parameter::TcpEstablished,
    Parameter::TcpCloseWait,
    Parameter::TcpBeLiberal,
    Parameter::Udp,
    Parameter::UdpStream,
];

/// kube-proxy's defaults.
fn defaults() -> ConntrackSettings {
    ConntrackSettings {
        max_per_core: 32_768,
        min: 131_072,
        tcp_established: Duration::from_secs(86_400),
        tcp_close_wait: Duration::from_secs(3_600),
        ..ConntrackSettings::default()
    }
}

/// A machine with four CPUs that has just booted.
fn machine() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (parameter, value) in ALL.into_iter().zip(["65536", "16384", "432000", "60", "0", "30", "120"]) {
        put(root.path(), parameter.path(), value);
    }
    put(root.path(), "proc/sys/net/netfilter/nf_conntrack_buckets", "16384");
    put(root.path(), "sys/devices/system/cpu/online", "0-3");
    root
}

fn put(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, format!("{text}\n")).unwrap();
}

fn get(root: &Path, parameter: Parameter) -> u64 {
    fs::read_to_string(root.join(parameter.path())).unwrap().trim().parse().unwrap()
}

fn values(root: &Path) -> Vec<u64> {
    ALL.iter().map(|parameter| get(root, *parameter)).collect()
}

/// What would be written where every parameter is 0 now.
fn written(settings: ConntrackSettings, cpus: u32) -> Vec<(Parameter, u64)> {
    let decisions = decide(&settings, cpus, |_| Some(0), &Pins::default());
    let value = |decision: ConntrackDecision| match decision.action {
        ConntrackAction::Write { value, against: None } => Some((decision.parameter, value)),
        _ => None,
    };
    decisions.into_iter().filter_map(value).collect()
}

#[test]
fn s48_to_s52_how_many_connections() {
    for (row, max_per_core, min, cpus, expected) in [
        ("S48", 0, 0, 4, None),
        ("S49", 67_890, 1, 4, Some(271_560)),
        ("S49", 67_890, 1, 64, Some(1_048_576)),
        ("S50", 1, 123_456, 4, Some(123_456)),
        ("S51", 0, 123_456, 4, None),
        ("S52", 32_768, 131_072, 33, Some(1_048_576)),
        ("S52, the limit itself", 32_768, 131_072, 32, Some(1_048_576)),
        ("the defaults", 32_768, 131_072, 2, Some(131_072)),
        ("the defaults", 32_768, 131_072, 8, Some(262_144)),
        ("a minimum above the cap", 32_768, 2_000_000, 64, Some(2_000_000)),
        ("no overflow", u32::MAX, 1, u32::MAX, Some(1_048_576)),
    ] {
        let settings = ConntrackSettings { max_per_core, min, ..ConntrackSettings::default() };
        assert_eq!(maximum(&settings, cpus), expected, "{row}");
    }
}

#[test]
fn s53_to_s58_set_or_zero() {
    let none = ConntrackSettings::default();
    let five = Duration::from_secs(5);
    type Row<'a> = (&'a str, ConntrackSettings, &'a [(Parameter, u64)]);
    let rows: [Row<'_>; 9] = [
        ("nothing", none, &[]),
        ("S53", ConntrackSettings { max_per_core: 10, ..none }, &[(Parameter::Max, 40), (Parameter::HashSize, 10)]),
        ("S54", ConntrackSettings { tcp_established: five, ..none }, &[(Parameter::TcpEstablished, 5)]),
        ("S55", ConntrackSettings { tcp_close_wait: five, ..none }, &[(Parameter::TcpCloseWait, 5)]),
        ("S56", ConntrackSettings { tcp_be_liberal: true, ..none }, &[(Parameter::TcpBeLiberal, 1)]),
        ("S57", ConntrackSettings { udp: five, ..none }, &[(Parameter::Udp, 5)]),
        ("S58", ConntrackSettings { udp_stream: five, ..none }, &[(Parameter::UdpStream, 5)]),
        ("parts of a second", ConntrackSettings { udp: Duration::from_millis(5_900), ..none }, &[(Parameter::Udp, 5)]),
        (
            "less than a second",
            ConntrackSettings { tcp_established: Duration::from_nanos(1), ..none },
            &[(Parameter::TcpEstablished, 1)],
        ),
    ];
    for (row, settings, expected) in rows {
        assert_eq!(written(settings, 4), expected, "{row}");
    }
}

#[test]
fn defaults_are_written_once() {
    let root = machine();
    let conntrack = Conntrack::below(root.path());
    conntrack.settle(&defaults(), &Pins::default()).unwrap();
    assert_eq!(values(root.path()), [131_072, 32_768, 86_400, 3_600, 0, 30, 120]);
    put(root.path(), "proc/sys/net/netfilter/nf_conntrack_buckets", "32768");
    let again = conntrack.decide(&defaults(), &Pins::default());
    assert!(again.iter().all(|decision| decision.action == ConntrackAction::AsWanted), "{again:?}");
    // Even where nothing can be written any more.
    for parameter in ALL {
        fs::remove_file(root.path().join(parameter.path())).unwrap();
    }
    conntrack.apply(&again).unwrap();
}

#[test]
fn what_is_larger_stays() {
    let root = machine();
    put(root.path(), Parameter::Max.path(), "262144");
    put(root.path(), "proc/sys/net/netfilter/nf_conntrack_buckets", "262144");
    put(root.path(), Parameter::TcpCloseWait.path(), "7200");
    Conntrack::below(root.path()).settle(&defaults(), &Pins::default()).unwrap();
    assert_eq!(values(root.path()), [262_144, 16_384, 86_400, 3_600, 0, 30, 120], "a timeout is no limit");
}

/// Only root may read the module's parameter.
#[test]
fn the_sysctl_of_the_hash_table_is_read_first() {
    let root = machine();
    put(root.path(), "proc/sys/net/netfilter/nf_conntrack_buckets", "40000");
    fs::remove_file(root.path().join(Parameter::HashSize.path())).unwrap();
    let decisions = Conntrack::below(root.path()).decide(&defaults(), &Pins::default());
    assert_eq!(decisions[1].action, ConntrackAction::Larger { wanted: 32_768 });
    fs::remove_file(root.path().join("proc/sys/net/netfilter/nf_conntrack_buckets")).unwrap();
    put(root.path(), Parameter::HashSize.path(), "50000");
    assert_eq!(Conntrack::below(root.path()).decide(&defaults(), &Pins::default())[1].before, Some(50_000));
}

#[test]
fn liberal_is_never_taken_back() {
    let root = machine();
    put(root.path(), Parameter::TcpBeLiberal.path(), "1");
    Conntrack::below(root.path()).settle(&defaults(), &Pins::default()).unwrap();
    assert_eq!(get(root.path(), Parameter::TcpBeLiberal), 1);
}

#[test]
fn s59_the_first_error_ends_it() {
    let root = machine();
    fs::remove_file(root.path().join(Parameter::TcpEstablished.path())).unwrap();
    let error = Conntrack::below(root.path()).settle(&defaults(), &Pins::default()).unwrap_err();
    assert_eq!(error.parameter, Parameter::TcpEstablished);
    let text = error.to_string();
    for part in [
        "could not set conntrack parameters from kube-proxy configuration: cannot write 86400 to ",
        "nf_conntrack_tcp_timeout_established, which is unknown: No such file",
        "load the module (modprobe nf_conntrack)",
        "--conntrack-tcp-timeout-established=0s (conntrack.tcpEstablishedTimeout)",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains('\n'));
    assert_eq!(get(root.path(), Parameter::Max), 131_072, "before it");
    assert_eq!(get(root.path(), Parameter::TcpCloseWait), 60, "after it");
    assert!(!root.path().join(Parameter::TcpEstablished.path()).exists(), "no file is made");
}

/// What the kernel says in a container and in a network namespace that is not the first one.
#[test]
fn errors_name_the_remedy() {
    for (errno, parameter, remedy) in [
        (nix::libc::EROFS, Parameter::UdpStream, "it is read-only here: run as a privileged container, or set it"),
        (nix::libc::EACCES, Parameter::Max, "only root in the host's own network namespace may change it"),
        (nix::libc::EOPNOTSUPP, Parameter::HashSize, "only root in the host's own network namespace may change it"),
        (nix::libc::EACCES, Parameter::Udp, "run as root, in the initial user namespace, or set it on the node"),
        (nix::libc::EINVAL, Parameter::Udp, "set it on the node (echo 7 > /proc/sys/net/netfilter/nf_conntrack_udp"),
    ] {
        let error = std::io::Error::from_raw_os_error(errno);
        let file = Path::new("/").join(parameter.path());
        let text = ConntrackError { parameter, file, before: Some(3), value: 7, error }.to_string();
        assert!(text.contains(remedy) && text.contains(", which is 3: "), "{text}");
    }
}

/// A file that may not be written, as in a container; root may write it all the same.
#[test]
fn read_only_files_are_no_matter_where_nothing_differs() {
    let root = machine();
    let conntrack = Conntrack::below(root.path());
    let settings = ConntrackSettings { udp: Duration::from_secs(30), ..ConntrackSettings::default() };
    let file = root.path().join(Parameter::Udp.path());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    conntrack.settle(&settings, &Pins::default()).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), before);
}

#[test]
fn a_pin_by_name_counts_and_a_file_is_told() {
    let root = machine();
    put(root.path(), "etc/sysctl.d/10-ct.conf", "net.netfilter.nf_conntrack_tcp_timeout_close_wait = 60");
    let pins = Pins::by_name(["net.netfilter.nf_conntrack_max", "net.netfilter.nf_conntrack_buckets"]);
    let conntrack = Conntrack::below(root.path());
    let decisions = conntrack.decide(&defaults(), &pins.and_files(root.path()));
    let lines: Vec<String> = decisions.iter().map(ToString::to_string).collect();
    for (line, beginning) in lines.iter().zip([
        "/proc/sys/net/netfilter/nf_conntrack_max: 65536, pinned by name; 131072 is asked for (a node",
        "/sys/module/nf_conntrack/parameters/hashsize: 16384, pinned by name; 32768 is asked for (looking",
        "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established: 432000 -> 86400 (how long",
        "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait: 60 -> 3600 (how long",
    ]) {
        assert!(line.starts_with(beginning), "{line}");
    }
    assert_eq!(lines.len(), 4);
    let ConntrackAction::Write { against: Some(pin), .. } = &decisions[3].action else { panic!("{decisions:?}") };
    assert_eq!(pin.to_string(), "to 60 by /etc/sysctl.d/10-ct.conf");
    conntrack.apply(&decisions).unwrap();
    assert_eq!(values(root.path()), [65_536, 16_384, 86_400, 3_600, 0, 30, 120]);
}

/// In a network namespace of its own, as root: the limit belongs to the host, and timeouts to the namespace.
#[test]
fn a_network_namespace_that_is_not_the_first_one() {
    let ran = std::thread::spawn(|| {
        if let Err(errno) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            crate::lab::skipped(&format!("conntrack: no network namespace: {errno} (run as root)"));
            return;
        }
        let limit = Path::new("/").join(Parameter::Max.path());
        match fs::metadata(&limit) {
            Ok(file) if file.permissions().mode() & 0o222 == 0 => {}
            // Without the module there is none, and a kernel where it could be written would change the host.
            _ => return crate::lab::skipped("conntrack: a limit that is the host's"),
        }
        let timeout = ConntrackSettings { tcp_established: Duration::from_secs(4_321), ..ConntrackSettings::default() };
        Conntrack::default().settle(&timeout, &Pins::default()).unwrap();
        assert_eq!(get(Path::new("/"), Parameter::TcpEstablished), 4_321);
        let more = ConntrackSettings { max_per_core: 1, min: 2_000_000_000, ..timeout };
        let error = Conntrack::default().settle(&more, &Pins::default()).unwrap_err().to_string();
        for part in ["cannot write 2000000000 to /proc/sys/net/netfilter/nf_conntrack_max", "hostNetwork"] {
            assert!(error.contains(part), "{error}");
        }
        let less = ConntrackSettings { max_per_core: 1, min: 2, ..timeout };
        Conntrack::default().settle(&less, &Pins::default()).unwrap();
    });
    ran.join().unwrap();
}
