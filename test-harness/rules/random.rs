//! The judge of judges: for random clusters, settings and packets, the rules do what the oracle says.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir::kernel::xtables::variant::Variant;
use weir::model::oracle::{Mode, Packet, Verdict, judge_in};
use weir::model::{ModelEndpoint, ServicePort, Settings};
use weir::net::Family;
use weir::sim::trace::{Branch, Fate, Ruleset, TraceError, trace, trace_with};

use crate::brief::brief;
use crate::cluster::{Case, Cluster, Random, seeds};
use crate::ipvs::IpvsNode;
use crate::kernel::Programmed;
use crate::packets;
use crate::proxy::Proxy;

const CASES: u64 = 240;
const PACKETS: usize = 60;

type Model = Vec<Arc<ServicePort>>;

/// What was seen, so that a generator that stopped covering something is noticed.
#[derive(Default)]
struct Coverage {
    verdicts: [usize; 5],
    sticky: usize,
    packets: usize,
}

#[test]
fn rules_and_oracle_agree() {
    let coverage = agree::<Programmed>("rules_and_oracle_agree", CASES);
    if std::env::var_os("WEIR_SEED").is_none() {
        assert!(coverage.sticky >= 100, "{}", coverage.sticky);
    }
}

#[test]
fn ipvs_and_oracle_agree() {
    agree::<IpvsNode>("ipvs_and_oracle_agree", CASES / 2);
}

/// From nothing to a cluster, and from there to another: after both, every packet meets the oracle's verdict.
fn agree<P: Proxy>(test: &str, cases: u64) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds(cases) {
        let _case = Case(seed);
        let mut random = Random::new(seed);
        let variant = *random.pick(&Variant::ALL);
        let settings = Arc::new(packets::settings(&mut random));
        // After an outage hardly anyone has endpoints, and the trees of the filter table are large.
        let outage = random.chance(10);
        let size = if outage { 220 } else { *random.pick(&[1, 3, 8, 8, 20, 60]) };
        let mut cluster = Cluster::empty(&mut random);
        if outage {
            cluster.most_endpoints = random.below(2);
        }
        (0..size).for_each(|i| cluster.put(&mut random, i));
        cluster.most_endpoints = 200;
        let mut programmed = P::start(variant, &settings, model::<P>(&cluster));
        let place = Place { test, seed, when: "at first" };
        check(place, &mut random, &settings, &model::<P>(&cluster), &mut programmed, &mut coverage);
        for _ in 0..1 + size.min(60) / 4 {
            let i = random.below(size + 2);
            match random.below(4) {
                0 => cluster.remove(i),
                1 => cluster.put_endpoints(&mut random, i),
                _ => cluster.put(&mut random, i),
            }
        }
        programmed.go_on(model::<P>(&cluster));
        let place = Place { when: "after a change", ..place };
        check(place, &mut random, &settings, &model::<P>(&cluster), &mut programmed, &mut coverage);
    }
    println!("{} packets; untouched, accepted, rejected, dropped, served: {:?}", coverage.packets, coverage.verdicts);
    if std::env::var_os("WEIR_SEED").is_none() {
        assert!(coverage.verdicts.iter().all(|count| *count >= 100), "{:?}", coverage.verdicts);
    }
    coverage
}

/// The model of a cluster. Where there are weights, they follow from the endpoints.
fn model<P: Proxy>(cluster: &Cluster) -> Model {
    let mut model = cluster.model();
    if P::MODE == Mode::Ipvs {
        for port in &mut model {
            let weigh = |e: &ModelEndpoint| ModelEndpoint { weight: e.endpoint.port % 4, ..*e };
            Arc::make_mut(port).endpoints = port.endpoints.iter().map(weigh).collect();
        }
    }
    model
}

/// Where a test is.
#[derive(Clone, Copy)]
struct Place<'a> {
    test: &'a str,
    seed: u64,
    when: &'a str,
}

fn check<P: Proxy>(
    Place { test, seed, when }: Place<'_>,
    random: &mut Random,
    settings: &Arc<Settings>,
    model: &Model,
    programmed: &mut P,
    coverage: &mut Coverage,
) {
    let host = packets::host();
    for family in Family::ALL {
        let rules = programmed.rules(family);
        for _ in 0..PACKETS / 2 {
            let mut packet = packets::packet(random, model, family);
            if P::MODE == Mode::Ipvs {
                packet = packets::with_own_source(packet, model);
            }
            let expected = judge_in(P::MODE, model.iter().map(|port| &**port), settings, &host, &packet);
            coverage.count(&expected);
            let traced = match trace(&rules, &host, &packet) {
                Ok(traced) if traced.verdict.agrees_with(&expected) => traced,
                _ => panic!(
                    "seed {seed}, {when} (again: WEIR_SEED={seed} cargo test --test rules {test})\n{}",
                    explain::<P>(settings, model, &packet)
                ),
            };
            coverage.sticky += sticky(seed, &rules, &packet, &traced.branches);
        }
    }
}

/// Client IP affinity: whoever was served comes back to the same endpoint, whatever the dice say (contract 3.4).
/// Returns how many ways were tried.
fn sticky(seed: u64, rules: &Ruleset, packet: &Packet, branches: &[Branch]) -> usize {
    let remembered = branches.iter().filter(|branch| !branch.recent.is_empty());
    let mut tried = 0;
    for branch in remembered.take(3) {
        let recent: BTreeSet<_> = branch.recent.iter().cloned().collect();
        let again = trace_with(rules, &packets::host(), packet, &recent).unwrap();
        let Fate::Serve(outcome) = branch.fate else { continue };
        let only = Verdict::Serve([(outcome, 1.0)].into());
        assert!(again.verdict.agrees_with(&only), "WEIR_SEED={seed}: {packet:?} went to {outcome:?}, then {again:?}");
        tried += 1;
    }
    tried
}

/// The smallest model that shows the disagreement, and both verdicts on it.
fn explain<P: Proxy>(settings: &Arc<Settings>, model: &Model, packet: &Packet) -> String {
    let small = smaller::<P>(settings, model, packet);
    let (expected, found) = verdicts::<P>(settings, &small, packet);
    let suffices = if found.as_ref().is_ok_and(|found| found.agrees_with(&expected)) {
        "only after changes: planned at once, the rules are right"
    } else {
        "services that suffice"
    };
    format!(
        "{packet:?}\nthe oracle says {expected:?}\nthe rules say {found:?}\n{suffices}:\n{}{settings:?}",
        brief(&small)
    )
}

/// The model without all services and endpoints that the disagreement does not need.
fn smaller<P: Proxy>(settings: &Arc<Settings>, model: &Model, packet: &Packet) -> Model {
    let mut left = model.clone();
    for port in model {
        let without: Model = left.iter().filter(|other| other.key != port.key).cloned().collect();
        if disagree::<P>(settings, &without, packet) {
            left = without;
        }
    }
    for at in 0..left.len() {
        for endpoint in left[at].endpoints.clone() {
            let mut fewer = (*left[at]).clone();
            fewer.endpoints = fewer.endpoints.iter().filter(|other| **other != endpoint).copied().collect();
            let mut without = left.clone();
            without[at] = Arc::new(fewer);
            if !without[at].endpoints.is_empty() && disagree::<P>(settings, &without, packet) {
                left = without;
            }
        }
    }
    left
}

fn disagree<P: Proxy>(settings: &Arc<Settings>, model: &Model, packet: &Packet) -> bool {
    let (expected, found) = verdicts::<P>(settings, model, packet);
    !found.is_ok_and(|found| found.agrees_with(&expected))
}

fn verdicts<P: Proxy>(
    settings: &Arc<Settings>,
    model: &Model,
    packet: &Packet,
) -> (Verdict, Result<Verdict, TraceError>) {
    let host = packets::host();
    let rules = P::start(Variant::Nft, settings, model.clone()).rules(Family::of(&packet.destination));
    let expected = judge_in(P::MODE, model.iter().map(|port| &**port), settings, &host, packet);
    (expected, trace(&rules, &host, packet).map(|traced| traced.verdict))
}

impl Coverage {
    fn count(&mut self, verdict: &Verdict) {
        self.packets += 1;
        let kind = match verdict {
            Verdict::Untouched => 0,
            Verdict::Accept => 1,
            Verdict::Reject => 2,
            Verdict::Drop => 3,
            Verdict::Serve(_) => 4,
        };
        self.verdicts[kind] += 1;
    }
}
