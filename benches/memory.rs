//! How much memory facts and model take: bytes for each service and each endpoint.
//!
//! `cargo bench --bench memory`. What is in use after the first lists were read and applied, as the allocator counts it
//! (with what it rounds up), apart for the facts and for what resolving makes of them.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "decode/objects.rs"]
mod objects;

use std::collections::BTreeMap;
use std::sync::Arc;

use objects::Dress;
use weir::model::{ServicePort, ServicePortKey};
use weir::resolve::{NodeContext, Options, resolve};
use weir::source::kube::Replay;
use weir::state::{Kind, State};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes that this thread has allocated and not given back.
fn in_use() -> u64 {
    let allocated = tikv_jemalloc_ctl::thread::allocatedp::read().expect("a counter").get();
    allocated.saturating_sub(tikv_jemalloc_ctl::thread::deallocatedp::read().expect("a counter").get())
}

/// Feeds the first list of a kind; returns the reader, which keeps the names that facts share.
fn follow(state: &mut State, kind: Kind, name: &str, objects: impl Iterator<Item = serde_json::Value>) -> Replay {
    let mut replay = reader(kind);
    for object in objects {
        let line = format!("{{\"type\":\"ADDED\",\"object\":{object}}}\n");
        state.apply(replay.push(line.as_bytes()).expect("a good event"));
    }
    let end = format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{name}\",\"metadata\":{{\"resourceVersion\":\"2000000\",\
         \"annotations\":{{\"k8s.io/initial-events-end\":\"true\"}}}}}}}}\n"
    );
    state.apply(replay.push(end.as_bytes()).expect("a good end"));
    replay
}

fn reader(kind: Kind) -> Replay {
    Replay::new(kind, weir::source::kube::Encoding::Json)
}

fn measure(services: u32, endpoints: u32, dress: Dress) {
    let node = NodeContext { name: cluster::NODE.into(), zone: None };
    let empty = in_use();
    // Trigger times are of changes after the start; there are none.
    let mut state = State::new(i64::MAX);
    let _services = follow(&mut state, Kind::Service, "Service", (0..services).map(|i| objects::service(i, dress)));
    let with_services = in_use();
    let slices = (0..services).map(|i| objects::slice(i, endpoints, 0, dress));
    let _slices = follow(&mut state, Kind::EndpointSlice, "EndpointSlice", slices);
    let facts = in_use();
    let mut model: BTreeMap<ServicePortKey, Arc<ServicePort>> = BTreeMap::new();
    for name in state.service_names() {
        model
            .extend(resolve(&state, name, &node, &Options::default()).into_iter().map(|port| (port.key.clone(), port)));
    }
    let resolved = in_use();
    let per = |bytes: u64, count: u32| bytes as f64 / f64::from(count);
    println!(
        "| {services} x {endpoints} {dress:?} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1} |",
        per(with_services - empty, services),
        per(facts - with_services, services),
        per(resolved - facts, services),
        per(resolved - empty, services),
        per(resolved - empty, services * endpoints),
        (resolved - empty) as f64 / f64::from(1 << 20),
    );
}

fn main() {
    println!(
        "| services x endpoints | service B | slice B | model B | all of a service B | all by endpoint B | MiB in all |"
    );
    println!("|---|---|---|---|---|---|---|");
    for dress in [Dress::Bare, Dress::Full] {
        for (services, endpoints) in [(1000, 10), (10_000, 10), (10_000, 1), (10_000, 50), (1, 5000)] {
            measure(services, endpoints, dress);
        }
    }
}
