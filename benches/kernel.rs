//! What the kernel makes of the plan: nf_tables by netlink, without anything else of a proxy.
//!
//! `cargo bench --bench kernel` (root, or an ordinary user where user namespaces are allowed). For each size: loading
//! everything, reading everything, one endpoint change, and beside it the bare batch of one rule, which is the bound.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/bare.rs"]
mod bare;
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
use measure::{median_p99, timed};
use weir::kernel::xtables::nft::NftDriver;
use weir::kernel::xtables::{Table, Xtables};
use weir::lab::{Host, Lab, LabConfig, sandbox};
use weir::model::{ServicePort, ServicePortKey, Settings};
use weir::net::{Family, ObjectName};
use weir::plan::Move;
use weir::plan::iptables::{Desired, Planner};
use weir::resolve::{NodeContext, Options, resolve};
use weir::state::State;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CHANGES: u32 = 30;

/// Between two changes. What a transaction took out is destroyed after it, once no packet can meet it any more, and the
/// next rule with an extension of x_tables waits for that (`nft_compat_wait_for_destructors`): some 10 ms, which a change
/// that comes alone does not meet.
const PAUSE: Duration = Duration::from_millis(60);

type Model = BTreeMap<ServicePortKey, Arc<ServicePort>>;

struct World {
    state: State,
    node: NodeContext,
    model: Model,
    planner: Planner,
    driver: NftDriver,
}

impl World {
    fn ports(&self, name: &ObjectName) -> Vec<Arc<ServicePort>> {
        resolve(&self.state, name, &self.node, &Options::default())
    }

    /// One endpoint of a service moves; returns how long planning and writing took, and the kernel's part of it.
    fn change(&mut self, i: u32, size: Size, version: u32) -> (Duration, Duration, u64) {
        let touched = self.state.apply(cluster::change(i, size, version));
        std::thread::sleep(PAUSE);
        let before = self.driver.written();
        let ((), took) = timed(|| {
            let mut moves = Vec::new();
            let ports: Vec<_> = touched.services.iter().flat_map(|name| self.ports(name)).collect();
            for port in ports {
                let before = self.model.insert(port.key.clone(), port.clone());
                moves.push(Move { before, after: Some(port) });
            }
            let changes = self.planner.replan(&moves);
            self.driver.apply(&changes).expect("a change");
        });
        let after = self.driver.written();
        (took, after.kernel - before.kernel, after.messages - before.messages)
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn measure(node: &Host, size: Size) {
    let settings = Arc::new(Settings::default());
    let mut state = State::new(0);
    state.apply(cluster::everything(size));
    let context = NodeContext::of(&state, cluster::NODE.into());
    let ports = state.service_names().flat_map(|name| resolve(&state, name, &context, &Options::default()));
    let model: Model = ports.map(|port| (port.key.clone(), port)).collect();
    let all: Vec<_> = model.values().cloned().collect();
    let (desired, planner) = Desired::plan(&settings, &[Family::V4], &all);
    let (chains, rules) = (desired.chains().len(), desired.chains().values().map(Vec::len).sum::<usize>());
    let changes = desired.compare().finish();
    let mut world = World { state, node: context, model, planner, driver: NftDriver::new(vec![Family::V4]) };
    let ((), load) = timed(|| world.driver.apply(&changes).expect("everything"));
    let loaded = world.driver.written();
    drop(changes);
    let ((), read) = timed(|| {
        for table in Table::ALL {
            world.driver.observe(Family::V4, table, &mut |chain| drop(chain)).expect("a look");
        }
    });
    let samples: Vec<_> = (1..=CHANGES).map(|n| world.change(n * 379 % size.services, size, n % 10 + 1)).collect();
    let bare = bare::one_rule(node, bare::Tables::Nft).expect("the bare batch");
    let whole = median_p99(samples.iter().map(|(whole, ..)| *whole).collect());
    let kernel = median_p99(samples.iter().map(|(_, kernel, _)| *kernel).collect());
    let user = median_p99(samples.iter().map(|(whole, kernel, _)| *whole - *kernel).collect());
    let messages = samples.iter().map(|(.., messages)| *messages).sum::<u64>() as f64 / f64::from(CHANGES);
    println!(
        "| {size} | {chains} | {rules} | {:.0} | {:.0} | {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {messages:.0} |",
        ms(load),
        ms(loaded.kernel),
        loaded.transactions,
        ms(read),
        ms(whole.0),
        ms(whole.1),
        ms(kernel.0),
        ms(bare),
        kernel.0.as_secs_f64() / bare.as_secs_f64(),
        ms(user.0),
    );
}

fn main() {
    match sandbox::enter() {
        Ok(sandbox::Entered::Inside) => {}
        Ok(sandbox::Entered::Ended(code)) => std::process::exit(code.into()),
        Err(error) => panic!("{error}"),
    }
    println!(
        "| services x endpoints | chains | rules | load ms | of it kernel | transactions | read all ms | one change ms \
         | p99 | of it kernel | bare batch | kernel/bare | ours ms | messages |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for size in [Size::new(1_000, 10), Size::new(10_000, 10), Size::new(30_000, 10)] {
        let lab = Lab::new(&LabConfig { pods: 0, node2_pods: 0, ..LabConfig::default() }).expect("the lab");
        let node = lab.node();
        node.run(|| measure(node, size)).expect("the node");
    }
}
