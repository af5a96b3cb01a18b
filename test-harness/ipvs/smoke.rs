//! The machine itself: what other cases take for granted.

use std::process::Command;

pub fn all() -> Vec<(&'static str, fn())> {
    vec![("the_tools_are_there", the_tools_are_there)]
}

fn the_tools_are_there() {
    for (program, arguments) in [
        ("ip", "link"),
        ("ipset", "list"),
        ("ipvsadm", "-Ln"),
        ("iptables-save", ""),
        ("iptables-legacy", "-S"),
        ("ip6tables-legacy", "-S"),
        ("ip6tables-save", ""),
        ("nft", "list ruleset"),
        ("conntrack", "-L"),
    ] {
        let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{program} {arguments}: {output:?}");
    }
}
