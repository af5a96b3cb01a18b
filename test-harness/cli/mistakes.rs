//! Each mistake is one line on stderr, with the exit code of its command.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::program::{Ran, data, run, weir};

/// Arguments after `weir proxy`, and the line.
pub const FLAGS: [(&[&str], &str); 63] = [
    (&["--oom-kill=0"], "unknown flag --oom-kill; try `weir proxy --help`"),
    (&["--health-address", "0.0.0.0:10256"], "unknown flag --health-address; try `weir proxy --help`"),
    (&["--clustr-cidr=10.0.0.0/8"], "unknown flag --clustr-cidr, perhaps --cluster-cidr; try `weir proxy --help`"),
    (&["-x"], "unknown flag -x; try `weir proxy --help`"),
    (&["now"], "weir proxy does not take any arguments, got \"now\": flags begin with --; try `weir proxy --help`"),
    (&["", "now"], "weir proxy does not take any arguments, got \"now\": flags begin with --; try `weir proxy --help`"),
    (&["--kubeconfig"], "--kubeconfig <FILE> needs a value; try `weir proxy --help`"),
    (
        &["--proxy-mode=nftables"],
        "proxy mode nftables: weir has no such mode yet: give --proxy-mode=iptables or ipvs (mode in the file); with \
         iptables the rules are in nf_tables too, where the node uses iptables-nft",
    ),
    (
        &["--proxy-mode=userspace"],
        "failed validate: KubeProxyConfiguration.Mode.ProxyMode: Invalid value: \"userspace\": must be iptables, ipvs, \
         nftables or blank (blank means the best-available proxy [currently iptables]); look at --proxy-mode",
    ),
    (
        &["--iptables-variant=ebtables"],
        "--iptables-variant \"ebtables\" is not supported: expected one of auto, legacy, nft; try `weir proxy --help`",
    ),
    (&["--masquerade-all=maybe"], "--masquerade-all: \"maybe\" is neither true nor false; try `weir proxy --help`"),
    (
        &["--cluster-cidr=10.0.0.0"],
        "failed validate: KubeProxyConfiguration.DetectLocalConfiguration.ClusterCIDRs[0]: Invalid value: \"10.0.0.0\": \
         must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48); look at --cluster-cidr",
    ),
    (
        &["--cluster-cidr=10.0.0.0/8,"],
        "failed validate: KubeProxyConfiguration.DetectLocalConfiguration.ClusterCIDRs[1]: Invalid value: \"\": must be a \
         valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48); look at --cluster-cidr",
    ),
    (
        &["--nodeport-addresses=all"],
        "failed validate: KubeProxyConfiguration.NodePortAddresses[0]: Invalid value: \"all\": must be a valid CIDR; look \
         at --nodeport-addresses",
    ),
    (
        &["--bind-address=10.0.0.256"],
        "--bind-address: \"10.0.0.256\" is no address: expected one such as 192.168.0.2 or fd00::2; \
         try `weir proxy --help`",
    ),
    (
        &["--iptables-sync-period=30"],
        "--iptables-sync-period: \"30\" is no duration: expected a number with a unit such as 30s, 250ms, 1m30s or 1h; \
         try `weir proxy --help`",
    ),
    (
        &["--iptables-masquerade-bit=32"],
        "failed validate: KubeProxyConfiguration.KubeProxyIPTablesConfiguration.MasqueradeBit: Invalid value: 32: must be \
         within the range [0, 31]; look at --iptables-masquerade-bit",
    ),
    (
        &["--iptables-masquerade-bit=x"],
        "--iptables-masquerade-bit: \"x\" is no whole number from -2147483648 to 2147483647; try `weir proxy --help`",
    ),
    (
        &["--iptables-sync-period=0"],
        "failed validate: [KubeProxyConfiguration.SyncPeriod: Invalid value: \"0s\": must be greater than 0, \
         KubeProxyConfiguration.SyncPeriod: Invalid value: \"1s\": must be greater than or equal to \
         KubeProxyConfiguration.MinSyncPeriod]; look at --iptables-sync-period",
    ),
    (
        &["--iptables-sync-period=1s", "--iptables-min-sync-period=2s"],
        "failed validate: KubeProxyConfiguration.SyncPeriod: Invalid value: \"2s\": must be greater than or equal to \
         KubeProxyConfiguration.MinSyncPeriod; look at --iptables-sync-period",
    ),
    (
        &["--iptables-min-sync-period=-2s"],
        "failed validate: KubeProxyConfiguration.MinSyncPeriod: Invalid value: \"-2s\": must be greater than or equal to \
         0; look at --iptables-min-sync-period",
    ),
    (
        &["--proxy-mode=ipvs", "--ipvs-sync-period=1s", "--ipvs-min-sync-period=2s"],
        "failed validate: KubeProxyConfiguration.SyncPeriod: Invalid value: \"2s\": must be greater than or equal to \
         KubeProxyConfiguration.MinSyncPeriod; look at --ipvs-sync-period",
    ),
    (
        &["--proxy-mode=ipvs", "--ipvs-sync-period=0", "--ipvs-min-sync-period=0"],
        "failed validate: KubeProxyConfiguration.SyncPeriod: Invalid value: \"0s\": must be greater than 0; look at \
         --ipvs-sync-period",
    ),
    (
        &["--config-sync-period=-1s"],
        "failed validate: KubeProxyConfiguration.ConfigSyncPeriod: Invalid value: \"-1s\": must be greater than 0; look \
         at --config-sync-period",
    ),
    (
        &["--proxy-mode=ipvs", "--ipvs-scheduler=least connections"],
        "--ipvs-scheduler (ipvs.scheduler in the file): \"least connections\" is no scheduler: expected the name of one \
         such as rr, wrr, lc, wlc, sh, dh, sed, nq, mh, lblc, lblcr, fo, ovf, of at most 15 letters and digits",
    ),
    (
        &["--proxy-mode=ipvs", "--ipvs-exclude-cidrs=10.0.0.0/8,here"],
        "failed validate: KubeProxyConfiguration.KubeProxyIPVSConfiguration.ExcludeCidrs[1]: Invalid value: \"here\": \
         must be a valid CIDR; look at --ipvs-exclude-cidrs",
    ),
    (&["--ipvs-strict-arp=maybe"], "--ipvs-strict-arp: \"maybe\" is neither true nor false; try `weir proxy --help`"),
    (
        &["--proxy-mode=ipvs", "--ipvs-udp-timeout=-1s"],
        "failed validate: KubeProxyConfiguration.KubeProxyIPVSConfiguration.UDPTimeout: Invalid value: \"-1s\": must be \
         greater than or equal to 0; look at --ipvs-udp-timeout",
    ),
    (
        &["--proxy-mode=ipvs", "--ipvs-tcp-timeout=500ms"],
        "--ipvs-tcp-timeout 500ms: the kernel keeps 1s to 2147483s: give as much, or 0 to leave what it has",
    ),
    (
        &["--proxy-mode=ipvs", "--ipvs-tcpfin-timeout=600h"],
        "--ipvs-tcpfin-timeout 2160000s: the kernel keeps 1s to 2147483s: give as much, or 0 to leave what it has",
    ),
    (
        &["--proxy-mode=ipvs", "--ipvs-drain-timeout=8761h"],
        "--ipvs-drain-timeout 31539600s: must be at most 8760h, which is a year",
    ),
    (
        &["--ipvs-keep-sysctls=vm.swappiness"],
        "--ipvs-keep-sysctls: \"vm.swappiness\" is no sysctl that weir sets: expected one of net.ipv4.vs.conntrack, \
         net.ipv4.vs.conn_reuse_mode, net.ipv4.vs.expire_nodest_conn, net.ipv4.vs.expire_quiescent_template, \
         net.ipv4.ip_forward, net.ipv4.conf.all.arp_ignore, net.ipv4.conf.all.arp_announce, \
         net.ipv4.vs.run_estimation; try `weir proxy --help`",
    ),
    (
        &["--non-masquerade-cidrs=10.0.0.0/33"],
        "--non-masquerade-cidrs: \"10.0.0.0/33\" is no CIDR: expected a network such as 10.244.0.0/16 or fd00::/48; \
         try `weir proxy --help`",
    ),
    (
        &["--masquerade-egress"],
        "--masquerade-egress needs the networks of pods: give --cluster-cidr, or --detect-local-mode NodeCIDR",
    ),
    (
        &["--masquerade-egress", "--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cbr0"],
        "--masquerade-egress needs the networks of pods, and --detect-local-mode BridgeInterface tells pods by \
         interfaces: give --cluster-cidr, or --detect-local-mode NodeCIDR",
    ),
    (
        &["--masquerade-egress", "--detect-local-mode=NodeCIDR", "--cluster-cidr=here"],
        "--masquerade-egress needs the networks of pods, and --cluster-cidr (clusterCIDR in the file) has \"here\": \
         expected a network such as 10.244.0.0/16 or fd00::/48",
    ),
    (
        &["--hostname-override= "],
        "failed complete: empty hostname-override is invalid: --hostname-override \" \" is no name: give the node's",
    ),
    (
        &["--cluster-cidr=10.0.0.0/8,10.1.0.0/16"],
        "failed validate: KubeProxyConfiguration.DetectLocalConfiguration.ClusterCIDRs: Invalid value: \
         [\"10.0.0.0/8\",\"10.1.0.0/16\"]: must be a either a single CIDR or dual-stack pair of CIDRs (e.g. \
         [10.100.0.0/16, fde4:8dba:82e1::/48]; look at --cluster-cidr",
    ),
    (
        &["--nodeport-addresses=primary,10.0.0.0/8"],
        "failed validate: KubeProxyConfiguration.NodePortAddresses[0]: Invalid value: \"primary\": can't use both \
         'primary' and CIDRs; look at --nodeport-addresses",
    ),
    (
        &["--detect-local-mode=Guess"],
        "failed validate: KubeProxyConfiguration.DetectLocalMode: Unsupported value: \"Guess\": supported values: \
         \"ClusterCIDR\", \"NodeCIDR\", \"BridgeInterface\", \"InterfaceNamePrefix\", \"\"; look at --detect-local-mode",
    ),
    (
        &["--detect-local-mode=BridgeInterface"],
        "failed validate: KubeProxyConfiguration.DetectLocalConfiguration.InterfaceName: Invalid value: \"\": must not be \
         empty; look at --pod-bridge-interface",
    ),
    (
        &["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix="],
        "failed validate: KubeProxyConfiguration.DetectLocalConfiguration.InterfacePrefix: Invalid value: \"\": must not \
         be empty; look at --pod-interface-name-prefix",
    ),
    (
        &["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=a-bridge-of-many-words"],
        "--pod-bridge-interface \"a-bridge-of-many-words\": an interface has at most 15 bytes here",
    ),
    (
        &["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cbr0 -j ACCEPT"],
        "--pod-bridge-interface \"cbr0 -j ACCEPT\": an interface's name has no ' '",
    ),
    (&["--manifests=/a", "--kubeconfig=/b"], "--manifests /a and --kubeconfig /b are two sources: give one"),
    (&["--manifests=/a", "--master=https://b"], "--manifests /a and --master https://b are two sources: give one"),
    (
        &["--logging-format=xml"],
        "initialize logging: logging.format: Invalid value: \"xml\": Unsupported log format; look at --logging-format",
    ),
    (
        &["--logging-format=json", "--vmodule=engine=4"],
        "initialize logging: logging.vmodule: Forbidden: Only supported for text log format; look at --vmodule",
    ),
    (
        &["--log-text-split-stream"],
        "initialize logging: logging.options.text.splitStream: Forbidden: Feature LoggingAlphaOptions is disabled; look \
         at --log-text-split-stream",
    ),
    (
        &["--log-flush-frequency=0"],
        "initialize logging: logging.flushFrequency: Invalid value: \"0s\": Must be greater than zero; look at \
         --log-flush-frequency",
    ),
    (&["--vmodule=engine"], "--vmodule: \"engine\" does not have the pattern=N format; try `weir proxy --help`"),
    (&["--feature-gates=Foo=true"], "failed complete: unrecognized feature gate: Foo"),
    (
        &["--feature-gates=MultiCIDRServiceAllocator=false"],
        "failed complete: cannot set feature gate MultiCIDRServiceAllocator to false, feature is locked to true",
    ),
    (
        &["--feature-gates=Foo"],
        "--feature-gates: \"Foo\" is no pair: expected NAME=true or NAME=false; try `weir proxy --help`",
    ),
    (
        &["--conntrack-max-per-core=-1"],
        "failed validate: KubeProxyConfiguration.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.MaxPerCore: \
         Invalid value: -1: must be greater than or equal to 0; look at --conntrack-max-per-core",
    ),
    (
        &["--conntrack-tcp-timeout-established", "-5s", "--conntrack-min=-1"],
        "failed validate: [KubeProxyConfiguration.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.Min: \
         Invalid value: -1: must be greater than or equal to 0, \
         KubeProxyConfiguration.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.TCPEstablishedTimeout: \
         Invalid value: \"-5s\": must be greater than or equal to 0]; look at --conntrack-min, \
         --conntrack-tcp-timeout-established",
    ),
    (
        &["--oom-score-adj=-1001"],
        "failed validate: KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: -1001: must be \
         within the range [-1000, 1000]; look at --oom-score-adj",
    ),
    (
        &["--kube-api-burst=-5"],
        "failed validate: KubeProxyConfiguration.ClientConnection.Burst: Invalid value: -5: must be greater than or equal \
         to 0; look at --kube-api-burst",
    ),
    (
        &["--healthz-bind-address=0.0.0.0:0"],
        "failed validate: KubeProxyConfiguration.HealthzBindAddress: Invalid value: \"0\": must be a valid port; look at \
         --healthz-bind-address",
    ),
    (
        &["--metrics-bind-address=0.0.0.0:65536"],
        "--metrics-bind-address: \"0.0.0.0:65536\" is no address: expected one such as 0.0.0.0, 0.0.0.0:10256 or \
         [::]:10256; try `weir proxy --help`",
    ),
    (
        &["--show-hidden-metrics-for-version=1.20"],
        "failed validate: KubeProxyConfiguration.ShowHiddenMetricsForVersion: Invalid value: \"1.20\": invalid \
         showHiddenMetricsForVersion: showHiddenMetricsForVersion: Invalid value: \"1.20\": must be omitted or have the \
         value '1.35'; only the previous minor version is allowed; look at --show-hidden-metrics-for-version",
    ),
    (
        &["--config=/no/such/file"],
        "failed complete: cannot read the configuration file /no/such/file: No such file or directory (os error 2); \
         check --config",
    ),
    (
        &["--version=v1"],
        "--version: could not parse \"v1\" as version: expected one such as v1.36.1; try `weir proxy --help`",
    ),
];

fn failed(ran: &Ran, code: i32, line: &str, what: &[&str]) {
    assert_eq!(ran.err, format!("Error: {line}\n"), "{what:?}");
    assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{what:?}");
}

#[test]
fn flags_are_checked_before_anything_else() {
    for (flags, line) in FLAGS {
        let with =
            |command: &'static str| -> Vec<&str> { [command].into_iter().chain(flags.iter().copied()).collect() };
        failed(&run(weir(&with("proxy"))), 1, line, flags);
        let line = line.replace("weir proxy", "weir diff");
        failed(&run(weir(&with("diff"))), 2, &line, flags);
        let mut detailed = with("diff");
        detailed.insert(1, "--detailed_exitcode");
        failed(&run(weir(&detailed)), 1, &line, flags);
    }
}

#[test]
fn commands_are_known() {
    failed(
        &run(weir(&["prox"])),
        1,
        "unknown command \"prox\": there are proxy, diff, cleanup, demo, completions, manpage; try `weir --help`",
        &[],
    );
    let ran = run(weir(&[] as &[&str]));
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("Usage: weir <COMMAND>"), "{}", ran.err);
}

fn diff_of(source: &[&str]) -> Ran {
    let fixed = ["diff", "--against=empty", "--hostname-override=node-a"];
    run(weir(&fixed.into_iter().chain(source.iter().copied()).collect::<Vec<_>>()))
}

#[test]
fn sources_that_cannot_be_read_are_named() {
    let missing = "(os error 2)";
    for (source, line) in [
        (
            &["--manifests=/no/such/folder"][..],
            format!(
                "cannot read the manifest folder /no/such/folder: No such file or directory {missing}; \
                 name a folder that exists and can be read"
            ),
        ),
        (
            &["--kubeconfig=/no/such/file"],
            format!(
                "kubeconfig /no/such/file: cannot be read: No such file or directory {missing}: \
                 check --kubeconfig or clientConnection.kubeconfig"
            ),
        ),
        (
            &["--master=ftp://a"],
            "--master: \"ftp://a\" is no API server URL: the scheme must be http or https: write it as https://HOST:PORT"
                .to_owned(),
        ),
        (
            &[],
            "not in a cluster: failed to read an incluster environment variable: environment variable not found: \
             outside a pod, give --kubeconfig or --master, or --manifests"
                .to_owned(),
        ),
    ] {
        failed(&diff_of(source), 2, &line, source);
    }
}

/// Writes the files and compares them with nothing.
fn diff_of_files(files: &[(&str, &str)]) -> (Ran, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().to_str().unwrap().to_owned();
    (diff_of(&["--manifests", &path]), path)
}

#[test]
fn a_broken_manifest_is_named_with_its_place() {
    let broken =
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.1, ports: [{port: x}]}\n";
    let (ran, folder) = diff_of_files(&[("a.yaml", broken), ("b.yaml", "kind: [")]);
    let first = format!("Error: {folder}/a.yaml:4:");
    assert!(ran.err.starts_with(&first), "{} should start with {first}", ran.err);
    assert!(ran.err.ends_with(" (and 1 more file cannot be used)\n"), "{}", ran.err);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.lines().count()), (Some(2), "", 1));
}

#[test]
fn a_part_that_is_left_out_is_a_warning() {
    let odd = "apiVersion: v1\nkind: Service\nmetadata: {namespace: ns, name: a}\n\
               spec: {clusterIP: 10.0.0.1, externalIPs: [here], ports: [{port: 80}]}\n";
    let (ran, folder) = diff_of_files(&[("a.yaml", odd)]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("service ns/a\n"), "{}", ran.out);
    let line = ran.err.lines().next().unwrap_or_default();
    assert!(line.contains("WARN") && line.contains(&format!("{folder}/a.yaml")), "{}", ran.err);
    assert!(line.contains("ns/a") && line.contains("externalIPs") && line.contains("here"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

#[test]
fn what_to_compare_with_must_be_there_and_whole() {
    let shop = data("cli/shop");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let half = file("half", "*nat\n:PREROUTING ACCEPT [0:0]\n");
    let prose = file("prose", "Dear diary,\n");
    let cases: [(&[&str], String); 5] = [
        (
            &["--against=/no/such/file"],
            "--against /no/such/file: cannot be read: No such file or directory (os error 2); \
             give `live`, `empty` or saved rules"
                .to_owned(),
        ),
        (
            &["--against", &half, "--against-ipv6=/no/such/file"],
            "--against-ipv6 /no/such/file: cannot be read: No such file or directory (os error 2); \
             give `live`, `empty` or saved rules"
                .to_owned(),
        ),
        (
            &["--against=empty", "--against-ipv6=/x"],
            "--against-ipv6 /x: goes with --against FILE, the rules of IPv4".to_owned(),
        ),
        (&["--against", &half], format!("{half}: the output ends before COMMIT: iptables-save stopped half-way")),
        (&["--against", &prose], format!("{prose}: line 1 is not from iptables-save: \"Dear diary,\"")),
    ];
    for (flags, line) in cases {
        let fixed = ["diff", "--hostname-override=node-a", "--manifests", shop.to_str().unwrap()];
        let ran = run(weir(&fixed.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>()));
        failed(&ran, 2, &line, flags);
    }
}

/// Nobody listens on the port, and the wait is bounded.
#[test]
fn an_api_server_that_is_away_is_an_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ran = diff_of(&[&format!("--master=http://127.0.0.1:{port}"), "--timeout=300ms"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    let last = ran.err.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        "Error: the API server did not tell everything within 300ms: see the log above, or raise --timeout"
    );
    let first = ran.err.lines().next().unwrap_or_default();
    assert!(first.contains("WARN") && first.contains("Connection refused"), "{}", ran.err);
}

#[test]
fn a_kubeconfig_that_may_not_be_read_is_named() {
    if !nix::unistd::geteuid().is_root() {
        weir::lab::skipped("cli: another user's kubeconfig (needs root)");
        return;
    }
    use std::os::unix::process::CommandExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = Path::display(file.path()).to_string();
    let mut command = weir(&["diff", "--against=empty", "--kubeconfig", &path]);
    command.uid(65534).gid(65534);
    let line = format!(
        "kubeconfig {path}: cannot be read: Permission denied (os error 13): check --kubeconfig or \
         clientConnection.kubeconfig"
    );
    failed(&run(command), 2, &line, &[]);
}
