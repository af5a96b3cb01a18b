//! Every file of `captures/` is understood completely and written back as it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use weir::kernel::xtables::ObservedRule;
use weir::kernel::xtables::decode::read_tables;
use weir::kernel::xtables::encode::push_rule;
use weir::net::Family;

/// Lines of `text` that start with `-A`, without counters, by table.
fn rule_lines(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut table = "";
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let line = line.strip_prefix("[0:0] ").unwrap_or(line);
        match line.strip_prefix('*') {
            Some(name) => table = name,
            None if line.starts_with("-A ") => lines.entry(table.to_owned()).or_default().push(line.to_owned()),
            None => {}
        }
    }
    lines
}

#[test]
fn captured_output_is_understood_and_written_back() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test-harness/captures");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "save") {
            continue;
        }
        files += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let family = if name.starts_with("ip6") { Family::V6 } else { Family::V4 };
        let text = fs::read_to_string(&path).unwrap();
        let mut written: BTreeMap<String, Vec<String>> = BTreeMap::new();
        read_tables(family, &mut text.as_bytes(), &mut |table, chain| {
            for rule in &chain.rules {
                let ObservedRule::Known(rule) = rule else { panic!("{name}: {rule:?}") };
                let mut line = format!("-A {}", chain.name);
                push_rule(&mut line, family, rule);
                written.entry(table.to_string()).or_default().push(line);
            }
        })
        .unwrap();
        assert_eq!(written, rule_lines(&text), "{name}");
        assert!(written["nat"].len() > 35 && written["filter"].len() > 20, "{name}");
    }
    assert_eq!(files, 8);
}
