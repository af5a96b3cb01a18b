//! Instruction counts of the pure parts, which no load on the machine can change.
//!
//! `cargo bench --bench instructions`. Needs valgrind; without it, it says so and counts as skipped. Prints a table in
//! Markdown, and fails if the cost of one change grows with the number of services: 2 times from 1,000 to 30,000.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[path = "support/callgrind.rs"]
mod callgrind;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/cluster.rs"]
mod cluster;

use std::sync::Arc;

use callgrind::count;
use cluster::Size;
use weir::kernel::xtables::encode::rule_text;
use weir::model::{LocalDetector, ServicePort, Settings};
use weir::net::Family;
use weir::plan::Move;
use weir::plan::iptables::{Desired, Planner};
use weir::resolve::{NodeContext, Options, resolve};
use weir::state::State;

const FAMILIES: [Family; 1] = [Family::V4];
const ENDPOINTS: u32 = 10;
/// The services that change. What one change costs depends a little on where in the tree its service is.
const CHANGED: [u32; 8] = [3, 141, 159, 265, 358, 579, 723, 846];
const GROWTH: f64 = 2.0;

/// A cluster that was resolved and planned.
struct Cluster {
    size: Size,
    node: NodeContext,
    state: State,
    settings: Arc<Settings>,
    model: Vec<Arc<ServicePort>>,
}

impl Cluster {
    fn new(services: u32) -> Cluster {
        let size = Size::new(services, ENDPOINTS);
        let node = NodeContext { name: cluster::NODE.into(), zone: None };
        let mut state = State::default();
        state.apply(cluster::everything(size));
        let mut settings = Settings::default();
        settings.detector.v4 = LocalDetector::Cidr(cluster::POD_NETWORK.parse().expect("a network"));
        let resolve = |name| resolve(&state, name, &node, &Options::default());
        let model = state.service_names().flat_map(resolve).collect();
        Cluster { size, node, state, settings: Arc::new(settings), model }
    }

    /// One endpoint of some services is replaced, one after the other: from the slice to the service ports, and from the
    /// service ports to the difference.
    fn changes(&mut self) {
        let services = self.size.services;
        let mut planner = Planner::new(self.settings.clone(), &FAMILIES);
        planner.adopt(&self.model);
        for i in CHANGED {
            let before = resolve(&self.state, &cluster::name(i), &self.node, &Options::default()).into_iter().next();
            let update = cluster::change(i, self.size, 1);
            let mut after = Vec::new();
            count(&format!("resolve {services} {i}"), || {
                let touched = self.state.apply(update);
                let ports = |name| resolve(&self.state, name, &self.node, &Options::default());
                after.extend(touched.services.iter().flat_map(ports));
            });
            assert!(after.first() != before.as_ref(), "the change changes something");
            let moves = [Move { before, after: after.into_iter().next() }];
            count(&format!("plan {services} {i}"), || planner.replan(&moves));
        }
    }

    /// All rules, and one of them as text.
    fn everything(&self) {
        let mut kept = None;
        count("full", || kept = Some(Desired::plan(&self.settings, &FAMILIES, &self.model)));
        let (desired, _) = kept.expect("a plan");
        // All over the chains: one in so many.
        let rules = desired.chains().values().flatten().step_by(211);
        for (number, rule) in rules.enumerate() {
            count(&format!("encode {number}"), || rule_text(Family::V4, rule));
        }
    }
}

/// Under valgrind.
fn measure() {
    let mut small = Cluster::new(1000);
    small.everything();
    small.changes();
    Cluster::new(30_000).changes();
}

fn main() {
    if callgrind::is_inside() {
        return measure();
    }
    let counts = match callgrind::run() {
        Ok(counts) => counts,
        Err(why) => return println!("skipped: {why}"),
    };
    let mean = |start: &str| {
        let found: Vec<u64> =
            counts.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, count)| *count).collect();
        assert!(!found.is_empty(), "valgrind counted nothing for {start:?}");
        found.iter().sum::<u64>() as f64 / found.len() as f64
    };
    println!("| instructions of | 1,000 services | 30,000 services | ratio |");
    println!("|---|---|---|---|");
    let mut worst = 0f64;
    for (name, what) in [("resolve", "one slice, to its service ports"), ("plan", "one endpoint, to the difference")] {
        let (small, large) = (mean(&format!("{name} 1000 ")), mean(&format!("{name} 30000 ")));
        println!("| {what} | {small:.0} | {large:.0} | {:.2} |", large / small);
        worst = worst.max(large / small);
    }
    println!("| the full plan of 1,000 x {ENDPOINTS} | {:.0} | | |", mean("full"));
    println!("| one rule as text | {:.0} | | |", mean("encode "));
    if worst >= GROWTH {
        eprintln!("error: the cost of one change grows {worst:.2} times from 1,000 to 30,000 services");
        std::process::exit(1);
    }
}
