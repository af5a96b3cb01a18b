//! The whole process: `weir proxy` against the scripted API server and a real kernel, in a namespace.
//!
//! `cargo bench --bench process` (root, or an ordinary user where user namespaces are allowed). For each iptables
//! variant: start to serving, own CPU and that of its children, resident memory, one change to first rules.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[path = "../test-harness/api_server/mod.rs"]
mod api_server;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/measure.rs"]
mod measure;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use api_server::ApiServer;
use cluster::Size;
use serde_json::json;
use weir::lab::{Host, Lab, LabConfig, sandbox};

/// Seconds of user and system time of a process with the children that it waited for, and its resident MiB now and at
/// the peak.
struct Usage {
    own_cpu: f64,
    children_cpu: f64,
    resident: f64,
    peak: f64,
}

fn usage(pid: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(") ").next().unwrap_or_default().split(' ').map(|f| f.parse().unwrap_or(0.0)).collect();
    let ticks = |i: usize| fields.get(i).copied().unwrap_or(f64::NAN) / 100.0;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap_or(f64::NAN) / 1024.0
    };
    // Fields after the name: utime 11, stime 12, cutime 13, cstime 14 (proc(5), counted from the state as 0).
    Usage {
        own_cpu: ticks(11) + ticks(12),
        children_cpu: ticks(13) + ticks(14),
        resident: mib("VmRSS:"),
        peak: mib("VmHWM:"),
    }
}

fn objects(server: &ApiServer, size: Size) {
    server.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": cluster::NODE}}));
    for i in 0..size.services {
        let ip = cluster::cluster_ip(i).to_string();
        server.put(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": format!("ns-{}", i % 100), "name": format!("svc-{i}")},
            "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                     "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
        }));
        server.put(slice(i, size, 0));
    }
}

fn slice(i: u32, size: Size, version: u32) -> serde_json::Value {
    let endpoints: Vec<_> = (0..size.endpoints)
        .map(|e| {
            let version = if e + 1 == size.endpoints { version } else { 0 };
            json!({"addresses": [cluster::endpoint_ip(i, e, version).to_string()],
                   "conditions": {"ready": true, "serving": true, "terminating": false},
                   "nodeName": format!("node-{}", (i + e) % 100),
                   "targetRef": {"kind": "Pod", "namespace": "ns", "name": format!("pod-{i}-{e}")}})
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": format!("ns-{}", i % 100), "name": format!("svc-{i}-abcde"),
                     "labels": {"kubernetes.io/service-name": format!("svc-{i}")}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

/// Waits until the chain's rules, as the tool lists them, contain a text.
fn wait_for(node: &Host, variant: &str, chain: &str, text: &str, patience: Duration) -> Duration {
    let begin = Instant::now();
    loop {
        let mut list = Command::new(format!("iptables-{variant}"));
        list.args(["-t", "nat", "-S", chain]).stderr(Stdio::null());
        let listed = node.output(list).map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        if listed.is_ok_and(|listed| listed.contains(text)) {
            return begin.elapsed();
        }
        assert!(begin.elapsed() < patience, "{chain} never had {text}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn measure(variant: &str, size: Size) {
    let lab = Lab::new(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() }).expect("the lab");
    let node = lab.node();
    let runtime = node
        .run(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build())
        .expect("the node")
        .expect("a runtime");
    let server = runtime.block_on(runtime.spawn(ApiServer::start())).expect("a server");
    objects(&server, size);
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .args(["proxy", "--master", &server.url(), "--hostname-override", cluster::NODE])
        .args(["--cluster-cidr", "11.0.0.0/8", "--iptables-variant", variant])
        .args(["--iptables-min-sync-period", "0", "--iptables-sync-period", "10m"])
        .env("WEIR_LOG", "warn");
    let begin = Instant::now();
    let mut child = node.spawn(command).expect("weir");
    let pid = child.id();
    // The chain that comes last: its own jump from a built-in chain.
    wait_for(node, variant, "PREROUTING", "KUBE-SERVICES", Duration::from_secs(300));
    let serving = begin.elapsed();
    let at_start = usage(pid);
    std::thread::sleep(Duration::from_secs(15));
    let settled = usage(pid);
    let mut latencies = Vec::new();
    let key = |i: u32| format!("ns-{}/svc-{i}:http", i % 100);
    for n in 1..=20u32 {
        let i = n * 379 % size.services;
        let chain = format!("KUBE-SVC-{}", weir::net::base32_sha256(&[key(i).as_bytes(), b"tcp"]));
        let wanted = cluster::endpoint_ip(i, size.endpoints - 1, n);
        server.put(slice(i, size, n));
        latencies.push(wait_for(node, variant, &chain, &format!("-> {wanted}:"), Duration::from_secs(30)));
    }
    let after = usage(pid);
    let (median, p99) = measure::median_p99(latencies);
    println!(
        "| {variant} | {size} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} |",
        serving.as_secs_f64(),
        at_start.own_cpu,
        at_start.children_cpu,
        settled.peak,
        settled.resident,
        median.as_secs_f64() * 1e3,
        p99.as_secs_f64() * 1e3,
        (after.own_cpu - settled.own_cpu) * 1e3 / 20.0,
        (after.children_cpu - settled.children_cpu) * 1e3 / 20.0,
    );
    let _ = child.kill();
    let _ = child.wait();
}

fn main() {
    match sandbox::enter() {
        Ok(sandbox::Entered::Inside) => {}
        Ok(sandbox::Entered::Ended(code)) => std::process::exit(code.into()),
        Err(error) => panic!("{error}"),
    }
    println!(
        "| variant | services x endpoints | start to serving s | own CPU s | tools' CPU s | peak MiB | MiB 15 s later | change to rules ms | p99 | own CPU a change ms | tools' CPU a change ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for variant in ["legacy", "nft"] {
        for size in [Size { services: 1000, endpoints: 10 }, Size { services: 10_000, endpoints: 10 }] {
            measure(variant, size);
        }
    }
}
