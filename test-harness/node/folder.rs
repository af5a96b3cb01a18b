//! From a folder of manifests: start, follow, stop, start again.

use weir::lab::{Host, rerun, skipped};

use crate::cluster::{Folder, NODE, to_endpoint};
use crate::process::{Proxy, diff, eventually, in_step, proxy};
use crate::program::{all_rules, data, installed, rules, small_lab};
use crate::tools::Tools;

/// Rules and chains of others, also where weir has rules of its own.
fn add_foreign_rules(host: &Host, variant: &str) {
    let commands = "*filter\n:OTHER - [0:0]\n:KUBE-FIREWALL - [0:0]\n-A OTHER -s 192.0.2.1/32 -j DROP\n-A INPUT -j OTHER\n\
                    -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\nCOMMIT\n\
                    *nat\n:CNI-HOSTPORT - [0:0]\n-A PREROUTING -j CNI-HOSTPORT\nCOMMIT\n";
    host.check(&format!("iptables-{variant}-restore"), &["--noflush"], commands).unwrap();
}

const FOREIGN: [&str; 5] = [
    "-A OTHER -s 192.0.2.1/32 -j DROP\n",
    "-A INPUT -j OTHER\n",
    "-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP\n",
    "-A PREROUTING -j CNI-HOSTPORT\n",
    ":CNI-HOSTPORT -\n",
];

#[test]
fn nft() {
    follows_a_folder("nft");
}

#[test]
fn legacy() {
    follows_a_folder("legacy");
}

fn follows_a_folder(variant: &str) {
    if installed(&format!("iptables-{variant}-restore")).is_none() {
        skipped(&format!("node: a folder of manifests (no iptables-{variant})"));
        return;
    }
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let save = format!("iptables-{variant}-save");
    add_foreign_rules(node, variant);
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    folder.serve("b", "10.96.0.2", &["10.244.1.2", "10.244.2.2"]);
    let (source, variant_flag) = (folder.flag(), format!("--iptables-variant={variant}"));
    let flags = [source.as_str(), &variant_flag, "--hostname-override=Node-A", "--cluster-cidr=10.244.0.0/16"];

    let running = Proxy::start(node, &flags).started();
    let settled = running.says("weir proxy starts");
    for field in ["node=\"node-a\"", "source=manifests ", &format!("variant={variant}"), "families=\"IPv4,IPv6\""] {
        assert!(settled.contains(field), "{field} is not in {settled}");
    }
    let ran = diff(node, &flags);
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), ("Nothing to change.\n", "", Some(0)));

    folder.serve("a", "10.96.0.1", &["10.244.1.1", "10.244.3.3"]);
    eventually("the new endpoint is served", || rules(node, &save).contains(&to_endpoint("10.244.3.3")));
    assert!(in_step(node, &flags));
    std::fs::remove_file(folder.path().join("b.json")).unwrap();
    eventually("the service is gone", || !rules(node, &save).contains("10.96.0.2"));
    assert!(in_step(node, &flags));
    breaks_and_is_mended(node, &folder, &running, &save);
    assert!(in_step(node, &flags));

    let before = all_rules(node);
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SIGTERM: stopping after what is being written; the rules stay"), "{log}");
    assert_eq!(all_rules(node), before);
    FOREIGN.iter().for_each(|line| assert!(before.contains(line), "{line} is gone:\n{before}"));

    starts_again_without_a_write(node, variant, &flags);
    assert_eq!(all_rules(node), before);
}

/// A file that cannot be used leaves in force what it said; other files are followed.
fn breaks_and_is_mended(node: &Host, folder: &Folder, running: &Proxy, save: &str) {
    folder.put("a.json", "{\"kind\": \"Service\",\n \"metadata\": }");
    folder.serve("c", "10.96.0.3", &["10.244.1.4"]);
    let path = folder.path().join("a.json");
    let line = running.says(&format!("{}:2:", path.display()));
    assert!(line.contains("WARN") && line.contains("stays in force"), "{line}");
    eventually("another file is followed", || rules(node, save).contains(&to_endpoint("10.244.1.4")));
    assert!(rules(node, save).contains(&to_endpoint("10.244.3.3")), "the broken file's service stays");
    folder.serve("a", "10.96.0.1", &["10.244.1.5"]);
    eventually("the mended file is followed", || rules(node, save).contains(&to_endpoint("10.244.1.5")));
    running.says("the file can be used again");
}

/// Nothing is written, neither at the start nor by the compares that follow.
fn starts_again_without_a_write(node: &Host, variant: &str, flags: &[&str]) {
    let handles = || match variant {
        // Every rule that is written has a new handle, even if it is the same rule. Counters are left out.
        "nft" if installed("nft").is_some() => node.check("nft", &["-a", "-s", "list", "ruleset"], "").unwrap(),
        _ => String::new(),
    };
    let tools = Tools::noting(variant);
    let before = handles();
    let flags: Vec<&str> = flags.iter().copied().chain(["-v=2"]).collect();
    // With the tools, and as it is by itself, which for nf_tables is by netlink.
    for command in [tools.given_to(proxy(&flags)), proxy(&flags)] {
        let running = Proxy::run(node, command).started();
        assert!(running.says("service ports are in the kernel").contains("after 0 differences"));
        eventually("three compares are through", || running.said("task=Repair").len() >= 3);
        assert_eq!(running.stop().0, Some(0));
    }
    assert_eq!(tools.written(), "");
    assert_eq!(handles(), before);
}

/// IPv6 is a second family of the same process.
#[test]
fn families_that_the_host_lacks_are_left_out() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let folder = Folder::new();
    folder.serve("a", "10.96.0.1", &["10.244.1.1"]);
    node.set_sysctl("net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    let source = folder.flag();
    let running = Proxy::start(node, &[&source, "--hostname-override", NODE]).started();
    let warning = running.says("this family is not served");
    assert!(warning.contains("IPv6") && warning.contains("disable_ipv6=1"), "{warning}");
    assert!(running.says("weir proxy starts").contains("families=\"IPv4\""));
    assert!(running.says("no --cluster-cidr").contains("WARN"));
    assert_eq!(running.stop().0, Some(0));
    assert!(all_rules(node).contains(&to_endpoint("10.244.1.1")));
}

/// route_localnet is switched on where node ports on 127.0.0.1 need it, and nothing else is touched.
#[test]
fn sysctls() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let all = || -> Vec<String> {
        let text = node.check("sysctl", &["-a"], "").unwrap();
        let changing = ["_count", "random", "fs.", "kernel.", "vm.", "stat", "nf_conntrack_"];
        text.lines().filter(|line| !changing.iter().any(|part| line.contains(part))).map(str::to_owned).collect()
    };
    let folder = Folder::new();
    let source = folder.flag();
    let flags = [source.as_str(), "--hostname-override", NODE];
    let before = all();
    for off in ["--iptables-localhost-nodeports=false", "--nodeport-addresses=192.168.0.0/16"] {
        let running = Proxy::start(node, &[&flags[..], &[off]].concat()).started();
        assert_eq!(running.stop().0, Some(0));
        assert_eq!(all(), before, "{off}");
    }
    let running = Proxy::start(node, &flags).started();
    let line = running.says("route_localnet");
    assert!(line.contains("old=\"0\" new=\"1\""), "{line}");
    assert_eq!(running.stop().0, Some(0));
    let raised: Vec<String> = all().into_iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(raised, ["net.ipv4.conf.all.route_localnet = 1"]);
    // A second start finds it as it should be.
    let running = Proxy::start(node, &flags).started();
    assert_eq!(running.said("route_localnet"), Vec::<String>::new());
    assert_eq!(running.stop().0, Some(0));
}

/// What the tools are given is what they print: nothing is refused, and nothing looks like drift for ever.
#[test]
fn every_setting_is_in_step() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let shop = format!("--manifests={}", data("cli/shop").display());
    for variant in ["nft", "legacy"] {
        if installed(&format!("iptables-{variant}-restore")).is_none() {
            skipped(&format!("node: settings in step (no iptables-{variant})"));
            continue;
        }
        let variant = format!("--iptables-variant={variant}");
        for settings in [
            &["--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"][..],
            &["--cluster-cidr=0.0.0.0/0,::/0"],
            &["--cluster-cidr=10.0.0.1/8", "--masquerade-all"],
            &["--detect-local-mode=NodeCIDR"],
            &["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cbr0"],
            &["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=abcdefghijklmn"],
            &["--nodeport-addresses=127.0.0.0/8,::1/128"],
            &["--nodeport-addresses=192.168.99.0/24"],
            &["--nodeport-addresses=primary", "--bind-address=192.168.99.10"],
            &["--iptables-localhost-nodeports=false"],
            &["--iptables-masquerade-bit=31"],
            &["--iptables-masquerade-bit=0"],
        ] {
            let flags = [&[shop.as_str(), &variant, "--hostname-override", NODE], settings].concat();
            let running = Proxy::start(node, &flags).started();
            let ran = diff(node, &flags);
            assert_eq!((ran.out.as_str(), ran.code), ("Nothing to change.\n", Some(0)), "{flags:?}");
            let (code, log) = running.stop();
            assert_eq!(code, Some(0), "{log}");
            assert!(!log.contains("refuse") && !log.contains(" changed by "), "{flags:?}:\n{log}");
        }
    }
}
