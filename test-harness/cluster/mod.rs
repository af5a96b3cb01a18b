//! Random clusters and packets, always the same for the same seed; shared by the suites `rules` and `convergence`.
//!
//! A [`Cluster`] is facts, not a model: what is judged begins where a source ends.

mod endpoints;
mod frontends;
mod random;

use std::collections::BTreeMap;
use std::sync::Arc;

use weir::model::ServicePort;
use weir::net::{Family, ObjectName};
use weir::resolve::{NodeContext, Options, resolve};
use weir::sim::scenario::Fixture;
use weir::state::{EndpointSlice, Fact, Kind, Node, Service, State, Update};

pub use frontends::Terrain;
pub use random::Random;

/// A service with its slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub service: Service,
    pub slices: Vec<EndpointSlice>,
}

/// All facts.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub terrain: Terrain,
    /// No service gets more in one family.
    pub most_endpoints: usize,
    pub zone: Option<&'static str>,
    pub entries: BTreeMap<ObjectName, Entry>,
}

impl Cluster {
    pub fn empty(random: &mut Random) -> Self {
        let zone = *random.pick(&[None, Some("a"), Some("b")]);
        Cluster { terrain: Terrain::any(random), most_endpoints: 200, zone, entries: BTreeMap::new() }
    }

    /// Service number `i` becomes another one.
    pub fn put(&mut self, random: &mut Random, i: usize) {
        let service = frontends::service(random, self.terrain, i);
        let slices = endpoints::slices(random, &service, i, self.most_endpoints);
        self.entries.insert(service.name.clone(), Entry { service, slices });
    }

    /// Service number `i` stays, its endpoints become others. Nothing if there is no such service.
    pub fn put_endpoints(&mut self, random: &mut Random, i: usize) {
        if let Some(entry) = self.entries.get_mut(&frontends::name(i)) {
            entry.slices = endpoints::slices(random, &entry.service, i, self.most_endpoints);
        }
    }

    pub fn remove(&mut self, i: usize) {
        self.entries.remove(&frontends::name(i));
    }

    pub fn node(&self) -> Node {
        Node { name: Fixture::NODE.into(), zone: self.zone.map(Into::into), ..Node::default() }
    }

    /// Everything, as a source lists it at the start and after an outage.
    pub fn lists(&self) -> Vec<Update> {
        let services = self.entries.values().map(|entry| Fact::Service(entry.service.clone())).collect();
        let slices = self.entries.values().flat_map(|entry| entry.slices.iter().cloned());
        vec![
            Update::Replace { kind: Kind::Node, facts: vec![Fact::Node(self.node())] },
            Update::Replace { kind: Kind::ServiceCidr, facts: Vec::new() },
            Update::Replace { kind: Kind::Service, facts: services },
            Update::Replace { kind: Kind::EndpointSlice, facts: slices.map(Fact::EndpointSlice).collect() },
        ]
    }

    /// The model of a proxy that was told everything at once, sorted by key.
    pub fn model(&self) -> Vec<Arc<ServicePort>> {
        let mut state = State::default();
        state.apply(self.lists());
        model(&state)
    }
}

/// The model of the facts on the fixture's node, sorted by key.
pub fn model(state: &State) -> Vec<Arc<ServicePort>> {
    let node = NodeContext::of(state, Fixture::NODE.into());
    let mut ports: Vec<_> =
        state.service_names().flat_map(|name| resolve(state, name, &node, &Options::default())).collect();
    ports.sort_by(|a, b| a.key.cmp(&b.key));
    ports
}

/// The seed of `WEIR_SEED`, to run one case again; else the seeds of `WEIR_CASES` cases, or of `usual`.
pub fn seeds(usual: u64) -> Vec<u64> {
    match (number("WEIR_SEED"), number("WEIR_CASES")) {
        (Some(seed), _) => vec![seed],
        (None, cases) => (1..=cases.unwrap_or(usual)).collect(),
    }
}

/// Tells the seed if the case fails.
pub struct Case(pub u64);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: WEIR_SEED={}", self.0);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: not a number")))
}

/// Bits of `i`, one in each half byte: the addresses that make a tree of prefixes as deep as it can be.
fn spread_bits(i: usize) -> u128 {
    (0..16).fold(0, |bits, b| bits | ((i as u128 >> b) & 1) << (4 * b))
}

fn families(random: &mut Random) -> Vec<Family> {
    match random.below(10) {
        0..5 => vec![Family::V4],
        5..7 => vec![Family::V6],
        7..9 => vec![Family::V4, Family::V6],
        _ => vec![Family::V6, Family::V4],
    }
}
