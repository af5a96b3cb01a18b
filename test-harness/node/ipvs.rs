//! IPVS mode where the kernel has no IPVS. Where it has, the suite `ipvs` starts it.

use weir::kernel::ipvs::{IpvsDriver, IpvsError};
use weir::lab::{rerun, skipped};

use crate::cluster::{Folder, NODE};
use crate::process::proxy;
use crate::program::{all_rules, installed, run_in, small_lab};

#[test]
fn a_kernel_without_ipvs_is_told() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    if node.run(|| IpvsDriver::open(0)).unwrap().err() != Some(IpvsError::Missing) {
        skipped("node: a kernel without IPVS (this one has it)");
        return;
    }
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    let held = || {
        let sets = installed("ipset").map(|_| node.check("ipset", &["save"], "").unwrap());
        let sysctls = node.check("sysctl", &["net.ipv4.ip_forward", "net.ipv4.conf.all.route_localnet"], "").unwrap();
        (all_rules(node), sets, sysctls, node.check("ip", &["-br", "address"], "").unwrap())
    };
    let before = held();
    let source = folder.flag();
    let ran = run_in(node, proxy(&[&source, "--hostname-override", NODE, "--proxy-mode=ipvs"]));
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{}", ran.err);
    let told: Vec<&str> = ran.err.lines().filter(|line| !line.contains(" INFO ")).collect();
    let doubt = "no --cluster-cidr";
    let [line] = told.iter().filter(|line| !line.contains(doubt)).collect::<Vec<_>>()[..] else {
        panic!("one line: {}", ran.err)
    };
    for part in ["--proxy-mode ipvs", "the kernel has no IPVS", "modprobe ip_vs", "CONFIG_IP_VS"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert_eq!(held(), before);
}
