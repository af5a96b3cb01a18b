//! `weir proxy` that cannot start: one line, exit code 1, and the kernel is as it was.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use weir::lab::{Host, Lab, rerun, skipped};

use crate::configuration::{FILES, file};
use crate::mistakes::FLAGS;
use crate::program::{Ran, all_rules, data, installed, path_with, run_in, script, small_lab, weir};

/// A node with a rule of someone else's.
fn node_with_rules() -> Lab {
    let lab = small_lab();
    for tool in ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"] {
        if installed(tool).is_some() {
            lab.node().check(tool, &["-A", "INPUT", "-p", "tcp", "--dport", "7", "-j", "DROP"], "").unwrap();
        }
    }
    lab
}

/// Everything that a proxy could change.
fn state(host: &Host) -> String {
    let sysctls = host.check("sysctl", &["-a"], "").unwrap();
    let touchable =
        |line: &&str| line.contains("route_localnet") || line.contains("nf_conntrack_") || line.contains("forward");
    // How many entries there are now is no setting.
    let sysctls: Vec<&str> = sysctls.lines().filter(touchable).filter(|line| !line.contains("_count")).collect();
    all_rules(host) + &sysctls.join("\n")
}

/// Runs it, and gives its last line.
fn cannot_start(host: &Host, command: Command) -> String {
    let before = state(host);
    let said = format!("{command:?}");
    let ran: Ran = run_in(host, command);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{said}: {}", ran.err);
    assert_eq!(state(host), before, "{said}");
    let last = ran.err.lines().last().unwrap_or_default();
    last.strip_prefix("Error: ").unwrap_or_else(|| panic!("{said}: {}", ran.err)).to_owned()
}

fn proxy(flags: &[&str]) -> Command {
    let shop = data("cli/shop");
    let fixed = ["proxy", "--hostname-override=node-a", "--manifests", shop.to_str().unwrap()];
    weir(&fixed.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn flags_and_sources() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = node_with_rules();
    for (flags, line) in FLAGS {
        let arguments: Vec<&str> = ["proxy"].into_iter().chain(flags.iter().copied()).collect();
        assert_eq!(cannot_start(lab.node(), weir(&arguments)), line);
    }
    for (body, line) in FILES {
        let (_folder, path) = file(body);
        assert_eq!(cannot_start(lab.node(), weir(&["proxy", "--config", &path])), line.replace("FILE", &path));
    }
    for (flag, beginning) in [
        ("--manifests=/no/such/folder", "cannot read the manifest folder /no/such/folder: No such file or directory"),
        ("--kubeconfig=/no/such/file", "kubeconfig /no/such/file: cannot be read: No such file or directory"),
        ("--hostname-override=node-a", "not in a cluster: "),
    ] {
        let line = cannot_start(lab.node(), weir(&["proxy", flag]));
        assert!(line.starts_with(beginning), "{line}");
    }
}

#[test]
fn permission() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = node_with_rules();
    let expected = "no permission to read or write rules: CAP_NET_ADMIN is missing; run as root, or give the capability \
                    (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; Kubernetes: securityContext.privileged)";
    let drop_all = |mut setpriv: Command| {
        setpriv.args(["--bounding-set=-all", "--inh-caps=-all"]);
        let inner = proxy(&[]);
        setpriv.arg(inner.get_program()).args(inner.get_args());
        setpriv
    };
    // An ordinary user, where there is one, and root without its capabilities.
    assert_eq!(cannot_start(lab.node(), drop_all(Command::new("setpriv"))), expected);
    let mut command = proxy(&[]);
    command.uid(65534).gid(65534);
    match std::fs::read_to_string("/proc/self/uid_map") {
        Ok(map) if map.split_whitespace().last() == Some("4294967295") => {
            assert_eq!(cannot_start(lab.node(), command), expected);
        }
        _ => skipped("cli: weir proxy of another user (a user namespace has one user only)"),
    }
}

#[test]
fn no_iptables() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = node_with_rules();
    // Nothing else is needed of these folders.
    let hide = "for folder in /usr/sbin /usr/local/sbin; do mount -t tmpfs none $folder || exit 77; done; \
                PATH=/nowhere exec \"$0\" \"$@\"";
    let inner = proxy(&["--iptables-driver=restore"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide]).arg(inner.get_program()).args(inner.get_args());
    let expected = "iptables is not installed (looked in /nowhere:/usr/sbin:/sbin:/usr/local/sbin), and rules cannot be \
                    written without it: the tools were asked for; remedy: `apt-get install iptables`, or the package of that name elsewhere";
    assert_eq!(cannot_start(lab.node(), command), expected);
}

/// A tool in `folder` that tells its version as the real one does and then fails with these words.
fn failing(folder: &Path, name: &str, words: &str) {
    let real = installed(name).unwrap();
    let text = format!("[ \"$1\" = --version ] && exec {} --version\necho \"{words}\" >&2\nexit 1", real.display());
    script(folder, name, &text);
}

#[test]
fn what_the_kernel_lacks() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = node_with_rules();
    let lacks_nft = "iptables-nft-restore/1.8.9 Failed to initialize nft: Protocol not supported";
    let lacks_nat = "iptables-legacy-restore v1.8.9 (legacy): can't initialize iptables table 'nat': \
                     Table does not exist (do you need to insmod?)";
    let remedy = "; remedy: load the kernel's module for this table, or choose the other iptables variant";
    for (variant, words) in [("nft", lacks_nft), ("legacy", lacks_nat)] {
        if installed(&format!("iptables-{variant}-restore")).is_none() {
            skipped(&format!("cli: a kernel without tables (no iptables-{variant})"));
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        for tool in ["iptables", "ip6tables"] {
            failing(folder.path(), &format!("{tool}-{variant}-restore"), words);
            failing(folder.path(), &format!("{tool}-{variant}-save"), words);
        }
        let mut command = proxy(&[&format!("--iptables-variant={variant}"), "--iptables-driver=restore"]);
        command.env("PATH", path_with(folder.path()));
        let said = |tool: &str| format!("{tool}-{variant}-restore: {words}{remedy}");
        let expected =
            format!("iptables is not available on this host: IPv4: {}; IPv6: {}", said("iptables"), said("ip6tables"));
        assert_eq!(cannot_start(lab.node(), command), expected);
    }
}

#[test]
fn networks_of_a_family_that_is_not_served() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = node_with_rules();
    lab.node().set_sysctl("net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let line = cannot_start(lab.node(), proxy(&["--cluster-cidr=fd00:10:244::/48"]));
    assert_eq!(line, "--cluster-cidr \"fd00:10:244::/48\": this host serves IPv4 only: give a CIDR of that family");
}

#[test]
fn an_iptables_that_is_too_old() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = node_with_rules();
    let folder = tempfile::tempdir().unwrap();
    for tool in ["iptables", "ip6tables"] {
        script(folder.path(), &format!("{tool}-legacy-restore"), "echo 'iptables-restore v1.6.1 (legacy)'");
        script(folder.path(), &format!("{tool}-legacy-save"), "exit 1");
    }
    let mut command = proxy(&["--iptables-variant=legacy"]);
    command.env("PATH", path_with(folder.path()));
    let expected = "iptables-legacy is version 1.6.1; weir needs 1.8.2 or newer; remedy: upgrade iptables";
    assert_eq!(cannot_start(lab.node(), command), expected);
}
