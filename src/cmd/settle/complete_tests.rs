//! What clusters of others start kube-proxy with, settled here.

use std::io::Write;

use super::*;
use crate::cmd::options::{DetectLocalMode, ProxyMode, SourceChoice};
use crate::cmd::settle::testing::typed;

const KUBEADM: &str = include_str!("../../../test-harness/cli/config/kubeadm.conf");
const EKS: &str = include_str!("../../../test-harness/cli/config/eks.conf");

/// Settles without a warning.
fn settled(flags: &[&str]) -> Settled {
    let settled = complete(&typed(flags)).unwrap();
    assert_eq!(settled.warnings, Vec::<String>::new(), "{flags:?}");
    assert_eq!((settled.action, settled.shutdown_grace_period), (Action::Serve, Duration::ZERO));
    settled
}

fn with_file(text: &str, flags: &[&str], work: impl FnOnce(Result<Settled, Failure>, &str)) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let flags: Vec<String> =
        std::iter::once(format!("--config={path}")).chain(flags.iter().map(ToString::to_string)).collect();
    work(complete(&typed(&flags.iter().map(String::as_str).collect::<Vec<_>>())), &path);
}

fn settled_file(text: &str, flags: &[&str], work: impl FnOnce(Settled)) {
    with_file(text, flags, |found, path| {
        let settled = found.unwrap();
        assert_eq!(settled.warnings, Vec::<String>::new());
        assert_eq!(settled.file.as_deref(), Some(std::path::Path::new(path)));
        work(settled);
    });
}

fn periods(settled: &Settled) -> [Duration; 2] {
    [settled.pacing.sync_period, settled.pacing.min_sync_period]
}

#[test]
fn kubeadm() {
    settled_file(KUBEADM, &["--hostname-override=Node-1"], |settled| {
        assert_eq!(&*settled.node_name, "node-1");
        assert_eq!(settled.rules.proxy_mode, ProxyMode::Iptables);
        assert_eq!(settled.rules.detect_local_mode, DetectLocalMode::ClusterCidr);
        assert_eq!(settled.rules.cluster_cidr, ["10.244.0.0/16".parse().unwrap()]);
        assert_eq!(settled.rules.iptables_masquerade_bit, 14);
        assert!(settled.rules.iptables_localhost_nodeports && !settled.rules.masquerade_all);
        assert_eq!(periods(&settled), [Duration::from_secs(30), Duration::ZERO]);
        let kubeconfig = std::path::Path::new("/var/lib/kube-proxy/kubeconfig.conf");
        let source = SourceChoice::ApiServer { kubeconfig: Some(kubeconfig), master: None };
        assert_eq!(settled.source.choice().unwrap(), source);
        assert_eq!(settled.endpoints.healthz, Some("0.0.0.0:10256".parse().unwrap()));
        assert_eq!(settled.endpoints.metrics, "127.0.0.1:10249".parse().unwrap());
        assert_eq!((settled.conntrack.max_per_core, settled.conntrack.min), (32768, 131_072));
        assert_eq!(settled.conntrack.tcp_close_wait_timeout, Duration::from_secs(3600));
        assert_eq!(settled.oom_score_adj, -999);
    });
}

#[test]
fn eks() {
    settled_file(EKS, &["--v=2", "--hostname-override=ip-10-0-0-1.ec2.internal"], |settled| {
        assert_eq!(settled.endpoints.metrics, "0.0.0.0:10249".parse().unwrap());
        assert_eq!((settled.oom_score_adj, settled.config.logging.verbosity), (-998, 2));
        assert!(settled.rules.cluster_cidr.is_empty());
    });
}

#[test]
fn k3s() {
    let settled = settled(&[
        "--cluster-cidr=10.42.0.0/16",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--conntrack-tcp-timeout-established=0s",
        "--healthz-bind-address=127.0.0.1",
        "--hostname-override=k3s-1",
        "--kubeconfig=/var/lib/rancher/k3s/agent/kubeproxy.kubeconfig",
        "--proxy-mode=iptables",
    ]);
    assert_eq!(settled.endpoints.healthz, Some("127.0.0.1:10256".parse().unwrap()));
    assert_eq!(settled.conntrack.max_per_core, 0);
    assert!(settled.conntrack.tcp_established_timeout.is_zero() && settled.conntrack.tcp_close_wait_timeout.is_zero());
}

#[test]
fn kops() {
    let settled = settled(&[
        "--cluster-cidr=100.96.0.0/11",
        "--conntrack-max-per-core=131072",
        "--hostname-override=i-0123456789abcdef0",
        "--kubeconfig=/var/lib/kube-proxy/kubeconfig",
        "--master=https://api.internal.example.com",
        "--oom-score-adj=-998",
        "--v=2",
    ]);
    let SourceChoice::ApiServer { master, .. } = settled.source.choice().unwrap() else { panic!("not an API server") };
    assert_eq!(master, Some("https://api.internal.example.com"));
    assert_eq!(settled.conntrack.max_per_core, 131_072);
}

#[test]
fn gke() {
    let settled = settled(&[
        "--master=https://10.128.0.2",
        "--kubeconfig=/var/lib/kube-proxy/kubeconfig",
        "--cluster-cidr=10.4.0.0/14",
        "--oom-score-adj=-998",
        "--v=2",
        "--iptables-sync-period=1m",
        "--iptables-min-sync-period=10s",
        "--ipvs-sync-period=1m",
        "--ipvs-min-sync-period=10s",
        "--detect-local-mode=NodeCIDR",
    ]);
    assert_eq!(periods(&settled), [Duration::from_secs(60), Duration::from_secs(10)]);
    assert_eq!(settled.rules.detect_local_mode, DetectLocalMode::NodeCidr);
}

#[test]
fn own_flags_count_beside_a_file() {
    let flags = [
        "--ipvs-drain-timeout=1m",
        "--drift-report-only",
        "--manifests=/m",
        "--hostname-override=a",
        "--masquerade-all",
    ];
    settled_file(KUBEADM, &flags, |settled| {
        assert_eq!(settled.rules.ipvs.drain_timeout, Duration::from_secs(60));
        assert_eq!(settled.pacing.drift, RepairMode::ReportOnly);
        // A folder that was typed is meant instead of what the file names.
        assert_eq!(settled.source.choice().unwrap(), SourceChoice::Manifests(std::path::Path::new("/m")));
        assert!(!settled.rules.masquerade_all, "kube-proxy's flags do not count");
        let shown = |name| settled.flag_values.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
        assert_eq!((shown("masquerade-all"), shown("ipvs-drain-timeout")), (Some("true"), Some("1m0s")));
    });
}

#[test]
fn a_file_is_read_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let options = typed(&[&format!("--config={}", file.path().display()), "--hostname-override=a"]);
    let write =
        |mode: &str| std::fs::write(file.path(), KUBEADM.replace("mode: \"\"", &format!("mode: {mode}"))).unwrap();
    write("ipvs");
    assert_eq!(complete(&options).unwrap().rules.proxy_mode, ProxyMode::Ipvs);
    write("iptables");
    assert_eq!(complete(&options).unwrap().rules.proxy_mode, ProxyMode::Iptables);
    write("other");
    let line = complete(&options).unwrap_err().to_string();
    let path = file.path().display();
    assert!(
        line.starts_with("failed validate: KubeProxyConfiguration.Mode.ProxyMode: Invalid value: \"other\""),
        "{line}"
    );
    assert!(line.ends_with(&format!("; look at mode in {path}")), "{line}");
}

#[test]
fn a_mode_that_weir_does_not_have_is_valid_and_refused() {
    let line = complete(&typed(&["--proxy-mode=nftables", "--hostname-override=a"])).unwrap_err().to_string();
    assert!(line.starts_with("proxy mode nftables: ") && line.contains("--proxy-mode=iptables or ipvs"), "{line}");
    assert!(Completed::read(&typed(&["--proxy-mode=nftables"])).unwrap().validate().is_ok());
}

#[test]
fn what_is_typed_for_the_lead() {
    let settled = settled(&[
        "--hostname-override=a",
        "--version=v1.36.1-eks",
        "--metrics-bind-address=[::1]:9000",
        "--bind-address-hard-fail",
        "--show-hidden-metrics-for-version=1.35",
        "--conntrack-udp-timeout=90s",
    ]);
    assert_eq!(settled.version.as_deref(), Some("v1.36.1-eks"));
    assert_eq!(settled.endpoints.metrics, "[::1]:9000".parse().unwrap());
    assert!(settled.endpoints.hard_fail && settled.endpoints.hidden_metrics && !settled.endpoints.profiling);
    assert_eq!(settled.conntrack.udp_timeout, Duration::from_secs(90));
    for (flag, action) in
        [("--cleanup", Action::Cleanup), ("--init-only", Action::InitOnly), ("--cleanup=false", Action::Serve)]
    {
        let found = complete(&typed(&[flag, "--hostname-override=a", "--shutdown-grace-period=5s"])).unwrap();
        assert_eq!((found.action, found.shutdown_grace_period), (action, Duration::from_secs(5)));
    }
    assert_eq!(complete(&typed(&["--healthz-port=0", "--hostname-override=a"])).unwrap().endpoints.healthz, None);
}

#[test]
fn a_blank_name_in_a_file_is_refused() {
    let text = KUBEADM.replace("hostnameOverride: \"\"", "hostnameOverride: \"  \"");
    with_file(&text, &[], |found, _| {
        let line = found.unwrap_err().to_string();
        assert!(line.starts_with("empty hostname: hostnameOverride \"  \""), "{line}");
    });
}

#[test]
fn every_flag_is_shown() {
    use clap::CommandFactory;
    let settled = settled(&["--hostname-override=a"]);
    let shown: Vec<&str> = settled.flag_values.iter().map(|(name, _)| *name).collect();
    let command = crate::cmd::Cli::command();
    let proxy = command.find_subcommand("proxy").unwrap();
    let mut flags: Vec<&str> = proxy.get_arguments().filter_map(clap::Arg::get_long).collect();
    flags.sort_unstable();
    assert_eq!(shown, flags);
}
