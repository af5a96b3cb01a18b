//! A node as a whole, in namespaces: weir in each mode that this machine has, and any other proxy, against a scripted
//! API server, a real kernel and real connections.
//!
//! ```text
//! cargo bench --bench node                    1,000 x 10 and 10,000 x 10
//! cargo bench --bench node -- --full          all sizes
//! cargo bench --bench node -- --bounds        start and memory at 10,000 x 10, and an error where they are too much
//! cargo bench --bench node -- --sizes 1000x10,10000x10+5000 --modes nft-netlink --measure start,change
//! WEIR_BENCH_COMMAND='kube-proxy nft=/path/kube-proxy --kubeconfig {kubeconfig} --hostname-override {node} …' \
//!     cargo bench --bench node
//! ```
//!
//! Root, or an ordinary user where user namespaces are allowed. Prints tables in Markdown, and appends every measurement
//! to `target/bench-node.jsonl` as soon as it is made. `--help` says the rest; what the columns are is in
//! `benches/results/README.md`.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[path = "support/bare.rs"]
mod bare;
#[path = "support/bed.rs"]
mod bed;
#[path = "support/bounds.rs"]
mod bounds;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/drift.rs"]
mod drift;
#[path = "support/json.rs"]
mod json;
#[allow(dead_code, reason = "each benchmark uses a part")]
#[path = "support/measure.rs"]
mod measure;
#[path = "support/measures.rs"]
mod measures;
#[path = "support/probe.rs"]
mod probe;
#[path = "support/proxies.rs"]
mod proxies;
#[path = "support/record.rs"]
mod record;
#[path = "support/tables.rs"]
mod tables;
#[path = "support/usage.rs"]
mod usage;

use std::time::Duration;

use clap::Parser;

use cluster::Size;
use measures::Run;
use proxies::Proxy;
use weir::lab::sandbox;

/// What can be measured, in this order.
const MEASURES: [&str; 8] = ["start", "rest", "change", "burst", "connect", "drift", "rules", "bare"];

/// Measures a node.
#[derive(Parser)]
struct Options {
    /// All sizes: 1,000, 10,000 and 30,000 services with 1, 10 and 50 endpoints, and 1,000 with a big one beside
    #[arg(long)]
    full: bool,
    /// SERVICESxENDPOINTS or SERVICESxENDPOINTS+BIG, where BIG is the number of endpoints of one service beside
    #[arg(long, value_delimiter = ',', value_parser = size)]
    sizes: Vec<Size>,
    /// weir's modes; `none` for none [default: all]
    #[arg(long, value_delimiter = ',')]
    modes: Vec<String>,
    /// What to measure: start, rest, change, burst, connect, drift, rules, bare [default: all]
    #[arg(long, value_delimiter = ',')]
    measure: Vec<String>,
    /// Check start and memory at 10,000 x 10, after 10,000 changes as well, against what is promised
    #[arg(long, conflicts_with_all = ["full", "sizes", "measure", "burst"])]
    bounds: bool,
    /// How many lone changes
    #[arg(long, default_value_t = 30)]
    changes: u32,
    /// How many changes at once
    #[arg(long, default_value_t = 1000)]
    burst: u32,
    /// Milliseconds between lone changes: more than the shortest time between two writes that a proxy keeps
    #[arg(long, default_value_t = 1200)]
    gap: u64,
    /// Seconds until something that does not happen is given up
    #[arg(long, default_value_t = 300)]
    patience: u64,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// `1000x10` or `1000x10+5000`.
fn size(text: &str) -> Result<Size, String> {
    let (services, rest) = text.split_once('x').ok_or("expected SERVICESxENDPOINTS, such as 1000x10")?;
    let (endpoints, big) = rest.split_once('+').unwrap_or((rest, "0"));
    let number = |text: &str| text.trim().parse::<u32>().map_err(|error| format!("{text:?}: {error}"));
    let size = Size { services: number(services)?, endpoints: number(endpoints)?, big: number(big)? };
    let fits = (1..=30_000).contains(&size.services) && (1..=50).contains(&size.endpoints) && size.big <= 8000;
    if fits { Ok(size) } else { Err("at most 30000 services, 50 endpoints each, and 8000 of the big one".to_owned()) }
}

impl Options {
    fn sizes(&self) -> Vec<Size> {
        if self.bounds {
            return vec![Size::new(bounds::SIZE.0, bounds::SIZE.1)];
        }
        if !self.sizes.is_empty() {
            return self.sizes.clone();
        }
        if !self.full {
            return vec![Size::new(1000, 10), Size::new(10_000, 10)];
        }
        let all = [1000, 10_000, 30_000].into_iter().flat_map(|services| [1, 10, 50].map(|e| Size::new(services, e)));
        all.chain([Size { big: 5000, ..Size::new(1000, 10) }]).collect()
    }

    fn burst(&self) -> u32 {
        if self.bounds { bounds::CHANGES } else { self.burst }
    }

    fn proxies(&self) -> Result<Vec<Proxy>, String> {
        let names = if self.modes.is_empty() { proxies::modes() } else { self.modes.clone() };
        let wanted = names.iter().filter(|name| *name != "none");
        let weir = |name: &String| {
            proxies::weir(name).ok_or_else(|| format!("no mode {name:?}: there are {}", proxies::modes().join(", ")))
        };
        let mut all: Vec<Proxy> = wanted.map(weir).collect::<Result<_, _>>()?;
        all.extend(proxies::others()?);
        Ok(all)
    }

    fn measures(&self) -> Result<Vec<String>, String> {
        if self.bounds {
            return Ok(bounds::MEASURES.map(str::to_owned).to_vec());
        }
        match self.measure.iter().find(|name| !MEASURES.contains(&name.as_str())) {
            Some(unknown) => Err(format!("no measure {unknown:?}: there are {}", MEASURES.join(", "))),
            None if self.measure.is_empty() => Ok(MEASURES.map(str::to_owned).to_vec()),
            None => Ok(self.measure.clone()),
        }
    }
}

fn main() {
    let options = Options::parse();
    let (proxies, wanted) = match (options.proxies(), options.measures()) {
        (Ok(proxies), Ok(measures)) => (proxies, measures),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("error: {error}");
            std::process::exit(2);
        }
    };
    match sandbox::enter() {
        Ok(sandbox::Entered::Inside) => {}
        Ok(sandbox::Entered::Ended(code)) => std::process::exit(code.into()),
        Err(error) => panic!("{error}"),
    }
    let patience = Duration::from_secs(options.patience);
    let gap = Duration::from_millis(options.gap);
    let mut results = Vec::new();
    for size in options.sizes() {
        for proxy in &proxies {
            let run = Run { proxy, size, changes: options.changes, burst: options.burst(), gap, patience };
            results.push(run.measure(&wanted));
        }
    }
    tables::print(&results);
    if options.bounds && !bounds::check(&results) {
        std::process::exit(1);
    }
}
