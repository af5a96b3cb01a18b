//! What `weir diff` prints of a small folder, and how it exits.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;
use weir::lab::skipped;

use crate::program::{assert_golden, data, run, weir};

/// The rules depend on one setting of the host.
fn is_usual_host() -> bool {
    let liberal = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal");
    let usual = liberal.map_or(true, |value| value.trim() == "0");
    if !usual {
        skipped("cli: golden outputs of weir diff (this host has nf_conntrack_tcp_be_liberal=1)");
    }
    usual
}

fn diff(flags: &[&str]) -> Command {
    let shop = data("cli/shop");
    let fixed =
        ["diff", "--against=empty", "--hostname-override=node-a", "--cluster-cidr=10.244.0.0/16", "--manifests"];
    weir(&fixed.into_iter().chain([shop.to_str().unwrap()]).chain(flags.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn the_three_outputs() {
    if !is_usual_host() {
        return;
    }
    for (flags, file) in
        [(&[][..], "cli/shop.txt"), (&["--output=json"], "cli/shop.json"), (&["-o", "restore"], "cli/shop.restore")]
    {
        let ran = run(diff(flags));
        assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{flags:?}");
        assert_golden(&ran.out, file);
        assert_eq!(run(diff(flags)), ran, "a second time it is the same");
    }
}

/// What programs may rely on.
#[test]
fn json_has_a_schema_and_counts_right() {
    let document: Value = serde_json::from_str(&run(diff(&["--output=json"])).out).unwrap();
    assert_eq!(document["schema"], "weir.dev/diff/v1");
    let groups = document["groups"].as_array().unwrap();
    let about: Vec<(&str, Option<&str>)> =
        groups.iter().map(|group| (group["about"].as_str().unwrap(), group["service"].as_str())).collect();
    let service = |name| ("service", Some(name));
    assert_eq!(about, [("base", None), service("shop/queue"), service("shop/six:dns"), service("shop/web:http")]);
    let rules = groups.iter().flat_map(|group| group["chains"].as_array().unwrap());
    let rules = rules.flat_map(|chain| chain["rules"].as_array().unwrap());
    let added = rules.filter(|rule| rule["action"] == "add").count();
    assert_eq!(document["summary"]["rulesAdded"], added);
    assert_eq!(document["summary"]["services"], 3);
}

#[test]
fn exit_codes() {
    let shop = data("cli/shop");
    let shop = shop.to_str().unwrap();
    for (flags, expected) in [
        (&["--manifests", shop][..], 1),
        (&["--manifests", shop, "--detailed-exitcode"], 2),
        (&["--manifests", "/no/such/folder"], 2),
        (&["--manifests", "/no/such/folder", "--detailed-exitcode"], 1),
    ] {
        let fixed = ["diff", "--against=empty", "--hostname-override=node-a", "--quiet"];
        let ran = run(weir(&fixed.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>()));
        assert_eq!((ran.code, ran.out.as_str()), (Some(expected), ""), "{flags:?}");
    }
}

/// `weir diff | head -1`
#[test]
fn a_reader_that_leaves_is_no_error() {
    for output in ["text", "json", "restore"] {
        let mut child =
            diff(&["--output", output]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        drop(child.stdout.take());
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(1), &b""[..]), "{output}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let mut command = diff(&[]);
    command.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
    let ran = run(command);
    assert_eq!(ran.err, "Error: cannot write the difference: No space left on device (os error 28)\n");
    assert_eq!(ran.code, Some(2));
}

/// Without any rights it works against nothing; for the kernel it says what to do.
#[test]
fn an_ordinary_user() {
    let ordinary = |mut command: Command| {
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        run(command)
    };
    assert_eq!(ordinary(diff(&[])), run(diff(&[])));
    let ran = ordinary(diff(&["--against=live"]));
    let line = "Error: no permission to read or write rules: CAP_NET_ADMIN is missing; run as root, or give the capability \
                (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; Kubernetes: securityContext.privileged); \
                or compare without the kernel: --against empty, --against FILE\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(2), "", line));
}

/// From a pipe, as `iptables-save | weir diff --against /dev/stdin` gives it.
#[test]
fn saved_rules_may_come_from_a_pipe() {
    let mut command = diff(&["--against=/dev/stdin", "--quiet"]);
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(1), ""));
}
