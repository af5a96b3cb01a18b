//! First-packet latency: what a new TCP connection pays for the rules.
//!
//! `cargo bench --bench latency` (root, or `weir`'s own sandbox for others). In namespaces, per iptables variant: a pod
//! connects to another pod directly, to services, and to an address that is no service; without rules, with weir's
//! dispatch tree, and with one linear chain as kube-proxy writes it. All in one run, on one machine.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/measure.rs"]
mod measure;

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cluster::Size;
use measure::{median_p99, timed};
use weir::kernel::xtables::restore::RestoreDriver;
use weir::kernel::xtables::variant::{Variant, detect};
use weir::kernel::xtables::{ChainChange, ChainKey, ChainName, Changes, Rule, Table, Target, Xtables};
use weir::lab::{EchoServer, Host, Lab, LabConfig, sandbox};
use weir::model::{LocalDetector, ServicePort, Settings};
use weir::net::{Family, Protocol};
use weir::plan::iptables::Desired;
use weir::resolve::{NodeContext, Options, resolve};
use weir::state::{Fact, State, Update};

const SERVICES: u32 = 10_000;
/// Every so many services leads to the pod that answers; they are spread over the whole chain.
const STRIDE: u32 = 50;
const PORT: u16 = 8080;
const ROUNDS: usize = 10;

fn model(endpoint: IpAddr) -> Vec<Arc<ServicePort>> {
    let size = Size::new(SERVICES, 1);
    let mut state = State::default();
    state.apply(cluster::everything(size));
    for i in (0..SERVICES).step_by(STRIDE as usize) {
        let mut slice = cluster::slice(i, 1, 0);
        slice.endpoints[0].ip = endpoint;
        state.apply(vec![Update::Upsert(Fact::EndpointSlice(slice))]);
    }
    let node = NodeContext { name: cluster::NODE.into(), zone: None };
    let names: Vec<_> = state.service_names().cloned().collect();
    names.iter().flat_map(|name| resolve(&state, name, &node, &Options::default())).collect()
}

/// Makes the kernel hold the plan; `linear` flattens the dispatch tree into KUBE-SERVICES.
fn install(driver: &mut RestoreDriver, settings: &Arc<Settings>, model: &[Arc<ServicePort>], linear: bool) {
    let (desired, _) = Desired::plan(settings, &[Family::V4], model);
    let mut comparison = desired.compare();
    for table in Table::ALL {
        driver.observe(Family::V4, table, &mut |chain| comparison.observed(Family::V4, table, chain)).expect("observe");
    }
    let mut changes = comparison.finish();
    if linear {
        flatten(&mut changes, settings, model);
    }
    driver.apply(&changes).expect("apply");
}

/// One rule a service in KUBE-SERVICES, in the order of the services' names.
fn flatten(changes: &mut Changes, settings: &Arc<Settings>, model: &[Arc<ServicePort>]) {
    let (all, _) = Desired::plan(settings, &[Family::V4], model);
    let is_tree = |key: &ChainKey| key.table == Table::Nat && key.name.as_str().starts_with("KUBE-SVC-s-");
    let root = ChainKey { family: Family::V4, table: Table::Nat, name: ChainName::new("KUBE-SERVICES") };
    let leads_to_tree = |rule: &Rule| match &rule.target {
        Some(Target::Jump(to)) => to.as_str().starts_with("KUBE-SVC-s-"),
        _ => false,
    };
    let mut rules: Vec<Rule> = all
        .chains()
        .iter()
        .filter(|(key, _)| is_tree(key))
        .flat_map(|(_, rules)| rules.iter().filter(|rule| !leads_to_tree(rule)).cloned())
        .collect();
    // The order of a map of names has nothing to do with addresses.
    rules.sort_by_key(|rule| weir::net::stable_hash64(format!("{:?}", rule.target).as_bytes()));
    rules.extend(all.chains().get(&root).into_iter().flatten().filter(|rule| !leads_to_tree(rule)).cloned());
    changes.chains.insert(root, ChainChange { before: None, after: Some(rules) });
}

/// Connects to each address in turn, several rounds; the median and the 99th percentile of a connect.
fn connects(from: &Host, to: &[SocketAddr]) -> (Duration, Duration) {
    let samples = from
        .run(|| {
            let mut samples = Vec::new();
            for _ in 0..ROUNDS {
                for address in to {
                    let (stream, took) = timed(|| TcpStream::connect_timeout(address, Duration::from_secs(2)));
                    drop(stream.expect("a connection"));
                    samples.push(took);
                }
            }
            samples
        })
        .expect("the host");
    median_p99(samples)
}

struct Paths {
    direct: Vec<SocketAddr>,
    services: Vec<SocketAddr>,
    foreign: Vec<SocketAddr>,
}

fn row(variant: Variant, what: &str, from: &Host, paths: &Paths, base: Option<&(f64, f64)>) -> (f64, f64) {
    let us = |d: Duration| d.as_secs_f64() * 1e6;
    let (direct, _) = connects(from, &paths.direct);
    let (foreign, foreign_p99) = connects(from, &paths.foreign);
    let service = base.map(|_| connects(from, &paths.services));
    let ratio = |value: f64, base: Option<f64>| base.map_or(String::new(), |base| format!(" ({:.2}x)", value / base));
    println!(
        "| {variant} | {what} | {:.1} | {} | {:.1}{} | {:.1} |",
        us(direct),
        service.map_or("-".to_owned(), |(m, _)| format!("{:.1}{}", us(m), ratio(us(m), base.map(|b| b.0)))),
        us(foreign),
        ratio(us(foreign), base.map(|b| b.1)),
        us(foreign_p99),
    );
    (us(direct), us(foreign))
}

fn measure(variant: Variant) {
    let lab = Lab::new(&LabConfig::default()).expect("the lab");
    let (client, server, outside) = (&lab.pods()[0], &lab.pods()[1], lab.client());
    let address = server.address(Family::V4).expect("an address");
    let foreign = outside.address(Family::V4).expect("an address");
    let _servers = [server, outside].map(|host| EchoServer::start(host, &[(Protocol::Tcp, PORT)]).expect("a server"));
    let many = |to: SocketAddr| vec![to; (SERVICES / STRIDE) as usize];
    let paths = Paths {
        direct: many((address, PORT).into()),
        foreign: many((foreign, PORT).into()),
        services: (0..SERVICES)
            .step_by(STRIDE as usize)
            .map(|i| (IpAddr::V4(cluster::cluster_ip(i)), 80).into())
            .collect(),
    };
    let mut settings = Settings::default();
    settings.detector.v4 = LocalDetector::Cidr("10.244.0.0/16".parse().expect("a network"));
    let settings = Arc::new(settings);
    let ports = model(address);
    let base = row(variant, "no rules", client, &paths, None);
    for (what, linear) in [("weir's tree", false), ("one linear chain", true)] {
        lab.node()
            .run(|| {
                let mut driver = RestoreDriver::new(detect(Some(variant)).expect("iptables"));
                install(&mut driver, &settings, &ports, linear);
            })
            .expect("the node");
        row(variant, what, client, &paths, Some(&base));
    }
}

fn main() {
    match sandbox::enter() {
        Ok(sandbox::Entered::Inside) => {}
        Ok(sandbox::Entered::Ended(code)) => std::process::exit(code.into()),
        Err(error) => panic!("{error}"),
    }
    println!("TCP connect of a pod, microseconds, median; {SERVICES} services; in brackets against no rules");
    println!("| variant | rules | pod direct | service | foreign address | p99 |");
    println!("|---|---|---|---|---|---|");
    for variant in Variant::ALL {
        measure(variant);
    }
}
