//! What there is on a node, as the tools tell it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use weir::net::Family;

use super::shared::variants::save;
use super::shared::world::World;

/// All rules of all families, without counters and what iptables-save says about itself.
pub fn rules(world: &World) -> Vec<String> {
    let of = |family| {
        let saved = save(world.lab.node(), &world.driver, family);
        saved.lines().filter(|line| !line.starts_with('#')).map(without_counters).collect::<Vec<_>>()
    };
    world.families().into_iter().flat_map(of).collect()
}

fn without_counters(line: &str) -> String {
    let chain = line.strip_prefix(':').and_then(|chain| chain.split(" [").next());
    chain.map_or_else(|| line.to_owned(), |chain| format!(":{chain}"))
}

/// Names of the chains that a proxy has, sorted; not of the one that it shares with the kubelet.
pub fn chains(rules: &[String]) -> Vec<&str> {
    let names = rules.iter().filter_map(|line| line.strip_prefix(':')?.split(' ').next());
    let mut names: Vec<&str> = names.filter(|name| name.starts_with("KUBE-") && *name != "KUBE-FIREWALL").collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Virtual servers and real servers, sorted.
pub fn servers(world: &World) -> Vec<String> {
    sorted(lines(world, "ipvsadm", &["-Sn"]))
}

/// Sets and entries, sorted.
pub fn sets(world: &World) -> Vec<String> {
    sorted(lines(world, "ipset", &["save"]).iter().map(|line| without_chance(line)).collect())
}

/// The seed of a set's hash is another one each time. How large its buckets are is told only to who asked for a size.
fn without_chance(line: &str) -> String {
    line.split(" bucketsize ").next().and_then(|line| line.split(" initval ").next()).unwrap_or_default().to_owned()
}

/// Addresses of the service device, sorted, and the device itself.
pub fn device(world: &World) -> Vec<String> {
    // Not asked for by the name of a device, which may be gone by then.
    let shown = lines(world, "ip", &["-o", "address", "show"]);
    let of_dummies = lines(world, "ip", &["-o", "link", "show", "type", "dummy"]);
    let names = of_dummies.iter().filter_map(|line| line.split_whitespace().nth(1)?.strip_suffix(':'));
    let addresses = names.flat_map(|name| {
        let words = shown.iter().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>());
        let all = words.filter(|words| words.first() == Some(&name)).filter_map(|words| words.get(2).copied());
        std::iter::once(name).chain(all).map(str::to_owned).collect::<Vec<_>>()
    });
    sorted(addresses.collect())
}

/// Addresses that are the node's own for the kernel.
pub fn local_routes(world: &World, family: Family) -> Vec<String> {
    let option = if family == Family::V4 { "-4" } else { "-6" };
    let shown = lines(world, "ip", &[option, "route", "show", "table", "local", "type", "local"]);
    shown.iter().filter_map(|line| line.split_whitespace().find(|word| *word != "local").map(str::to_owned)).collect()
}

/// All of IPVS mode but rules.
pub fn beside_rules(world: &World) -> Vec<String> {
    [servers(world), sets(world), device(world)].concat()
}

/// Waits until nothing of IPVS mode is left but rules. That takes until all that drains is cut off if a client used a port
/// again at the wrong moment: the kernel then remembers a connection for two minutes. Tells what is left after that.
#[track_caller]
pub fn until_nothing_is_left(world: &World, drain: Duration) {
    let begin = Instant::now();
    loop {
        let left = beside_rules(world);
        if left.is_empty() {
            return;
        }
        if begin.elapsed() > drain + Duration::from_secs(60) {
            let connections = lines(world, "ipvsadm", &["-Lcn"]);
            panic!("this is left of IPVS mode:\n{}\n{}", left.join("\n"), connections.join("\n"));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn lines(world: &World, program: &str, arguments: &[&str]) -> Vec<String> {
    world.lab.node().check(program, arguments, "").unwrap().lines().map(str::to_owned).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// Lines of which one has more than the other, with a sign.
pub fn difference(left: &[String], right: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<&String, i32> = BTreeMap::new();
    left.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
    right.iter().for_each(|line| *counts.entry(line).or_default() += 1);
    let sign = |count: i32| if count < 0 { '-' } else { '+' };
    counts.retain(|_, count| *count != 0);
    counts.into_iter().map(|(line, count)| format!("{} {line}", sign(count))).collect()
}
