//! What is written, letter by letter. The files are what kube-proxy 1.36 writes for the same flags and file.

use super::{both, of_file, of_flags};
use crate::config::{Config, File, complete, decode};

const DEFAULTS: &str = include_str!("golden/defaults.yaml");
const IPVS: &str = include_str!("golden/ipvs-flags.yaml");
const NFTABLES: &str = include_str!("golden/nftables-file.yaml");
const NFTABLES_INPUT: &str = include_str!("golden/nftables-file.input.yaml");

fn same(found: &str, expected: &str) {
    let diff = similar::TextDiff::from_lines(expected, found);
    assert!(found == expected, "{}", diff.unified_diff().header("expected", "found"));
}

#[test]
fn q40_defaults() {
    same(&of_flags(&[]).to_yaml(), DEFAULTS);
    same(&of_file("").to_yaml(), DEFAULTS);
}

#[test]
fn q40_flags_of_ipvs_mode() {
    let config = of_flags(&[
        "--proxy-mode=ipvs",
        "--ipvs-sync-period=1m",
        "--ipvs-min-sync-period=250ms",
        "--masquerade-all",
        "--ipvs-exclude-cidrs=10.9.0.0/16",
        "--ipvs-exclude-cidrs=fd00:9::/64",
        "--ipvs-scheduler=wlc",
        "--ipvs-strict-arp",
        "--ipvs-udp-timeout=5m",
        "--kube-api-qps=5.5",
        "--bind-address=::",
        "--healthz-bind-address=[::1]:10256",
        "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48",
        "--hostname-override=Node-A",
        "--feature-gates=AllAlpha=false,LoggingAlphaOptions=true",
        "--log-text-split-stream",
        "--vmodule=engine=4,kernel*=2",
        "-v=2",
        "--write-config-to=x",
    ]);
    same(&config.to_yaml(), IPVS);
}

#[test]
fn q40_a_file_of_nftables_mode() {
    let config = complete(&Default::default(), Some(File { name: "x", text: NFTABLES_INPUT })).unwrap().config;
    same(&config.to_yaml(), NFTABLES);
}

/// What is written is read as the same, and written as the same again.
#[test]
fn q40_round_trip() {
    for text in [DEFAULTS, IPVS, NFTABLES] {
        let (document, warnings) = decode(text).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        same(&Config::from(document).to_yaml(), text);
    }
}

/// Row Q43: one key, and in it the same configuration.
#[test]
fn q43_configz() {
    let config = both(&["--proxy-mode=ipvs", "--feature-gates=AllAlpha=false"], None).unwrap().config;
    let served: serde_json::Value = serde_json::from_str(&config.to_configz()).unwrap();
    assert_eq!(served.as_object().unwrap().keys().collect::<Vec<_>>(), ["kubeproxy.config.k8s.io"]);
    let object = &served["kubeproxy.config.k8s.io"];
    assert_eq!(object["kind"], "KubeProxyConfiguration");
    assert_eq!(object["apiVersion"], "kubeproxy.config.k8s.io/v1alpha1");
    assert_eq!(object["conntrack"]["tcpEstablishedTimeout"], "24h0m0s");
    assert_eq!((&object["oomScoreAdj"], &object["clientConnection"]["qps"]), (&(-999).into(), &5.into()));
    assert!(object["nodePortAddresses"].is_null() && object["iptables"]["localhostNodePorts"] == true);
    assert_eq!(*object, serde_json::from_str::<serde_json::Value>(&config.to_json()).unwrap());
    let (document, warnings) = decode(&config.to_json()).unwrap();
    assert_eq!((warnings.len(), Config::from(document).to_yaml()), (0, config.to_yaml()));
}
