//! kube-proxy's flag habits: what is typed differently and means the same.

use crate::program::{data, run, weir};

fn restore_input(flags: &[&str]) -> String {
    let shop = data("cli/shop");
    let fixed = ["diff", "--against=empty", "--output=restore", "--hostname-override=node-a", "--manifests"];
    let mut arguments: Vec<&str> = fixed.into_iter().chain([shop.to_str().unwrap()]).collect();
    arguments.extend(flags);
    let ran = run(weir(&arguments));
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{flags:?}");
    ran.out
}

#[test]
fn the_same_in_other_words() {
    let cases: [(&[&str], &[&str]); 18] = [
        (&["--cluster-cidr=10.244.0.0/16"], &["--cluster-cidr", "10.244.0.0/16"]),
        (&["--cluster-cidr=10.244.0.0/16"], &["--cluster_cidr=10.244.0.0/16"]),
        (&["--cluster-cidr=10.244.0.0/16"], &["--cluster-cidr=010.244.000.000/16"]),
        (&["--cluster-cidr=10.244.0.0/16"], &["--cluster-cidr=10.99.0.0/16", "--cluster-cidr=10.244.0.0/16"]),
        (&["--cluster-cidr=10.244.0.0/16,fd00::/48"], &["--cluster-cidr=fd00::/48, 10.244.0.0/16"]),
        (&[], &["--cluster-cidr="]),
        (&[], &["--cluster-cidr", ""]),
        (&[], &["--nodeport-addresses="]),
        (&[], &["--bind-address=", "--proxy-mode=", "--detect-local-mode=", "--kubeconfig=", "--master="]),
        (&[], &["--masquerade-all=false", "--iptables-localhost-nodeports=true"]),
        (&["--masquerade-all"], &["--masquerade_all=true"]),
        (&["--masquerade-all"], &["--masquerade-all=1"]),
        (&["--iptables-localhost-nodeports=false"], &["--iptables_localhost_nodeports=F"]),
        (
            &["--nodeport-addresses=127.0.0.0/8,10.0.0.0/8"],
            &["--nodeport-addresses=10.0.0.0/8", "--nodeport-addresses", "127.0.0.0/8"],
        ),
        (&["--iptables-masquerade-bit=7"], &["--iptables_masquerade_bit", "07"]),
        (&[], &["--ipvs-scheduler=", "--ipvs-exclude-cidrs=", "--ipvs-keep-sysctls=", "--non-masquerade-cidrs="]),
        // Flags of another mode are read and have no effect.
        (
            &[],
            &[
                "--ipvs-scheduler=lc",
                "--ipvs-strict-arp",
                "--ipvs_tcp_timeout=15m",
                "--ipvs-exclude-cidrs",
                "10.0.0.0/8",
            ],
        ),
        // What has no effect here is taken as `weir proxy` takes it.
        (&[], &["--iptables-sync-period=1m0s", "--iptables-min-sync-period", "0s", "--drift-report-only", "-v=0"]),
    ];
    for (one, other) in cases {
        assert_eq!(restore_input(one), restore_input(other), "{one:?} and {other:?}");
    }
}

#[test]
fn what_means_something_else_makes_other_rules() {
    let plain = restore_input(&[]);
    for flags in [
        ["--cluster-cidr=10.244.0.0/16"],
        ["--masquerade-all"],
        ["--iptables-localhost-nodeports=false"],
        ["--nodeport-addresses=127.0.0.0/8"],
        ["--iptables-masquerade-bit=7"],
    ] {
        assert_ne!(restore_input(&flags), plain, "{flags:?}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for (arguments, expected) in [
        (&["--help"][..], "Usage: weir <COMMAND>"),
        (&["proxy", "--help"], "--cluster-cidr <CIDR[,CIDR]>"),
        (&["diff", "-h"], "--against <live|empty|FILE>"),
        (&["--version"], concat!("weir ", env!("CARGO_PKG_VERSION"))),
    ] {
        let ran = run(weir(arguments));
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ran.out.contains(expected), "{arguments:?}: {}", ran.out);
    }
}

#[test]
fn the_host_is_the_node_unless_a_name_is_given() {
    let shop = data("cli/shop");
    let ran =
        run(weir(&["diff", "--against=empty", "--hostname-override=", "-q", "--manifests", shop.to_str().unwrap()]));
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(1), "", ""));
}
