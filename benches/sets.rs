//! A set of 100,000 entries: written, read and compared by weir, and beside it `ipset restore`.
//!
//! `cargo bench --bench sets` (root, or an ordinary user where user namespaces are allowed; a kernel with ipset, and the
//! tool).

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/measure.rs"]
mod measure;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use measure::timed;
use weir::kernel::ipset::{
    Changes, Entries, Entry, IpsetDriver, ObservedSet, SetChange, SetName, SetSpec, SetType, Sets, compare,
};
use weir::lab::{Host, Lab, LabConfig, sandbox};
use weir::net::{Family, Protocol};

const ENTRIES: u32 = 100_000;

const SPEC: SetSpec = SetSpec { set_type: SetType::HashIpPort, family: Family::V4, comments: false };

fn addresses() -> impl Iterator<Item = Ipv4Addr> {
    (0..ENTRIES).map(|number| (0x0a00_0000 + number).into())
}

fn observe(driver: &mut IpsetDriver) -> Vec<ObservedSet> {
    let mut found = Vec::new();
    driver.observe(&|_| true, &mut |set| found.push(set)).unwrap();
    found
}

fn of_one(name: &SetName, change: SetChange) -> Changes {
    Changes { sets: [(name.clone(), change)].into() }
}

/// What `ipset restore` reads to make the same set.
fn text() -> String {
    let mut text = "create TOOL hash:ip,port family inet maxelem 131072\n".to_owned();
    addresses().for_each(|address| writeln!(text, "add TOOL {address},tcp:80").unwrap());
    text
}

fn measure(node: &Host) {
    let mut driver = IpsetDriver::open().expect("a kernel with ipset");
    let all: Entries = addresses().map(|ip| (Entry::IpPort(IpAddr::V4(ip), Protocol::Tcp, 80), None)).collect();
    let name = SetName::new("WEIR");
    let whole = SetChange { after: Some(SPEC), add: all.clone(), ..SetChange::default() };
    let ((), written) = timed(|| driver.apply(&of_one(&name, whole)).unwrap());
    let (found, read) = timed(|| observe(&mut driver));
    assert!(found.iter().any(|set| set.name == name && set.entries == all), "all entries are there");

    let wanted = BTreeMap::from([(name.clone(), (SPEC, all.clone()))]);
    let (compared, comparing) = timed(|| compare(&wanted, &found, &|_| true));
    assert!(compared.changes.is_empty() && compared.mismatches.is_empty(), "nothing differs");

    let more = [(Entry::IpPort(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), Protocol::Tcp, 80), None)];
    let one = SetChange { before: Some(SPEC), after: Some(SPEC), add: more.into(), remove: BTreeSet::new() };
    let ((), single) = timed(|| driver.apply(&of_one(&name, one)).unwrap());

    let text = text();
    let (_, by_tool) = timed(|| node.check("ipset", &["restore"], &text).expect("ipset restore"));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "| {ENTRIES} | {:.0} | {:.0} | {:.0} | {:.0} | {:.3} |",
        ms(written),
        ms(by_tool),
        ms(read),
        ms(comparing),
        ms(single)
    );
}

fn main() {
    match sandbox::enter() {
        Ok(sandbox::Entered::Inside) => {}
        Ok(sandbox::Entered::Ended(code)) => std::process::exit(code.into()),
        Err(error) => panic!("{error}"),
    }
    println!("| entries | write ms | `ipset restore` ms | read ms | compare ms | one entry ms |");
    println!("|---|---|---|---|---|---|");
    let lab = Lab::new(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() }).expect("the lab");
    lab.node().run(|| measure(lab.node())).expect("the node");
}
