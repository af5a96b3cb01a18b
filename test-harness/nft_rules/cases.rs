//! The rules that are tried.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use weir::kernel::xtables::decode::RuleParser;
use weir::kernel::xtables::encode::push_rule;
use weir::kernel::xtables::{ChainName, Match, Rule, Table, Target};
use weir::lab::skipped;
use weir::net::Family;

use crate::generate::Random;

/// What the captured rules count with.
pub const ACCOUNTING_OBJECTS: [&str; 2] = ["ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"];

/// The chain that holds the rules.
pub const CHAIN: &str = "RULES";

/// The rules of one family and table, and the chains that they go to.
pub struct Cases {
    pub family: Family,
    pub table: Table,
    pub rules: Vec<Rule>,
}

impl Cases {
    /// [`CHAIN`] first.
    pub fn chains(&self) -> Vec<&str> {
        let callees: BTreeSet<&str> = self.rules.iter().filter_map(callee).collect();
        std::iter::once(CHAIN).chain(callees).collect()
    }

    /// As `iptables-save` prints them and `iptables-restore` reads them.
    pub fn lines(&self) -> Vec<String> {
        self.rules.iter().map(|rule| line(self.family, rule)).collect()
    }

    /// The whole input of `iptables-restore`, with these lines.
    pub fn script(&self, lines: &[String]) -> String {
        let chains: String = self.chains().iter().map(|chain| format!(":{chain} - [0:0]\n")).collect();
        format!("*{}\n{chains}{}\nCOMMIT\n", self.table, lines.join("\n"))
    }
}

fn line(family: Family, rule: &Rule) -> String {
    let mut line = format!("-A {CHAIN}");
    push_rule(&mut line, family, rule);
    line
}

fn callee(rule: &Rule) -> Option<&str> {
    match &rule.target {
        Some(Target::Jump(chain) | Target::Goto(chain)) => Some(chain.as_str()),
        _ => None,
    }
}

/// Every shape of rule that weir or kube-proxy writes: what is captured in `captures/`, and all that `rules/` shows.
pub fn shapes(with_accounting: bool) -> Vec<Cases> {
    let mut all = Vec::new();
    for family in Family::ALL {
        for wanted in [Table::Filter, Table::Nat] {
            let mut seen = BTreeSet::new();
            let mut rules = Vec::new();
            for path in files(family) {
                for (table, text) in printed_rules(&fs::read_to_string(&path).unwrap()) {
                    if table == wanted.as_str() && seen.insert(shape(&text)) {
                        let rule = RuleParser::new(family).parse(&text, &|name| Some(ChainName::new(name)));
                        rules.push(rule.unwrap_or_else(|| panic!("{}: {text}", path.display())));
                    }
                }
            }
            assert!(rules.len() > 12, "{family} {wanted}: {} rules", rules.len());
            if !with_accounting {
                skipped("nft_rules: rules with accounting objects (the kernel has none)");
                rules.retain(|rule| !rule.matches.iter().any(|item| matches!(item, Match::Nfacct(_))));
            }
            all.push(Cases { family, table: wanted, rules });
        }
    }
    all
}

/// The rules in what `iptables-save` prints: each with its table and what is behind `-A CHAIN `.
pub fn printed_rules(text: &str) -> Vec<(String, String)> {
    let mut table = "";
    let mut rules = Vec::new();
    for line in text.lines() {
        match line.strip_prefix('*') {
            Some(name) => table = name,
            None => {
                if let Some(rule) = line.strip_prefix("-A ") {
                    let (_, rule) = rule.split_once(' ').unwrap_or_default();
                    rules.push((table.to_owned(), rule.to_owned()));
                }
            }
        }
    }
    rules
}

/// Rules that differ in names, addresses and numbers only have the same shape; prefix lengths, masks and whether there
/// is a range of ports make a difference.
fn shape(text: &str) -> String {
    let word = |word: &str| match (word.contains(|c: char| c.is_ascii_digit()), word.split_once('/')) {
        (false, _) => word.to_owned(),
        (true, Some((_, rest))) => format!("#/{rest}"),
        (true, None) if word.split(':').count() == 2 => "#:#".to_owned(),
        (true, None) => "#".to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// The files that hold rules of a family as the tools print them.
fn files(family: Family) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let name = |tool: &str| match family {
        Family::V4 => tool.to_owned(),
        Family::V6 => tool.replacen("ip", "ip6", 1),
    };
    let mut files = vec![root.join("test-harness/captures").join(name("iptables-nft-1.8.9.save"))];
    let mut folders = vec![root.join("rules")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|file| file.to_string_lossy() == name("iptables.rules")) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Rules that look in sets, and what `ipset restore` makes the sets from.
pub fn lookups(family: Family) -> (Cases, String) {
    const RULES: [&str; 7] = [
        "-m set --match-set IPS dst",
        "-m set ! --match-set IPS src",
        "-m set --match-set SERVICES dst,dst -j RETURN",
        "-p tcp -m comment --comment \"a b\" -m set ! --match-set SERVICES src,dst -j KUBE-SVC-ONE",
        "-m conntrack --ctstate NEW -m set --match-set LOOP-BACK-31-BYTES------------X dst,dst,src -j RETURN",
        "-p udp -m set --match-set PORTS dst -m set ! --match-set IPS src -j RETURN",
        "-m set --match-set PORTS src,src,src",
    ];
    let inet = match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    };
    let parse = |text| RuleParser::new(family).parse(text, &|name| Some(ChainName::new(name))).unwrap();
    let sets = format!(
        "create IPS hash:ip family {inet}\ncreate SERVICES hash:ip,port family {inet}\n\
         create LOOP-BACK-31-BYTES------------X hash:ip,port,ip family {inet}\ncreate PORTS bitmap:port range 0-65535\n"
    );
    (Cases { family, table: Table::Filter, rules: RULES.into_iter().map(parse).collect() }, sets)
}

/// Random rules, the same ones every time.
pub fn random(count: usize) -> Vec<Cases> {
    let callees = ["KUBE-SVC-ONE", "KUBE-SVC-TWO"].map(ChainName::new);
    let mut random = Random(3);
    let tables = Family::ALL.into_iter().flat_map(|family| [Table::Filter, Table::Nat].map(|table| (family, table)));
    tables
        .map(|(family, table)| {
            let rules = (0..count).map(|_| random.rule(family, table, &callees)).collect();
            Cases { family, table, rules }
        })
        .collect()
}
