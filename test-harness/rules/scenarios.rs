//! Every packet of `rules/scenarios`, followed through the rules of both variants.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir::kernel::xtables::variant::Variant;
use weir::model::oracle::judge_in;
use weir::net::Family;
use weir::sim::scenario::{Scenario, Step};
use weir::sim::trace::trace;
use weir::state::State;

use crate::cluster::model;
use crate::ipvs::IpvsNode;
use crate::kernel::Programmed;
use crate::proxy::Proxy;

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/scenarios")
}

#[test]
fn every_packet_meets_its_verdict() {
    every_packet::<Programmed>();
}

#[test]
fn every_packet_meets_its_verdict_in_ipvs_mode() {
    every_packet::<IpvsNode>();
}

/// Expected verdict, oracle and rules agree: after a full write as after each change.
fn every_packet<P: Proxy>() {
    let mut wrong = Vec::new();
    let mut packets = 0;
    for scenario in Scenario::load_all(&folder()).unwrap() {
        for variant in Variant::ALL {
            let settings = Arc::new(scenario.settings.clone());
            let mut state = State::default();
            let mut programmed = P::start(variant, &settings, Vec::new());
            for step in &scenario.steps {
                state.apply(step.updates.clone());
                programmed.go_on(model(&state));
                check(&scenario, step, &state, &mut programmed, &mut wrong);
                let mut afresh = P::start(variant, &settings, model(&state));
                check(&scenario, step, &state, &mut afresh, &mut wrong);
                packets += step.packets.len();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(packets > 500, "only {packets} packets");
}

fn check<P: Proxy>(scenario: &Scenario, step: &Step, state: &State, programmed: &mut P, wrong: &mut Vec<String>) {
    let model = model(state);
    let rules = Family::ALL.map(|family| (family, programmed.rules(family)));
    for flow in &step.packets {
        let family = Family::of(&flow.packet.destination);
        let Some((_, rules)) = rules.iter().find(|(of, _)| *of == family) else { continue };
        let services = model.iter().map(|port| &**port);
        let expected = flow.expected(P::MODE);
        let oracle = judge_in(P::MODE, services, &scenario.settings, &scenario.host, &flow.packet);
        let traced = trace(rules, &scenario.host, &flow.packet).map(|traced| traced.verdict);
        let agree = traced.as_ref().is_ok_and(|v| v.agrees_with(expected)) && oracle.agrees_with(expected);
        if !agree {
            let place = format!("{}, {}, row {}", scenario.name, step.about, flow.row);
            let packet = &flow.packet;
            wrong
                .push(format!("{place}: {packet:?}\n  expected {expected:?}\n  oracle {oracle:?}\n  rules {traced:?}"));
        }
    }
}
