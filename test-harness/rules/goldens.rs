//! `rules/`: what is installed, as text that a change of behaviour changes, and that people review.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir::kernel::xtables::variant::Variant;
use weir::model::{ServicePort, Settings};
use weir::net::Family;
use weir::sim::SimKernel;
use weir::sim::scenario::{Fixture, Scenario};
use weir::state::State;

use crate::cluster::model;
use crate::ipvs::IpvsNode;
use crate::kernel::Programmed;
use crate::{ipvs_text, render};

/// Files that the test makes, by their endings.
const ENDINGS: [&str; 5] = ["rules", "restore", "servers", "sets", "ipvs"];

const FILES: [(Family, &str); 2] = [(Family::V4, "iptables.rules"), (Family::V6, "ip6tables.rules")];

type Files = BTreeMap<PathBuf, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rules")
}

/// `rules/` is what would be written now. `WEIR_BLESS=1` makes it so.
#[test]
fn the_rule_book_is_up_to_date() {
    let mut wanted = Files::new();
    let base = base(&mut wanted);
    let ipvs_base = ipvs_base(&mut wanted);
    for scenario in Scenario::load_all(&root().join("scenarios")).unwrap() {
        describe(&scenario, &base, &mut wanted);
        describe_ipvs(&scenario, &ipvs_base, &mut wanted);
    }
    let found = found();
    if std::env::var_os("WEIR_BLESS").is_some_and(|value| value == "1") {
        return bless(&wanted, &found);
    }
    let paths: BTreeSet<&PathBuf> = wanted.keys().chain(found.keys()).collect();
    let differences: String =
        paths.into_iter().map(|path| difference(path, found.get(path), wanted.get(path))).collect();
    assert!(
        differences.is_empty(),
        "{differences}\nThe rule book differs. If that is meant: WEIR_BLESS=1 cargo test --test rules, and review the diff."
    );
}

/// What an empty cluster needs, alike for both variants.
fn base(wanted: &mut Files) -> SimKernel {
    let kernel = |variant| Programmed::new(variant, &Arc::new(Settings::default()), Vec::new()).kernel;
    let base = kernel(Variant::Nft);
    for (family, file) in FILES {
        let text = render::rules(&base, family, None).unwrap();
        assert_eq!(Some(&text), render::rules(&kernel(Variant::Legacy), family, None).as_ref());
        let heading = format!("# {family}: what is installed for a cluster without services, with default settings.\n");
        wanted.insert(root().join("base").join(file), heading + &text);
    }
    base
}

/// The rules after the first step, and what each further step changes.
fn describe(scenario: &Scenario, base: &SimKernel, wanted: &mut Files) {
    let folder = root().join("scenarios").join(&scenario.name);
    let heading = |about: &str| format!("# {}: {about}\n", scenario.name);
    let mut state = State::default();
    let mut programmed: Option<Programmed> = None;
    for (i, step) in scenario.steps.iter().enumerate() {
        state.apply(step.updates.clone());
        if let Some(programmed) = &mut programmed {
            let changes = programmed.change(model(&state));
            let text = heading(&step.about) + &render::restore(&changes);
            wanted.insert(folder.join(format!("step-{}.restore", i + 1)), text);
            continue;
        }
        let first = Programmed::new(Variant::Nft, &Arc::new(scenario.settings.clone()), model(&state));
        for (family, file) in FILES {
            if let Some(text) = render::rules(&first.kernel, family, Some(base)) {
                wanted.insert(folder.join(file), heading(&step.about) + &text);
            }
        }
        programmed = Some(first);
    }
}

/// What an empty cluster needs in IPVS mode, with the settings that scenarios have unless they say otherwise.
fn ipvs_base(wanted: &mut Files) -> SimKernel {
    let node = |variant| IpvsNode::new(variant, &Arc::new(Fixture::settings()), Vec::new());
    let base = node(Variant::Nft);
    let text = ipvs_rules(&base.kernel, None);
    assert_eq!(text, ipvs_rules(&node(Variant::Legacy).kernel, None));
    let mut put = |file: &str, what: &str, text: &str| {
        let heading = format!("# IPVS mode: {what} for a cluster without services, pods told by their network.\n");
        wanted.insert(root().join("base").join(file), heading + text);
    };
    put("ipvs.rules", "the rules", &text);
    put("ipvs.sets", "the sets", &ipvs_text::sets(&base.sets, true));
    base.kernel
}

/// The rules of both families that are not as in `base`; empty if there are none.
fn ipvs_rules(kernel: &SimKernel, base: Option<&SimKernel>) -> String {
    let of_family = |(family, tool)| render::rules(kernel, family, base).map(|text| format!("\n# {tool}\n{text}"));
    [(Family::V4, "iptables"), (Family::V6, "ip6tables")].into_iter().filter_map(of_family).collect()
}

/// What a node in IPVS mode holds after the first step, and what each further step changes.
fn describe_ipvs(scenario: &Scenario, base: &SimKernel, wanted: &mut Files) {
    let folder = root().join("scenarios").join(&scenario.name);
    let mut state = State::default();
    let mut node: Option<IpvsNode> = None;
    for (i, step) in scenario.steps.iter().enumerate() {
        state.apply(step.updates.clone());
        let mut put = |file: String, text: String| {
            if !text.is_empty() {
                let heading = format!("# {}, IPVS mode: {}\n", scenario.name, step.about);
                wanted.insert(folder.join(file), heading + &text);
            }
        };
        if let Some(node) = &mut node {
            put(format!("step-{}.ipvs", i + 1), ipvs_step(node, model(&state)));
            continue;
        }
        let first = IpvsNode::new(Variant::Nft, &Arc::new(scenario.settings.clone()), model(&state));
        put("ipvs.rules".to_owned(), ipvs_rules(&first.kernel, Some(base)));
        put("ipvs.servers".to_owned(), ipvs_text::servers(&first.servers));
        put("ipvs.sets".to_owned(), ipvs_text::sets(&first.sets, false));
        node = Some(first);
    }
}

/// What a step changes at once, and what when the last connections to endpoints that went have ended.
fn ipvs_step(node: &mut IpvsNode, model: Vec<Arc<ServicePort>>) -> String {
    let mut text = ipvs_text::difference(&node.change(model));
    if text.is_empty() {
        text.push_str("\n# Nothing changes.\n");
    }
    let later: String = node.tend().iter().map(ipvs_text::difference).collect();
    if !later.is_empty() {
        text.push_str("\n# When no connection is left:\n");
        text.push_str(&later);
    }
    text
}

/// The files that are there.
fn found() -> Files {
    let mut files = Files::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ENDINGS.iter().any(|ours| ending == *ours)) {
                files.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

fn bless(wanted: &Files, found: &Files) {
    for path in found.keys().filter(|path| !wanted.contains_key(*path)) {
        fs::remove_file(path).unwrap();
    }
    for (path, text) in wanted {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

fn difference(path: &Path, found: Option<&String>, wanted: Option<&String>) -> String {
    let name = path.strip_prefix(root()).unwrap_or(path).display();
    match (found, wanted) {
        (Some(_), None) => format!("rules/{name}: stale, nothing writes this file any more\n"),
        (None, Some(_)) => format!("rules/{name}: missing\n"),
        (Some(found), Some(wanted)) if found != wanted => {
            let diff = similar::TextDiff::from_lines(found.as_str(), wanted.as_str());
            diff.unified_diff().header(&format!("rules/{name}"), "what is planned now").to_string()
        }
        _ => String::new(),
    }
}
