//! What the manual says about modules, `unsafe` and licences, checked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files under a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The text without comments, and without what only tests see: `#[cfg(test)]` items and test files.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().peekable();
    let mut out = String::new();
    while let Some(line) = lines.next() {
        let code = line.split("//").next().unwrap_or_default();
        if code.trim() == "#[cfg(test)]" {
            skip_item(&mut lines);
            continue;
        }
        out.push_str(code);
        out.push('\n');
    }
    out
}

/// Skips an item: to the end of its braces, or to its semicolon.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let mut depth = 0;
    for line in lines {
        depth += line.matches('{').count();
        depth -= line.matches('}').count().min(depth);
        let is_attribute = line.trim_start().starts_with("#[");
        if depth == 0 && !is_attribute {
            return;
        }
    }
}

fn is_test_file(path: &Path) -> bool {
    let in_tests = path.iter().any(|part| part == "tests");
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    in_tests || stem == "tests" || stem.ends_with("_tests") || stem == "testing"
}

/// `kernel::xtables` of `src/kernel/xtables/order.rs`, and so on: the path of a file's module.
fn module_of(path: &Path) -> Vec<String> {
    let relative = path.strip_prefix(root().join("src")).unwrap().with_extension("");
    let mut parts: Vec<String> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// Every `crate::a::b` that the code of a module mentions, with groups in braces spelled out: `crate::{a::b, c}` is two.
/// What begins with `super::` is found from the module's place.
fn mentions(module: &[String], code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, word) in code.match_indices("crate::") {
        expand("", &code[at + word.len()..], &mut found);
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::")) {
        let mut rest = &code[at..];
        let mut base = module;
        while let (Some(more), Some((_, above))) = (rest.strip_prefix("super::"), base.split_last()) {
            (rest, base) = (more, above);
        }
        expand(&base.join("::"), rest, &mut found);
    }
    found
}

/// Reads one path, or one group of paths, and returns what comes after it.
fn expand<'a>(prefix: &str, text: &'a str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(prefix, rest, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let path = if prefix.is_empty() { word.to_owned() } else { format!("{prefix}::{word}") };
    match rest.strip_prefix("::") {
        Some(more) => expand(&path, more, found),
        None => {
            if !word.is_empty() && word != "self" {
                found.insert(path);
            }
            // `as other` ends with the item.
            if rest.trim_start().starts_with("as ") { rest.trim_start_matches(|c| !",};".contains(c)) } else { rest }
        }
    }
}

/// Modules that may not mention others, by the beginnings of their paths.
const RULES: &[(&str, &[&str])] = &[
    (
        "text",
        &["net", "state", "resolve", "model", "plan", "kernel", "sim", "engine", "source", "cmd", "lab", "config"],
    ),
    ("config", &["state", "resolve", "model", "plan", "kernel", "sim", "engine", "source", "cmd", "lab"]),
    ("net", &["state", "resolve", "model", "plan", "kernel", "sim", "engine", "source", "cmd", "lab"]),
    ("state", &["resolve", "model", "plan", "kernel", "sim", "engine", "source", "cmd", "lab"]),
    ("model", &["resolve", "plan", "kernel", "sim", "engine", "source", "cmd", "lab"]),
    ("node", &["resolve", "plan", "kernel", "sim", "engine", "source", "serve", "events", "cmd", "lab"]),
    ("resolve", &["plan", "kernel", "sim", "engine", "source", "cmd", "lab"]),
    // The plan speaks of rules and changes, but never to a kernel.
    (
        "plan",
        &[
            "kernel::netlink",
            "kernel::conntrack",
            "kernel::nfacct",
            "kernel::xtables::restore",
            "kernel::xtables::process",
            "kernel::xtables::variant",
            "kernel::xtables::decode",
            "kernel::xtables::Xtables",
            "sim",
            "engine",
            "source",
            "cmd",
            "lab",
        ],
    ),
    // Conntrack learns of changes as the moves that a plan is made from.
    ("kernel", &["resolve", "plan::iptables", "sim", "engine", "source", "cmd", "lab"]),
    ("engine", &["sim", "cmd", "lab", "source::kube", "source::manifest"]),
    ("events", &["resolve", "plan", "kernel", "sim", "serve", "cmd", "lab"]),
    ("serve", &["plan", "kernel", "sim", "source", "cmd", "lab"]),
    ("source", &["resolve", "model", "plan", "kernel", "sim", "engine", "cmd", "lab"]),
    ("sim", &["plan", "engine", "cmd", "lab"]),
    ("lab", &["engine", "plan", "source", "cmd"]),
];

/// What pure modules do not touch: the world.
const WORLD: [&str; 12] = [
    "std::fs",
    "std::process",
    "std::env",
    "std::time",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "tokio",
    "nix::",
    "libc::",
    "SystemTime",
    "Instant",
];

const PURE: [&str; 8] = ["net", "text", "config", "state", "model", "node", "resolve", "plan"];

#[test]
fn modules_know_only_what_is_below_them() {
    let mut wrong = Vec::new();
    let mut mentioned = 0;
    for path in sources("src").iter().filter(|path| !is_test_file(path)) {
        let module = module_of(path);
        let Some((_, forbidden)) = RULES.iter().find(|(name, _)| module.first().is_some_and(|first| first == name))
        else {
            continue;
        };
        for mention in mentions(&module, &code(path)) {
            mentioned += 1;
            let below = |rule: &&&str| mention == ***rule || mention.starts_with(&format!("{rule}::"));
            if let Some(rule) = forbidden.iter().find(below) {
                wrong.push(format!("{}: uses {mention}, and {} may not know {rule}", path.display(), module[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(mentioned > 200, "only {mentioned} mentions were found: does the scanner still see them?");
}

#[test]
fn only_the_program_uses_commands() {
    let wrong: Vec<String> = sources("src")
        .iter()
        .filter(|path| module_of(path).first().is_some_and(|first| first != "cmd" && first != "main"))
        .filter(|path| {
            mentions(&module_of(path), &code(path)).iter().any(|mention| mention.split("::").next() == Some("cmd"))
        })
        .map(|path| path.display().to_string())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn pure_modules_do_not_touch_the_world() {
    let mut wrong = Vec::new();
    for path in sources("src").iter().filter(|path| !is_test_file(path)) {
        let module = module_of(path);
        if PURE.contains(&module.first().map(String::as_str).unwrap_or_default()) {
            let code = code(path);
            let touched = WORLD.iter().filter(|name| code.contains(*name));
            wrong.extend(touched.map(|name| format!("{}: {name}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every module of `lib.rs` has a rule above, or is one that may know everything.
#[test]
fn every_module_has_its_place() {
    let lib = code(&root().join("src/lib.rs"));
    let modules = lib.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';'));
    for module in modules {
        let known = RULES.iter().any(|(name, _)| *name == module) || ["cmd", "manual"].contains(&module);
        assert!(known, "{module}: say in this file what it may know");
    }
}

/// The only files with an `unsafe` block: a child process of tests and demos asks the kernel to end with its parent,
/// which must happen between fork and exec; the kernel is asked for the size of a legacy table, by a call that takes a
/// name in and gives numbers out in one place; and a benchmark tells valgrind where to start and end counting, by
/// instructions of its own. This file has to name what it looks for.
const UNSAFE: [&str; 4] = [
    "src/lab/child.rs",
    "src/kernel/watch/legacy/info.rs",
    "benches/support/callgrind.rs",
    "test-harness/architecture.rs",
];

/// `unsafe_code` is denied for the whole crate, and allowed again nowhere else.
#[test]
fn nothing_is_unsafe() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""));
    for path in ["src", "test-harness", "benches"].iter().flat_map(|folder| sources(folder)) {
        let code = code(&path);
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let found = words.filter(|word| ["unsafe", "unsafe_code"].contains(word)).count();
        assert!(found == 0 || UNSAFE.iter().any(|allowed| path.ends_with(allowed)), "{}", path.display());
    }
}

#[test]
fn the_scanner_sees_paths() {
    let module = ["plan", "iptables", "base"].map(str::to_owned);
    let all = |text: &str| mentions(&module, text).into_iter().collect::<Vec<_>>();
    assert_eq!(all("use crate::a::{b, c::{D, e as f}, self};\ncrate::g::h()"), ["a::b", "a::c::D", "a::c::e", "g::h"]);
    assert_eq!(all("use crate::{\n    a::B,\n    c,\n};"), ["a::B", "c"]);
    assert_eq!(all("use super::names;"), ["plan::iptables::names"]);
    assert_eq!(all("use super::super::super::kernel::{self, x};"), ["kernel::x"]);
}

/// The licences that `deny.toml` allows.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let (_, rest) = text.split_once("allow = [").unwrap();
    let (list, _) = rest.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be met with allowed licences only. The old form `MIT/Apache-2.0` means OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "_WITH_");
    let mut words = text.split_whitespace().peekable();
    any_of(&mut words, allowed) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    match words.next() {
        Some("(") => {
            let met = any_of(words, allowed);
            words.next_if_eq(&")").is_some() && met
        }
        Some(word) => allowed.contains(&word.replace("_WITH_", " WITH ")),
        None => false,
    }
}

#[test]
fn expressions_of_licences_are_understood() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".into(), "Zlib".into()]);
    for (expression, expected) in [
        ("MIT", true),
        ("MIT/GPL-2.0", true),
        ("GPL-2.0 OR MIT", true),
        ("MIT AND GPL-2.0", false),
        ("(GPL-2.0 OR MIT) AND Zlib", true),
        ("(GPL-2.0 OR MIT) AND GPL-3.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("MIT GPL-2.0", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}

/// Everything that is linked into the binary on Linux, and what builds it, has a permissive licence.
#[test]
fn licences_are_permissive() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let arguments = ["metadata", "--offline", "--locked", "--format-version=1"];
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = Command::new(cargo).args(arguments).args(platform).current_dir(root()).output().unwrap();
    if !output.status.success() {
        // Without the registry's files there is nothing to read.
        return weir::lab::skipped(String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages: BTreeMap<&str, &Value> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (package["id"].as_str().unwrap(), package))
        .collect();
    let allowed = allowed();
    let used = normal_dependencies(&metadata);
    assert!(used.len() > 100, "{}", used.len());
    let refused: Vec<String> = used
        .iter()
        .map(|id| packages[id.as_str()])
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or_default(), &allowed))
        .map(|package| format!("{} {}", package["name"], package["license"]))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// The packages that the program is made of, found from itself along dependencies that are not for tests.
fn normal_dependencies(metadata: &Value) -> BTreeSet<String> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<&str, &Value> = nodes.iter().map(|node| (node["id"].as_str().unwrap(), node)).collect();
    let mut used = BTreeSet::new();
    let mut todo = vec![metadata["resolve"]["root"].as_str().unwrap().to_owned()];
    while let Some(id) = todo.pop() {
        let dependencies = nodes[id.as_str()]["deps"].as_array().unwrap();
        if used.insert(id) {
            let kinds = |dependency: &Value| dependency["dep_kinds"].as_array().cloned().unwrap_or_default();
            let counts = |dependency: &&Value| kinds(dependency).iter().any(|kind| kind["kind"] != "dev");
            todo.extend(
                dependencies.iter().filter(counts).map(|dependency| dependency["pkg"].as_str().unwrap().to_owned()),
            );
        }
    }
    used
}
