//! What weir writes is to every version of the tools as if it had written it itself.

use weir::kernel::xtables::ObservedRule;
use weir::net::Family;

use crate::cases::{self, CHAIN, Cases};
use crate::kernel;
use crate::tools::{Tools, ipset, make_accounting_objects, with_each_version};

/// The rules of the chain as the tool prints them; old ones leave a space at the end of some.
fn printed(tools: &Tools, cases: &Cases) -> Vec<String> {
    let output = tools.save(cases.family, cases.table);
    let of_chain = format!("-A {CHAIN}");
    output
        .lines()
        .filter(|line| line.split(' ').take(2).eq(of_chain.split(' ')))
        .map(|line| line.trim_end().to_owned())
        .collect()
}

fn write(tools: &Tools, cases: &Cases) {
    let about = || format!("{} {} {}", tools.version, cases.family, cases.table);
    kernel::write(cases.family, cases.table, &cases.chains(), &cases.rules)
        .unwrap_or_else(|e| panic!("{}: {e}", about()));
    let seen = kernel::read(cases.family, cases.table, CHAIN);
    assert_eq!(seen.len(), cases.rules.len(), "{}", about());
    for (seen, rule) in seen.iter().zip(&cases.rules) {
        assert_eq!(seen, rule, "{}: read back", about());
    }
    for (printed, line) in printed(tools, cases).iter().zip(cases.lines()) {
        assert_eq!(*printed, line, "{}", about());
    }
    assert_eq!(printed(tools, cases).len(), cases.rules.len(), "{}", about());
}

/// `iptables -C` finds each rule and `iptables -D` deletes each, by what describes it.
#[test]
fn every_shape_is_printed_found_and_deleted() {
    with_each_version(|tools| {
        for cases in cases::shapes(make_accounting_objects()) {
            write(tools, &cases);
            find_and_delete(tools, &cases);
        }
    });
}

fn find_and_delete(tools: &Tools, cases: &Cases) {
    let table = cases.table.as_str();
    for command in ["-C", "-D"] {
        for line in cases.lines() {
            // With `--mask`, which kube-proxy does not write, the tools make a rule that differs in unused bytes.
            let rule = words(&line.replace(" --mask 255.255.255.255", ""));
            let arguments: Vec<&str> =
                ["-t", table, command].into_iter().chain(rule[1..].iter().map(String::as_str)).collect();
            tools.run(cases.family, "", &arguments, "").unwrap_or_else(|error| panic!("{error}"));
        }
    }
    assert_eq!(kernel::read(cases.family, cases.table, CHAIN), Vec::<ObservedRule>::new());
}

/// The set of a rule is named by its index.
#[test]
fn lookups_in_sets_are_printed_found_and_deleted() {
    with_each_version(|tools| {
        for family in Family::ALL {
            let (cases, sets) = cases::lookups(family);
            if ipset(&["restore"], &sets) {
                write(tools, &cases);
                find_and_delete(tools, &cases);
                ipset(&["destroy"], "");
            }
        }
    });
}

#[test]
fn random_rules_are_printed() {
    with_each_version(|tools| {
        for cases in cases::random(400) {
            write(tools, &cases);
        }
    });
}

/// The words of a line that `iptables-save` printed, as a shell would pass them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
