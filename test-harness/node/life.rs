//! The life of the process as others see it: health, metrics, another configuration, the end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use weir::lab::{Host, rerun};

use crate::cluster::Folder;
use crate::http::{Answer, get};
use crate::process::{Proxy, eventually};
use crate::program::{Ran, all_rules, rules, run_in, small_lab, weir};

const SAVE: &str = "iptables-nft-save";
const OWN: &str = "--iptables-variant=nft";

fn page(node: &Host, port: u16, path: &str) -> Answer {
    get(node, (IpAddr::V4(Ipv4Addr::LOCALHOST), port), path)
}

fn health(node: &Host, path: &str) -> (u16, Value) {
    let answer = page(node, 10256, path);
    (answer.code, serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}")))
}

fn metric(node: &Host, series: &str) -> Option<f64> {
    let text = page(node, 10249, "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    line.parse().ok()
}

/// kube-proxy's file, as the kubelet shows it to a pod: `config.conf -> ..data/config.conf`, `..data -> ..N`.
struct ConfigMap {
    dir: tempfile::TempDir,
    version: u32,
}

impl ConfigMap {
    fn new(text: &str) -> ConfigMap {
        let mut map = ConfigMap { dir: tempfile::tempdir().unwrap(), version: 0 };
        map.write(text);
        symlink("..data/config.conf", map.file()).unwrap();
        map
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("config.conf")
    }

    fn flag(&self) -> String {
        format!("--config={}", self.file().display())
    }

    /// Another version, and the links swapped.
    fn write(&mut self, text: &str) {
        self.version += 1;
        let at = |name: &str| self.dir.path().join(name);
        let folder = format!("..{}", self.version);
        fs::create_dir(at(&folder)).unwrap();
        fs::write(at(&folder).join("config.conf"), text).unwrap();
        symlink(&folder, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    }
}

/// The document with these lines in it.
fn document(lines: &str) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nhostnameOverride: node-a\n{lines}\n"
    )
}

fn cluster_cidr(cidr: &str) -> String {
    document(&format!("clusterCIDR: {cidr}\niptables:\n  syncPeriod: 1s\n"))
}

fn start(node: &Host, config: &ConfigMap, folder: &Folder, more: &[&str]) -> Proxy {
    let (config, source) = (config.flag(), folder.flag());
    let flags = [&["proxy", &config, &source, OWN], more].concat();
    Proxy::run(node, weir(&flags)).started()
}

#[test]
fn q41_q42_a_changed_configuration_counts_and_a_bad_one_does_not() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let (node, folder) = (lab.node(), Folder::new());
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let mut config = ConfigMap::new(&cluster_cidr("10.244.0.0/16"));
    let mut running = start(node, &config, &folder, &[]);
    let masqueraded = |cidr: &str| rules(node, SAVE).contains(&format!("! -s {cidr} -d 10.96.0.1/32"));
    assert!(masqueraded("10.244.0.0/16"));
    eventually("metrics are served", || {
        metric(node, "weir_configuration_reloads_total{result=\"applied\"}") == Some(0.0)
    });

    config.write(&cluster_cidr("10.112.0.0/12"));
    eventually("rules follow the file", || masqueraded("10.112.0.0/12"));
    running.says("the changed configuration is in force");
    let applied = "weir_configuration_reloads_total{result=\"applied\"}";
    eventually("it is counted", || metric(node, applied) == Some(1.0));
    assert!(page(node, 10249, "/configz").body.contains("\"clusterCIDR\":\"10.112.0.0/12\""));

    let before = all_rules(node);
    config.write(&document("clusterCIDR: here"));
    let line = running.says("the changed configuration is refused, the old one stays in force");
    assert!(line.contains("ClusterCIDRs[0]: Invalid value: \"here\""), "{line}");
    config.write("kind: [");
    eventually("both are counted", || {
        metric(node, "weir_configuration_reloads_total{result=\"rejected\"}") == Some(2.0)
    });
    // Valid, and cannot be: the node that ran goes on.
    config.write(&document("clusterCIDR: 10.244.0.0/16\nclientConnection: {kubeconfig: /nowhere}\nmode: nftables"));
    eventually("the third, too", || metric(node, "weir_configuration_reloads_total{result=\"rejected\"}") == Some(3.0));
    assert_eq!(all_rules(node), before);
    assert_eq!(health(node, "/livez").0, 200);

    // And back, after SIGHUP as well.
    config.write(&cluster_cidr("10.244.0.0/16"));
    eventually("rules follow the file again", || masqueraded("10.244.0.0/16"));
    eventually("it is counted", || metric(node, applied) == Some(2.0));
    running.signal(Signal::SIGHUP);
    running.says("the configuration was read again, and says the same");
    folder.serve("b", "10.96.0.2", &["10.244.1.2"]);
    eventually("services are followed", || rules(node, SAVE).contains("10.96.0.2"));
    assert_eq!(running.stop().0, Some(0));
}

#[test]
fn health_fails_first_and_rules_stay() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let (node, folder) = (lab.node(), Folder::new());
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let manifest = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}"#;
    fs::write(folder.path().join("node.json"), manifest).unwrap();
    let config = ConfigMap::new(&cluster_cidr("10.244.0.0/16"));
    let mut running = start(node, &config, &folder, &["--shutdown-grace-period=5s"]);
    eventually("it is healthy", || page(node, 10256, "/healthz").code == 200);
    let (_, body) = health(node, "/healthz");
    assert_eq!((&body["nodeEligible"], &body["healthy"]), (&Value::Bool(true), &Value::Bool(true)), "{body}");
    assert!(body["status"]["IPv4"]["healthy"].as_bool().unwrap() && body.get("reasons").is_none(), "{body}");
    eventually("the probes are counted", || metric(node, "kubeproxy_proxy_healthz_total{code=\"200\"}") >= Some(2.0));
    assert_eq!(page(node, 10249, "/proxyMode").body, "iptables");

    let before = all_rules(node);
    running.signal(Signal::SIGTERM);
    eventually("health fails", || page(node, 10256, "/healthz").code == 503);
    assert_eq!(all_rules(node), before);
    folder.serve("b", "10.96.0.2", &["10.244.1.2"]);
    eventually("rules are kept right", || rules(node, SAVE).contains("10.96.0.2"));
    assert_eq!(running.wait(), Some(0));
    assert!(running.said("the grace period is over").len() == 1, "{}", running.log());
    assert!(rules(node, SAVE).contains("10.96.0.1"));
}

#[test]
fn init_only_prepares_and_writes_no_rule() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let (node, folder) = (lab.node(), Folder::new());
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let localnet = || {
        let read = || fs::read_to_string(Path::new("/proc/sys/net/ipv4/conf/all/route_localnet"));
        node.run(read).unwrap().unwrap().trim().to_owned()
    };
    assert_eq!(localnet(), "0");
    let source = folder.flag();
    let flags = ["proxy", &source, OWN, "--hostname-override=node-a", "--cluster-cidr=10.244.0.0/16", "--init-only"];
    for _ in 0..2 {
        let Ran { code, err, .. } = run_in(node, weir(&flags));
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(localnet(), "1");
        assert!(!rules(node, SAVE).contains("10.96.0.1"));
    }
}
