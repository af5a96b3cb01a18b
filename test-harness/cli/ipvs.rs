//! `weir diff --proxy-mode ipvs`, and the sets of node egress, without a kernel that has them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;
use weir::lab::rerun;

use crate::program::{Ran, assert_golden, data, run, run_in, small_lab, weir};

/// Node ports are at addresses of the host: without this, output depends on where the tests run.
const NO_NODE_PORTS: &str = "--nodeport-addresses=203.0.113.77/32";

fn arguments<'a>(shop: &'a str, flags: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["diff", "--hostname-override=node-a", "--cluster-cidr=10.244.0.0/16", "--manifests", shop];
    fixed.into_iter().chain(flags.iter().copied()).collect()
}

fn diff(flags: &[&str]) -> Ran {
    let shop = data("cli/shop");
    run(weir(&arguments(shop.to_str().unwrap(), flags)))
}

fn ipvs(flags: &[&str]) -> Ran {
    let fixed = ["--proxy-mode=ipvs", NO_NODE_PORTS];
    diff(&fixed.into_iter().chain(flags.iter().copied()).collect::<Vec<_>>())
}

fn ipvs_against_nothing(flags: &[&str]) -> Ran {
    ipvs(&["--against=empty"].into_iter().chain(flags.iter().copied()).collect::<Vec<_>>())
}

/// In a network of its own, for the addresses of the node.
#[test]
fn the_three_outputs() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let shop = data("cli/shop");
    for (flags, file) in [
        (&[][..], "cli/shop-ipvs.txt"),
        (&["--output=json"], "cli/shop-ipvs.json"),
        (&["--output=restore"], "cli/shop-ipvs.restore"),
    ] {
        let flags: Vec<&str> = ["--proxy-mode=ipvs", "--against=empty"].iter().chain(flags).copied().collect();
        let arguments = arguments(shop.to_str().unwrap(), &flags);
        let ran = run_in(lab.node(), weir(&arguments));
        assert_eq!((ran.code, ran.err.as_str()), (Some(1), ""), "{flags:?}");
        assert_golden(&ran.out, file);
    }
}

#[test]
fn json_counts_right() {
    let document: Value = serde_json::from_str(&ipvs_against_nothing(&["--output=json"]).out).unwrap();
    assert_eq!(document["schema"], "weir.dev/diff/v1");
    let groups = document["groups"].as_array().unwrap();
    let all = |what: &str| groups.iter().flat_map(|group| group[what].as_array().unwrap()).collect::<Vec<_>>();
    let added = |list: &[&Value], field: &str| {
        let lines = list.iter().flat_map(|object| object[field].as_array().unwrap());
        lines.filter(|line| line["action"] == "add").count()
    };
    let (sets, servers) = (all("sets"), all("virtualServers"));
    let summary = &document["summary"];
    assert_eq!(summary["setsAdded"], sets.iter().filter(|set| set["action"] == "add").count());
    assert_eq!(summary["entriesAdded"], added(&sets, "entries"));
    assert_eq!(summary["virtualServersAdded"], servers.len());
    let lines = summary["virtualServersAdded"].as_u64().unwrap() + summary["realServersAdded"].as_u64().unwrap();
    assert_eq!(lines, added(&servers, "lines") as u64);
    assert_eq!(summary["addressesAdded"], all("addresses").len());
    assert_eq!((&summary["devicesAdded"], &groups[0]["device"]["action"]), (&1.into(), &"add".into()));
}

/// The files of a node that is served: what the tools print there.
struct Saved {
    folder: TempDir,
}

impl Saved {
    /// A node to which the difference to nothing was applied.
    fn applied(printed: &str) -> Saved {
        let saved = Saved { folder: tempfile::tempdir().unwrap() };
        let mut parts: BTreeMap<&str, String> = BTreeMap::new();
        for part in printed.split("# ").filter(|part| !part.is_empty()) {
            let (tool, input) = part.split_once('\n').unwrap();
            parts.entry(tool).or_default().push_str(input);
        }
        let sets = |word| {
            let lines = parts["ipset -exist restore"].lines().filter(|line| line.starts_with(word));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        saved.write("ipset", &(sets("create ") + &sets("add ")));
        saved.write("ipvs", parts.get("ipvsadm -R").map_or("", String::as_str));
        let addresses = parts.get("ip -batch -").map_or("", String::as_str).lines();
        let addresses = addresses.filter_map(|line| line.strip_prefix("address add ")?.strip_suffix(" dev kube-ipvs0"));
        let addresses: String = addresses
            .map(|net| {
                let family = if net.contains(':') { "inet6" } else { "inet" };
                format!("4: kube-ipvs0    {family} {net} scope global kube-ipvs0\\       valid_lft forever\n")
            })
            .collect();
        saved.write("addresses", &addresses);
        saved.write("v4", &saved_rules(&parts["iptables-restore --noflush"]));
        saved.write("v6", &saved_rules(&parts["ip6tables-restore --noflush"]));
        saved
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn edit(&self, name: &str, edit: impl Fn(String) -> String) {
        self.write(name, &edit(fs::read_to_string(self.path(name)).unwrap()));
    }

    /// The flag with the file.
    fn flag(&self, flag: &str, name: &str) -> String {
        format!("{flag}={}", self.path(name).display())
    }

    /// The flags with all files.
    fn flags(&self) -> Vec<String> {
        [
            ("--against", "v4"),
            ("--against-ipv6", "v6"),
            ("--against-ipset", "ipset"),
            ("--against-ipvs", "ipvs"),
            ("--against-addresses", "addresses"),
        ]
        .map(|(flag, name)| self.flag(flag, name))
        .to_vec()
    }
}

/// Restore input to empty tables as `iptables-save` prints it afterwards.
fn saved_rules(input: &str) -> String {
    let mut text = String::new();
    for line in input.lines() {
        match line.split_once(' ') {
            Some(("-I", rule)) => text += &format!("-A {rule}\n"),
            Some(("-N", chain)) => text += &format!(":{chain} - [0:0]\n"),
            _ => text += &format!("{line}\n"),
        }
        if line.starts_with('*') {
            text += ":INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n";
            text += ":PREROUTING ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n";
        }
    }
    text
}

fn saved() -> Saved {
    Saved::applied(&ipvs_against_nothing(&["--output=restore"]).out)
}

fn against(flags: &[String]) -> Ran {
    ipvs(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

fn nothing_to_change(ran: &Ran) {
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), ("Nothing to change.\n", "", Some(0)));
}

#[test]
fn a_node_that_is_served_has_nothing_to_change() {
    let saved = saved();
    let flags = saved.flags();
    nothing_to_change(&against(&flags));
    // Without the addresses, the sets say what they are.
    nothing_to_change(&against(&flags[..4]));
    // Rules of one family alone: the other family is not compared, whatever the files say of it.
    let one = [&flags[..1], &flags[2..]].concat();
    nothing_to_change(&against(&one));
    // What is not given is empty.
    let ran = against(&flags[..2]);
    assert!(ran.out.contains("+-A -t 10.96.0.10:80 -s rr\n") && ran.out.contains("new device"), "{}", ran.out);
    assert!(!ran.out.contains("new chain"), "{}", ran.out);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The text with a word in the place of times.
fn without_times(text: &str) -> String {
    let lines = text.lines().map(|line| match line.split_once("# drains until 20") {
        Some((before, _)) => format!("{before}# drains until TIME\n"),
        None => format!("{line}\n"),
    });
    lines.collect()
}

#[test]
fn changes_of_every_sort() {
    let saved = saved();
    saved.edit("ipset", |text| {
        let text = text.replace("add KUBE-CLUSTER-IP 10.96.0.10,tcp:80\n", "");
        text + "add KUBE-CLUSTER-IP 10.96.0.99,tcp:80\nadd WEIR-VIRTUAL-SERVERS 10.96.0.99,tcp:80\n\
                create WEIR-OLD hash:ip family inet hashsize 1024 maxelem 65536\n\
                create somebodys hash:ip family inet hashsize 1024 maxelem 65536\n"
    });
    saved.edit("addresses", |text| text + "4: kube-ipvs0    inet 10.96.0.99/32 scope global kube-ipvs0\\\n");
    saved.edit("ipvs", |text| {
        let text = text.replace("-A -t 10.96.0.10:80 -s rr", "-A -t 10.96.0.10:80 -s lc -p 60");
        let text = text.replace("-r 10.244.2.2:8080 -m -w 1", &format!("-r 10.244.2.2:8080 -m -w 0 -x {}", now() + 30));
        // The old service, and one that is not ours.
        text + "-A -t 10.96.0.99:80 -s rr\n-a -t 10.96.0.99:80 -r 10.244.9.9:80 -m -w 1\n\
                -A -t 203.0.113.1:80 -s rr\n-a -t 203.0.113.1:80 -r 203.0.113.2:80 -m -w 1\n"
    });
    let ran = against(&saved.flags());
    assert_eq!((without_times(&ran.out).as_str(), ran.err.as_str(), ran.code), (CHANGED, "", Some(1)));
    let restore = against(&[saved.flags(), vec!["--output=restore".to_owned()]].concat());
    assert_eq!((restore.out.as_str(), restore.err.as_str(), restore.code), (CHANGED_RESTORE, "", Some(1)));
}

const CHANGED: &str = "\
base
@@ IPv4 ipset @@
-create WEIR-OLD hash:ip family inet hashsize 1024 maxelem 65536

service shop/web:http
@@ IPv4 ipset @@
+add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
@@ IPv4 ipvs @@
--A -t 10.96.0.10:80 -s lc -p 60
+-A -t 10.96.0.10:80 -s rr
--a -t 10.96.0.10:80 -r 10.244.2.2:8080 -m -w 0 # drains until TIME
+-a -t 10.96.0.10:80 -r 10.244.2.2:8080 -m -w 1

unknown services
@@ IPv4 ipset @@
-add KUBE-CLUSTER-IP 10.96.0.99,tcp:80
-add WEIR-VIRTUAL-SERVERS 10.96.0.99,tcp:80
@@ IPv4 ipvs @@
--A -t 10.96.0.99:80 -s rr
--a -t 10.96.0.99:80 -r 10.244.9.9:80 -m -w 1
@@ kube-ipvs0 @@
-address 10.96.0.99 kube-ipvs0

1 service; chains: 0 to add, 0 to change, 0 to remove; rules: 0 to add, 0 to remove; sets: 0 to add, 0 to change, \
1 to remove; entries: 1 to add, 2 to remove; virtual servers: 0 to add, 1 to change, 1 to remove; real servers: \
0 to add, 1 to change, 1 to remove; addresses: 0 to add, 1 to remove.
";

const CHANGED_RESTORE: &str = "\
# ipset -exist restore
add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
# ipvsadm -R
-E -t 10.96.0.10:80 -s rr
-e -t 10.96.0.10:80 -r 10.244.2.2:8080 -m -w 1
# ip -batch -
address delete 10.96.0.99/32 dev kube-ipvs0
# ipvsadm -R
-D -t 10.96.0.99:80
# ipset -exist restore
del KUBE-CLUSTER-IP 10.96.0.99,tcp:80
destroy WEIR-OLD
del WEIR-VIRTUAL-SERVERS 10.96.0.99,tcp:80
";

/// Servers that drain, by what a file says of them.
#[test]
fn draining() {
    let line = |endpoint: &str, options: &str| format!("-a -t 10.96.0.10:80 -r {endpoint} -m {options}\n");
    let (soon, late) = (format!("-w 0 -x {}", now() + 60), format!("-w 0 -x {}", now() + 100_000));
    let removed = "--a -t 10.96.0.10:80 -r 10.244.3.3:8080 -m";
    for (options, expected) in [
        // Its deadline is to come.
        (soon.as_str(), None),
        // Saved with `ipvsadm -Sn`, which leaves it out.
        ("-w 0", None),
        // Nobody knows of connections.
        ("-w 1", Some(format!("{removed} -w 1\n"))),
        // Long over.
        ("-w 0 -x 5", Some(format!("{removed} -w 0 # drains until 1970-01-01T00:00:05Z\n"))),
        // The time was shortened.
        (
            late.as_str(),
            Some(format!(
                "{removed} -w 0 # drains until TIME\n\
                 +-a -t 10.96.0.10:80 -r 10.244.3.3:8080 -m -w 0 # drains until TIME\n"
            )),
        ),
    ] {
        let saved = saved();
        saved.edit("ipvs", |text| text + &line("10.244.3.3:8080", options));
        let ran = against(&saved.flags());
        match expected {
            None => nothing_to_change(&ran),
            Some(expected) => {
                let head = "service shop/web:http\n@@ IPv4 ipvs @@\n -A -t 10.96.0.10:80 -s rr\n";
                let out = without_times(&ran.out);
                assert!(out.starts_with(&format!("{head}{expected}\n1 service; ")), "{options}: {out}");
            }
        }
    }
}

/// Somebody else's virtual server where a service should be: told, and left alone.
#[test]
fn a_virtual_server_of_somebody_else() {
    let saved = saved();
    saved.edit("ipset", |text| {
        text.lines().filter(|line| !line.contains("10.96.0.20")).map(|line| format!("{line}\n")).collect()
    });
    saved.edit("addresses", |text| {
        text.lines().filter(|line| !line.contains("10.96.0.20")).map(|line| format!("{line}\n")).collect()
    });
    let ran = against(&saved.flags());
    assert_eq!((ran.out.as_str(), ran.code), ("Nothing to change.\n", Some(0)));
    assert!(ran.err.contains("WARN") && ran.err.contains("shop/queue"), "{}", ran.err);
    assert!(ran.err.contains("the virtual server 10.96.0.20:5672/TCP is there already"), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
}

fn failed(ran: &Ran, line: &str) {
    assert_eq!((ran.err.as_str(), ran.out.as_str(), ran.code), (format!("Error: {line}\n").as_str(), "", Some(2)));
}

#[test]
fn files_that_cannot_be_read_are_named_with_their_lines() {
    let told = |name: &str, line: &str, expected: &str| {
        let saved = saved();
        saved.edit(name, |text| format!("{line}\n{text}"));
        failed(&against(&saved.flags()), &format!("{}: {expected}", saved.path(name).display()));
    };
    told("ipset", "ad KUBE-CLUSTER-IP 10.96.0.1,tcp:80", "line 1: a line begins with create or add, not with \"ad\"");
    told(
        "ipvs",
        "\nTCP  10.96.0.1:80 rr",
        "line 2: \"TCP\" is no command of a saved table: only -A and -a are; save it with `ipvsadm -Sn`",
    );
    told("addresses", "kube-ipvs0 DOWN", "line 1 is not from `ip -o address`: \"kube-ipvs0 DOWN\"");
}

#[test]
fn a_set_of_another_type_is_an_error() {
    let saved = saved();
    saved.edit("ipset", |text| {
        let text = text.replace("create KUBE-CLUSTER-IP hash:ip,port ", "create KUBE-CLUSTER-IP hash:net ");
        text.lines().filter(|line| !line.starts_with("add KUBE-CLUSTER-IP ")).map(|line| format!("{line}\n")).collect()
    });
    failed(
        &against(&saved.flags()),
        "cannot use --proxy-mode ipvs: the ipset KUBE-CLUSTER-IP is there as hash:net of IPv4, and it must be \
         hash:ip,port of IPv4; remedy: delete the rules that look in it, then `ipset destroy KUBE-CLUSTER-IP`: it is \
         made anew",
    );
}

#[test]
fn flags_that_do_not_go_together() {
    let cases: [(&[&str], &str); 9] = [
        (&["--against-ipset=/a"], "--against-ipset /a: goes with --proxy-mode ipvs, or --masquerade-egress"),
        (&["--against=/x", "--against-ipvs=/a"], "--against-ipvs /a: goes with --proxy-mode ipvs"),
        (&["--against=/x", "--against-addresses=/a"], "--against-addresses /a: goes with --proxy-mode ipvs"),
        (
            &["--proxy-mode=ipvs", "--against-ipset=/a"],
            "--against-ipset /a: goes with --against FILE, the rules of IPv4",
        ),
        (
            &["--proxy-mode=ipvs", "--against=empty", "--against-ipvs=/a"],
            "--against-ipvs /a: goes with --against FILE, the rules of IPv4",
        ),
        (
            &["--proxy-mode=ipvs", "--against=empty", "--against-addresses=/a"],
            "--against-addresses /a: goes with --against FILE, the rules of IPv4",
        ),
        (
            &["--masquerade-egress", "--against=live", "--against-ipset=/a"],
            "--against-ipset /a: goes with --against FILE, the rules of IPv4",
        ),
        (
            &["--proxy-mode=ipvs", "--against=/x", "--against-ipvs=/a"],
            "--against-ipvs /a: goes with --against-ipset FILE, which tells whose virtual servers they are",
        ),
        (
            &["--proxy-mode=ipvs", "--against=/dev/null", "--against-ipset=/no/such/file"],
            "--against-ipset /no/such/file: cannot be read: No such file or directory (os error 2); \
             give what `ipset save` prints",
        ),
    ];
    for (flags, line) in cases {
        failed(&diff(flags), line);
    }
}

/// Node egress has sets in both modes. Another list of networks changes entries, and no rule.
#[test]
fn node_egress() {
    for mode in ["--proxy-mode=iptables", "--proxy-mode=ipvs"] {
        let fixed = [mode, NO_NODE_PORTS, "--masquerade-egress"];
        let ran = diff(&fixed.into_iter().chain(["--against=empty"]).collect::<Vec<_>>());
        for line in [
            "+create WEIR-NON-MASQUERADE hash:net family inet hashsize 1024 maxelem 65536",
            "+add WEIR-NON-MASQUERADE 10.244.0.0/16",
            "@@ IPv4 nat WEIR-EGRESS @@ new chain",
        ] {
            assert!(ran.out.lines().any(|printed| printed == line), "{mode}: {line}: {}", ran.out);
        }
        let restore = diff(&fixed.into_iter().chain(["--against=empty", "--output=restore"]).collect::<Vec<_>>());
        assert!(restore.out.starts_with("# ipset -exist restore\ncreate "), "{mode}: {}", restore.out);
        let saved = Saved::applied(&restore.out);
        let sets = if mode.ends_with("ipvs") { 5 } else { 3 };
        let flags = &saved.flags()[..sets];
        let flags: Vec<&str> = fixed.into_iter().chain(flags.iter().map(String::as_str)).collect();
        nothing_to_change(&diff(&flags));
        let more = diff(&[&flags[..], &["--non-masquerade-cidrs=192.168.0.0/16"]].concat());
        let expected = "base\n@@ IPv4 ipset @@\n+add WEIR-NON-MASQUERADE 192.168.0.0/16\n\n\
                        0 services; chains: 0 to add, 0 to change, 0 to remove; rules: 0 to add, 0 to remove; \
                        entries: 1 to add, 0 to remove.\n";
        assert_eq!((more.out.as_str(), more.code), (expected, Some(1)), "{mode}");
    }
}
