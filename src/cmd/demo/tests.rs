use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::fate::{Fate, Seen};
use super::manifests::Folder;
use super::names::Names;
use super::rules::{self, Way};
use super::stage::problem;
use super::steps::{self, Attempt};
use super::table::{Row, Table, milliseconds};
use crate::kernel::xtables::Xtables;
use crate::kernel::xtables::variant::Variant;
use crate::model::oracle::{Host, Packet, judge};
use crate::model::{LocalDetector, ServicePort, Settings};
use crate::net::{Family, PerFamily, Protocol};
use crate::plan::iptables::Desired;
use crate::resolve::{NodeContext, Options, resolve};
use crate::sim::SimKernel;
use crate::sim::trace::Ruleset;
use crate::source::manifest;
use crate::state::State;

/// The lab's hosts: name, interface of the node, addresses.
const HOSTS: [(&str, Option<&str>, [&str; 2]); 8] = [
    ("node", None, ["192.168.99.10", "2001:db8:99::10"]),
    ("pod1", Some("veth1"), ["10.244.1.2", "fd00:10:244:1::2"]),
    ("pod2", Some("veth2"), ["10.244.1.3", "fd00:10:244:1::3"]),
    ("pod3", Some("veth3"), ["10.244.1.4", "fd00:10:244:1::4"]),
    ("pod4", Some("eth0"), ["10.244.2.2", "fd00:10:244:2::2"]),
    ("pod5", Some("eth0"), ["10.244.2.3", "fd00:10:244:2::3"]),
    ("client", Some("eth0"), ["192.168.99.100", "2001:db8:99::100"]),
    ("blocked", Some("eth0"), ["192.168.99.200", "2001:db8:99::200"]),
];

fn names() -> Names {
    let pairs = HOSTS.iter().flat_map(|(name, _, ips)| ips.iter().map(|ip| (ip.parse().unwrap(), (*name).to_owned())));
    Names::new(pairs)
}

fn host() -> Host {
    let gateway = ["10.244.1.1", "fd00:10:244:1::1"];
    Host { addresses: HOSTS[0].2.iter().chain(&gateway).map(|ip| ip.parse().unwrap()).collect() }
}

fn packet(attempt: &Attempt) -> Packet {
    let (_, interface, ips) = HOSTS.iter().find(|(name, ..)| *name == attempt.from).unwrap();
    let own: IpAddr = ips[usize::from(attempt.to.is_ipv6())].parse().unwrap();
    Packet {
        source: if attempt.to.ip().is_loopback() { attempt.to.ip() } else { own },
        destination: attempt.to.ip(),
        protocol: Protocol::Tcp,
        port: attempt.to.port(),
        in_interface: interface.map(str::to_owned),
    }
}

fn settings() -> Settings {
    let detector = |net: &str| LocalDetector::Cidr(net.parse().unwrap());
    Settings {
        detector: PerFamily { v4: detector("10.244.0.0/16"), v6: detector("fd00:10:244::/48") },
        node_ips: PerFamily {
            v4: Some("192.168.99.10".parse().unwrap()),
            v6: Some("2001:db8:99::10".parse().unwrap()),
        },
        ..Settings::default()
    }
}

/// Reads the folder as `weir proxy` would; everything in it must be used.
fn model(folder: &Folder) -> Vec<Arc<ServicePort>> {
    let config = manifest::Config { dir: folder.path().to_owned(), node_name: "node".into() };
    let loaded = manifest::load(config).unwrap();
    assert!(loaded.errors.is_empty() && loaded.problems.is_empty() && loaded.duplicates.is_empty(), "{loaded:?}");
    let mut state = State::default();
    state.apply(loaded.updates);
    assert!(state.node().is_some());
    let context = NodeContext::of(&state, "node".into());
    let options = Options { families: PerFamily { v4: true, v6: true }, ..Options::default() };
    state.service_names().flat_map(|name| resolve(&state, name, &context, &options)).collect()
}

fn all_attempts() -> Vec<Attempt> {
    let daily = steps::daily().into_iter().flat_map(|step| step.attempts);
    daily.chain([steps::rolling().0, steps::flushed()]).chain(steps::stopped()).collect()
}

fn check(model: &[Arc<ServicePort>], attempts: &[Attempt]) {
    for attempt in attempts {
        let verdict = judge(model.iter().map(|port| &**port), &settings(), &host(), &packet(attempt));
        assert_eq!(rules::fate(&verdict, &names()), attempt.expected, "{attempt:?}");
    }
}

/// Manifests and expectations are two texts: the oracle, which knows no rules, says that they belong together.
#[test]
fn the_oracle_expects_the_same() {
    let parent = tempfile::tempdir().unwrap();
    let folder = Folder::below(parent.path()).unwrap();
    let before = model(&folder);
    assert_eq!(before.len(), 11);
    check(&before, &all_attempts());
    folder.roll().unwrap();
    check(&model(&folder), &[steps::rolling().1]);
}

#[test]
fn a_folder_that_is_in_the_way_is_an_error() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::create_dir(parent.path().join("weir-demo")).unwrap();
    let error = Folder::below(parent.path()).err().unwrap().to_string();
    assert!(error.contains("weir-demo") && error.contains("exists"), "{error}");
}

/// The rules that would be written for the manifests, in a kernel in memory.
fn planned(family: Family) -> Ruleset {
    let parent = tempfile::tempdir().unwrap();
    let model = model(&Folder::below(parent.path()).unwrap());
    let (desired, _) = Desired::plan(&Arc::new(settings()), &Family::ALL, &model);
    let mut kernel = SimKernel::new(Variant::Nft);
    kernel.apply(&desired.compare().finish()).unwrap();
    Ruleset::observe(&mut kernel, family).unwrap()
}

fn way(attempt: &Attempt) -> Way {
    rules::way(&planned(Family::of(&attempt.to.ip())), &host(), &packet(attempt), &names()).unwrap()
}

#[test]
fn ways_name_the_chains_that_decide() {
    let daily: Vec<Attempt> = steps::daily().into_iter().flat_map(|step| step.attempts).collect();
    let text = |who: &str| {
        let attempt = daily.iter().find(|attempt| format!("{} {}", attempt.from, attempt.to) == who).unwrap();
        let way = way(attempt);
        assert_eq!(way.fate, attempt.expected, "{who}");
        way.chains
    };
    // The hashes of services are those of their names: demo/web:http, TCP.
    for (who, expected) in [
        ("pod1 10.96.0.10:80", "KUBE-SERVICES → KUBE-SVC-XRY7… → KUBE-SEP-4267… or 2 more"),
        (
            "client [2001:db8:99::10]:30080",
            "KUBE-SERVICES → KUBE-NODEPORTS → KUBE-EXT-XRY7… → KUBE-SVC-XRY7… → KUBE-SEP-UK4Q… or 2 more",
        ),
        ("blocked 198.51.100.20:80", "KUBE-SERVICES → KUBE-FW-6EH4…, then filter KUBE-PROXY-FIREWALL → DROP"),
        ("pod1 [fd00:10:96::50]:80", "filter KUBE-SERVICES → REJECT"),
    ] {
        assert_eq!(text(who), expected, "{who}");
    }
    let nobody = Attempt { to: "10.96.9.9:80".parse().unwrap(), ..daily[0].clone() };
    let way = way(&nobody);
    assert_eq!((way.fate, way.chains.as_str()), (Fate::Unreachable, "KUBE-SERVICES: no rule for it"));
}

#[test]
fn a_problem_is_either_what_happened_or_what_the_rules_say() {
    let good = Fate::answered(&["pod1"], Seen::Kept);
    let other = Fate::answered(&["pod1"], Seen::Masqueraded);
    assert_eq!(problem(&good, &good, &good), None);
    assert_eq!(
        problem(&good, &other, &good).unwrap(),
        "expected:  answered by pod1; the source address is kept\n\
         happened:  answered by pod1; the source address becomes the node's\n\
         the rules: answered by pod1; the source address is kept"
    );
    let text = problem(&good, &good, &Fate::Dropped).unwrap();
    assert_eq!(text, "expected:  answered by pod1; the source address is kept, and so it was\nthe rules: dropped");
}

/// Runs a table into text without colours.
fn printed(rows: &[Row]) -> (String, bool) {
    let mut out = Vec::new();
    let mut table = Table::new(anstream::StripStream::new(&mut out));
    table.head();
    table.title("Something");
    rows.iter().for_each(|row| table.row(row));
    table.count(7);
    let good = table.finish("iptables-nft 1.8.9", Duration::from_millis(1234));
    (String::from_utf8(out).unwrap(), good)
}

#[test]
fn a_table_says_what_failed() {
    let row = Row { who: "a → b".to_owned(), below: "KUBE-SERVICES".to_owned(), ..Row::default() };
    let (text, good) = printed(std::slice::from_ref(&row));
    assert!(
        good && text.ends_with("\n7 connections, 1 checks, all as expected; iptables-nft 1.8.9; 1.2 s.\n"),
        "{text}"
    );
    let failed =
        Row { problem: Some("expected:  x\nhappened:  y".to_owned()), time: Some(Duration::ZERO), ..row.clone() };
    let (text, good) = printed(&[row, failed]);
    assert!(!good, "{text}");
    assert!(text.contains("\nFAILED  a → b"), "{text}");
    assert!(text.contains("        expected:  x\n        happened:  y\n"), "{text}");
    assert!(text.contains("\n1 of 2 checks FAILED, 7 connections; iptables-nft 1.8.9; 1.2 s.\n"), "{text}");
}

#[test]
fn titles_and_addresses_fit() {
    for step in steps::daily() {
        assert!(step.title.chars().count() <= 96, "{}", step.title);
        for attempt in step.attempts {
            assert!(format!("{} → {}", attempt.from, attempt.to).chars().count() < 34, "{attempt:?}");
        }
    }
}

#[test]
fn times_have_the_digits_that_matter() {
    let text = |micros| milliseconds(Duration::from_micros(micros));
    assert_eq!([text(423), text(9_994), text(10_400), text(1_026_000)], ["0.42 ms", "9.99 ms", "10 ms", "1026 ms"]);
}
