//! The unit's two capabilities suffice: the program over real tables, with the bounding set of the unit.

use std::process::Command;

use weir::lab::rerun;

use crate::process::{Proxy, proxy};
use crate::program::{installed, rules, small_lab};
use crate::text;

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: {namespace: ns, name: a}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ipFamilies: [IPv4], ports: [{name: p, port: 80, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: ns, name: a-1, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: p, protocol: TCP, port: 8080}]
endpoints: [{addresses: [10.244.1.1], conditions: {ready: true}}]
"#;

/// `+net_admin,+net_raw`, as the unit has it.
fn bounding_set() -> String {
    let unit = text("systemd/weir-proxy.service");
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let names = set.split(' ').map(|name| format!(",+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()));
    names.fold("-all".to_owned(), |all, name| all + &name)
}

/// The command of `weir proxy`, started by who gives up all other rights.
fn bounded(flags: &[&str]) -> Command {
    let plain = proxy(flags);
    let mut command = Command::new("setpriv");
    command.args(["--no-new-privs", "--inh-caps=-all", "--bounding-set", &bounding_set(), "--"]);
    command.arg(plain.get_program()).args(plain.get_args());
    command
}

#[test]
fn rules_are_written_with_the_units_capabilities() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), SERVICE).unwrap();
    let source = format!("--manifests={}", folder.path().display());
    for (variant, driver) in [("nft", "netlink"), ("nft", "restore"), ("legacy", "auto")] {
        let save = format!("iptables-{variant}-save");
        assert!(installed(&save).is_some(), "{save} is not installed");
        let lab = small_lab();
        // A sysctl that the program has to raise.
        lab.node().set_sysctl("net/ipv4/conf/all/route_localnet", "0").unwrap();
        let (variant, driver) = (format!("--iptables-variant={variant}"), format!("--iptables-driver={driver}"));
        let running = Proxy::run(lab.node(), bounded(&[&source, "--hostname-override=n", &variant, &driver])).started();
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
        // CAP_NET_ADMIN is 12, CAP_NET_RAW 13.
        assert_eq!(u64::from_str_radix(effective, 16), Ok(1 << 12 | 1 << 13), "{variant} {driver}");
        assert!(rules(lab.node(), &save).contains("--to-destination 10.244.1.1:8080"), "{}", running.log());
        assert_eq!(running.said("ERROR"), [""; 0], "{}", running.log());
        assert_eq!(running.stop().0, Some(0));
    }
}
