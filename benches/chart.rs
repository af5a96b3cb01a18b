//! Draws `benches/results/chart.svg` from the figures that `cargo bench --bench node` left.
//!
//! ```text
//! cargo bench --bench chart                               10,000 x 10, from target/bench-node.jsonl
//! cargo bench --bench chart -- --size 1000x10 --from FILE --to FILE
//! ```
//!
//! Of each proxy and measurement the last one counts. Where kube-proxy was not measured in the same place, its published
//! figures stand in, and the chart says so.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a benchmark that cannot go on stops")]

#[path = "support/svg.rs"]
mod svg;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::Value;

use svg::{Bar, Chart, Panel};

/// Panels: title, unit, figure.
const PANELS: [(&str, &str, &str); 6] = [
    ("One change to first packet", "ms", "change_ms"),
    ("CPU of one change, all processes", "ms", "change_cpu_ms"),
    ("Start to serving", "s", "start_all_s"),
    ("CPU of a burst of 1,000 changes", "s", "burst_cpu_s"),
    ("Resident memory after the start", "MiB", "rest_resident_mib"),
    ("TCP connect to a service", "µs", "connect_service_us"),
];

/// How long a proxy was waited for that never served.
const GIVEN_UP: &str = "not_serving_after_s";

/// kube-proxy 1.36 with 10,000 services of 10 endpoints, measured with a real API server on a machine with 2 cores: the
/// figures that this project set out from. Ranges are given by their middle.
const PUBLISHED: [(&str, &[(&str, f64)]); 2] = [
    (
        "kube-proxy nftables",
        &[("change_ms", 5000.0), ("change_cpu_ms", 4900.0), ("start_all_s", 15.5), ("rest_resident_mib", 256.0)],
    ),
    (
        "kube-proxy iptables legacy",
        &[("change_ms", 1750.0), ("change_cpu_ms", 1850.0), ("start_all_s", 9.4), ("rest_resident_mib", 302.0)],
    ),
];
const PUBLISHED_SIZE: (u64, u64) = (10_000, 10);
const PUBLISHED_NOTE: &str = "* kube-proxy 1.36: measured on another machine with 2 cores, with a real API server";

/// Draws the chart.
#[derive(Parser)]
struct Options {
    /// SERVICESxENDPOINTS
    #[arg(long, default_value = "10000x10", value_parser = size)]
    size: (u64, u64),
    /// Figures to read [default: target/bench-node.jsonl]
    #[arg(long)]
    from: Option<PathBuf>,
    /// File to write [default: benches/results/chart.svg]
    #[arg(long)]
    to: Option<PathBuf>,
    /// What cargo passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn size(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once('x').and_then(|(s, e)| Some((s.parse().ok()?, e.parse().ok()?)));
    parsed.ok_or_else(|| "expected SERVICESxENDPOINTS, such as 10000x10".to_owned())
}

/// The figures of one proxy.
#[derive(Default)]
struct Measured {
    figures: BTreeMap<String, f64>,
    published: bool,
}

/// All proxies of one size, in the order of their names, and where they were measured.
struct Figures {
    proxies: BTreeMap<String, Measured>,
    place: String,
}

impl Figures {
    fn read(text: &str, size: (u64, u64)) -> Figures {
        let mut proxies: BTreeMap<String, Measured> = BTreeMap::new();
        let mut place = String::new();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let is_size = (line["services"].as_u64(), line["endpoints"].as_u64()) == (Some(size.0), Some(size.1));
            let (Some(proxy), Some(figures)) = (line["proxy"].as_str(), line["figures"].as_object()) else { continue };
            if !is_size || line["big"] != 0 || line["build"] != "release" {
                continue;
            }
            let known = proxies.entry(proxy.to_owned()).or_default();
            if line["measure"] == "start" {
                known.figures.clear();
            }
            known.figures.extend(figures.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))));
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            place = format!(
                "{}, {}, Linux {}",
                text("date").split('T').next().unwrap_or_default(),
                text("machine"),
                text("kernel")
            );
        }
        // Of one that could not be started there may be figures without it.
        let drawn = |name: &String| name == GIVEN_UP || PANELS.iter().any(|(.., figure)| figure == name);
        proxies.retain(|_, measured| measured.figures.keys().any(drawn));
        Figures { proxies, place }
    }

    /// Adds what is published of proxies that were not measured.
    fn add_published(&mut self) -> bool {
        let mut added = false;
        for (proxy, figures) in PUBLISHED {
            if !self.proxies.contains_key(proxy) {
                let figures = figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
                self.proxies.insert(proxy.to_owned(), Measured { figures, published: true });
                added = true;
            }
        }
        added
    }

    /// weir first.
    fn ordered(&self) -> Vec<(&String, &Measured)> {
        let mut all: Vec<_> = self.proxies.iter().collect();
        all.sort_by_key(|(name, _)| (!name.starts_with("weir"), rank(name)));
        all
    }

    fn panel(&self, title: &str, unit: &str, figure: &str) -> Panel {
        let bars = self.ordered().into_iter().filter_map(|(proxy, measured)| {
            let given_up = measured.figures.get(GIVEN_UP).filter(|_| figure == "start_all_s");
            let (value, text) = match (measured.figures.get(figure), given_up) {
                (Some(value), _) => (*value, format!("{} {unit}", svg::short(*value))),
                (None, Some(waited)) => (f64::INFINITY, format!("> {} {unit}", svg::short(*waited))),
                (None, None) => return None,
            };
            let mark = if measured.published { " *" } else { "" };
            Some(Bar {
                label: format!("{proxy}{mark}"),
                value,
                text,
                ours: proxy.starts_with("weir"),
                pale: measured.published,
            })
        });
        Panel { title: title.to_owned(), bars: bars.collect() }
    }
}

/// What people will compare first.
fn rank(name: &str) -> usize {
    ["nft-netlink", "nft-restore", "legacy", "nftables"].iter().position(|end| name.ends_with(end)).unwrap_or(4)
}

fn main() {
    let options = Options::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let from = options.from.unwrap_or(Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-node.jsonl"));
    let to = options.to.unwrap_or_else(|| root.join("benches/results/chart.svg"));
    let Ok(text) = fs::read_to_string(&from) else {
        println!("skipped: there are no figures in {}; run cargo bench --bench node", from.display());
        return;
    };
    let (services, endpoints) = options.size;
    let mut figures = Figures::read(&text, options.size);
    if figures.proxies.is_empty() {
        println!("skipped: no figures of {services} x {endpoints} in a release build in {}", from.display());
        return;
    }
    let mut notes = vec![format!("{}. Shorter is better. Measured by benches/node.rs.", figures.place)];
    if options.size == PUBLISHED_SIZE && figures.add_published() {
        notes.push(PUBLISHED_NOTE.to_owned());
    }
    let chart = Chart {
        title: format!("{} services, {endpoints} endpoints each", svg::thousands(services)),
        panels: PANELS.iter().map(|(title, unit, figure)| figures.panel(title, unit, figure)).collect(),
        notes,
    };
    fs::write(&to, chart.draw()).expect("the chart");
    println!("{}", to.display());
}
