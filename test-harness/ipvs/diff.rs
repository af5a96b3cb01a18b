//! `weir diff` of a node in IPVS mode: it changes nothing, what it prints can be applied by hand, and then there is
//! nothing to change; also on the way to iptables mode, which leaves nothing of IPVS mode behind.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use weir::kernel::nfacct::Nfacct;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![("what_is_printed_can_be_applied_by_hand", by_hand)]
}

const SHOP: &str = concat!(include_str!("../cli/shop/shop.yaml"), "---\n", include_str!("../cli/shop/six.yaml"));

/// Runs a program with this input and gives what it printed.
fn tool(line: &str, input: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    let output = run(command.args(words), input);
    assert!(output.status.success(), "{line}: {output:?}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

fn run(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What it prints, and its exit code.
fn diff(folder: &Path, flags: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(["diff", "--hostname-override=node-a", "--cluster-cidr=10.244.0.0/16", "--manifests"]).arg(folder);
    let output = run(command.args(flags), "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{flags:?}");
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

/// All that is there.
fn state() -> String {
    let lines = ["iptables-save", "ip6tables-save", "ipset save", "ipvsadm -Sn", "ip -o address"];
    let printed = lines.map(|line| tool(line, ""));
    let printed = printed.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
    printed.map(|line| line.split(" [").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// Does what `--output restore` printed: its comments are commands, and the input of those that read.
fn feed(printed: &str) {
    for part in printed.split("# ").filter(|part| !part.is_empty()) {
        let (command, input) = part.split_once('\n').unwrap();
        match command.strip_prefix("nfacct add ") {
            Some(object) => Nfacct::open().and_then(|mut nfacct| nfacct.ensure(object)).unwrap(),
            None => drop(tool(command, input)),
        }
    }
}

fn by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let shop = folder.path().join("shop");
    fs::create_dir(&shop).unwrap();
    fs::write(shop.join("shop.yaml"), SHOP).unwrap();
    for line in
        ["link set lo up", "link add eth0 type dummy", "address add 192.168.7.1/24 dev eth0", "link set eth0 up"]
    {
        tool(&format!("ip {line}"), "");
    }
    let ipvs = |flags: &[&str]| diff(&shop, &[&["--proxy-mode=ipvs"], flags].concat());
    let nothing = ("Nothing to change.\n".to_owned(), Some(0));

    let before = state();
    let (text, code) = ipvs(&[]);
    assert_eq!(code, Some(1));
    for line in
        ["+-A -t 192.168.7.1:30080 -s rr\n", "+address fd00:10:96::30 kube-ipvs0\n", "@@ kube-ipvs0 @@ new device\n"]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (restore, _) = ipvs(&["--output=restore"]);
    assert_eq!(state(), before, "diff changes nothing");
    feed(&restore);
    assert_eq!(ipvs(&[]), nothing);

    // What the tools save is as good as the kernel.
    let save = |name: &str, line: &str| {
        let path = folder.path().join(name);
        fs::write(&path, tool(line, "")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (v4, v6) = (save("v4", "iptables-save"), save("v6", "ip6tables-save"));
    let (sets, servers) = (save("ipset", "ipset save"), save("ipvs", "ipvsadm -Sn"));
    let addresses = save("addresses", "ip -o address show dev kube-ipvs0");
    let files = ["--against", &v4, "--against-ipv6", &v6, "--against-ipset", &sets, "--against-ipvs", &servers];
    assert_eq!(ipvs(&files), nothing);
    assert_eq!(ipvs(&[&files[..], &["--against-addresses", &addresses]].concat()), nothing);

    // The other mode, and back to nothing of this one.
    let (text, _) = diff(&shop, &[]);
    for line in ["--A -t 10.96.0.10:80 -s rr\n", "@@ kube-ipvs0 @@ device goes\n"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    feed(&diff(&shop, &["--output=restore"]).0);
    assert_eq!(diff(&shop, &[]), nothing);
    assert_eq!((tool("ipset save", ""), tool("ipvsadm -Sn", "")), (String::new(), String::new()));
    assert!(!tool("ip -o link", "").contains("kube-ipvs0"));
}
