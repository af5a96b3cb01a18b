//! What weir promises of memory and start, and whether it keeps it: 10,000 services with 10 endpoints each.

use crate::cluster::Size;
use crate::measures::Outcome;

/// The size that the promises are about.
pub const SIZE: (u32, u32) = (10_000, 10);
/// So many endpoints change at once.
pub const CHANGES: u32 = 10_000;
/// What has to be measured.
pub const MEASURES: [&str; 3] = ["start", "rest", "burst"];

/// A figure, and what it may be at most.
const BOUNDS: [(&str, f64); 3] = [
    // CPU seconds of the process, user and kernel, from its start to the first connection to DNS and default/kubernetes.
    ("start_first_cpu_s", 2.0),
    // After the start, and after the changes.
    ("rest_resident_mib", 100.0),
    ("burst_resident_mib", 100.0),
];

/// Who comes first, and who after it.
const ORDER: [(&str, &str); 2] = [("start_dns_s", "start_last_s"), ("start_kubernetes_s", "start_last_s")];

/// A line for each bound, with whether it was kept; false if one was not. What was not measured is not kept.
pub fn check(outcomes: &[Outcome]) -> bool {
    let size = Size::new(SIZE.0, SIZE.1);
    let mut kept = true;
    for outcome in outcomes.iter().filter(|outcome| outcome.size == size && outcome.proxy.starts_with("weir ")) {
        let figure = |name: &str| outcome.figures.get(name).and_then(serde_json::Value::as_f64).unwrap_or(f64::NAN);
        let mut tell = |holds: bool, what: String| {
            println!("{} {}: {what}", if holds { "kept  " } else { "BROKEN" }, outcome.proxy);
            kept &= holds;
        };
        for (name, most) in BOUNDS {
            tell(figure(name) <= most, format!("{name} {} <= {most}", figure(name)));
        }
        for (first, then) in ORDER {
            tell(figure(first) <= figure(then), format!("{first} {} <= {then} {}", figure(first), figure(then)));
        }
    }
    kept
}
