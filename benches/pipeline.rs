//! The pure pipeline in memory: facts → model → plan → delta.
//!
//! `cargo bench --bench pipeline`. Prints a table in Markdown; figures that were kept are in `benches/results/`.

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
use weir::model::{LocalDetector, ServicePort, ServicePortKey, Settings};
use weir::net::{Family, ObjectName};
use weir::plan::Move;
use weir::plan::iptables::{Desired, Planner};
use weir::resolve::{NodeContext, Options, resolve};
use weir::state::{State, Update};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Model = BTreeMap<ServicePortKey, Arc<ServicePort>>;

struct Pipeline {
    state: State,
    model: Model,
    planner: Planner,
    node: NodeContext,
}

impl Pipeline {
    /// Facts of one change all the way to `Changes`; returns the time of the whole and of plan and delta alone.
    fn change(&mut self, update: Vec<Update>) -> (Duration, Duration) {
        let (planned, whole) = timed(|| {
            let touched = self.state.apply(update);
            let mut moves = Vec::new();
            for name in &touched.services {
                moves.extend(self.moves(name));
            }
            let (changes, planned) = timed(|| self.planner.replan(&moves));
            assert!(!changes.is_empty());
            for m in moves {
                if let Some(after) = m.after {
                    self.model.insert(after.key.clone(), after);
                }
            }
            planned
        });
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
    let before = resident_mib();
    let node = NodeContext { name: cluster::NODE.into(), zone: None };
    let mut state = State::default();
    let updates = cluster::everything(size);
    let (_, applied) = timed(|| state.apply(updates));
    let (model, resolved) = timed(|| {
        let mut model = Model::new();
        for name in state.service_names() {
            model.extend(resolve(&state, name, &node, &Options::default()).into_iter().map(|p| (p.key.clone(), p)));
        }
        model
    });
    let mut settings = Settings::default();
    settings.detector.v4 = LocalDetector::Cidr(cluster::POD_NETWORK.parse().expect("a network"));
    let settings = Arc::new(settings);
    let ports: Vec<_> = model.values().cloned().collect();
    let ((desired, planner), planned) = timed(|| Desired::plan(&settings, &[Family::V4], &ports));
    let rules: usize = desired.chains().values().map(Vec::len).sum();
    let chains = desired.chains().len();
    let at_plan = resident_mib();
    drop((desired, ports));
    let mut pipeline = Pipeline { state, model, planner, node };
    // The big service, where there is one, is what is measured.
    let change = |n: u32| match size.big.div_ceil(100) {
        0 => cluster::change(n * 7 % size.services, size, 1 + n / size.services),
        slices => cluster::big_change(size, n % slices, 1 + n / slices % 7),
    };
    let samples: Vec<_> = (0..3000).map(|n| pipeline.change(change(n))).collect();
    let (whole, whole_p99) = median_p99(samples.iter().map(|(whole, _)| *whole).collect());
    let (delta, delta_p99) = median_p99(samples.iter().map(|(_, planned)| *planned).collect());
    println!(
        "| {size} | {chains} | {rules} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} |",
        applied.as_secs_f64() * 1e3,
        resolved.as_secs_f64() * 1e3,
        planned.as_secs_f64() * 1e3,
        delta.as_secs_f64() * 1e6,
        delta_p99.as_secs_f64() * 1e6,
        whole.as_secs_f64() * 1e6,
        whole_p99.as_secs_f64() * 1e6,
        at_plan - before,
        resident_mib() - before,
    );
}

fn main() {
    // `cargo test --benches` and friends pass arguments; there is nothing to choose.
    println!(
        "| services x endpoints | chains | rules | apply ms | resolve ms | full plan ms | plan+delta us | p99 | change us | p99 | MiB with full plan | MiB after |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (services, endpoints) in [(1000, 1), (1000, 10), (10_000, 1), (10_000, 10), (30_000, 10), (10_000, 50)] {
        measure(Size::new(services, endpoints));
    }
    measure(Size { big: 5000, ..Size::new(1000, 10) });
}
