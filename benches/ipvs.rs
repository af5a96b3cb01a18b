//! User space's part of IPVS mode: facts → model → plan → messages, without a kernel.
//!
//! `cargo bench --bench ipvs`. Prints tables in Markdown; figures that were kept are in `benches/results/`.
//!
//! *cold* is from no virtual server to all of them: plan, compare with an empty kernel, encode every message. *restart* is
//! the comparison with a kernel that holds everything already. A *change* replaces one endpoint of one service: *plan and
//! encode* is from the resolved service port to the bytes for the kernel, *whole* begins at the facts.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/measure.rs"]
mod measure;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::Size;
use measure::{median_p99, resident_mib, timed};
use weir::kernel::ipset::ObservedSet;
use weir::kernel::ipvs::request::{Request, Table};
use weir::kernel::ipvs::{ObservedRealServer, ObservedVirtualServer, apply, encode};
use weir::kernel::link::Device;
use weir::kernel::netlink::{Batch, NetlinkError, Refusal};
use weir::model::{LocalDetector, ServicePort, ServicePortKey, Settings};
use weir::net::{Family, ObjectName};
use weir::plan::Move;
use weir::plan::ipvs::{Desired, Difference, Goal, Observed, Planner, UnixSeconds, compare};
use weir::resolve::{NodeContext, Options, resolve};
use weir::state::{State, Update};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NOW: UnixSeconds = 1_800_000_000;
const FAMILIES: [Family; 1] = [Family::V4];
/// As many messages as the driver sends at once.
const CHUNK: usize = 200;

type Model = BTreeMap<ServicePortKey, Arc<ServicePort>>;

/// Writes what the driver would send, and counts.
struct Counter {
    batch: Batch,
    messages: usize,
    bytes: usize,
}

impl Counter {
    fn new() -> Self {
        Counter { batch: Batch::new("benchmark"), messages: 0, bytes: 0 }
    }

    /// Encodes the messages for virtual servers, and counts entries of sets.
    fn encode(&mut self, difference: &Difference) -> usize {
        apply::apply(self, &difference.servers, 1).expect("nothing is refused");
        difference.sets.sets.values().map(|set| set.add.len() + set.remove.len()).sum()
    }
}

impl Table for Counter {
    fn write(&mut self, requests: &[Request<'_>], _: &mut dyn FnMut(usize, Refusal)) -> Result<(), NetlinkError> {
        for chunk in requests.chunks(CHUNK) {
            self.batch.clear();
            chunk.iter().for_each(|request| encode::write(&mut self.batch, 30, request));
            self.bytes += std::hint::black_box(self.batch.bytes()).len();
        }
        self.messages += requests.len();
        Ok(())
    }
}

/// A kernel that holds everything that is wanted.
fn observed(desired: &Desired) -> Observed {
    let sets = desired.sets.iter();
    Observed {
        sets: sets
            .map(|(name, (spec, entries))| ObservedSet {
                name: name.clone(),
                spec: Ok(*spec),
                entries: entries.clone(),
            })
            .collect(),
        device: Device::Dummy { addresses: desired.addresses.clone() },
        servers: desired
            .servers
            .iter()
            .map(|(key, (server, reals))| ObservedVirtualServer {
                key: *key,
                server: server.clone(),
                unknown: false,
                real_servers: reals
                    .iter()
                    .map(|(endpoint, server)| {
                        (*endpoint, ObservedRealServer { server: *server, ..ObservedRealServer::default() })
                    })
                    .collect(),
            })
            .collect(),
    }
}

struct Pipeline {
    state: State,
    model: Model,
    planner: Planner,
    node: NodeContext,
    counter: Counter,
    most_messages: usize,
    most_entries: usize,
}

impl Pipeline {
    /// Facts of one change all the way to bytes; returns the time of the whole, and of plan and encoding alone.
    fn change(&mut self, update: Vec<Update>) -> (Duration, Duration) {
        let before = self.counter.messages;
        let ((planned, entries), whole) = timed(|| {
            let touched = self.state.apply(update);
            let mut moves = Vec::new();
            for name in &touched.services {
                moves.extend(self.moves(name));
            }
            let (entries, planned) = timed(|| {
                let difference = self.planner.replan(&moves, NOW);
                assert!(!difference.is_empty() && difference.rules.is_empty());
                self.counter.encode(&difference)
            });
            for m in moves {
                if let Some(after) = m.after {
                    self.model.insert(after.key.clone(), after);
                }
            }
            (planned, entries)
        });
        self.most_messages = self.most_messages.max(self.counter.messages - before);
        self.most_entries = self.most_entries.max(entries);
        (whole, planned)
    }

    fn moves(&self, name: &ObjectName) -> Vec<Move> {
        let ports = resolve(&self.state, name, &self.node, &Options::default());
        ports
            .into_iter()
            .map(|after| Move { before: self.model.get(&after.key).cloned(), after: Some(after) })
            .collect()
    }
}

fn measure(size: Size) {
    let node = NodeContext { name: cluster::NODE.into(), zone: None };
    let mut state = State::default();
    state.apply(cluster::everything(size));
    let model: Model = state
        .service_names()
        .flat_map(|name| resolve(&state, name, &node, &Options::default()))
        .map(|port| (port.key.clone(), port))
        .collect();
    let mut settings = Settings::default();
    settings.detector.v4 = LocalDetector::Cidr(cluster::POD_NETWORK.parse().expect("a network"));
    let settings = Arc::new(settings);
    let ports: Vec<_> = model.values().cloned().collect();
    let nothing = Observed { sets: Vec::new(), device: Device::Absent, servers: Vec::new() };
    let against = |observed: &Observed| compare(&settings, &FAMILIES, Goal::Serve(&ports), observed, &|_| false, NOW);
    let before = resident_mib();
    let ((difference, planner), planned) = timed(|| against(&nothing));
    let at_plan = resident_mib();
    let mut cold = Counter::new();
    let (entries, encoded) = timed(|| cold.encode(&difference));
    drop(difference);
    let all = observed(&Desired::of(&planner));
    let (restarted, compared) = timed(|| against(&all));
    assert!(restarted.0.is_empty(), "a restart changes nothing");
    drop((restarted, all));
    let counter = Counter::new();
    let mut pipeline = Pipeline { state, model, planner, node, counter, most_messages: 0, most_entries: 0 };
    let samples: Vec<_> = (0..3000)
        .map(|n| pipeline.change(cluster::change(n * 7 % size.services, size, 1 + n / size.services)))
        .collect();
    let (whole, whole_p99) = median_p99(samples.iter().map(|(whole, _)| *whole).collect());
    let (delta, delta_p99) = median_p99(samples.iter().map(|(_, planned)| *planned).collect());
    let (milli, micro) = (|d: Duration| d.as_secs_f64() * 1e3, |d: Duration| d.as_secs_f64() * 1e6);
    println!(
        "| {size} | {} | {:.1} | {entries} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {} | {} | {:.0} |",
        cold.messages,
        cold.bytes as f64 / 1e6,
        milli(planned),
        milli(encoded),
        milli(compared),
        micro(delta),
        micro(delta_p99),
        micro(whole),
        micro(whole_p99),
        pipeline.most_messages,
        pipeline.most_entries,
        at_plan - before,
    );
}

fn main() {
    println!(
        "| services x endpoints | messages, cold | MB | entries of sets | plan ms | encode ms | restart: compare ms | change: plan and encode us | p99 | whole us | p99 | most messages | most entries | MiB of plan and planner |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (services, endpoints) in [(1000, 10), (10_000, 1), (10_000, 10), (30_000, 10)] {
        measure(Size::new(services, endpoints));
    }
}
