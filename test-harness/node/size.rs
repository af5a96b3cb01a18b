//! Two thousand services of five endpoints, through the API server: what it takes is printed, not judged.

use std::fs;
use std::time::Instant;

use weir::lab::{rerun, skipped};

use crate::cluster::{Api, NODE, service, slice};
use crate::process::{Proxy, diff};
use crate::program::small_lab;

/// In a user namespace iptables-nft cannot enlarge its socket's buffer, so that large changes are refused and made in
/// many parts. That works, but takes its time.
fn services() -> usize {
    if std::env::var_os("WEIR_LAB_RERUN").is_none() {
        return 2_000;
    }
    skipped("node: 2,000 services (in a user namespace: 300)");
    300
}

/// Processor time in hundredths of a second (`utime` and `stime` of proc_pid_stat(5)).
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn memory(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let of_interest = |line: &&str| line.starts_with("VmRSS") || line.starts_with("VmHWM");
    status
        .lines()
        .filter(of_interest)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn two_thousand_services() {
    if !rerun::allowed().unwrap() {
        return;
    }
    let lab = small_lab();
    let node = lab.node();
    let api = Api::start(node);
    let services = services();
    for number in 0..services {
        let name = format!("s{number}");
        let ips: Vec<String> =
            (0..5).map(|e| format!("10.{}.{}.{}", 128 + e, number / 250, number % 250 + 1)).collect();
        api.server.put(service(&name, &format!("10.96.{}.{}", number / 250, number % 250 + 1)));
        api.server.put(slice(&name, &ips.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    let source = api.flag();
    let flags = [source.as_str(), "--hostname-override", NODE, "--iptables-variant=nft"];
    let began = Instant::now();
    let running = Proxy::start(node, &[&flags[..], &["--iptables-sync-period=1h", "-v=2"]].concat()).started();
    println!("start: {:?}, {} ticks, {}", began.elapsed(), ticks(running.pid()), memory(running.pid()));
    assert!(running.says("service ports are in the kernel").contains(&format!(" {services} service ports")));

    let (began, before) = (Instant::now(), ticks(running.pid()));
    api.server.put(slice("s77", &["10.200.0.1"]));
    let line = running.says("task=Apply");
    println!("a change: {:?}, {} ticks: {line}", began.elapsed(), ticks(running.pid()) - before);

    let began = Instant::now();
    let ran = diff(node, &flags);
    println!("diff: {:?}: {}", began.elapsed(), ran.out.lines().last().unwrap_or_default());
    assert_eq!((ran.out.as_str(), ran.code), ("Nothing to change.\n", Some(0)));
    println!("then: {}", memory(running.pid()));
    assert_eq!(running.stop().0, Some(0));
}
