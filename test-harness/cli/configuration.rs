//! The configuration file, and kube-proxy's habits around it.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use crate::program::{Ran, assert_golden, data, run, weir};

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/// What a file says after its head, and the line that refuses it, in which `FILE` is its path.
pub const FILES: [(&str, &str); 10] = [
    (
        "mode: 3\n",
        "failed complete: failed to decode FILE:3:7: mode: expected a text (in quotes, if it looks like \
                   something else), found the number 3",
    ),
    (
        "bindAddress: ::\n",
        "failed complete: failed to decode FILE:3:15: not valid YAML: mapping values are not allowed in \
                           this context (is the indentation right?)",
    ),
    ("featureGates: {Foo: true}\n", "failed complete: unrecognized feature gate: Foo"),
    (
        "bindAddress: 10.0.0.1:80\n",
        "failed validate: KubeProxyConfiguration.BindAddress: Invalid value: \
                                    \"10.0.0.1:80\": not a valid textual representation of an IP address; look at \
                                    bindAddress in FILE",
    ),
    (
        "mode: nftables\nnftables: {masqueradeBit: 32}\n",
        "failed validate: \
      KubeProxyConfiguration.KubeProxyNFTablesConfiguration.MasqueradeBit: Invalid value: 32: must be within the range [0, \
      31]; look at nftables.masqueradeBit in FILE",
    ),
    (
        "metricsBindAddress: 10.0.0.256:80\n",
        "failed validate: KubeProxyConfiguration.MetricsBindAddress: Invalid value: \
                                             \"10.0.0.256\": must be a valid IP; look at metricsBindAddress in FILE",
    ),
    (
        "healthzBindAddress: \"[::1]\"\n",
        "failed validate: KubeProxyConfiguration.HealthzBindAddress: Invalid value: \
                                         \"[::1]\": must be IP:port; look at healthzBindAddress in FILE",
    ),
    (
        "logging: {verbosity: 4000000000}\n",
        "initialize logging: logging.verbosity: Invalid value: 4000000000: Must be <= \
                                            2147483647; look at logging.verbosity in FILE, -v",
    ),
    (
        "iptables: {syncPeriod: 1s, minSyncPeriod: 2s}\noomScoreAdj: 1001\n",
        "failed validate: \
      [KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: 1001: must be within the range \
      [-1000, 1000], KubeProxyConfiguration.SyncPeriod: Invalid value: \"2s\": must be greater than or equal to \
      KubeProxyConfiguration.MinSyncPeriod]; look at iptables.syncPeriod, oomScoreAdj in FILE",
    ),
    ("hostnameOverride: \" \"\n", "empty hostname: hostnameOverride \" \" is no name: give the node's"),
];

/// A folder with a file `config.conf` in it, and the file's path.
pub fn file(body: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.conf");
    fs::write(&path, format!("{HEAD}{body}")).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn mistakes_in_a_file() {
    for (body, line) in FILES {
        let (_folder, path) = file(body);
        let line = format!("Error: {}\n", line.replace("FILE", &path));
        for (command, code) in [("proxy", 1), ("diff", 2)] {
            let ran = run(weir(&[command, "--config", &path]));
            assert_eq!((ran.err.as_str(), ran.code), (line.as_str(), Some(code)), "{body}");
        }
    }
}

/// What is written, without the line that says so.
fn written(flags: &[&str]) -> (String, Ran) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.yaml");
    let arguments: Vec<&str> =
        ["proxy", "--write-config-to", path.to_str().unwrap()].into_iter().chain(flags.iter().copied()).collect();
    let ran = run(weir(&arguments));
    (fs::read_to_string(path).unwrap_or_default(), ran)
}

#[test]
fn the_configuration_is_written() {
    let (defaults, ran) = written(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""));
    assert!(ran.err.contains("Wrote configuration") && ran.err.lines().count() == 1, "{}", ran.err);
    assert_golden(&defaults, "cli/config/defaults.yaml");
    let kubeadm = data("cli/config/kubeadm.conf");
    let kubeadm = format!("--config={}", kubeadm.display());
    let (text, _) = written(&[&kubeadm, "--hostname-override=Node-1", "--masquerade-all"]);
    assert_golden(&text, "cli/config/kubeadm.yaml");
    // Also in a mode that weir does not have, and what is written is read as the same.
    let (nftables, ran) = written(&["--proxy-mode=nftables"]);
    assert_eq!(ran.code, Some(0));
    let (_folder, path) = file("");
    fs::write(&path, &nftables).unwrap();
    assert_eq!(written(&["--config", &path]).0, nftables);
    // kube-proxy checks first, too.
    let (text, ran) = written(&["--oom-score-adj=2000"]);
    assert_eq!((text.as_str(), ran.code), ("", Some(1)));
    let ran = run(weir(&["proxy", "--write-config-to=/no/such/folder/file"]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("/no/such/folder/file: No such file or directory"), "{}", ran.err);
}

#[test]
fn unknown_fields_are_warnings() {
    let (_folder, path) = file("mode: ipvs\nmode: iptables\niptables: {baz: 1}\n");
    let (_, ran) = written(&["--config", &path]);
    let warnings: Vec<&str> =
        ran.err.lines().filter_map(|line| line.split_once(" WARN ")).map(|(_, text)| text).collect();
    assert_eq!(
        warnings,
        [format!("{path}:4:7: duplicate field \"mode\""), format!("{path}:5:17: unknown field \"iptables.baz\"")]
    );
    assert_eq!(ran.code, Some(0));
}

fn diff(flags: &[&str]) -> Ran {
    let shop = data("cli/shop");
    let fixed = [
        "diff",
        "--against=empty",
        "--output=restore",
        "--hostname-override=node-a",
        "--manifests",
        shop.to_str().unwrap(),
    ];
    run(weir(&fixed.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>()))
}

#[test]
fn a_difference_by_file_is_one_by_flags() {
    let kubeadm = data("cli/config/kubeadm.conf");
    let by_file = diff(&["--config", kubeadm.to_str().unwrap()]);
    assert_eq!((by_file.code, by_file.err.as_str()), (Some(1), ""));
    assert_eq!(by_file.out, diff(&["--cluster-cidr=10.244.0.0/16"]).out);
    // kube-proxy's flags do not count beside a file.
    assert_eq!(by_file.out, diff(&["--config", kubeadm.to_str().unwrap(), "--masquerade-all"]).out);
    let (_folder, path) = file("iptables: {masqueradeAll: true, masqueradeBit: 7}\nclusterCIDR: 10.9.0.0/16\n");
    let flags = ["--masquerade-all", "--iptables-masquerade-bit=7", "--cluster-cidr=10.9.0.0/16"];
    assert_eq!(diff(&["--config", &path]).out, diff(&flags).out);
}

/// The binary under another name.
fn called(name: &str, arguments: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    symlink(env!("CARGO_BIN_EXE_weir"), &path).unwrap();
    Command::new(path).args(arguments).stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn called_kube_proxy_it_is_weir_proxy() {
    let ran = called("kube-proxy", &["--oom_score_adj=2000", ""]);
    let expected = "Error: failed validate: KubeProxyConfiguration.KubeProxyLinuxConfiguration.OOMScoreAdj: Invalid value: \
                    2000: must be within the range [-1000, 1000]; look at --oom-score-adj\n";
    assert_eq!((ran.err.as_str(), ran.code), (expected, Some(1)));
    let help = called("kube-proxy", &["--help"]).out;
    assert!(help.contains("--conntrack-max-per-core") && help.contains("Usage: weir proxy [OPTIONS]"), "{help}");
    assert_eq!(called("kube-proxy", &["proxy"]).code, Some(1), "an argument");
    assert!(called("other", &["--help"]).out.contains("Usage: other <COMMAND>"));
}

#[test]
fn versions() {
    let line = format!("weir {} (in place of kube-proxy v1.36)\n", env!("CARGO_PKG_VERSION"));
    for arguments in [["proxy", "--version"], ["proxy", "--version=true"], ["diff", "--version=T"]] {
        let ran = run(weir(&arguments));
        assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), (line.as_str(), "", Some(0)), "{arguments:?}");
    }
    let raw = run(weir(&["proxy", "--version=raw"])).out;
    let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
    assert_eq!((raw["version"].as_str(), raw["kubeProxy"].as_str()), (Some(env!("CARGO_PKG_VERSION")), Some("v1.36")));
    assert_eq!(written(&["--version=v1.36.1", "--version=false"]).1.code, Some(0));
}

#[test]
fn deprecated_flags_say_so() {
    let (_, ran) = written(&["--healthz-port=0", "--metrics_port", "9"]);
    let notices: Vec<&str> = ran.err.lines().take(2).collect();
    let notice = |name: &str| {
        format!(
            "Flag --{name}-port has been deprecated, This flag is deprecated and will be removed in a future release. \
             Please use --{name}-bind-address instead."
        )
    };
    assert_eq!(notices, [notice("healthz"), notice("metrics")]);
    assert_eq!(ran.code, Some(0));
    let ran = run(weir(&["proxy", "--metrics-port=0"]));
    assert!(
        ran.err.contains("KubeProxyConfiguration.MetricsBindAddress: Invalid value: \"\": must be IP:port"),
        "{}",
        ran.err
    );
    assert_eq!(ran.code, Some(1));
}

#[test]
fn flags_are_logged_when_asked_for() {
    let flags = |ran: &Ran| -> Vec<String> {
        ran.err.lines().filter_map(|line| line.split_once("FLAG: ")).map(|(_, flag)| flag.to_owned()).collect()
    };
    assert!(flags(&written(&[]).1).is_empty());
    let (_, ran) = written(&["-v1", "--cluster-cidr=10.0.0.0/8", "--nodeport-addresses=primary"]);
    let logged = flags(&ran);
    let names: Vec<&str> = logged.iter().filter_map(|line| line.split('=').next()).collect();
    assert!(names.is_sorted() && names.len() > 60, "{}", ran.err);
    for flag in [
        "--cluster-cidr=\"10.0.0.0/8\"",
        "--conntrack-tcp-timeout-established=\"24h0m0s\"",
        "--healthz-bind-address=\"0.0.0.0:10256\"",
        "--nodeport-addresses=\"[primary]\"",
        "--proxy-mode=\"iptables\"",
        "--v=\"1\"",
    ] {
        assert!(logged.iter().any(|line| line == flag), "{flag}: {}", ran.err);
    }
}

#[test]
fn logs_in_json() {
    let (_, ran) = written(&["--logging-format=json"]);
    let line: serde_json::Value = serde_json::from_str(ran.err.lines().next().unwrap()).unwrap();
    assert_eq!(line["fields"]["message"], "Wrote configuration");
}

#[test]
fn diff_writes_nothing() {
    let ran = run(weir(&["diff", "--write-config-to=/tmp/x"]));
    let line = "Error: --write-config-to: weir diff writes no configuration: use weir proxy\n";
    assert_eq!((ran.err.as_str(), ran.code), (line, Some(2)));
}

/// Shells and manuals know every flag.
#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let text = run(weir(&["completions", shell])).out;
        for flag in ["conntrack-max-per-core", "ipvs-drain-timeout", "against-ipset"] {
            assert!(text.contains(flag), "{shell} {flag}");
        }
    }
    let text = run(weir(&["completions", "bash", "--name=kube-proxy"])).out;
    assert!(text.contains("--conntrack-max-per-core") && !text.contains("--against-ipset"));
    let page = run(weir(&["manpage", "proxy"])).out;
    assert!(page.contains(".TH weir-proxy 1") && page.contains("conntrack\\-max\\-per\\-core"), "{page}");
    assert!(run(weir(&["manpage"])).out.contains(".TH weir 1"));
    let ran = run(weir(&["manpage", "prox"]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("unknown command \"prox\""), "{}", ran.err);
}

/// Every flag has its heading in the help.
#[test]
fn help_is_in_groups() {
    let help = run(weir(&["proxy", "--help"])).out;
    let headings: Vec<&str> =
        help.lines().filter_map(|line| line.strip_suffix(':')).filter(|line| !line.starts_with(' ')).collect();
    let expected = [
        "Options",
        "Configuration",
        "Source",
        "Node",
        "Rules",
        "Pacing",
        "IPVS mode",
        "Health and metrics",
        "Connection tracking",
        "Process",
        "Logs",
        "Node egress",
    ];
    assert_eq!(headings, expected, "{help}");
}
