//! From the bytes of a watch to facts: what a change costs, and what the first list costs.
//!
//! `cargo bench --bench decode`. CPU time of this thread, so that other work on the machine counts little; bytes that
//! were allocated for it; and how much more memory was in use at most while it was read, and afterwards.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/cluster.rs"]
mod cluster;
#[path = "decode/objects.rs"]
mod objects;
#[path = "../test-harness/api_server/protobuf.rs"]
mod protobuf;

use std::time::Duration;

use objects::Dress;
use serde_json::Value;
use weir::source::kube::{Encoding, Replay};
use weir::state::{Kind, Update};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const ENCODINGS: [Encoding; 2] = [Encoding::Json, Encoding::Protobuf];

/// What a watch hands over in one read, more or less.
const CHUNK: usize = 16 << 10;

/// CPU time of this thread: the first field of schedstat, nanoseconds.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("schedstat");
    Duration::from_nanos(text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("nanoseconds"))
}

/// Bytes that this thread has ever allocated.
fn allocated() -> u64 {
    tikv_jemalloc_ctl::thread::allocatedp::read().expect("a counter").get()
}

/// Bytes that this thread has allocated and not given back.
fn in_use() -> u64 {
    let given_back = tikv_jemalloc_ctl::thread::deallocatedp::read().expect("a counter").get();
    allocated().saturating_sub(given_back)
}

fn event(encoding: Encoding, event_type: &str, object: &Value) -> Vec<u8> {
    match encoding {
        Encoding::Json => format!("{{\"type\":\"{event_type}\",\"object\":{object}}}\n").into_bytes(),
        Encoding::Protobuf => protobuf::event(event_type, &protobuf::object(object)),
    }
}

/// The initial events of a kind with their end.
fn initial(encoding: Encoding, kind: &str, count: u32, object: impl Fn(u32) -> Value) -> Vec<u8> {
    let mut body = Vec::new();
    for i in 0..count {
        body.extend(event(encoding, "ADDED", &object(i)));
    }
    body.extend(end(encoding, kind));
    body
}

fn end(encoding: Encoding, kind: &str) -> Vec<u8> {
    let end = serde_json::json!({"kind": kind, "apiVersion": "v1", "metadata": {"resourceVersion": "2000000",
        "annotations": {"k8s.io/initial-events-end": "true"}}});
    event(encoding, "BOOKMARK", &end)
}

/// A first list of services and one of slices.
fn first_list(encoding: Encoding, services: u32, endpoints: u32, dress: Dress) {
    for (kind, name) in [(Kind::Service, "Service"), (Kind::EndpointSlice, "EndpointSlice")] {
        let body = initial(encoding, name, services, |i| match kind {
            Kind::Service => objects::service(i, dress),
            _ => objects::slice(i, endpoints, 0, dress),
        });
        let mut replay = Replay::new(kind, encoding);
        let (memory, bytes, begin) = (in_use(), allocated(), cpu());
        let mut updates = Vec::new();
        let mut peak = 0;
        for (n, chunk) in body.chunks(CHUNK).enumerate() {
            updates.extend(replay.push(chunk).expect("a good body"));
            if n % 64 == 0 {
                peak = peak.max(in_use());
            }
        }
        let (took, bytes, after) = (cpu() - begin, allocated() - bytes, in_use());
        assert!(matches!(updates.as_slice(), [Update::Replace { facts, .. }] if facts.len() == services as usize));
        let mib = |bytes: f64| bytes / f64::from(1 << 20);
        let per = took.as_secs_f64() * 1e9 / f64::from(services);
        println!(
            "| {encoding:?} | {name} {dress:?} | {services} x {endpoints} | {:.1} | {:.0} | {per:.0} | {:.0} | {:.1} | {:.1} |",
            mib(body.len() as f64),
            took.as_secs_f64() * 1e3,
            mib(bytes as f64),
            mib(peak.max(after).saturating_sub(memory) as f64),
            mib(after.saturating_sub(memory) as f64),
        );
    }
}

/// One changed slice after another.
fn changes(encoding: Encoding, endpoints: u32, dress: Dress) {
    const CHANGES: u32 = 2000;
    let mut replay = Replay::new(Kind::EndpointSlice, encoding);
    replay.push(&end(encoding, "EndpointSlice")).expect("a good end");
    let events: Vec<_> =
        (0..CHANGES).map(|i| event(encoding, "MODIFIED", &objects::slice(i % 50, endpoints, i, dress))).collect();
    let length = events.iter().map(Vec::len).sum::<usize>() / events.len();
    let (bytes, begin) = (allocated(), cpu());
    for event in &events {
        assert_eq!(replay.push(event).expect("a good event").len(), 1);
    }
    let took = (cpu() - begin).as_secs_f64() * 1e9 / f64::from(CHANGES);
    println!(
        "| {encoding:?} | slice of {endpoints} {dress:?} | {length} | {took:.0} | {:.0} |",
        (allocated() - bytes) as f64 / f64::from(CHANGES)
    );
}

fn main() {
    println!("One change, from its bytes to its update:\n");
    println!("| encoding | event | bytes | ns | bytes allocated |");
    println!("|---|---|---|---|---|");
    for dress in [Dress::Bare, Dress::Full] {
        for endpoints in [1, 10, 100] {
            for encoding in ENCODINGS {
                changes(encoding, endpoints, dress);
            }
        }
    }
    println!("\nThe first list, as a stream:\n");
    println!(
        "| encoding | list | services x endpoints | MiB of body | CPU ms | ns an object | MiB allocated | peak MiB | MiB kept |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (services, endpoints) in [(1000, 10), (10_000, 10), (10_000, 1)] {
        for dress in [Dress::Bare, Dress::Full] {
            for encoding in ENCODINGS {
                first_list(encoding, services, endpoints, dress);
            }
        }
    }
}
