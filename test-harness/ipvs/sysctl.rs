//! Kernel parameters, in a kernel that has those of IPVS.

use std::fs;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use weir::kernel::sysctl::{Action, Decision, Options, Pins, Sysctls, estimation, wanted};

pub fn all() -> Vec<(&'static str, fn())> {
    vec![("all_that_ipvs_wants_is_set_once", set_once), ("a_read_only_proc_sys_is_told_with_the_remedy", read_only)]
}

const STRICT: Options = Options { strict_arp: true };

/// The module brings the parameters, to each network namespace.
fn load_ipvs() {
    assert!(Command::new("ipvsadm").arg("-Ln").output().unwrap().status.success());
}

fn decisions(sysctls: &Sysctls, pins: &Pins) -> Vec<Decision> {
    let mut list = wanted(sysctls.kernel_version().unwrap(), STRICT);
    list.extend(estimation(20_001, 20_000));
    sysctls.decide(&list, pins).unwrap()
}

fn set_once() {
    load_ipvs();
    let sysctls = Sysctls::default();
    let pins = Pins::by_name(["net.ipv4.vs.expire_quiescent_template"]);
    let first = decisions(&sysctls, &pins);
    first.iter().for_each(|decision| println!("{decision}"));
    sysctls.apply(&first).unwrap();
    for (name, value) in [
        ("vs/conntrack", "1"),
        ("vs/expire_nodest_conn", "1"),
        ("vs/expire_quiescent_template", "0"),
        ("vs/run_estimation", "0"),
        ("ip_forward", "1"),
        ("conf/all/arp_ignore", "1"),
        ("conf/all/arp_announce", "2"),
    ] {
        assert_eq!(fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap().trim(), value, "{name}");
    }
    let second = decisions(&sysctls, &pins);
    assert!(!second.iter().any(|decision| matches!(decision.action, Action::Write(_))), "{second:?}");
}

fn read_only() {
    load_ipvs();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none).unwrap();
    mount(none, "/proc/sys", none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
    let sysctls = Sysctls::default();
    let error = sysctls.apply(&decisions(&sysctls, &Pins::default())).unwrap_err().to_string();
    assert!(error.starts_with("cannot write 1 to /proc/sys/net/ipv4/vs/conntrack: Read-only file system"), "{error}");
    assert!(error.contains("privileged container"), "{error}");
}
