use super::*;
use crate::kernel::xtables::order::scripts;
use crate::kernel::xtables::variant::Variant;
use crate::kernel::xtables::{ChainChange, ChainName, Changes, Rule};
use crate::net::Family;

fn changes() -> Changes {
    let key = |name: &str| ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new(name) };
    let rule = Rule { target: Some(Target::Jump(ChainName::new("NOPE"))), ..Rule::default() };
    let filled = |rules| ChainChange { before: None, after: Some(rules) };
    let chains = [(key("KUBE-SVC-A"), filled(vec![Rule::default()])), (key("KUBE-SVC-B"), filled(vec![rule]))];
    Changes { chains: chains.into(), builtin: Vec::new() }
}

/// Lines: 1 `*nat`, 2 and 3 declare A and B, 4 and 5 append to A and B, 6 `COMMIT`.
fn explained(code: i32, stderr: &str) -> ApplyError {
    let changes = changes();
    let scripts = scripts(&changes, Variant::Nft).unwrap();
    explain(&scripts[0], "iptables-nft-restore", Some(code), stderr)
}

/// Texts of iptables 1.8.9.
#[test]
fn j24_lines_are_mapped_to_chains() {
    for (code, stderr, chain) in [
        (
            2,
            "iptables-restore v1.8.9 (legacy): Couldn't load target `NOPE':No such file or directory\n\n\
             Error occurred at line: 5\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
            Some("KUBE-SVC-B"),
        ),
        (
            4,
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: RULE_APPEND failed (Invalid argument): rule in chain KUBE-SVC-A\n",
            Some("KUBE-SVC-A"),
        ),
        (
            4,
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: CHAIN_DEL failed (Device or resource busy): chain KUBE-SVC-B\n",
            Some("KUBE-SVC-B"),
        ),
        (1, "iptables-nft-restore: line 4 failed: No chain/target/match by that name.\n", Some("KUBE-SVC-A")),
        (1, "iptables-restore: line 5 failed\n", Some("KUBE-SVC-B")),
        (1, "iptables-restore: line 6 failed\n", None),
        (
            2,
            "iptables-nft-restore v1.8.9 (nf_tables): Chain 'NOPE' does not exist\nError occurred at line: 6\n\
             Try `iptables-nft-restore -h' or 'iptables-nft-restore --help' for more information.\n",
            Some("KUBE-SVC-B"),
        ),
        (1, "iptables-restore: line 700 failed\n", None),
        (1, "", None),
    ] {
        let error = explained(code, stderr);
        assert_eq!(error.kind, ApplyErrorKind::Refused, "{stderr}");
        assert_eq!(error.chain.as_ref().map(|key| key.name.as_str()), chain, "{stderr}");
        assert!(!error.message.contains('\n'), "{}", error.message);
    }
    assert_eq!(explained(1, "").message, "iptables-nft-restore: exit status 1");
}

#[test]
fn j23_a_held_lock_is_busy() {
    let stderr = "Can't lock /run/xtables.lock: Resource temporarily unavailable\n\
                  Another app is currently holding the xtables lock. Stopped waiting after 1s.\n";
    let error = explained(4, stderr);
    assert_eq!(error.kind, ApplyErrorKind::Busy);
    assert!(error.message.contains("holds the xtables lock"), "{}", error.message);
}

#[test]
fn missing_permission_names_the_remedy() {
    for stderr in [
        "Fatal: can't open lock file /run/xtables.lock: Permission denied\n",
        "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n",
    ] {
        let error = explained(4, stderr);
        assert_eq!(error.kind, ApplyErrorKind::Unavailable);
        assert!(error.message.contains("remedy: run as root"), "{}", error.message);
    }
}

#[test]
fn the_holder_of_the_lock_is_found() {
    let locks = "1: FLOCK  ADVISORY  WRITE 16709 fe:00:10018956 0 EOF\n\
                 1: -> FLOCK  ADVISORY  WRITE 16710 fe:00:10018956 0 EOF\n\
                 2: POSIX  ADVISORY  READ 99 00:1a:77 0 EOF\n";
    assert_eq!(holder_in(locks, "fe:00:10018956"), Some(16709));
    assert_eq!(holder_in(locks, "fe:00:1"), None);
    assert_eq!(holder_in("nonsense\n", "fe:00:1"), None);
}

/// `-N` of a chain that the kubelet has just made, `-D` of a rule that has just gone.
#[test]
fn a_race_with_another_writer_is_busy() {
    let key = |name: &str| ChainKey { family: Family::V4, table: Table::Filter, name: ChainName::new(name) };
    let builtin = vec![
        BuiltinChange::CreateChain(key("KUBE-FIREWALL")),
        BuiltinChange::Insert(key("INPUT"), Rule::default()),
        BuiltinChange::Delete(key("OUTPUT"), Rule::default()),
    ];
    let changes = Changes { builtin, ..Changes::default() };
    let scripts = scripts(&changes, Variant::Legacy).unwrap();
    for (line, kind) in [(2, ApplyErrorKind::Busy), (3, ApplyErrorKind::Refused), (4, ApplyErrorKind::Busy)] {
        let error =
            explain(&scripts[0], "iptables-restore", Some(1), &format!("iptables-restore: line {line} failed\n"));
        assert_eq!(error.kind, kind, "{error}");
    }
}
