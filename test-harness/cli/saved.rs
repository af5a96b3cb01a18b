//! Against rules in the kernel and against saved ones.

use std::fs;

use weir::kernel::nfacct::Nfacct;
use weir::lab::{Host, rerun, skipped};

use crate::program::{Ran, data, installed, run_in, small_lab, weir};

/// A folder like the shop's in which rules of both families have changes to find.
fn diff(host: &Host, flags: &[&str]) -> Ran {
    let shop = data("cli/shop");
    let fixed = ["diff", "--hostname-override=node-a", "--cluster-cidr=10.244.0.0/16", "--manifests"];
    let arguments = fixed.into_iter().chain([shop.to_str().unwrap()]).chain(flags.iter().copied());
    run_in(host, weir(&arguments.collect::<Vec<_>>()))
}

fn nothing_to_change(ran: &Ran) {
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), ("Nothing to change.\n", "", Some(0)));
}

/// Does what `--output restore` printed: its comments are commands, and the input of those that read.
fn feed(host: &Host, variant: &str, printed: &str) {
    for part in printed.split("# ").filter(|part| !part.is_empty()) {
        let (command, input) = part.split_once('\n').unwrap();
        match command.strip_prefix("nfacct add ") {
            Some(object) => {
                let made = host.run(|| Nfacct::open().and_then(|mut nfacct| nfacct.ensure(object)));
                made.unwrap().unwrap();
            }
            None => {
                let tool = command.strip_suffix(" --noflush").unwrap();
                let tool = tool.replace("-restore", &format!("-{variant}-restore"));
                host.check(&tool, &["--noflush"], input).unwrap();
            }
        }
    }
}

#[test]
fn what_restore_prints_leaves_nothing_to_change() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    for variant in ["nft", "legacy"] {
        if installed(&format!("iptables-{variant}-restore")).is_none() {
            skipped(&format!("cli: diff against the kernel (no iptables-{variant})"));
            continue;
        }
        let node = lab.node();
        let flag = format!("--iptables-variant={variant}");
        let before = diff(node, &[&flag, "--output=restore"]);
        assert_eq!((before.code, before.err.as_str()), (Some(1), ""), "{variant}");
        feed(node, variant, &before.out);
        nothing_to_change(&diff(node, &[&flag]));
        saved_rules_are_as_good(node, variant);
    }
}

fn saved_rules_are_as_good(node: &Host, variant: &str) {
    let folder = tempfile::tempdir().unwrap();
    let save = |tool: &str, arguments: &[&str]| {
        let path = folder.path().join(tool);
        let text = node.check(&format!("{tool}-{variant}-save"), arguments, "").unwrap();
        fs::write(&path, &text).unwrap();
        (path.to_str().unwrap().to_owned(), text)
    };
    let (v6, _) = save("ip6tables", &[]);
    let (v4, text) = save("iptables", &["--counters"]);
    let files = ["--against", &v4, "--against-ipv6", &v6];
    nothing_to_change(&diff(node, &files));
    nothing_to_change(&diff(node, &["--against", &v4]));
    let text = edit(&text);
    fs::write(&v4, text).unwrap();
    let ran = diff(node, &files);
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), (EDITED, "", Some(1)), "{variant}");
}

/// Changes of four sorts, and two of someone else's that are none of our business.
fn edit(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.strip_prefix("[0:0] ").unwrap_or(line);
        if line.contains("--to-destination 10.244.1.2:8080") {
            // Another endpoint.
            lines.push(line.replace("10.244.1.2:8080", "10.244.1.9:8080"));
        } else if line.starts_with("-A FORWARD") && line.ends_with("-j KUBE-SERVICES") {
            // A jump is missing.
        } else if line.starts_with("-A KUBE-POSTROUTING") && line.contains("RETURN") {
            // A rule too many, of a kind that weir does not know.
            lines.extend([line.to_owned(), "-A KUBE-POSTROUTING -m ttl --ttl-gt 3 -j ACCEPT".to_owned()]);
        } else if line == "*nat" {
            lines.push(line.to_owned());
            lines.extend([":KUBE-SEP-STALESTALESTALES - [0:0]", ":CNI-OTHER - [0:0]"].map(str::to_owned));
            lines.push("-A KUBE-SEP-STALESTALESTALES -m comment --comment \"shop/old:x\" -j RETURN".to_owned());
            lines.push("-A CNI-OTHER -j RETURN".to_owned());
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

const EDITED: &str = r#"base
@@ IPv4 filter FORWARD @@
+-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
@@ IPv4 nat KUBE-POSTROUTING @@
 -m mark ! --mark 0x4000/0x4000 -j RETURN
--m ttl --ttl-gt 3 -j ACCEPT
 -j MARK --set-xmark 0x4000/0x0
 -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully

service shop/old:x
@@ IPv4 nat KUBE-SEP-STALESTALESTALES @@ chain goes
--m comment --comment "shop/old:x" -j RETURN

service shop/web:http
@@ IPv4 nat KUBE-SEP-XTJTEC7KOHLCQM25 @@
 -s 10.244.1.2/32 -m comment --comment "shop/web:http" -j KUBE-MARK-MASQ
--p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination 10.244.1.9:8080
+-p tcp -m comment --comment "shop/web:http" -m tcp -j DNAT --to-destination 10.244.1.2:8080

2 services; chains: 0 to add, 2 to change, 1 to remove; rules: 2 to add, 3 to remove.
"#;
