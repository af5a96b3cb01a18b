use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::choose::Found;
use super::probe::{Host, Netlink, Without};
use super::*;

fn found(kubelet: bool, rules: usize) -> Found {
    Found { installed: true, kubelet, rules }
}

#[test]
fn the_choice_follows_the_others() {
    use Variant::{Legacy, Nft};
    let none = Found::default();
    for (what, nft, legacy, plain, expected) in [
        ("nothing", none, none, None, None),
        (
            "kubelet in both: nf_tables first",
            found(true, 0),
            found(true, 9),
            Some(Legacy),
            Some((Nft, Reason::Kubelet)),
        ),
        ("kubelet in legacy", found(false, 9), found(true, 0), Some(Nft), Some((Legacy, Reason::Kubelet))),
        (
            "more rules",
            found(false, 3),
            found(false, 4),
            Some(Nft),
            Some((Legacy, Reason::MoreRules { rules: 4, other: 3 })),
        ),
        ("as many: plain", found(false, 4), found(false, 4), Some(Legacy), Some((Legacy, Reason::Plain))),
        ("plain unknown", found(false, 0), found(false, 0), None, Some((Nft, Reason::OnlyOne))),
        ("one installed", none, found(false, 0), None, Some((Legacy, Reason::OnlyOne))),
    ] {
        let choice = choose(&Evidence { nft, legacy, plain }).map(|choice| (choice.variant, choice.reason));
        assert_eq!(choice, expected, "{what}");
    }
}

#[test]
fn j20_versions() {
    let version = |major, minor, patch| Version { major, minor, patch };
    for (text, expected) in [
        ("iptables v1.8.9 (nf_tables)\n", Some((version(1, 8, 9), Variant::Nft))),
        ("iptables-restore v1.8.13 (legacy)", Some((version(1, 8, 13), Variant::Legacy))),
        ("iptables v1.6.2", Some((version(1, 6, 2), Variant::Legacy))),
        ("iptables v1.4.21", Some((version(1, 4, 21), Variant::Legacy))),
        ("iptables v1.8", Some((version(1, 8, 0), Variant::Legacy))),
        ("iptables v1.9.0-rc1 (nf_tables)", Some((version(1, 9, 0), Variant::Nft))),
        ("iptables v1.8.9 (something)", None),
        ("iptables vx", None),
        ("", None),
    ] {
        assert_eq!(parse_version(text), expected, "{text}");
    }
    assert!(version(1, 8, 13) > version(1, 8, 9));
}

/// A host in a folder: programs that print a version or a dump.
struct Fake {
    root: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("bin")).unwrap();
        fs::create_dir_all(root.path().join("proc/sys/net/ipv6/conf/all")).unwrap();
        let fake = Fake { root };
        fake.write("proc/sys/net/ipv6/conf/all/disable_ipv6", "0\n");
        fake
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.root.path().join(path), text).unwrap();
    }

    fn install(&self, infix: &str, version: &str, dump: &str) {
        for family in ["iptables", "ip6tables"] {
            for (program, output) in [("save", dump), ("restore", version)] {
                let path = self.root.path().join("bin").join(format!("{family}{infix}-{program}"));
                fs::write(&path, format!("#!/bin/sh\ncat <<'END'\n{output}\nEND\n")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }

    fn remove(&self, program: &str) {
        fs::remove_file(self.root.path().join("bin").join(program)).unwrap();
    }

    fn find(&self, forced: Option<Variant>, choice: DriverChoice, kernel: &Nft) -> Result<String, String> {
        let at = |path: &str| self.root.path().join(path);
        let host = Host { folders: vec![at("bin")], proc: at("proc") };
        let found = host.find(forced, choice, kernel);
        found.map(|driver| driver.to_string()).map_err(|error| error.to_string())
    }

    fn detect(&self, forced: Option<Variant>) -> Result<Tools, VariantError> {
        let at = |path: &str| self.root.path().join(path);
        Host { folders: vec![at("bin")], proc: at("proc") }.tools(forced, &Without("not tried"))
    }
}

const NFT: &str = "iptables v1.8.9 (nf_tables)";
const LEGACY: &str = "iptables v1.8.9 (legacy)";
const HINT: &str = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT";
const OTHER: &str = "*nat\n:KUBE-IPTABLES-HINT - [0:0]\n-A A -j B\nCOMMIT";

#[test]
fn both_variants_are_weighed() {
    let fake = Fake::new();
    fake.install("-nft", NFT, OTHER);
    fake.install("-legacy", LEGACY, HINT);
    fake.install("", NFT, "");
    let tools = fake.detect(None).unwrap();
    assert_eq!((tools.variant, tools.reason), (Variant::Legacy, Reason::Kubelet));
    assert_eq!(tools.binaries.v6.as_ref().unwrap().save.file_name().unwrap(), "ip6tables-legacy-save");
    let forced = fake.detect(Some(Variant::Nft)).unwrap();
    assert_eq!((forced.variant, forced.reason), (Variant::Nft, Reason::Forced));
    fake.install("-legacy", LEGACY, "");
    let tools = fake.detect(None).unwrap();
    assert_eq!((tools.variant, tools.reason), (Variant::Nft, Reason::MoreRules { rules: 2, other: 0 }));
}

#[test]
fn plain_binaries_serve_where_they_are_the_only_ones() {
    let fake = Fake::new();
    fake.install("", NFT, "");
    let tools = fake.detect(None).unwrap();
    assert_eq!((tools.variant, tools.reason), (Variant::Nft, Reason::Plain));
    assert_eq!(tools.binaries.v4.unwrap().restore.file_name().unwrap(), "iptables-restore");
    assert_eq!(fake.detect(Some(Variant::Legacy)), Err(VariantError::VariantNotInstalled { wanted: Variant::Legacy }));
}

#[test]
fn j20_missing_and_old_binaries_are_errors() {
    let fake = Fake::new();
    assert!(matches!(fake.detect(None), Err(VariantError::NotInstalled { .. })));
    fake.install("", "iptables v1.6.2", "");
    let error = fake.detect(None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "iptables-legacy is version 1.6.2; weir needs 1.8.2 or newer; remedy: upgrade iptables"
    );
}

#[test]
fn j21_families() {
    let fake = Fake::new();
    fake.install("-nft", NFT, "");
    assert_eq!(fake.detect(None).unwrap().families(), Family::ALL);
    fake.write("proc/sys/net/ipv6/conf/all/disable_ipv6", "1\n");
    let tools = fake.detect(None).unwrap();
    assert_eq!((tools.families(), tools.binaries.v6), (vec![Family::V4], Err(FamilyUnavailable::Disabled)));
    fs::remove_dir_all(fake.root.path().join("proc/sys/net/ipv6")).unwrap();
    let tools = fake.detect(None).unwrap();
    assert_eq!(tools.binaries.v6, Err(FamilyUnavailable::NoKernelSupport(Family::V6)));
    let fake = Fake::new();
    fake.install("-nft", NFT, "");
    fake.remove("ip6tables-nft-save");
    assert!(matches!(fake.detect(None).unwrap().binaries.v6, Err(FamilyUnavailable::NoBinary(_))));
    fake.remove("iptables-nft-restore");
    assert!(matches!(fake.detect(None), Err(VariantError::NotInstalled { .. })));
}

#[test]
fn a_file_that_cannot_be_run_is_no_program() {
    let fake = Fake::new();
    fake.install("", NFT, "");
    let path = fake.root.path().join("bin/iptables-restore");
    fs::set_permissions(Path::new(&path), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(fake.detect(None), Err(VariantError::NotInstalled { .. })));
}

/// A kernel whose nf_tables can or cannot be used without tools.
struct Nft(Result<Found, &'static str>);

impl Netlink for Nft {
    fn usable(&self, _: Family) -> Result<(), String> {
        self.0.map(|_| ()).map_err(str::to_owned)
    }

    fn found(&self) -> Found {
        self.0.unwrap_or_default()
    }
}

const BY_NETLINK: &str = "nf_tables by netlink";

#[test]
fn without_any_tool_nf_tables_is_written_by_netlink() {
    let fake = Fake::new();
    let able = Nft(Ok(found(false, 0)));
    assert_eq!(fake.find(None, DriverChoice::Auto, &able).unwrap(), BY_NETLINK);
    let unable = Nft(Err("no nf_tables"));
    let error = fake.find(None, DriverChoice::Auto, &unable).unwrap_err();
    assert!(error.contains("not installed") && error.contains("no nf_tables"), "{error}");
    let error = fake.find(Some(Variant::Legacy), DriverChoice::Auto, &able).unwrap_err();
    assert!(error.contains("legacy was asked for"), "{error}");
}

#[test]
fn netlink_goes_before_the_tools_of_nf_tables_and_never_before_legacy_in_use() {
    let fake = Fake::new();
    fake.install("-nft", NFT, "");
    fake.install("-legacy", LEGACY, OTHER);
    let find = |forced, choice, kernel: &Nft| fake.find(forced, choice, kernel).unwrap();
    let (few, many) = (Nft(Ok(found(false, 0))), Nft(Ok(found(false, 9))));
    assert_eq!(find(None, DriverChoice::Auto, &few), "iptables-legacy-restore 1.8.9");
    assert_eq!(find(None, DriverChoice::Auto, &many), BY_NETLINK);
    assert_eq!(find(Some(Variant::Nft), DriverChoice::Auto, &few), BY_NETLINK);
    assert_eq!(find(Some(Variant::Nft), DriverChoice::Restore, &few), "iptables-nft-restore 1.8.9");
    assert_eq!(find(Some(Variant::Nft), DriverChoice::Auto, &Nft(Err("no"))), "iptables-nft-restore 1.8.9");
    assert_eq!(find(Some(Variant::Nft), DriverChoice::Netlink, &few), BY_NETLINK);
}

#[test]
fn asking_for_netlink_never_ends_elsewhere() {
    let fake = Fake::new();
    fake.install("-nft", NFT, "");
    let error = fake.find(Some(Variant::Nft), DriverChoice::Netlink, &Nft(Err("no compat"))).unwrap_err();
    assert_eq!(error, "rules cannot be written by netlink: no compat");
    let error = find(Some(Variant::Legacy), DriverChoice::Netlink).unwrap_err().to_string();
    assert!(error.contains("legacy tables are not written by netlink"), "{error}");
}
