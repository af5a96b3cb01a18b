//! What annotations of a Service ask of backends that can choose how connections are spread (IPVS), read.
//!
//! | Annotation | Value |
//! |---|---|
//! | `weir.dev/scheduler` | the name of a scheduler: `lc` |
//! | `weir.dev/scheduler-flags` | its flags: `sh-port,sh-fallback` |
//! | `weir.dev/weights` | weights of endpoints by place: `zone=a:3,zone=b:1,node=n1:5` |
//! | `weir.dev/drain-seconds` | how long an endpoint that goes keeps its connections: `600` |
//! | `kube-router.io/service.scheduler` | as `weir.dev/scheduler`, which counts where both are there |
//! | `kube-router.io/service.schedflags` | as `weir.dev/scheduler-flags`, which counts where both are there |
//!
//! The grammar, with white space allowed around values, entries and flags:
//!
//! ```text
//! scheduler     = 1 to 15 ASCII letters, digits, hyphens and underscores
//! flags         = flag *( "," flag )
//! flag          = "flag-1" / "flag-2" / "flag-3" / "sh-fallback" / "sh-port" / "mh-fallback" / "mh-port"
//! weights       = entry *( "," entry )
//! entry         = ( "zone" / "node" ) "=" name ":" weight
//! name          = 1 to 253 ASCII letters, digits, hyphens, dots and underscores; each once among zones, and among nodes
//! weight        = a whole number from 0 to 65535
//! drain-seconds = a whole number from 0 to 31536000, which is a year
//! ```
//!
//! The weight of an endpoint is that of its node, else that of its zone, else 1. An endpoint of weight 0 gets no new
//! connections as long as another one of its service has more; if none has, all are alike. `drain-seconds: 0` cuts connections at once.
//!
//! Which schedulers there are, the kernel says later: here a name only has to be one that a kernel could have. An empty
//! annotation is as good as none. One that cannot be read counts for nothing, as a whole, and is a
//! [`Problem`](super::Problem); what the others ask for stays.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Deref;
use std::sync::Arc;

use super::names::Interner;
use super::problems::{Problems, is_name};
use crate::state::{Tuning, Weights};

pub const ANNOTATION_SCHEDULER: &str = "weir.dev/scheduler";
pub const ANNOTATION_SCHEDULER_FLAGS: &str = "weir.dev/scheduler-flags";
pub const ANNOTATION_WEIGHTS: &str = "weir.dev/weights";
pub const ANNOTATION_DRAIN_SECONDS: &str = "weir.dev/drain-seconds";
/// kube-router's name for the scheduler of a service.
pub const ANNOTATION_ROUTER_SCHEDULER: &str = "kube-router.io/service.scheduler";
/// kube-router's name for the flags of a service's scheduler.
pub const ANNOTATION_ROUTER_FLAGS: &str = "kube-router.io/service.schedflags";

/// `IP_VS_SCHEDNAME_MAXLEN` of uapi `linux/ip_vs.h`, less the NUL.
const SCHEDULER_MAX: usize = 15;

/// Names of flags: bits of `IP_VS_SVC_F_SCHED*` of uapi `linux/ip_vs.h`, which has names of its own for what sh and mh
/// make of the first two.
const FLAGS: [(&str, u32); 7] = [
    ("flag-1", 0x8),
    ("flag-2", 0x10),
    ("flag-3", 0x20),
    ("sh-fallback", 0x8),
    ("sh-port", 0x10),
    ("mh-fallback", 0x8),
    ("mh-port", 0x10),
];

/// The annotations as they are written.
#[derive(Clone, Debug, Default)]
pub struct TuningTexts<S = String> {
    pub scheduler: Option<S>,
    pub scheduler_flags: Option<S>,
    pub weights: Option<S>,
    pub drain_seconds: Option<S>,
    pub router_scheduler: Option<S>,
    pub router_flags: Option<S>,
}

impl<S: Deref<Target = str>> TuningTexts<S> {
    /// What they ask for; `None` if that is nothing.
    pub(super) fn to_fact(&self, names: &mut Interner, problems: &mut Problems<'_>) -> Option<Arc<Tuning>> {
        let schedulers =
            [(ANNOTATION_SCHEDULER, &self.scheduler), (ANNOTATION_ROUTER_SCHEDULER, &self.router_scheduler)];
        let flags =
            [(ANNOTATION_SCHEDULER_FLAGS, &self.scheduler_flags), (ANNOTATION_ROUTER_FLAGS, &self.router_flags)];
        let weights = [(ANNOTATION_WEIGHTS, &self.weights)];
        let drain = [(ANNOTATION_DRAIN_SECONDS, &self.drain_seconds)];

        let expected = "the name of a scheduler such as rr, lc or sh: 1 to 15 letters, digits, hyphens and underscores";
        let scheduler = read(&schedulers, problems, expected, is_scheduler);
        let expected = "a list of flag-1, flag-2, flag-3, sh-fallback, sh-port, mh-fallback and mh-port";
        let scheduler_flags = read(&flags, problems, expected, read_flags);
        let expected = "a list such as zone=a:3,zone=b:1,node=n1:5, each name once, weights from 0 to 65535";
        let weights = read(&weights, problems, expected, |text| read_weights(text, names));
        let expected = "seconds, a whole number from 0 to 31536000";
        let drain_seconds = read(&drain, problems, expected, read_drain_seconds);

        let tuning = Tuning {
            scheduler: scheduler.map(|name| names.intern(name)),
            scheduler_flags: scheduler_flags.unwrap_or_default(),
            weights: weights.unwrap_or_default(),
            drain_seconds,
        };
        (tuning != Tuning::default()).then(|| names.intern_tuning(tuning))
    }
}

/// Reads the first of these annotations that has a value.
fn read<'t, S: Deref<Target = str>, T>(
    annotations: &[(&str, &'t Option<S>)],
    problems: &mut Problems<'_>,
    expected: &'static str,
    parse: impl FnOnce(&'t str) -> Option<T>,
) -> Option<T> {
    let given = |text: &'t Option<S>| text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let (key, text) = annotations.iter().find_map(|(key, text)| Some((key, given(text)?)))?;
    let parsed = parse(text);
    if parsed.is_none() {
        problems.add(format!("metadata.annotations[{key}]"), shortened(text), expected);
    }
    parsed
}

/// As much of a value as a line of a log should have: annotations may have hundreds of kilobytes.
fn shortened(text: &str) -> String {
    const MAX: usize = 200;
    match text.char_indices().nth(MAX) {
        None => text.to_owned(),
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
    }
}

/// Whether a kernel can have a scheduler of that name.
fn is_scheduler(text: &str) -> Option<&str> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (is_word && (1..=SCHEDULER_MAX).contains(&text.len())).then_some(text)
}

fn read_flags(text: &str) -> Option<u32> {
    text.split(',').try_fold(0, |bits, flag| {
        let (_, bit) = FLAGS.iter().find(|(name, _)| *name == flag.trim())?;
        Some(bits | bit)
    })
}

fn read_weights(text: &str, names: &mut Interner) -> Option<Weights> {
    // Read before anything is kept of it.
    let entries: Option<Vec<_>> = text.split(',').map(|entry| weight(entry.trim())).collect();
    let mut weights = Weights::default();
    for (place, name, weight) in entries? {
        let known: &mut BTreeMap<_, _> = match place {
            Place::Node => &mut weights.nodes,
            Place::Zone => &mut weights.zones,
        };
        match known.entry(names.intern(name)) {
            Entry::Vacant(entry) => entry.insert(weight),
            Entry::Occupied(_) => return None,
        };
    }
    Some(weights)
}

enum Place {
    Node,
    Zone,
}

/// `zone=a:3` or `node=n1:5`.
fn weight(entry: &str) -> Option<(Place, &str, u16)> {
    let (place, rest) = entry.split_once('=')?;
    let place = match place {
        "node" => Place::Node,
        "zone" => Place::Zone,
        _ => return None,
    };
    let (name, weight) = rest.split_once(':')?;
    let weight = number(weight).and_then(|weight| u16::try_from(weight).ok())?;
    is_name(name).then_some((place, name, weight))
}

fn read_drain_seconds(text: &str) -> Option<u32> {
    number(text).filter(|seconds| *seconds <= Tuning::MAX_DRAIN_SECONDS)
}

/// Digits alone: no sign.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
#[path = "tuning_tests.rs"]
mod tests;
