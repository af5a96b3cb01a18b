//! Threads in network namespaces of their own.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use weir::kernel::xtables::nft::NftDriver;
use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::{Variant, detect};
use weir::kernel::xtables::{
    ChainChange, ChainKey, ChainName, Changes, Match, ObservedRule, Rule, Table, Target, Xtables,
};
use weir::lab::skipped;
use weir::net::Family;

/// Runs in a namespace that goes away with the test.
pub fn alone(what: &str, test: impl FnOnce(NftDriver) + Send) {
    let run = || match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => test(NftDriver::new(Family::ALL.to_vec())),
        Err(error) => skipped(&format!("{what}: cannot make a network namespace: {error} (run as root)")),
    };
    let outcome = std::thread::scope(|scope| scope.spawn(run).join());
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// The same with the tools of iptables-nft beside.
pub fn beside_the_tools(what: &str, test: impl FnOnce(NftDriver, RestoreDriver) + Send) {
    alone(what, |driver| match detect(Some(Variant::Nft)) {
        Ok(tools) if tools.families() == Family::ALL => test(driver, RestoreDriver::new(tools)),
        Ok(tools) => skipped(&format!("{what}: {:?}", tools.binaries)),
        Err(error) => skipped(&format!("{what}: {error}")),
    });
}

/// All chains but empty built-in ones, which a table may have or not.
pub fn observe(kernel: &mut dyn Xtables) -> BTreeMap<ChainKey, Vec<ObservedRule>> {
    let mut found = BTreeMap::new();
    for family in Family::ALL {
        for table in Table::ALL {
            let mut visit = |chain: weir::kernel::xtables::ObservedChain| {
                if !chain.builtin || !chain.rules.is_empty() {
                    found.insert(ChainKey { family, table, name: chain.name }, chain.rules);
                }
            };
            kernel.observe(family, table, &mut visit).unwrap();
        }
    }
    found
}

pub fn key(table: Table, name: &str) -> ChainKey {
    ChainKey { family: Family::V4, table, name: ChainName::new(name) }
}

pub fn nat(name: &str) -> ChainKey {
    key(Table::Nat, name)
}

pub fn jump(name: &str) -> Rule {
    Rule { target: Some(Target::Jump(ChainName::new(name))), ..Rule::default() }
}

/// A rule that only says something.
pub fn note(text: &str) -> Rule {
    Rule { matches: vec![Match::Comment(text.into())], ..Rule::default() }
}

/// Changes that write whole chains.
pub fn written(chains: Vec<(ChainKey, Vec<Rule>)>) -> Changes {
    let change = |rules| ChainChange { before: None, after: Some(rules) };
    Changes { chains: chains.into_iter().map(|(key, rules)| (key, change(rules))).collect(), builtin: Vec::new() }
}

/// Runs a tool in the calling thread's namespace; gives what it printed.
pub fn tool(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
