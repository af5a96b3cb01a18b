//! Everything on a node that a proxy could have left or touched, as the tools tell it.

use weir::kernel::nfacct::{Counters, Nfacct};
use weir::kernel::xtables::Table;
use weir::kernel::xtables::ownership::is_owned;
use weir::lab::Host;
use weir::plan::ipvs::is_our_set;

use crate::program::all_rules;

/// The names of accounting objects that tests and proxies make.
pub const COUNTERS: [&str; 3] = ["bytes_of_admin", "ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"];

/// Lines, in the order of the tools.
pub fn snapshot(host: &Host) -> Vec<String> {
    let run = |program: &str, arguments: &[&str]| host.check(program, arguments, "").unwrap();
    let mut lines: Vec<String> = all_rules(host).lines().map(str::to_owned).collect();
    // The order of chains among each other is the tool's. That of a chain's rules is not.
    let chain = |line: &str| line.starts_with("-A ").then(|| line.split(' ').nth(1).unwrap_or_default().to_owned());
    let of_table = lines.chunk_by_mut(|a, b| a.starts_with("-A ") == b.starts_with("-A "));
    of_table.for_each(|rules| rules.sort_by_key(|line| chain(line)));
    let of_table = lines.chunk_by_mut(|a, b| a.starts_with(':') == b.starts_with(':'));
    of_table.filter(|lines| lines.iter().any(|line| line.starts_with(':'))).for_each(<[String]>::sort);
    let sets = run("ipset", &["save"]);
    // The seed of a set's hash is another one each time.
    lines.extend(sets.lines().map(|line| line.split(" initval ").next().unwrap_or_default().to_owned()));
    let tables = run("nft", &["list", "tables"]);
    // Those of iptables are above.
    let native = tables.lines().filter(|table| !is_of_iptables(table));
    for table in native {
        let mut words = vec!["-s", "list"];
        words.extend(table.split(' '));
        lines.extend(run("nft", &words).lines().map(|line| format!("{table}: {line}")));
    }
    let found = host.run(|| {
        let mut nfacct = Nfacct::open().unwrap();
        COUNTERS.map(|name| nfacct.has(name).unwrap())
    });
    let found = COUNTERS.into_iter().zip(found.unwrap()).filter(|(_, found)| *found);
    lines.extend(found.map(|(name, _)| format!("nfacct {name}")));
    lines
}

fn is_of_iptables(table: &str) -> bool {
    ["table ip ", "table ip6 "].iter().any(|start| {
        let name = table.strip_prefix(start);
        name.is_some_and(|name| ["mangle", "filter", "nat", "raw", "security"].contains(&name))
    })
}

/// The lines that are not about anything of kube-proxy or weir.
pub fn foreign(snapshot: &[String]) -> Vec<String> {
    let mut table = None;
    let mut is_foreign = |line: &String| {
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL.into_iter().find(|table| table.as_str() == name);
        }
        !is_ours(line, table)
    };
    snapshot.iter().filter(|line| is_foreign(line)).cloned().collect()
}

fn is_ours(line: &str, table: Option<Table>) -> bool {
    if ["table ip kube-proxy: ", "table ip6 kube-proxy: "].iter().any(|start| line.starts_with(start)) {
        return true;
    }
    let names_chain = |word: &str| table.is_some_and(|table| is_owned(table, word));
    // What stands in quotes is a comment's.
    let unquoted: String = line.split('"').step_by(2).collect();
    let words: Vec<&str> = unquoted.split(' ').collect();
    match words[..] {
        ["create" | "add", set, ..] => is_our_set(set),
        ["nfacct", name] => name != COUNTERS[0],
        [first, ..] if first.starts_with(':') => names_chain(&first[1..]),
        _ => words.iter().any(|word| names_chain(word)),
    }
}

/// Fails with the lines that one has and the other has not.
#[track_caller]
pub fn assert_same(found: &[String], expected: &[String], when: &str) {
    if found != expected {
        let (found, expected) = (found.join("\n"), expected.join("\n"));
        let diff = similar::TextDiff::from_lines(&expected, &found);
        panic!("{when}:\n{}", diff.unified_diff().header("expected", "found"));
    }
}
